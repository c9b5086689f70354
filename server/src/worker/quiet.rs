//! When a worker has so little to do that what it keeps for reuse is better given back.

use std::time::{Duration, Instant};

/// How long little has to be moved.
const WINDOW: Duration = Duration::from_secs(1);
/// What may be moved in that time: many heartbeats, and no burst.
const BYTES_MAX: usize = 64 << 10;

/// Counts the bytes that were received, sent and freed, a second at a time.
#[derive(Debug)]
pub(super) struct Quiet {
    since: Instant,
    moved: usize,
    /// All was given back, and little was moved since.
    is_trimmed: bool,
}

impl Quiet {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, moved: 0, is_trimmed: true }
    }

    pub(super) const fn add(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
    }

    /// At the end of a window, until there was a quiet one: whether it was quiet, so that it is time to
    /// give back all.
    pub(super) fn turn(&mut self, now: Instant) -> Option<bool> {
        if self.moved > BYTES_MAX {
            self.is_trimmed = false;
        }
        if now < self.since + WINDOW {
            return None;
        }
        let is_quiet = self.moved <= BYTES_MAX;
        let turned = (!self.is_trimmed).then_some(is_quiet);
        self.is_trimmed |= is_quiet;
        (self.since, self.moved) = (now, 0);
        turned
    }

    /// Whether all was given back, and little was moved since.
    pub(super) const fn is_trimmed(&self) -> bool {
        self.is_trimmed
    }

    /// When to ask again, if nothing happens.
    pub(super) fn next(&self) -> Option<Instant> {
        (!self.is_trimmed).then(|| self.since + WINDOW)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_little_after_much_is_the_time_and_only_once() {
        let start = Instant::now();
        let mut quiet = Quiet::new(start);
        assert_eq!(quiet.turn(start + 5 * WINDOW), None, "nothing was moved yet");
        assert_eq!(quiet.next(), None);
        quiet.add(BYTES_MAX + 1);
        assert_eq!(quiet.turn(start + 5 * WINDOW + WINDOW / 2), None);
        assert_eq!(quiet.turn(start + 6 * WINDOW), Some(false), "this second was busy");
        assert_eq!(quiet.next(), Some(start + 7 * WINDOW));
        quiet.add(1000);
        assert_eq!(quiet.turn(start + 7 * WINDOW - WINDOW / 2), None);
        assert_eq!(quiet.turn(start + 7 * WINDOW), Some(true), "heartbeats are no work");
        quiet.add(1000);
        assert_eq!(quiet.turn(start + 9 * WINDOW), None);
        assert_eq!(quiet.next(), None);
    }
}

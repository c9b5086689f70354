//! Deadlines of one duration: what is armed later is due later, so a queue keeps them in order.

use super::slots::SlotId;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Which slots are due, for one timeout.
///
/// Disarming is the owner's: an entry that is due means "look whether this still holds".
#[derive(Debug)]
pub(crate) struct Deadlines {
    timeout: Duration,
    queue: VecDeque<(Instant, SlotId)>,
}

impl Deadlines {
    pub(crate) const fn new(timeout: Duration) -> Self {
        Self { timeout, queue: VecDeque::new() }
    }

    /// Arms one that is due `timeout` after `now`, and returns when that is.
    pub(crate) fn arm(&mut self, id: SlotId, now: Instant) -> Instant {
        let deadline = now + self.timeout;
        self.queue.push_back((deadline, id));
        deadline
    }

    /// When the first is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(deadline, _)| *deadline)
    }

    /// Takes one that is due at `now`.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<SlotId> {
        self.next().filter(|deadline| *deadline <= now)?;
        self.queue.pop_front().map(|(_, id)| id)
    }

    /// Drops the entries that no longer hold, once they may be most of the queue: with at most
    /// `live` slots armed, the queue stays within twice that and a little.
    pub(crate) fn compact(&mut self, live: usize, holds: impl Fn(SlotId, Instant) -> bool) {
        if self.queue.len() > 2 * live + 64 {
            self.queue.retain(|(deadline, id)| holds(*id, *deadline));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SlotId = SlotId::new(0, 1);
    const B: SlotId = SlotId::new(1, 1);

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
    fn slots_are_due_in_the_order_they_were_armed_and_not_before() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut deadlines = Deadlines::new(5 * second);
        assert_eq!(deadlines.arm(A, start), start + 5 * second);
        deadlines.arm(B, start + second);
        assert_eq!(deadlines.next(), Some(start + 5 * second));
        assert_eq!(deadlines.expired(start + 4 * second), None);
        assert_eq!(deadlines.expired(start + 5 * second), Some(A));
        assert_eq!(deadlines.expired(start + 5 * second), None);
        assert_eq!(deadlines.expired(start + 9 * second), Some(B));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
    fn entries_that_no_longer_hold_are_bounded_by_those_that_do() {
        let now = Instant::now();
        let mut deadlines = Deadlines::new(Duration::from_secs(5));
        deadlines.arm(B, now);
        for _ in 0..10_000 {
            deadlines.arm(A, now);
            deadlines.compact(1, |id, _| id == B);
        }
        assert!(deadlines.queue.len() <= 66);
    }
}

//! When messages are published: at a fixed rate, whatever became of those before.

use std::time::{Duration, Instant};

/// The times of one phase. A generator that is late catches up, and does not move them.
#[derive(Debug)]
pub(super) struct Schedule {
    start: Instant,
    per_second: f64,
    messages: u64,
    sent: u64,
}

impl Schedule {
    /// So many a second for so long, the first at once.
    pub(super) fn new(start: Instant, per_second: f64, length: Duration) -> Self {
        let messages = (per_second * length.as_secs_f64()).ceil().max(1.0) as u64;
        Self { start, per_second, messages, sent: 0 }
    }

    /// A single message, now.
    pub(super) const fn once(now: Instant) -> Self {
        Self { start: now, per_second: 1.0, messages: 1, sent: 0 }
    }

    /// When the next message is due; `None` when all are sent.
    pub(super) fn next(&self) -> Option<Instant> {
        let after = Duration::try_from_secs_f64(self.sent as f64 / self.per_second).ok()?;
        (self.sent < self.messages).then(|| self.start + after)
    }

    /// The next one that is due by now, which counts as sent.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next().filter(|due| *due <= now)?;
        self.sent += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn messages_are_due_at_a_fixed_rate_from_the_start_on() {
        let start = now();
        let mut schedule = Schedule::new(start, 200.0, 20 * MILLISECOND);
        for number in 0..4 {
            let due = start + 5 * number * MILLISECOND;
            assert_eq!(schedule.take(due - MILLISECOND), None);
            assert_eq!(schedule.take(due), Some(due));
        }
        assert_eq!((schedule.next(), schedule.take(start + 1000 * MILLISECOND)), (None, None));
    }

    #[test]
    fn a_generator_that_is_late_is_given_all_that_it_missed_at_their_own_times() {
        let start = now();
        let mut schedule = Schedule::new(start, 1000.0, 10 * MILLISECOND);
        let late = start + 3 * MILLISECOND;
        let taken: Vec<_> = std::iter::from_fn(|| schedule.take(late)).collect();
        assert_eq!(taken, [0, 1, 2, 3].map(|number| start + number * MILLISECOND));
        assert_eq!(schedule.next(), Some(start + 4 * MILLISECOND));
    }

    #[test]
    fn one_message_is_due_at_once_and_no_phase_is_empty() {
        let start = now();
        let mut once = Schedule::once(start);
        assert_eq!((once.take(start), once.next()), (Some(start), None));
        let mut short = Schedule::new(start, 1.0, MILLISECOND);
        assert_eq!((short.take(start), short.next()), (Some(start), None));
    }
}

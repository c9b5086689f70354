//! When messages are to be sent in an open loop: at a fixed rate, whatever became of those before.

use super::Time;
use std::time::Duration;

/// Times at a fixed rate. Each is computed from the start: they do not drift.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: Time,
    per_second: f64,
    together: u64,
}

impl Schedule {
    pub(crate) const fn new(start: Time, per_second: f64) -> Self {
        Self { start, per_second, together: 1 }
    }

    /// So many, 1 at least, are due at once: to wake costs more than several messages.
    pub(crate) fn together(self, together: u64) -> Self {
        Self { together: together.max(1), ..self }
    }

    /// When a message is to be sent; the first one is number 0.
    #[inline]
    pub(crate) fn at(&self, number: u64) -> Time {
        let first = number - number % self.together;
        self.start + Duration::from_nanos((first as f64 * 1e9 / self.per_second) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let schedule = Schedule::new(Time::from_nanos(5), 30_000.0);
        assert_eq!(schedule.at(0), Time::from_nanos(5));
        assert_eq!(schedule.at(1), Time::from_nanos(33_338));
        assert_eq!(schedule.at(30_000 * 86_400), Time::from_nanos(5) + Duration::from_secs(86_400));
    }

    #[test]
    fn those_that_are_due_together_come_at_the_time_of_the_first() {
        let schedule = Schedule::new(Time::from_nanos(0), 1000.0).together(3);
        let times = [0, 0, 0, 3, 3, 3, 6].map(|millis| Time::from_nanos(millis * 1_000_000));
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(|number| schedule.at(number)), times);
    }
}

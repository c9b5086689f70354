//! Times of a run, in 8 bytes each.

use crate::clock;
use serde::{Deserialize, Serialize};
use std::{
    ops::Add,
    time::{Duration, Instant},
};

/// Nanoseconds since the engine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Time(u64);

impl Time {
    /// Later than any run lasts.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    /// Nanoseconds since `earlier`; 0 if that is later.
    pub(crate) const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

/// What times count from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { origin: clock::now() }
    }

    #[inline]
    pub(super) fn read(&self) -> Time {
        Time(clock::now().duration_since(self.origin).as_nanos() as u64)
    }

    /// `None` for what is too far away for the system's clock.
    pub(super) fn instant(&self, time: Time) -> Option<Instant> {
        self.origin.checked_add(Duration::from_nanos(time.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_and_never_wrap() {
        let early = Time::from_nanos(5);
        assert_eq!((early + Duration::from_nanos(7)).since(early), 7);
        assert_eq!(early.since(early + Duration::from_secs(1)), 0);
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        let clock = Clock::start();
        assert!(clock.read() <= clock.read() && clock.read() < Time::NEVER);
    }
}

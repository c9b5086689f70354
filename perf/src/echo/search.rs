//! The highest rate at which a server holds what is asked of its latency.

use crate::report::Unit;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::{fmt, str::FromStr, time::Duration};

/// What latency has to be, such as `p99<5ms`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "String")]
pub(super) struct Bound {
    quantile: f64,
    name: String,
    below: Duration,
}

impl Bound {
    pub(super) fn value(&self, latency: &Histogram<u64>) -> u64 {
        latency.value_at_quantile(self.quantile)
    }

    pub(super) fn holds(&self, latency: &Histogram<u64>) -> bool {
        u128::from(self.value(latency)) < self.below.as_nanos()
    }

    /// The quantile: `p99`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("`{text}`: expected a quantile and a time, such as p99<5ms");
        let (name, below) = text.split_once('<').ok_or_else(expected)?;
        let (name, below) = (name.trim(), below.trim());
        let quantile = match name.strip_prefix('p').map(str::parse::<f64>) {
            Some(Ok(percent)) if (0.0..=100.0).contains(&percent) => percent / 100.0,
            _ if name == "max" => 1.0,
            _ => return Err(expected()),
        };
        let below = humantime::parse_duration(below).map_err(|_| expected())?;
        if below.is_zero() {
            return Err(format!("`{text}`: no message takes no time"));
        }
        Ok(Self { quantile, name: name.to_owned(), below })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = Unit::Nanoseconds.text(self.below.as_nanos() as f64);
        write!(f, "{} below {below}", self.name)
    }
}

impl From<Bound> for String {
    fn from(bound: Bound) -> Self {
        bound.to_string()
    }
}

/// Which rate is tried next: doubles until one fails, and halves the distance from there.
#[derive(Debug)]
pub(super) struct Search {
    next: f64,
    /// The highest that held.
    held: Option<f64>,
    /// The lowest that did not.
    failed: Option<f64>,
    steps: u32,
}

/// Where the search ends, however far it came.
const STEPS_MAX: u32 = 40;
/// The two rates are as near as a measurement can tell.
const NEAR: f64 = 1.05;
const RATE_MIN: f64 = 1.0;
pub(super) const RATE_MAX: f64 = 1e8;

impl Search {
    pub(super) const fn new(first: f64) -> Self {
        Self { next: first, held: None, failed: None, steps: 0 }
    }

    /// The next rate to try; `None` at the end.
    pub(super) fn next(&mut self) -> Option<f64> {
        let is_near = matches!(
            (self.held, self.failed), (Some(held), Some(failed)) if failed / held <= NEAR);
        let goes_on =
            !is_near && self.steps < STEPS_MAX && (RATE_MIN..=RATE_MAX).contains(&self.next);
        self.steps += 1;
        goes_on.then_some(self.next)
    }

    /// What came of it.
    pub(super) fn tell(&mut self, rate: f64, holds: bool) {
        if holds {
            self.held = Some(self.held.map_or(rate, |held| held.max(rate)));
        } else {
            self.failed = Some(self.failed.map_or(rate, |failed| failed.min(rate)));
        }
        self.next = match (self.held, self.failed) {
            (Some(held), Some(failed)) => (held * failed).sqrt(),
            (Some(held), None) => held * 2.0,
            (None, Some(failed)) => failed / 2.0,
            (None, None) => rate,
        };
    }

    /// The highest rate that held.
    pub(super) const fn held(&self) -> Option<f64> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(first: f64, limit: f64) -> (Option<f64>, u32) {
        let mut search = Search::new(first);
        while let Some(rate) = search.next() {
            search.tell(rate, rate <= limit);
        }
        (search.held(), search.steps)
    }

    #[test]
    fn the_highest_rate_is_found_from_below_and_from_above() {
        for first in [1000.0, 64_000.0, 3.0] {
            let (found, steps) = search(first, 20_000.0);
            let found = found.unwrap();
            assert!((20_000.0 / NEAR..=20_000.0).contains(&found), "{found}");
            assert!(steps < STEPS_MAX, "{steps}");
        }
    }

    #[test]
    fn a_server_that_holds_nothing_or_everything_ends_the_search() {
        assert_eq!(search(1000.0, 0.0).0, None);
        assert!(search(1000.0, f64::INFINITY).0.unwrap() > RATE_MAX / 2.0);
    }

    #[test]
    fn a_bound_is_a_quantile_and_a_time() {
        let bound: Bound = "p99.9<500us".parse().unwrap();
        let mut latency = Histogram::<u64>::new(3).unwrap();
        latency.record_n(1000, 9_995).unwrap();
        latency.record_n(1_000_000, 5).unwrap();
        assert!(bound.holds(&latency));
        latency.record_n(1_000_000, 10).unwrap();
        assert!(!bound.holds(&latency) && bound.value(&latency) >= 1_000_000);
        assert_eq!("max < 2s".parse::<Bound>().unwrap().quantile, 1.0);
        for text in ["p99", "p101<1ms", "q<1ms", "p99<5", "p99<0ms", "p99>5ms", ""] {
            let error = text.parse::<Bound>().unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}

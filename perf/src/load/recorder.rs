//! How long messages took, and how many came when.

use super::{Time, nanos_histogram};
use crate::report::{Heat, Report, Series, Unit};
use hdrhistogram::Histogram;
use std::time::Duration;

/// Latencies of the time that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    start: Time,
    /// From when each message was to be sent.
    latency: Histogram<u64>,
    /// From when it was sent, if that is not the same.
    uncorrected: Option<Histogram<u64>>,
    heat: Heat,
    /// How many came back in each second.
    seconds: Vec<u64>,
    messages: u64,
}

/// The seconds that a series has at most: a day.
const SECONDS_MAX: usize = 86_400;

impl Recorder {
    /// Records what was to be sent at `start` or later, by a schedule or, in a closed loop, when there
    /// was room.
    pub(crate) fn new(start: Time, is_open_loop: bool) -> Self {
        Self {
            start,
            latency: nanos_histogram(),
            uncorrected: is_open_loop.then(nanos_histogram),
            heat: Heat::default(),
            seconds: Vec::new(),
            messages: 0,
        }
    }

    /// Counts messages that were to be sent at `intended`, were sent at `sent`, and came back now.
    #[inline]
    pub(crate) fn record(&mut self, now: Time, intended: Time, sent: Time, count: u32) {
        if intended < self.start {
            return;
        }
        let nanos = now.since(intended);
        let count = u64::from(count);
        self.messages += count;
        self.latency.saturating_record_n(nanos, count);
        if let Some(uncorrected) = &mut self.uncorrected {
            uncorrected.saturating_record_n(now.since(sent), count);
        }
        let milliseconds = now.since(self.start) / 1_000_000;
        self.heat.record_many(milliseconds, nanos, count);
        match self.seconds.get_mut((milliseconds / 1000) as usize) {
            Some(second) => *second += count,
            None => self.begin_second((milliseconds / 1000) as usize, count),
        }
    }

    #[cold]
    fn begin_second(&mut self, second: usize, count: u64) {
        if second < SECONDS_MAX {
            self.seconds.resize(second + 1, 0);
            self.seconds[second] += count;
        }
    }

    /// How many messages were recorded.
    pub(crate) const fn messages(&self) -> u64 {
        self.messages
    }

    pub(crate) const fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Tells all of it, of a measurement that took so long.
    pub(crate) fn report(&self, length: Duration, report: &mut Report) {
        if let Some(uncorrected) = &self.uncorrected {
            report.histogram("latency", "latency from the intended time", &self.latency);
            let label = "latency from the time of sending";
            report.histogram("latency_uncorrected", label, uncorrected);
        } else {
            report.histogram("latency", "round trip", &self.latency);
        }
        let whole = self.seconds.iter().take(length.as_secs() as usize);
        let points = whole.enumerate().map(|(second, count)| (second as f64, *count as f64));
        let (label, unit) = ("messages that came back", Unit::PerSecond);
        report.series(Series::over_time("throughput", label, unit, points.collect()));
        report.heat("latency", "latency over time", &self.heat);
    }
}

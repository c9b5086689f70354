//! How long messages took, and how many came when.

use super::{Outcome, Time, hdr, nanos_histogram};
use crate::report::{Heat, Report, Series, Unit};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Latencies of the time that is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recorder {
    start: Time,
    /// From when each message was to be sent.
    #[serde(with = "hdr")]
    latency: Histogram<u64>,
    /// The same in a closed loop: then there is one only.
    is_open_loop: bool,
    /// From when it was sent.
    #[serde(with = "hdr")]
    uncorrected: Histogram<u64>,
    heat: Heat,
    /// How many came back in each second.
    seconds: Vec<u64>,
    messages: u64,
}

/// What latencies are called.
pub(crate) struct Labels {
    pub(crate) intended: &'static str,
    pub(crate) sent: &'static str,
    /// In a closed loop.
    pub(crate) closed: &'static str,
    pub(crate) counted: &'static str,
}

impl Labels {
    const ROUND_TRIPS: Self = Self {
        intended: "latency from the intended time",
        sent: "latency from the time of sending",
        closed: "round trip",
        counted: "messages that came back",
    };
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
            is_open_loop,
            uncorrected: nanos_histogram(),
            heat: Heat::default(),
            seconds: Vec::new(),
            messages: 0,
        }
    }

    /// Counts messages that were to be sent at `intended`, were sent at `sent`, and came back now. Of
    /// those that were to be sent before the start, the latency does not count.
    #[inline]
    pub(crate) fn record(&mut self, now: Time, intended: Time, sent: Time, count: u32) {
        if now < self.start {
            return;
        }
        let count = u64::from(count);
        self.messages += count;
        let milliseconds = now.since(self.start) / 1_000_000;
        match self.seconds.get_mut((milliseconds / 1000) as usize) {
            Some(second) => *second += count,
            None => self.begin_second((milliseconds / 1000) as usize, count),
        }
        if intended < self.start {
            return;
        }
        let nanos = now.since(intended);
        self.latency.saturating_record_n(nanos, count);
        if self.is_open_loop {
            self.uncorrected.saturating_record_n(now.since(sent), count);
        }
        self.heat.record(milliseconds, nanos, count);
    }

    #[cold]
    fn begin_second(&mut self, second: usize, count: u64) {
        if second < SECONDS_MAX {
            self.seconds.resize(second + 1, 0);
            self.seconds[second] += count;
        }
    }

    /// Adds what another process recorded in the same time.
    pub(crate) fn merge(&mut self, other: &Self) -> Outcome {
        self.latency.add(&other.latency)?;
        self.uncorrected.add(&other.uncorrected)?;
        self.heat.add(&other.heat);
        self.seconds.resize(self.seconds.len().max(other.seconds.len()), 0);
        for (sum, count) in self.seconds.iter_mut().zip(&other.seconds) {
            *sum += count;
        }
        self.messages += other.messages;
        Ok(())
    }

    /// How many messages came back.
    pub(crate) const fn messages(&self) -> u64 {
        self.messages
    }

    pub(crate) const fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    #[cfg(test)]
    pub(crate) const fn uncorrected(&self) -> &Histogram<u64> {
        &self.uncorrected
    }

    /// Tells all of it, of a measurement that took so long.
    pub(crate) fn report(&self, length: Duration, report: &mut Report) {
        self.report_as(&Labels::ROUND_TRIPS, length, report);
    }

    /// The same in the words of a mode.
    pub(crate) fn report_as(&self, labels: &Labels, length: Duration, report: &mut Report) {
        if self.is_open_loop {
            report.histogram("latency", labels.intended, &self.latency);
            report.histogram("latency_uncorrected", labels.sent, &self.uncorrected);
        } else {
            report.histogram("latency", labels.closed, &self.latency);
        }
        let whole = self.seconds.iter().take(length.as_secs() as usize);
        let points = whole.enumerate().map(|(second, count)| (second as f64, *count as f64));
        let (label, unit) = (labels.counted, Unit::PerSecond);
        report.series(Series::over_time("throughput", label, unit, points.collect()));
        report.heat("latency", "latency over time", &self.heat);
    }
}

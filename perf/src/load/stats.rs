//! What the engine counts itself, whatever the mode.

use super::{Outcome, end::End, hdr, time::Time};
use crate::report::{Report, Unit};
use hdrhistogram::Histogram;
use quelea_core::deflate::Parameters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Histograms are of nanoseconds up to this (two minutes), to three digits.
const NANOS_MAX: u64 = 120_000_000_000;

/// An empty histogram of nanoseconds.
pub(crate) fn nanos_histogram() -> Histogram<u64> {
    // It fails for bounds that are none and digits above 5.
    Histogram::new_with_bounds(1, NANOS_MAX, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

fn add_counts(sum: &mut BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) {
    for (kind, count) in counts {
        *sum.entry(kind.clone()).or_default() += count;
    }
}

/// Counts of all clients, since the start or the last [`Stats::restart`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// From the call of `connect` until the kernel says that it is done.
    #[serde(with = "hdr")]
    pub(crate) connect: Histogram<u64>,
    /// From then until the answer to the handshake is read.
    #[serde(with = "hdr")]
    pub(crate) upgrade: Histogram<u64>,
    /// From a ping of the generator to its pong.
    #[serde(with = "hdr")]
    pub(crate) heartbeat: Histogram<u64>,
    /// What compression was agreed on, by how many connections.
    pub(crate) deflate: BTreeMap<String, u64>,
    /// Pings of the server, which were answered.
    pub(crate) pings_received: u64,
    /// Closing handshakes by code and by who began them.
    pub(crate) closes: BTreeMap<String, u64>,
    /// What else ended connections, or kept them from opening, by kind.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Stats {
    pub(super) fn new() -> Self {
        Self {
            bytes_received: 0,
            bytes_sent: 0,
            connect: nanos_histogram(),
            upgrade: nanos_histogram(),
            heartbeat: nanos_histogram(),
            deflate: BTreeMap::new(),
            pings_received: 0,
            closes: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }

    /// Counts anew what belongs to the time that is measured. How connections opened and ended stays.
    pub(super) fn restart(&mut self) {
        (self.bytes_received, self.bytes_sent, self.pings_received) = (0, 0, 0);
        self.heartbeat.reset();
    }

    /// Adds what another process counted.
    pub(crate) fn merge(&mut self, other: &Self) -> Outcome {
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.pings_received += other.pings_received;
        self.connect.add(&other.connect)?;
        self.upgrade.add(&other.upgrade)?;
        self.heartbeat.add(&other.heartbeat)?;
        add_counts(&mut self.deflate, &other.deflate);
        add_counts(&mut self.closes, &other.closes);
        add_counts(&mut self.errors, &other.errors);
        Ok(())
    }

    /// Tells what is the same in every mode.
    pub(crate) fn report(&self, report: &mut Report) {
        report.histogram("connect", "connect", &self.connect);
        report.histogram("upgrade", "upgrade", &self.upgrade);
        report.histogram("heartbeat", "heartbeat", &self.heartbeat);
        let pings = self.pings_received as f64;
        report.figure("pings_answered", "pings answered", pings, Unit::Count);
        self.report_deflate(report);
        report.counts("closes", "closes", self.closes.clone());
        report.counts("errors", "errors", self.errors.clone());
    }

    /// Tells what compression was agreed on, if some was offered.
    pub(crate) fn report_deflate(&self, report: &mut Report) {
        if !self.deflate.is_empty() {
            report.counts("deflate", "compression", self.deflate.clone());
        }
    }

    /// An opening handshake agreed on this, of what was offered.
    pub(super) fn record_deflate(&mut self, agreed: Option<&Parameters>) {
        let agreed = agreed.map_or_else(|| "declined".to_owned(), Parameters::to_string);
        *self.deflate.entry(agreed).or_default() += 1;
    }

    pub(super) fn record_end(&mut self, end: &End) {
        let counts = match end {
            End::Closed { .. } => &mut self.closes,
            End::Aborted => return,
            _ => &mut self.errors,
        };
        *counts.entry(end.kind()).or_default() += 1;
    }

    pub(super) fn record_heartbeat(&mut self, payload: &[u8], at: Time) {
        // Pongs that nobody asked for carry something else.
        if let Ok(nanos) = payload.try_into().map(u64::from_be_bytes)
            && nanos <= at.nanos()
        {
            self.heartbeat.saturating_record(at.since(Time::from_nanos(nanos)));
        }
    }
}

//! What the engine counts itself, whatever the mode.

use super::{end::End, time::Time};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Histograms are of nanoseconds up to this (two minutes), to three digits.
const NANOS_MAX: u64 = 120_000_000_000;

/// An empty histogram of nanoseconds.
pub(crate) fn nanos_histogram() -> Histogram<u64> {
    // It fails for bounds that are none and digits above 5.
    Histogram::new_with_bounds(1, NANOS_MAX, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// Counts of all clients, since the start or the last [`Stats::restart`].
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// From the call of `connect` until the kernel says that it is done.
    pub(crate) connect: Histogram<u64>,
    /// From then until the answer to the handshake is read.
    pub(crate) upgrade: Histogram<u64>,
    /// From a ping of the generator to its pong.
    pub(crate) heartbeat: Histogram<u64>,
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

//! What a server counts is what has happened.

use super::{ledger::Counts, scenario::Run};
use quelea::{
    CloseCode,
    metrics::{By, CloseCause, ConnectionState, WorkerMetrics},
};

impl Run {
    /// While the server runs, with nothing under way.
    pub(crate) fn check_gauges(&self) -> Result<(), String> {
        let metrics = self.sim.metrics();
        let counts = &self.ledger.borrow().counts;
        let open = metrics.connections[ConnectionState::Open]
            + metrics.connections[ConnectionState::Closing];
        equal("connections", open, counts.opened - counts.closed.len() as u64)?;
        equal(
            "connections in any state",
            metrics.connections.total(),
            self.sim.residue().connections as u64,
        )?;
        equal("mailbox_batches", metrics.mailbox_batches, 0)?;
        check(&metrics, counts)
    }

    /// Once the server has ended.
    pub(crate) fn check_counts(&self) -> Result<(), String> {
        let metrics = self.sim.metrics();
        let ledger = self.ledger.borrow();
        check(&metrics, &ledger.counts)?;
        equal(
            "accepted",
            metrics.accepted,
            metrics.refused.total() + metrics.unopened + metrics.opened,
        )?;
        equal("what is there", metrics.connections.total() + metrics.queued_bytes, 0)?;
        let is_loss_told = |what: &str, lost: u64, told: u64| match lost <= told {
            true => Ok(()),
            false => Err(format!("{lost} {what} are lost, {told} are counted")),
        };
        is_loss_told("publishes", ledger.lost_publishes(), metrics.drops.total())?;
        let refused_at_once = ledger.counts.near_dropped + ledger.counts.far_dropped;
        is_loss_told(
            "mailed messages",
            ledger.lost_mail(),
            metrics.messages_dropped - refused_at_once,
        )
    }
}

fn equal(what: &str, counted: u64, happened: u64) -> Result<(), String> {
    match counted == happened {
        true => Ok(()),
        false => Err(format!("{what}: {counted} are counted, {happened} have happened")),
    }
}

fn check(metrics: &WorkerMetrics, counts: &Counts) -> Result<(), String> {
    equal("opened", metrics.opened, counts.opened)?;
    equal("requests", metrics.requests, counts.requests)?;
    equal("messages_received", metrics.messages_received, counts.messages_received)?;
    equal("message_bytes_received", metrics.message_bytes_received, counts.bytes_received)?;
    equal("pings_received", metrics.pings_received, counts.pings_received)?;
    equal("pongs_received", metrics.pongs_received, counts.pongs_received)?;
    equal("round_trip", metrics.round_trip.count(), counts.round_trips)?;
    equal("publishes", metrics.publishes, counts.publishes)?;
    equal("publishes_dropped", metrics.publishes_dropped, counts.publishes_dropped)?;
    let (mut causes, mut codes) = (By::<CloseCause>::default(), By::<CloseCode>::default());
    for (cause, code) in &counts.closed {
        causes[*cause] += 1;
        codes[*code] += 1;
    }
    if (metrics.closed_by_cause, metrics.closed_by_code) != (causes, codes) {
        let counted = (metrics.closed_by_cause, metrics.closed_by_code);
        return Err(format!("ends: {counted:?} are counted, {:?} have happened", (causes, codes)));
    }
    let violations = causes[CloseCause::ProtocolError] + causes[CloseCause::Limit];
    equal("violations", metrics.violations.total(), violations)?;
    // What is mailed is sent or dropped where it arrives, or its connection is gone.
    let Counts { near_sent, near_dropped, far_sent, far_dropped, .. } = *counts;
    let between = |what: &str, counted: u64, least: u64| match (least..=least + far_sent)
        .contains(&counted)
    {
        true => Ok(()),
        false => Err(format!("{what}: {counted} are counted, {least} to {far_sent} more can be")),
    };
    between("messages_sent", metrics.messages_sent, near_sent)?;
    between("messages_dropped", metrics.messages_dropped, near_dropped + far_dropped)?;
    between(
        "messages_sent and _dropped",
        metrics.messages_sent + metrics.messages_dropped,
        near_sent + near_dropped + far_dropped,
    )?;
    match metrics.deliveries < counts.arrived {
        true => Err(format!(
            "deliveries: {} are counted, {} arrived",
            metrics.deliveries, counts.arrived
        )),
        false => Ok(()),
    }
}

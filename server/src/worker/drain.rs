//! Draining: the connections of a worker end one after the other, over a window of time.
//!
//! One pass over the slots is enough. Each slot that is in use when the drain begins is met once, and
//! no WebSocket that opens after that stays: from [`Connections::begin_drain`] on an upgrade is refused, and
//! one that waited to be adopted is closed once it has what was read of it ([`Worker::drain_late`]). What is
//! HTTP ends by itself: a connection that is accepted later is refused, and has a second; one that is inside
//! of a request gets its last answer, or runs out of the time for a request.

use super::{Worker, connections::Connections};
use crate::{
    driver::Driver,
    error::Result,
    handle::Phase,
    handler::Handler,
    parts::{slots::SlotId, spread::Spread},
    table::{Ending, Stage},
};
use quelea_core::CloseCode;
use std::time::{Duration, Instant};

/// The least time between two ticks that close: a tick closes those that became due meanwhile.
const STEP: Duration = Duration::from_millis(4);
/// The most slots that one tick looks at, so that the others are served between.
const MET_MAX: usize = 1024;
/// How often the log says how it goes.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A worker's drain.
#[derive(Debug)]
pub(super) struct Draining {
    code: CloseCode,
    spread: Spread,
    /// Batches of mail that came before the drain: they come before the close frames.
    pub(super) mail_before: usize,
    start: Instant,
    report_at: Instant,
    connections: usize,
}

impl<H: Handler, D: Driver> Worker<H, D> {
    pub(super) fn begin_drain(&mut self) {
        let options = self.member.handle.drain_options();
        let now = self.driver.now();
        let deadline = now + options.timeout;
        self.stop_at = Some(deadline);
        // The file goes before the listener, as in the end.
        self.files.clear();
        for &listener in &self.listeners {
            self.driver.finish_accept(listener);
        }
        self.connections.begin_drain(deadline);
        // All that came before the drain, beyond what is taken at once otherwise.
        self.has_more_mail = true;
        self.take_mail();
        let connections = self.connections.table.len();
        self.draining = Some(Draining {
            code: options.code,
            spread: Spread::new(self.connections.table.slot_count(), now, options.window),
            mail_before: self.mail.len(),
            start: now,
            report_at: now + REPORT_INTERVAL,
            connections,
        });
        tracing::info!(
            worker = self.member.id,
            connections,
            window = ?options.window,
            timeout = ?options.timeout,
            code = options.code.0,
            "draining",
        );
    }

    /// Closes those that are due, and says how it goes.
    pub(super) fn drain_some(&mut self) -> Result<()> {
        let limit = self.output_limit();
        let now = self.driver.now();
        let Some(draining) = &mut self.draining else { return Ok(()) };
        if self.phase != Phase::Draining {
            return Ok(());
        }
        if draining.mail_before == 0 {
            for _ in 0..MET_MAX {
                if self.connections.table.output_bytes() > limit {
                    break;
                }
                let Some(index) = draining.spread.next(now) else { break };
                let id = self.connections.table.id_at(index);
                if let Some(id) = id.filter(|id| !self.adoptions.close_later(*id)) {
                    self.connections.drain_slot(id, draining.code);
                }
            }
        }
        if now >= draining.report_at {
            draining.report_at = now + REPORT_INTERVAL;
            let left = self.connections.table.len();
            let closed = draining.connections.saturating_sub(left);
            tracing::info!(worker = self.member.id, left, closed, "draining");
        }
        if self.stop_at.is_some_and(|at| at <= now) {
            // No other tick sends what this one wrote.
            self.send_and_wait()?;
        }
        Ok(())
    }

    /// Closes a WebSocket that opened though the server drains: the pass may have met its slot.
    pub(super) fn drain_late(&mut self, id: SlotId) {
        if let Some(draining) = &self.draining {
            self.connections.table.drain(id, draining.code);
        }
    }

    /// When a drain has something to do next.
    pub(super) fn next_drain(&self) -> Option<Instant> {
        let draining = self.draining.as_ref().filter(|_| self.phase == Phase::Draining)?;
        let now = self.driver.now();
        let due = draining.spread.due_at();
        // What is due already was too much for one tick.
        let due = due.map(|due| if due <= now { now } else { due.max(now + STEP) });
        due.into_iter().chain([draining.report_at]).min()
    }

    /// Says how a drain went.
    pub(super) fn report_drained(&self) {
        if let Some(draining) = &self.draining {
            let left = self.connections.table.len();
            let took = self.driver.now() - draining.start;
            tracing::info!(worker = self.member.id, left, ?took, "drained");
        }
    }
}

impl<H: Handler> Connections<H> {
    /// From now on no WebSocket opens; what is queued may be flushed until `deadline`.
    fn begin_drain(&mut self, deadline: Instant) {
        self.is_draining = true;
        self.table.flush_until(deadline);
    }

    /// Ends a connection that is not about to end by itself.
    fn drain_slot(&mut self, id: SlotId, code: CloseCode) {
        match self.table.stage(id) {
            Some(Stage::WebSocket(_)) => self.table.drain(id, code),
            // The peer may have sent a request that is on its way: its end is to be a FIN, and no
            // RST.
            Some(Stage::Http(http)) if !http.is_inside_head() && http.refusal.is_none() => {
                self.end_unopened(id, Ending::Linger);
            }
            Some(Stage::Http(_) | Stage::Ending(_)) | None => {}
        }
    }
}

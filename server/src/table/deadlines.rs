//! The deadlines of connections: for the handshake, and for the end.

use super::{Stage, Table};
use crate::parts::slots::SlotId;
use std::time::Instant;

/// What a look at a silent connection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// It is there, or has time left to show it.
    Alive,
    /// It did not answer in time.
    Gone,
}

impl Table {
    /// Gives the connection the time of a handshake from now on.
    pub(crate) fn arm_handshake(&mut self, id: SlotId) {
        self.timers.arm(id.index(), self.now + self.timeouts.handshake);
    }

    /// Gives the connection the time of a closing handshake from now on.
    pub(super) fn arm_close(&mut self, id: SlotId) {
        self.timers.arm(id.index(), self.now + self.timeouts.close);
    }

    /// Looks after an open connection once it has been silent for a while. What it sends until then
    /// does not touch its timer.
    pub(super) fn arm_heartbeat(&mut self, id: SlotId) {
        match self.timeouts.ping_interval {
            Some(interval) => self.timers.arm(id.index(), self.now + interval),
            None => self.timers.disarm(id.index()),
        }
    }

    /// The timer of an open connection is due: pings a silent peer, or finds that it is gone.
    pub(crate) fn check_heartbeat(&mut self, id: SlotId) -> Heartbeat {
        let Some(interval) = self.timeouts.ping_interval else { return Heartbeat::Alive };
        let Some(slot) = self.slots.get(id) else { return Heartbeat::Alive };
        let silence = self.timers.now().since(slot.heard);
        let limit = interval + self.timeouts.pong;
        if silence >= limit {
            return Heartbeat::Gone;
        }
        let next = if silence < interval { interval } else { limit };
        // Whom we do not listen to cannot answer.
        let ping = silence >= interval && !slot.paused;
        self.timers.arm(id.index(), self.now + (next - silence));
        if ping {
            self.ping(id, &[]);
        }
        Heartbeat::Alive
    }

    /// When the first may be due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// A connection whose time is over.
    pub(crate) fn next_expired(&mut self) -> Option<SlotId> {
        let index = self.timers.expired(self.now)?;
        self.slots.id_at(index)
    }

    /// Whether a connection is a WebSocket that is open or closing.
    pub(crate) fn is_websocket(&self, id: SlotId) -> bool {
        self.slots.get(id).is_some_and(|slot| matches!(slot.stage, Stage::WebSocket(_)))
    }
}

//! The deadlines of connections: for the handshake, and for the end.

use super::{Stage, Table};
use crate::parts::slots::SlotId;
use std::time::Instant;

impl Table {
    /// Gives the connection the time of a handshake from now on.
    pub(crate) fn arm_handshake(&mut self, id: SlotId) {
        self.timers.arm(id.index(), self.now + self.handshake_timeout);
    }

    /// Gives the connection the time of a closing handshake from now on.
    pub(super) fn arm_close(&mut self, id: SlotId) {
        self.timers.arm(id.index(), self.now + self.close_timeout);
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

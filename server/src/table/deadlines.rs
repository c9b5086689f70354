//! The deadlines of connections: for the handshake, and for the end.

use super::{Stage, Table, slot::Slot};
use crate::parts::{
    deadlines::Deadlines,
    slots::{SlotId, Slots},
};
use std::time::Instant;

impl Table {
    /// Gives the connection the time of a handshake from now on.
    pub(crate) fn arm_handshake(&mut self, id: SlotId) {
        arm(&mut self.handshake_deadlines, &mut self.slots, id, self.now);
    }

    /// Gives the connection the time of a closing handshake from now on.
    pub(super) fn arm_close(&mut self, id: SlotId) {
        arm(&mut self.close_deadlines, &mut self.slots, id, self.now);
    }

    /// When the first may be due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let handshake = self.handshake_deadlines.next();
        handshake.into_iter().chain(self.close_deadlines.next()).min()
    }

    /// A connection whose time is over.
    pub(crate) fn next_expired(&mut self) -> Option<SlotId> {
        let now = self.now;
        while let Some(id) =
            self.handshake_deadlines.expired(now).or_else(|| self.close_deadlines.expired(now))
        {
            if let Some(slot) = self.slots.get_mut(id)
                && slot.deadline.is_some_and(|deadline| deadline <= now)
            {
                slot.deadline = None;
                return Some(id);
            }
        }
        None
    }

    /// Whether a connection is a WebSocket that is open or closing.
    pub(crate) fn is_websocket(&self, id: SlotId) -> bool {
        self.slots.get(id).is_some_and(|slot| matches!(slot.stage, Stage::WebSocket(_)))
    }
}

fn arm(deadlines: &mut Deadlines, slots: &mut Slots<Slot>, id: SlotId, now: Instant) {
    let Some(slot) = slots.get_mut(id) else { return };
    slot.deadline = Some(deadlines.arm(id, now));
    deadlines.compact(slots.len(), |id, deadline| {
        slots.get(id).is_some_and(|slot| slot.deadline == Some(deadline))
    });
}

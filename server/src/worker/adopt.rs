//! Connections that something else accepted: from the queue of their worker to its table.

use super::{Member, Worker, connections::Connections};
use crate::{
    address::PeerAddress,
    adopt::{Adopted, Adoptee},
    driver::{Driver, Later},
    handle::Phase,
    handler::Handler,
    parts::slots::SlotId,
    table::Ending,
};
use quelea_core::{Connection, Role};
use std::collections::{HashMap, VecDeque};

/// How many in a tick: as many as a listener accepts in a row.
const TURN: usize = 64;
/// What is handed over at once of what was read before: about what a driver receives at once.
const PIECE_BYTES: usize = 256 << 10;

/// Those of a worker that are under way.
#[derive(Default)]
pub(super) struct Adoptions {
    /// There are more in the hub: taken only once these are done, so that its bound holds.
    pub(super) has_more: bool,
    /// Not connections yet.
    queue: VecDeque<Adoptee>,
    /// What is taken from the hub before it is put into `queue`.
    taken: Vec<Adoptee>,
    /// What was read from connections before, and was not handed over yet. Until then nothing is
    /// received from them.
    rests: HashMap<SlotId, Rest>,
    /// Those that may have some of it now, each in its turn.
    due: VecDeque<SlotId>,
}

/// What was read from a connection before.
pub(super) struct Rest {
    received: Vec<u8>,
    done: usize,
    /// It is among [`Adoptions::due`].
    is_due: bool,
    /// The server drains: the connection is closed once it has this.
    pub(super) is_late: bool,
}

impl Rest {
    pub(super) fn unread(&mut self) -> &mut [u8] {
        &mut self.received[self.done..]
    }
}

impl Adoptions {
    /// Takes what waits in the hub.
    fn take(&mut self, member: &Member) {
        if self.queue.is_empty()
            && std::mem::take(&mut self.has_more)
            && let Some(adoptions) = member.hub.adoptions.get(usize::from(member.id))
        {
            adoptions.take(&mut self.taken);
            self.queue.extend(self.taken.drain(..));
        }
    }

    fn add_rest(&mut self, id: SlotId, received: Vec<u8>, is_late: bool) {
        self.rests.insert(id, Rest { received, done: 0, is_due: true, is_late });
        self.due.push_back(id);
    }

    /// A connection may be received from again; whether what was read before comes first.
    pub(super) fn resume(&mut self, id: SlotId) -> bool {
        let Some(rest) = self.rests.get_mut(&id) else { return false };
        if !std::mem::replace(&mut rest.is_due, true) {
            self.due.push_back(id);
        }
        true
    }

    /// A connection is to be closed because the server drains: whether that has to wait for what was read
    /// before. It does not if that is paused, which could last for the whole drain.
    pub(super) fn close_later(&mut self, id: SlotId) -> bool {
        let rest = self.rests.get_mut(&id).filter(|rest| rest.is_due);
        rest.map(|rest| rest.is_late = true).is_some()
    }

    /// What was read from a connection before, and has to come before what it has now. It was to
    /// receive nothing meanwhile: but what is under way comes, and of a connection that fails all.
    #[inline]
    pub(super) fn take_rest_of(&mut self, id: SlotId) -> Option<Rest> {
        if self.rests.is_empty() {
            return None;
        }
        self.rests.remove(&id)
    }

    /// Whether there is something to do at once.
    pub(super) fn is_ready(&self) -> bool {
        self.has_more || !self.queue.is_empty() || !self.due.is_empty()
    }

    /// Gives back what is kept for reuse.
    pub(super) fn trim(&mut self) {
        self.queue.shrink_to_fit();
        self.taken.shrink_to_fit();
        self.rests.shrink_to_fit();
        self.due.shrink_to_fit();
    }
}

impl<H: Handler, D: Driver> Worker<H, D> {
    /// Takes over those that wait, and hands them what was read before.
    pub(super) fn handle_adoptions(&mut self) {
        self.adoptions.take(&self.member);
        let limit = self.output_limit();
        let mut count = 0;
        while count < TURN
            && self.connections.table.output_bytes() <= limit
            && let Some(adoptee) = self.adoptions.queue.pop_front()
        {
            count += 1;
            self.adopt(adoptee);
        }
        if count > 0 {
            // Counted as open before they are no longer counted as waiting.
            self.publish_counts();
            self.member.hub.adoptions[usize::from(self.member.id)].settle(count);
        }
        for _ in 0..self.adoptions.due.len() {
            if self.connections.table.output_bytes() > limit {
                return;
            }
            if let Some(id) = self.adoptions.due.pop_front() {
                self.hand_over(id);
            }
        }
    }

    fn adopt(&mut self, adoptee: Adoptee) {
        let Adoptee { socket, received, peer, adoption } = adoptee;
        let id = if adoption.is_none() && self.connections.is_draining {
            self.connections.accept_late(peer)
        } else {
            self.connections.table.metrics.accepted += 1;
            self.connections.insert(peer, None)
        };
        let Some(id) = id else { return };
        if self.phase >= Phase::Stopping {
            self.connections.end_unopened(id, Ending::Abort);
            return self.connections.remove(id);
        }
        let opened = self.driver.adopt(socket).and_then(|socket| self.driver.open(id, socket));
        if let Err(error) = opened {
            return self.connections.handle_open_failed(id, &error);
        }
        let is_late = adoption.is_some() && self.draining.is_some();
        if let Some(adoption) = adoption {
            self.connections.open_adopted(id, Adopted::new(adoption, peer));
        }
        self.pace(id);
        if !received.is_empty() {
            self.driver.pause_receive(id);
            self.adoptions.add_rest(id, received, is_late);
        } else if is_late {
            self.drain_late(id);
        }
    }

    /// Hands over the next piece of what was read before, unless reading is paused.
    fn hand_over(&mut self, id: SlotId) {
        let Some(rest) = self.adoptions.rests.get_mut(&id) else { return };
        rest.is_due = false;
        if !self.connections.table.is_paused(id) {
            let end = rest.received.len().min(rest.done + PIECE_BYTES);
            let piece = &mut rest.received[rest.done..end];
            rest.done = end;
            self.quiet.add(piece.len());
            self.connections.handle_received(id, piece, &mut Later);
        }
        let is_done = rest.done == rest.received.len();
        let is_late = rest.is_late;
        self.pace(id);
        let is_paused = self.connections.table.is_paused(id);
        if is_late && (is_done || is_paused) {
            // A pause could last for the whole drain.
            self.drain_late(id);
        }
        if is_done {
            self.adoptions.rests.remove(&id);
        }
        if !is_paused && !self.adoptions.resume(id) {
            self.driver.resume_receive(id);
        }
    }
}

impl<H: Handler> Connections<H> {
    /// One that was let in, and has its handshake before it though the server drains: it is refused
    /// as one that is accepted now.
    fn accept_late(&mut self, peer: PeerAddress) -> Option<SlotId> {
        self.admission.leave(false, self.admission.counted_address(peer));
        self.accept(peer)
    }

    fn open_adopted(&mut self, id: SlotId, adopted: Adopted) {
        tracing::debug!(conn = %self.table.conn_id(id), path = adopted.path(), "adopted");
        let state = self.handler.on_adopt(adopted);
        self.start_websocket(id, state, Connection::new(Role::Server));
    }
}

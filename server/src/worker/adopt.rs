//! Connections that something else accepted: from the queue of their worker to its table.

use super::{Member, Worker, connections::Connections};
use crate::{
    address::PeerAddress,
    adopt::{Adopted, Adoptee},
    driver::Driver,
    handle::Phase,
    handler::Handler,
    parts::slots::SlotId,
    table::{Ending, Table},
};
use std::collections::VecDeque;

/// How many in a tick: as many as a listener accepts in a row.
const TURN: usize = 64;
/// What is handed over at once of what was read before: as much as a driver receives at once.
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
    rests: VecDeque<Rest>,
}

struct Rest {
    id: SlotId,
    received: Vec<u8>,
    done: usize,
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

    pub(super) fn has_rest_of(&self, id: SlotId) -> bool {
        self.rests.iter().any(|rest| rest.id == id)
    }

    /// What was read from a connection before, and has to come before what it has now. It was to
    /// receive nothing meanwhile: but what is under way comes, and of a connection that fails all.
    #[inline]
    pub(super) fn take_rest_of(&mut self, id: SlotId) -> Option<(Vec<u8>, usize)> {
        if self.rests.is_empty() {
            return None;
        }
        let at = self.rests.iter().position(|rest| rest.id == id)?;
        self.rests.remove(at).map(|rest| (rest.received, rest.done))
    }

    /// Whether there is something to do at once.
    pub(super) fn is_ready(&self, table: &Table) -> bool {
        self.has_more
            || !self.queue.is_empty()
            || self.rests.iter().any(|rest| !table.is_paused(rest.id))
    }

    /// Gives back what is kept for reuse.
    pub(super) fn trim(&mut self) {
        self.queue.shrink_to_fit();
        self.taken.shrink_to_fit();
        self.rests.shrink_to_fit();
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
        for _ in 0..self.adoptions.rests.len() {
            if self.connections.table.output_bytes() > limit {
                return;
            }
            if let Some(rest) = self.adoptions.rests.pop_front() {
                self.hand_over(rest);
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
        if let Some(adoption) = adoption {
            self.connections.open_adopted(id, Adopted::new(adoption, peer));
            self.drain_late(id);
        }
        self.pace(id);
        if !received.is_empty() {
            self.driver.pause_receive(id);
            self.adoptions.rests.push_back(Rest { id, received, done: 0 });
        }
    }

    /// Hands over the next piece of what was read before, unless reading is paused.
    fn hand_over(&mut self, mut rest: Rest) {
        let id = rest.id;
        if !self.connections.table.is_paused(id) {
            let end = rest.received.len().min(rest.done + PIECE_BYTES);
            let piece = &mut rest.received[rest.done..end];
            rest.done = end;
            self.quiet.add(piece.len());
            self.connections.handle_received(id, piece);
            self.pace(id);
        }
        if rest.done < rest.received.len() {
            self.adoptions.rests.push_back(rest);
        } else if !self.connections.table.is_paused(id) {
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
        self.start_websocket(id, state);
    }
}

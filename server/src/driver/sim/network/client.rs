//! What clients do.

use super::{CAPACITY, ClientEnd, End, Network, Owner, Pipe, ServerEnd, What, Wire, WireId};
use crate::{address::PeerAddress, driver::sim::Fault};
use std::time::Instant;

impl Network {
    /// Connects to a worker.
    pub(crate) fn connect(&mut self, owner: Owner, peer: PeerAddress, worker: usize) -> WireId {
        let mut capacity = || match owner {
            // It has no memory for what does not fit.
            Owner::Crowd { .. } => CAPACITY,
            Owner::Client(_) if self.faults.has(Fault::SmallBuffers) => 1 << self.random.u32(6..17),
            Owner::Client(_) => self.capacity,
        };
        let wire = Wire {
            server: ServerEnd::Waiting,
            client: ClientEnd::Open(owner),
            peer,
            up: Pipe::new(capacity()),
            down: Pipe::new(capacity()),
        };
        let Ok(id) = self.wires.insert(wire) else {
            unreachable!("there are fewer connections than slots")
        };
        let at = self.now + self.latency();
        self.schedule(at, What::Connected { wire: WireId(id).key(), worker });
        WireId(id)
    }

    /// Sends as much as there is room for, and tells the client when there is more.
    pub(crate) fn send_to_server(&mut self, id: WireId, bytes: &[u8]) -> usize {
        let Some(wire) = self.wires.get(id.0) else { return bytes.len() };
        let is_gone = matches!(wire.server, ServerEnd::Closed) || wire.up.is_ended();
        if is_gone || !matches!(wire.client, ClientEnd::Open(_)) {
            // Nobody is there, or the client has said that no more comes: what is sent goes nowhere.
            return bytes.len();
        }
        let len = bytes.len().min(wire.up.room());
        let mut at = 0;
        while at < len {
            let piece = self.cut(len - at);
            let arrival = self.now + self.latency();
            let wire = self.wires.get_mut(id.0).expect("it was there");
            let arrival = wire.up.send(&bytes[at..at + piece], arrival);
            at += piece;
            self.schedule(arrival, What::ArrivedAtServer(id.key()));
        }
        if let Some(wire) = self.wires.get_mut(id.0) {
            wire.up.is_awaited = len < bytes.len();
        }
        len
    }

    /// Appends all that has arrived; how it ended, if it did.
    pub(crate) fn read_at_client(&mut self, id: WireId, out: &mut Vec<u8>) -> Option<bool> {
        let now = self.now;
        let wire = self.wires.get_mut(id.0)?;
        if !matches!(wire.client, ClientEnd::Open(_)) {
            return None;
        }
        let before = out.len();
        let mut buffer = [0; 4096];
        loop {
            let len = wire.down.read(now, &mut buffer);
            if len == 0 {
                break;
            }
            out.extend_from_slice(&buffer[..len]);
        }
        let ended = wire.down.ended(now).map(|end| end == End::Fin);
        let is_awaited = out.len() > before && wire.down.is_awaited;
        self.note("client read", (id.key(), &out[before..], ended));
        if is_awaited {
            let at = self.now + self.latency();
            self.schedule(at, What::RoomForServer(id.key()));
        }
        ended
    }

    /// Sends a FIN behind all that was sent.
    pub(crate) fn finish_by_client(&mut self, id: WireId) {
        let at = self.now + self.latency();
        self.end_up(id, End::Fin, at);
    }

    /// Resets the connection.
    pub(crate) fn reset_by_client(&mut self, id: WireId) {
        let at = self.now + self.latency();
        self.end_up(id, End::Reset, at);
        self.close_by_client(id);
    }

    /// The client has closed its socket.
    pub(crate) fn close_by_client(&mut self, id: WireId) {
        let Some(wire) = self.wires.get_mut(id.0) else { return };
        if matches!(wire.client, ClientEnd::Open(_)) {
            wire.client = ClientEnd::Closed;
            self.finish_by_client(id);
            self.release(id);
        }
    }

    /// Nothing comes from the client any more, and nobody is told.
    pub(crate) fn vanish(&mut self, id: WireId) {
        if let Some(wire) = self.wires.get_mut(id.0) {
            wire.client = ClientEnd::Vanished;
            self.release(id);
        }
    }

    /// Remembers what a member of a crowd has become.
    pub(crate) fn set_crowd_open(&mut self, id: WireId) {
        if let Some(wire) = self.wires.get_mut(id.0) {
            wire.client = ClientEnd::Open(Owner::Crowd { is_open: true });
            // The driver finds nothing there, and that its wire can go.
            self.schedule(self.now, What::ArrivedAtServer(id.key()));
        }
    }

    pub(super) fn end_up(&mut self, id: WireId, end: End, at: Instant) {
        if let Some(wire) = self.wires.get_mut(id.0) {
            let at = wire.up.end(end, at);
            self.schedule(at, What::ArrivedAtServer(id.key()));
        }
    }
}

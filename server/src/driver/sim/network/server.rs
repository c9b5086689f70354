//! What drivers do, and are told.

use super::{
    CAPACITY, ClientEnd, End, Network, News, Owner, Pipe, Receive, ServerEnd, SimWaker, Sleep,
    What, Wire, WireId,
};
use crate::{address::PeerAddress, driver::sim::Fault, parts::slots::SlotId};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

impl Network {
    pub(in crate::driver::sim) fn waker(&self, worker: usize) -> Arc<SimWaker> {
        self.ports[worker].waker.clone()
    }

    pub(in crate::driver::sim) fn take_wake(&mut self, worker: usize) -> bool {
        self.ports[worker].waker.0.swap(false, Ordering::SeqCst)
    }

    /// Whether a worker was woken and has not noticed.
    pub(crate) fn is_woken(&self, worker: usize) -> bool {
        self.ports[worker].waker.0.load(Ordering::SeqCst)
    }

    pub(in crate::driver::sim) fn take_news(&mut self, worker: usize) -> Vec<News> {
        std::mem::take(&mut self.ports[worker].news)
    }

    pub(in crate::driver::sim) fn set_sleep(&mut self, worker: usize, sleep: Sleep) {
        self.ports[worker].sleep = sleep;
    }

    pub(crate) fn sleep(&self, worker: usize) -> Sleep {
        self.ports[worker].sleep
    }

    pub(crate) fn set_out_of_descriptors(&mut self, worker: usize, is_out: bool) {
        self.ports[worker].is_out_of_descriptors = is_out;
    }

    pub(in crate::driver::sim) fn is_out_of_descriptors(&self, worker: usize) -> bool {
        self.ports[worker].is_out_of_descriptors
    }

    pub(in crate::driver::sim) fn listen(&mut self, worker: usize) {
        self.ports[worker].is_listening = true;
    }

    pub(in crate::driver::sim) fn stop_accept(&mut self, worker: usize) {
        self.ports[worker].is_listening = false;
        for waiting in std::mem::take(&mut self.ports[worker].accept) {
            self.close_by_server(waiting);
        }
    }

    pub(in crate::driver::sim) fn accept(
        &mut self,
        worker: usize,
    ) -> Option<(WireId, PeerAddress)> {
        let id = self.ports[worker].accept.pop_front()?;
        let peer = self.wires.get(id.0)?.peer;
        self.note("accept", (worker, id.key()));
        Some((id, peer))
    }

    pub(in crate::driver::sim) fn open(&mut self, wire: WireId, worker: usize, id: SlotId) {
        let now = self.now;
        if let Some(wire) = self.wires.get_mut(wire.0) {
            wire.server = ServerEnd::Open { worker, id };
            if wire.up.is_readable(now) {
                self.tell(worker, News::Readable(id));
            }
        }
    }

    /// A wire for a member of a crowd that something is sent to.
    pub(in crate::driver::sim) fn wake_crowd(&mut self, worker: usize, id: SlotId) -> WireId {
        let wire = Wire {
            server: ServerEnd::Open { worker, id },
            client: ClientEnd::Open(Owner::Crowd { is_open: true }),
            peer: PeerAddress::Unix,
            up: Pipe::new(CAPACITY),
            down: Pipe::new(CAPACITY),
        };
        match self.wires.insert(wire) {
            Ok(id) => WireId(id),
            Err(_) => unreachable!("there are fewer connections than slots"),
        }
    }

    /// The wire at an index, if there is one.
    pub(in crate::driver::sim) fn wire_at(&self, index: u32) -> Option<WireId> {
        self.wires.id_at(index as usize).map(WireId)
    }

    /// Whether it is a crowd's, with nothing under way: then its wire is gone.
    pub(in crate::driver::sim) fn is_parked(&mut self, id: WireId) -> bool {
        let is_parked = self.wires.get(id.0).is_some_and(|wire| {
            wire.client == ClientEnd::Open(Owner::Crowd { is_open: true })
                && wire.up.is_idle()
                && wire.down.is_idle()
        });
        if is_parked {
            self.wires.remove(id.0);
        }
        is_parked
    }

    /// Sends what is taken at once; an error if the connection has failed.
    pub(in crate::driver::sim) fn send_to_client(
        &mut self,
        id: WireId,
        bytes: &[u8],
    ) -> Result<usize, ()> {
        let now = self.now;
        let Some(wire) = self.wires.get(id.0) else { return Err(()) };
        if wire.up.is_reset(now) {
            return Err(());
        }
        let room = bytes.len().min(wire.down.room());
        let is_crowd = matches!(wire.client, ClientEnd::Open(Owner::Crowd { .. }));
        let len = match is_crowd {
            true => room,
            false if self.happens(Fault::Cuts, 50) => 0,
            false => self.cut(room),
        };
        self.note("send", (id.key(), &bytes[..len]));
        let arrival = now + self.latency();
        let wire = self.wires.get_mut(id.0).expect("it was there");
        if len > 0 {
            let arrival = wire.down.send(&bytes[..len], arrival);
            self.schedule(arrival, What::ArrivedAtClient(id.key()));
        }
        if len < bytes.len() {
            let wire = self.wires.get_mut(id.0).expect("it was there");
            wire.down.is_awaited = true;
            if wire.down.room() > 0 {
                let at = self.now + self.latency();
                self.schedule(at, What::RoomForServer(id.key()));
            }
        }
        Ok(len)
    }

    pub(in crate::driver::sim) fn receive(&mut self, id: WireId, buffer: &mut [u8]) -> Receive {
        let now = self.now;
        let wanted = self.cut(buffer.len());
        let Some(wire) = self.wires.get_mut(id.0) else { return Receive::Nothing };
        let len = wire.up.read(now, &mut buffer[..wanted]);
        let is_awaited = wire.up.is_awaited && len > 0;
        let ended = wire.up.ended(now);
        self.note("receive", (id.key(), &buffer[..len]));
        if is_awaited {
            let at = self.now + self.latency();
            self.schedule(at, What::RoomForClient(id.key()));
        }
        match (len, ended) {
            (1.., _) => Receive::Bytes(len),
            (0, Some(End::Fin)) => Receive::Ended(None),
            (0, Some(End::Reset)) => Receive::Ended(Some(io::ErrorKind::ConnectionReset.into())),
            (0, None) => Receive::Nothing,
        }
    }

    /// Whether the server would find something.
    pub(in crate::driver::sim) fn is_readable(&self, id: WireId) -> bool {
        self.wires.get(id.0).is_some_and(|wire| wire.up.is_readable(self.now))
    }

    /// Whether the connection has failed.
    pub(in crate::driver::sim) fn is_reset(&self, id: WireId) -> bool {
        self.wires.get(id.0).is_some_and(|wire| wire.up.is_reset(self.now))
    }

    pub(in crate::driver::sim) fn shutdown_by_server(&mut self, id: WireId) {
        let at = self.now + self.latency();
        self.end_down(id, End::Fin, at);
    }

    /// Closes the server's end. If something is there that it did not read, the client gets a RST.
    pub(in crate::driver::sim) fn close_by_server(&mut self, id: WireId) {
        let now = self.now;
        let at = now + self.latency();
        let Some(wire) = self.wires.get_mut(id.0) else { return };
        wire.server = ServerEnd::Closed;
        let end = if wire.up.has_unread(now) { End::Reset } else { End::Fin };
        if end == End::Reset {
            wire.down.lose(now);
        }
        self.note("close", (id.key(), end == End::Reset));
        self.end_down(id, end, at);
        self.release(id);
    }

    pub(super) fn end_down(&mut self, id: WireId, end: End, at: Instant) {
        if let Some(wire) = self.wires.get_mut(id.0) {
            let at = wire.down.end(end, at);
            self.schedule(at, What::ArrivedAtClient(id.key()));
        }
    }
}

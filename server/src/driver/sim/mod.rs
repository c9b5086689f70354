//! The driver that simulates: a network in memory, on a clock of its own, with faults by a seed.
//!
//! A simulated wait does not block: it says whether there is something to do, and who runs the
//! workers comes back when there is.

mod faults;
mod network;
mod pipe;
mod sockets;
#[cfg(test)]
mod tests;

pub use faults::{Fault, Faults, UnknownFault};
pub(crate) use network::{Event, Network, Owner, Sleep, WireId};

use super::{Completion, Driver, Holdings, ListenerId, Wake};
use crate::parts::{
    mutant::{Mutant, is_planted, shows},
    slots::SlotId,
};
use network::{News, Receive};
use sockets::{Connection, PARKED, Ready, Sockets};
use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

const RECEIVE_BUFFER_BYTES: usize = 64 << 10;
/// How long accepting pauses after descriptors ran out.
const BACKOFF: Duration = Duration::from_millis(100);
/// How many connections are accepted before the others have their turn.
const TURN: usize = 64;
/// See the [module](self).
pub(crate) struct Sim {
    sockets: Sockets,
    shorts: VecDeque<(SlotId, usize)>,
    /// How many of those that are ready belong to this tick.
    batch: usize,
    accept_at: Option<Instant>,
    is_accept_queued: bool,
    /// In this tick.
    accepted: usize,
    buffer: Box<[u8]>,
    now: Instant,
}

/// A connection that was accepted: closed unless it is opened.
pub(crate) struct SimSocket {
    wire: Option<WireId>,
    network: Rc<RefCell<Network>>,
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        if let Some(wire) = self.wire {
            self.network.borrow_mut().close_by_server(wire);
        }
    }
}

/// A process that is gone has closed its sockets: the kernel does that.
impl Drop for Sim {
    fn drop(&mut self) {
        // A handler may have panicked at any time.
        let Ok(mut network) = self.sockets.network.try_borrow_mut() else { return };
        network.stop_accept(self.sockets.worker);
        for connection in self.sockets.connections.iter().filter(|one| one.generation != 0) {
            if let Some(wire) = network.wire_at(connection.wire) {
                network.close_by_server(wire);
            }
        }
    }
}

impl Sim {
    pub(crate) fn new(network: Rc<RefCell<Network>>, worker: usize) -> Self {
        let now = network.borrow().now();
        Self {
            sockets: Sockets::new(network, worker),
            shorts: VecDeque::new(),
            batch: 0,
            accept_at: None,
            is_accept_queued: false,
            accepted: 0,
            buffer: vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice(),
            now,
        }
    }

    fn queue_accept(&mut self) {
        if !self.is_accept_queued && self.accept_at.is_none() {
            self.is_accept_queued = true;
            self.sockets.ready.push_back(Ready::Accept);
        }
    }

    /// Takes note of what has happened, and chooses what of it is told now.
    fn take_news(&mut self) {
        let network = self.sockets.network.clone();
        let mut network = network.borrow_mut();
        self.now = network.now();
        self.accepted = 0;
        for news in network.take_news(self.sockets.worker) {
            match news {
                News::Readable(id) => self.sockets.queue_receive(id),
                News::Room(id) => {
                    if let Some(connection) = self.sockets.connection(id)
                        && std::mem::take(&mut connection.is_blocked)
                        && !shows(Mutant::ForgetWritable)
                    {
                        self.sockets.ready.push_back(Ready::Writable(id));
                    }
                }
                News::Accept => self.queue_accept(),
            }
        }
        if network.take_wake(self.sockets.worker) {
            self.sockets.ready.push_back(Ready::Woken);
        }
        if self.accept_at.is_some_and(|at| at <= self.now) {
            self.accept_at = None;
            self.queue_accept();
        }
        if self.batch == 0 && network.faults().has(Fault::Reorder) {
            network.random().shuffle(self.sockets.ready.make_contiguous());
            self.batch = network.random().usize(0..=self.sockets.ready.len());
        } else {
            self.batch = self.sockets.ready.len();
        }
    }

    fn receive(&mut self, id: SlotId) -> Receive {
        let Some(wire) = self.sockets.wire(id) else { return Receive::Nothing };
        let network = self.sockets.network.clone();
        let mut network = network.borrow_mut();
        let connection = &mut self.sockets.connections[id.index()];
        connection.is_queued = false;
        if connection.is_paused && !network.is_reset(wire) {
            return Receive::Nothing;
        }
        let received = network.receive(wire, &mut self.buffer);
        match &received {
            Receive::Ended(Some(_)) if is_planted(Mutant::ResetAsFin) => {
                connection.is_ended = true;
                return Receive::Ended(None);
            }
            Receive::Ended(_) => connection.is_ended = true,
            Receive::Bytes(_) if network.is_readable(wire) => self.sockets.queue_receive(id),
            Receive::Bytes(_) | Receive::Nothing if network.is_parked(wire) => {
                connection.wire = PARKED;
            }
            Receive::Bytes(_) | Receive::Nothing => {}
        }
        received
    }

    fn accept<'d>(&mut self) -> Option<Completion<'d, SimSocket>> {
        self.is_accept_queued = false;
        let mut network = self.sockets.network.borrow_mut();
        if network.is_out_of_descriptors(self.sockets.worker) {
            self.accept_at = Some(self.now + BACKOFF);
            let error = io::Error::from_raw_os_error(libc::EMFILE);
            return Some(Completion::AcceptFailed { error });
        }
        let (wire, peer) = network.accept(self.sockets.worker)?;
        drop(network);
        let socket = SimSocket { wire: Some(wire), network: self.sockets.network.clone() };
        if self.accepted < TURN {
            self.accepted += 1;
            self.is_accept_queued = true;
            self.sockets.ready.push_front(Ready::Accept);
            self.batch += 1;
        } else {
            self.queue_accept();
        }
        Some(Completion::Accepted { socket, peer })
    }
}

impl Driver for Sim {
    type Socket = SimSocket;
    type Listener = ();

    fn now(&self) -> Instant {
        self.now
    }

    fn read_clock(&self) -> Instant {
        self.sockets.network.borrow().now()
    }

    fn bytes_sent(&self) -> u64 {
        self.sockets.bytes_sent
    }

    fn holdings(&self) -> Holdings {
        let used = self.sockets.connections.iter().filter(|connection| connection.generation != 0);
        Holdings { sockets: used.count(), ..Holdings::default() }
    }

    fn listen(&mut self, (): ()) -> io::Result<ListenerId> {
        self.sockets.network.borrow_mut().listen(self.sockets.worker);
        Ok(ListenerId(0))
    }

    fn stop_accept(&mut self, _listener: ListenerId) {
        self.sockets.network.borrow_mut().stop_accept(self.sockets.worker);
    }

    fn adopt(&mut self, _stream: OwnedFd) -> io::Result<SimSocket> {
        // A real stream has no place on a simulated network.
        Err(ErrorKind::Unsupported.into())
    }

    fn open(&mut self, id: SlotId, mut socket: SimSocket) -> io::Result<()> {
        if self.sockets.network.borrow_mut().happens(Fault::Descriptors, 50) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let Some(wire) = socket.wire.take() else { return Err(ErrorKind::NotConnected.into()) };
        if self.sockets.connections.len() <= id.index() {
            self.sockets.connections.resize(id.index() + 1, Connection::default());
        }
        self.sockets.connections[id.index()] =
            Connection { wire: wire.index(), generation: id.generation(), ..Connection::default() };
        self.sockets.network.borrow_mut().open(wire, self.sockets.worker, id);
        Ok(())
    }

    fn pause_receive(&mut self, id: SlotId) {
        if let Some(connection) = self.sockets.connection(id) {
            connection.is_paused = true;
        }
    }

    fn resume_receive(&mut self, id: SlotId) {
        if let Some(connection) = self.sockets.connection(id) {
            connection.is_paused = false;
            self.sockets.queue_receive(id);
        }
    }

    fn shutdown(&mut self, id: SlotId) {
        if let Some(wire) = self.sockets.wake(id) {
            self.sockets.network.borrow_mut().shutdown_by_server(wire);
        }
    }

    fn close(&mut self, id: SlotId) {
        let wire = self.sockets.wake(id);
        if let Some(connection) = self.sockets.connection(id) {
            *connection = Connection::default();
            if !shows(Mutant::KeepSlot) {
                self.sockets.ready.push_back(Ready::Closed(id));
            }
            if let Some(wire) = wire {
                self.sockets.network.borrow_mut().close_by_server(wire);
            }
        }
    }

    fn wait<'b>(
        &mut self,
        sends: impl Iterator<Item = (SlotId, &'b [u8])>,
        until: Option<Instant>,
    ) -> io::Result<()> {
        let mut has_sent = false;
        for (id, bytes) in sends {
            if let Some(sent) = self.sockets.send(id, bytes) {
                self.shorts.push_back((id, sent));
            }
            has_sent = true;
        }
        self.take_news();
        let until = until.into_iter().chain(self.accept_at).min();
        let until = match is_planted(Mutant::Oversleep) {
            true => until.map(|until| until + Duration::from_secs(60)),
            false => until,
        };
        let is_awake =
            has_sent || !self.sockets.ready.is_empty() || until.is_some_and(|at| at <= self.now);
        let sleep = if is_awake { Sleep::Awake } else { Sleep::Until(until) };
        self.sockets.network.borrow_mut().set_sleep(self.sockets.worker, sleep);
        Ok(())
    }

    fn next_short(&mut self) -> Option<(SlotId, usize)> {
        self.shorts.pop_front()
    }

    fn next(&mut self) -> Option<Completion<'_, SimSocket>> {
        while self.batch > 0 {
            self.batch -= 1;
            match self.sockets.ready.pop_front()? {
                Ready::Receive(id) => match self.receive(id) {
                    Receive::Bytes(len) => {
                        let Self { buffer, sockets, .. } = self;
                        return Some(Completion::Received {
                            id,
                            bytes: &mut buffer[..len],
                            direct: sockets,
                        });
                    }
                    Receive::Ended(error) => return Some(Completion::ReceiveEnded { id, error }),
                    Receive::Nothing => {}
                },
                Ready::Writable(id) => return Some(Completion::Writable { id }),
                Ready::Closed(id) => return Some(Completion::Closed { id }),
                Ready::Woken => return Some(Completion::Woken),
                Ready::Accept => {
                    if let Some(completion) = self.accept() {
                        return Some(completion);
                    }
                }
            }
        }
        None
    }

    fn is_behind(&self) -> bool {
        !self.sockets.ready.is_empty()
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.sockets.network.borrow().waker(self.sockets.worker)
    }
}

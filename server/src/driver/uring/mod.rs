//! The driver on io_uring (Linux 6.0): what a tick asks for goes to the kernel with the wait for the
//! next one, in one call.
//!
//! Connections are places in the ring's own table of files, not descriptors. Receiving stands until it
//! is cancelled, into buffers that the kernel picks. A send takes what there is room for at once, and
//! completes only if that is not all.

mod accept;
mod buffers;
mod complete;
mod connection;
mod files;
mod held;
mod memory;
mod operation;
mod probe;
mod ring;
mod sends;
mod sockets;
#[cfg(test)]
mod tests;
mod wake;

pub use files::DirectSocket;
pub use probe::{Features, Unavailable};

use super::{Completion, Driver, Holdings, Listener, ListenerId, Wake, read_clock};
use crate::parts::slots::{SLOTS_RESERVED, SlotId};
use accept::{Accepted, Acceptor};
use buffers::{Buffers, Shape};
use complete::Told;
use connection::{Connection, Flags};
use files::Files;
use held::Held;
use io_uring::cqueue;
use operation::{Operation, Subject};
use ring::{Ring, TaskRun, Wait};
use sends::Sends;
use sockets::Sockets;
use std::{collections::VecDeque, io, os::fd::OwnedFd, sync::Arc, time::Instant};

/// Completions of one wait beyond which the rest is left for the next one.
const COMPLETIONS_MAX: usize = 1024;
/// Received bytes of one wait beyond which the rest is left for the next one: there would soon be no buffers.
const RECEIVED_BYTES_MAX: usize = 256 << 10;
/// How many of what comes and goes there is room for all the time.
const KEPT: usize = 1024;
/// How many connections are accepted in a row in the end.
const TURN: u32 = 64;

/// A driver on completions: io_uring, with a ring of its own.
pub struct Uring {
    sockets: Sockets,
    files: Files,
    buffers: Buffers,
    acceptors: Vec<Acceptor>,
    /// What the kernel completed, and how much of it was looked at.
    completions: Vec<cqueue::Entry>,
    taken: usize,
    accepted: VecDeque<Accepted>,
    held: Held,
    /// Those that found no buffer, in the order they did.
    starved: VecDeque<SlotId>,
    waker: Arc<wake::Waker>,
    is_watching_wakes: bool,
    is_behind: bool,
    now: Instant,
}

impl Uring {
    /// A driver without connections, that can have as many, or as many as the process may have descriptors.
    /// It belongs to the first thread that does something with it.
    ///
    /// # Errors
    /// The kernel has no io_uring, or none that is new enough, or does not let this process have it; or
    /// `connections_max` is 0.
    pub fn new(connections_max: usize) -> Result<Self, Unavailable> {
        if connections_max == 0 {
            return Err(Unavailable::for_nobody());
        }
        let mut error = io::Error::from_raw_os_error(libc::EINVAL);
        for task_run in TaskRun::ALL {
            match Self::build(task_run, Shape::INCREMENTAL, connections_max) {
                Ok(driver) => return Ok(driver),
                // It does not know one of the flags.
                Err(other) if other.raw_os_error() == Some(libc::EINVAL) => error = other,
                Err(other) => return Err(Unavailable::new(other)),
            }
        }
        Err(Unavailable::new(error))
    }

    fn build(task_run: TaskRun, shape: Shape, connections_max: usize) -> io::Result<Self> {
        let ring = Ring::new(task_run)?;
        let files = Files::register(&ring, connections_max)?;
        let waker = Arc::new(wake::Waker::new()?);
        let buffers = match shape {
            Shape { is_incremental: true, .. } if probe::fills_in_order() => {
                Buffers::register(&ring, shape).or_else(|error| match error.raw_os_error() {
                    Some(libc::EINVAL) => Buffers::register(&ring, Shape::WHOLE),
                    _ => Err(error),
                })?
            }
            _ => Buffers::register(&ring, Shape::WHOLE)?,
        };
        Ok(Self {
            sockets: Sockets {
                ring,
                connections: Vec::with_capacity(SLOTS_RESERVED),
                sends: Sends::default(),
                unsettled: Vec::new(),
                later: Vec::new(),
                failed: Vec::new(),
            },
            files,
            buffers,
            acceptors: Vec::new(),
            completions: Vec::new(),
            taken: 0,
            accepted: VecDeque::new(),
            held: Held::default(),
            starved: VecDeque::new(),
            waker,
            is_watching_wakes: false,
            is_behind: false,
            now: read_clock(),
        })
    }

    /// What the kernel can do, of that which is used.
    pub fn features(&self) -> Features {
        Features {
            task_run: self.sockets.ring.task_run(),
            has_array: self.sockets.ring.has_array(),
            buffers: self.buffers.shape(),
            files: self.files.len(),
        }
    }

    /// A connection that is not about to end.
    #[inline]
    fn connection(&mut self, id: SlotId) -> Option<&mut Connection> {
        find(&mut self.sockets.connections, id)
    }

    /// Submits what stands at the begin of each wait.
    fn prepare(&mut self) {
        for file in self.files.take_dropped() {
            self.sockets.ring.push(&Operation::close(file, Subject::Discard(file)));
        }
        for acceptor in &mut self.acceptors {
            acceptor.submit(&mut self.sockets.ring, &mut self.files, self.now);
        }
        if self.acceptors.iter().any(Acceptor::needs_place) {
            for acceptor in self.acceptors.iter_mut().filter(|acceptor| !acceptor.needs_place()) {
                acceptor.release(&mut self.sockets.ring);
            }
        }
        if !self.is_watching_wakes {
            self.is_watching_wakes = true;
            self.sockets.ring.push(&Operation::watch_wakes(self.waker.fd()));
        }
        self.held.end_loan();
        self.buffers.give_back();
        self.buffers.publish();
        while let Some(id) = self.sockets.failed.pop() {
            self.fail(id, Flags::BROKEN);
        }
        for _ in 0..self.starved.len().min(self.buffers.given()) {
            let Some(id) = self.starved.pop_front() else { break };
            let Sockets { ring, connections, .. } = &mut self.sockets;
            if let Some(connection) = find(connections, id) {
                connection.flags.set(Flags::STARVED, false);
                // Before all others that receive anew: these had something.
                connection.settle(id, ring);
            }
        }
        let Sockets { ring, connections, unsettled, .. } = &mut self.sockets;
        for id in unsettled.drain(..) {
            if let Some(connection) = find(connections, id) {
                connection.flags.set(Flags::UNSETTLED, false);
                connection.settle(id, ring);
            }
        }
    }

    /// How long to wait.
    fn patience(&self, until: Option<Instant>) -> Wait {
        if !self.completions.is_empty() {
            // First what is there.
            return Wait::Submit;
        }
        // Of those that were starved some try again in each wait, and may find nothing.
        let is_ready = !self.accepted.is_empty()
            || !self.starved.is_empty()
            || self.held.is_due()
            || self.sockets.sends.has_shorts()
            || self.acceptors.iter().any(Acceptor::is_finishing);
        if is_ready {
            return Wait::Collect;
        }
        let retries = self.acceptors.iter().filter_map(Acceptor::retry_at);
        let until = until.into_iter().chain(retries).min();
        Wait::For(until.map(|until| until.saturating_duration_since(self.now)))
    }

    /// A connection that is told now what was held for it.
    #[cold]
    fn next_released(&mut self) -> Option<SlotId> {
        while let Some(id) = self.held.next_due() {
            let Some(connection) = find(&mut self.sockets.connections, id) else { continue };
            if !connection.flags.releases() {
                continue;
            }
            if self.held.is_one_piece(id) {
                connection.flags.set(Flags::HELD, false);
                self.sockets.unsettle(id);
            } else {
                self.held.release(id);
            }
            return Some(id);
        }
        None
    }

    /// Accepts those that wait at listeners that are about to be closed.
    fn finish_accepting(&mut self) {
        for acceptor in &mut self.acceptors {
            for _ in 0..TURN {
                if !acceptor.is_finishing() {
                    break;
                }
                let Some((stream, peer)) = acceptor.accept_last() else { break };
                let accepted = match self.files.install(&mut self.sockets.ring, stream) {
                    Ok(socket) => Accepted::Socket(socket, peer),
                    Err(error) => Accepted::Failed(error),
                };
                self.accepted.push_back(accepted);
            }
        }
    }
}

impl Driver for Uring {
    type Socket = DirectSocket;
    type Listener = Listener;

    fn now(&self) -> Instant {
        self.now
    }

    fn read_clock(&self) -> Instant {
        read_clock()
    }

    fn bytes_sent(&self) -> u64 {
        self.sockets.sends.bytes
    }

    fn holdings(&self) -> Holdings {
        let accepting: usize = self.acceptors.iter().map(Acceptor::places).sum();
        Holdings {
            sockets: self.files.taken() - accepting,
            held_bytes: self.held.len(),
            buffers_lost: self.buffers.lost(),
        }
    }

    fn listen(&mut self, listener: Listener) -> io::Result<ListenerId> {
        let number = self.acceptors.len();
        self.acceptors.push(Acceptor::new(number, listener)?);
        Ok(ListenerId(number))
    }

    fn stop_accept(&mut self, listener: ListenerId) {
        if let Some(acceptor) = self.acceptors.get_mut(listener.0) {
            acceptor.stop(&mut self.sockets.ring);
        }
    }

    fn finish_accept(&mut self, listener: ListenerId) {
        if let Some(acceptor) = self.acceptors.get_mut(listener.0) {
            acceptor.finish(&mut self.sockets.ring);
        }
    }

    fn adopt(&mut self, stream: OwnedFd) -> io::Result<DirectSocket> {
        // The kernel waits for bytes only where a thread would.
        rustix::io::ioctl_fionbio(&stream, false)?;
        self.files.install(&mut self.sockets.ring, stream)
    }

    fn open(&mut self, id: SlotId, socket: DirectSocket) -> io::Result<()> {
        let file = self.files.claim(socket)?;
        if self.sockets.connections.len() <= id.index() {
            self.sockets.connections.resize_with(id.index() + 1, Connection::default);
        }
        self.sockets.connections[id.index()] = Connection::new(file, id);
        self.sockets.unsettle(id);
        Ok(())
    }

    fn pause_receive(&mut self, id: SlotId) {
        if let Some(connection) = self.connection(id) {
            connection.flags.set(Flags::PAUSED, true);
            self.sockets.unsettle(id);
        }
    }

    fn resume_receive(&mut self, id: SlotId) {
        if let Some(connection) = self.connection(id) {
            connection.flags.set(Flags::PAUSED, false);
            if connection.flags.has(Flags::HELD) {
                self.held.release(id);
            }
            self.sockets.unsettle(id);
        }
    }

    fn shutdown(&mut self, id: SlotId) {
        if let Some(connection) = find(&mut self.sockets.connections, id) {
            connection.shut_down(id, &mut self.sockets.ring);
            // If it fails, so does the next wait.
            let _ = self.sockets.ring.enter(Wait::Submit);
        }
    }

    fn close(&mut self, id: SlotId) {
        if let Some(connection) = find(&mut self.sockets.connections, id) {
            connection.close(id, &mut self.sockets.ring);
            if connection.flags.has(Flags::HELD) {
                self.held.remove(id);
            }
        }
    }

    fn wait<'b>(
        &mut self,
        sends: impl Iterator<Item = (SlotId, &'b [u8])>,
        until: Option<Instant>,
    ) -> io::Result<()> {
        self.prepare();
        self.completions.drain(..self.taken);
        self.taken = 0;
        self.completions.append(&mut self.sockets.later);
        let patience = self.patience(until);
        let Sockets { ring, connections, sends: handed_over, .. } = &mut self.sockets;
        let mut lending = ring.lend();
        handed_over.begin();
        for (id, bytes) in sends {
            if let Some(connection) = find(connections, id) {
                lending.send(connection.file, bytes, handed_over.add(id, bytes.len()));
            }
        }
        lending.enter(patience)?;
        self.now = read_clock();
        let mut received = self.collect();
        // A send that was short has to be known now: what tells of it may be in the kernel still.
        while self.sockets.ring.has_overflowed() {
            self.sockets.ring.enter(Wait::Collect)?;
            received += self.collect();
        }
        if matches!(patience, Wait::Submit) {
            // There is more behind what is there.
            self.is_behind = true;
        } else {
            self.is_behind = self.sockets.ring.has_more();
            while self.is_behind
                && self.completions.len() < COMPLETIONS_MAX
                && received < RECEIVED_BYTES_MAX
            {
                let before = self.completions.len();
                self.sockets.ring.enter(Wait::Collect)?;
                received += self.collect();
                // The kernel may say that there is more when it just gave all.
                self.is_behind = self.sockets.ring.has_more() && self.completions.len() > before;
            }
        }
        self.finish_accepting();
        Ok(())
    }

    fn next_short(&mut self) -> Option<(SlotId, usize)> {
        self.sockets.sends.next_short()
    }

    #[inline]
    fn next(&mut self) -> Option<Completion<'_, DirectSocket>> {
        if self.held.is_due()
            && let Some(id) = self.next_released()
        {
            let bytes = self.held.take(id);
            return Some(Completion::Received { id, bytes, direct: &mut self.sockets });
        }
        let told = loop {
            let Some(completion) = self.completions.get(self.taken).cloned() else {
                let accepted = self.accepted.pop_front()?;
                break Told::Accepted(accepted);
            };
            self.taken += 1;
            match self.complete(&completion) {
                Some(Told::Received(id)) => {
                    let bytes = self.buffers.take(&completion);
                    return Some(Completion::Received { id, bytes, direct: &mut self.sockets });
                }
                Some(told) => break told,
                None => {}
            }
        };
        Some(match told {
            Told::Received(_) => return None,
            Told::Ended(id, error) => Completion::ReceiveEnded { id, error },
            Told::Writable(id) => Completion::Writable { id },
            Told::Closed(id) => Completion::Closed { id },
            Told::Accepted(Accepted::Socket(socket, peer)) => Completion::Accepted { socket, peer },
            Told::Accepted(Accepted::Failed(error)) => Completion::AcceptFailed { error },
            Told::Woken => Completion::Woken,
        })
    }

    fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn trim(&mut self) {
        let Sockets { sends, unsettled, later, failed, .. } = &mut self.sockets;
        sends.trim();
        for ids in [unsettled, failed] {
            ids.shrink_to(KEPT);
        }
        for completions in [later, &mut self.completions] {
            completions.shrink_to(KEPT);
        }
        self.accepted.shrink_to(KEPT);
        self.starved.shrink_to(KEPT);
        self.held.trim();
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }
}

impl Drop for Uring {
    #[allow(unsafe_code, reason = "frees what the kernel used")]
    fn drop(&mut self) {
        let Self { sockets, acceptors, completions, taken, .. } = self;
        let mut complete = |completion: cqueue::Entry| {
            if let Subject::Accept { listener, place } = Subject::of(completion.user_data())
                && let Some(acceptor) = acceptors.get_mut(listener)
            {
                acceptor.forget(place);
            }
        };
        completions.drain(*taken..).chain(sockets.later.drain(..)).for_each(&mut complete);
        let is_stopped = sockets.ring.stop(complete);
        // Better to lose memory than to have the kernel write to what it has become.
        acceptors.drain(..).for_each(Acceptor::free);
        if is_stopped {
            // SAFETY: the kernel is done with the memory, and it is not used again, as `self` is gone.
            unsafe { self.buffers.free() };
        }
    }
}

/// A connection that is not about to end.
#[inline]
fn find(connections: &mut [Connection], id: SlotId) -> Option<&mut Connection> {
    connections.get_mut(id.index()).filter(|connection| {
        connection.generation == id.generation() && !connection.flags.has(Flags::CLOSING)
    })
}

/// A connection that something is under way for, perhaps to end it.
#[inline]
fn any(connections: &mut [Connection], id: SlotId) -> Option<&mut Connection> {
    connections.get_mut(id.index()).filter(|connection| connection.generation == id.generation())
}

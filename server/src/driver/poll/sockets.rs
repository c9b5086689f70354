//! The connections of the driver, and what is sent on them.

use crate::{
    driver::{ListenerId, SendNow},
    parts::slots::{SLOTS_RESERVED, SlotId},
};
use rustix::{
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, send, sendmsg},
};
use socket2::Socket;
use std::{collections::VecDeque, io::IoSlice};

/// No signal, and no wait either: somebody else may have the same stream, as one that is adopted, and make it
/// one that waits.
const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// See the [module](self).
pub(super) struct Sockets {
    pub(super) connections: Vec<Connection>,
    /// How many of them have a socket.
    pub(super) count: usize,
    /// What is to be done for them and for listeners, in this tick or the next one.
    pub(super) ready: VecDeque<Ready>,
    pub(super) bytes_sent: u64,
}

/// What epoll knows of one slot. One in use has a socket.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) socket: Option<Socket>,
    pub(super) generation: u32,
    pub(super) flags: Flags,
}

/// A set of the constants below: a byte a connection.
#[derive(Clone, Copy, Default)]
pub(super) struct Flags(u8);

impl Flags {
    /// There may be bytes: an edge came and no short read since.
    pub(super) const READABLE: u8 = 1 << 0;
    /// The peer's FIN is there, and epoll will not say so again.
    pub(super) const READ_CLOSED: u8 = 1 << 1;
    /// It failed: that is told even while paused.
    pub(super) const FAILED: u8 = 1 << 2;
    /// It is among those that are ready.
    pub(super) const QUEUED: u8 = 1 << 3;
    pub(super) const PAUSED: u8 = 1 << 4;
    pub(super) const ENDED: u8 = 1 << 5;
    /// A send was short.
    pub(super) const BLOCKED: u8 = 1 << 6;
    /// A send failed: it took the error, which the kernel tells once.
    pub(super) const BROKEN: u8 = 1 << 7;

    pub(super) const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    pub(super) const fn set(&mut self, flag: u8, value: bool) {
        self.0 = self.0 & !flag | if value { flag } else { 0 };
    }

    /// Sets a flag if `value`, and leaves it as it is otherwise.
    pub(super) const fn add(&mut self, flag: u8, value: bool) {
        self.set(flag, value || self.has(flag));
    }
}

#[derive(Clone, Copy)]
pub(super) enum Ready {
    Receive(SlotId),
    Writable(SlotId),
    Closed(SlotId),
    Accept(ListenerId),
    Woken,
}

impl Sockets {
    /// None yet; so many may be ready without an allocation.
    pub(super) fn new(ready: usize) -> Self {
        Self {
            connections: Vec::with_capacity(SLOTS_RESERVED),
            count: 0,
            ready: VecDeque::with_capacity(ready),
            bytes_sent: 0,
        }
    }

    pub(super) fn connection(&mut self, id: SlotId) -> Option<&mut Connection> {
        self.connections
            .get_mut(id.index())
            .filter(|connection| connection.generation == id.generation())
    }

    pub(super) fn queue_receive(&mut self, id: SlotId) {
        let Some(connection) = self.connection(id) else { return };
        let flags = &mut connection.flags;
        let is_wanted =
            (flags.has(Flags::READABLE) && !flags.has(Flags::PAUSED)) || flags.has(Flags::FAILED);
        if is_wanted && !flags.has(Flags::QUEUED) && !flags.has(Flags::ENDED) {
            flags.set(Flags::QUEUED, true);
            self.ready.push_back(Ready::Receive(id));
        }
    }

    /// Sends what the kernel takes at once: how much, if that was not all.
    #[inline]
    pub(super) fn send(&mut self, id: SlotId, bytes: &[u8]) -> Option<usize> {
        self.send_by(id, bytes.len(), |socket| send(socket, bytes, SEND_FLAGS))
    }

    #[inline]
    fn send_by(
        &mut self,
        id: SlotId,
        len: usize,
        send: impl Fn(&Socket) -> Result<usize, Errno>,
    ) -> Option<usize> {
        let connection = self.connection(id)?;
        let socket = connection.socket.as_ref()?;
        let sent = loop {
            match send(socket) {
                Ok(sent) if sent == len => {
                    self.bytes_sent += sent as u64;
                    return None;
                }
                Ok(sent) => break sent,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => break 0,
                // It is told by receiving, which may still find bytes.
                Err(_) => {
                    connection.flags.set(Flags::FAILED | Flags::BROKEN, true);
                    break 0;
                }
            }
        };
        let failed = connection.flags.has(Flags::FAILED);
        let has_ended = connection.flags.has(Flags::ENDED);
        connection.flags.set(Flags::BLOCKED, true);
        self.bytes_sent += sent as u64;
        if failed && has_ended {
            // It is told already that nothing more comes. What is left goes nowhere.
            return None;
        }
        if failed {
            self.queue_receive(id);
        }
        Some(sent)
    }
}

impl SendNow for Sockets {
    fn send_now(&mut self, id: SlotId, slices: &[IoSlice<'_>]) -> Option<usize> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        let sent = self.send_by(id, len, |socket| {
            sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), SEND_FLAGS)
        });
        Some(sent.unwrap_or(len))
    }
}

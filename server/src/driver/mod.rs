//! The seam to the kernel, completion-style: a worker submits, waits, and takes completions.
//!
//! Public with the feature `driver`, and not stable even then: it changes with what drivers need. It is
//! for tools that speak to as many peers as a server does, such as a load generator.
#![deny(missing_docs)]

#[cfg(test)]
#[macro_use]
mod contract;
#[cfg(test)]
mod loopback;
pub(crate) mod poll;
#[cfg(feature = "sim")]
pub(crate) mod sim;
#[cfg(target_os = "linux")]
pub(crate) mod uring;

pub use crate::parts::slots::SlotId;
#[cfg(feature = "driver")]
pub use poll::Poll;
#[cfg(all(feature = "driver", target_os = "linux"))]
pub use uring::{DirectSocket, Features, Unavailable, Uring};

use crate::address::PeerAddress;
use std::{
    io::{self, ErrorKind, IoSlice},
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixListener},
    sync::Arc,
    time::Instant,
};

/// Moves bytes for the connections of one worker.
///
/// Accept and receive are standing operations: on from [`Driver::listen`] and [`Driver::open`] until
/// paused or closed. Sends are handed over by [`Driver::wait`], one a connection and wait at most,
/// and complete silently unless something was left over; what is large may be sent before by
/// [`SendNow`]. What names a connection that is gone is ignored, so a worker need not know what the
/// kernel knows already.
pub trait Driver {
    /// A connection that was accepted and is not open yet.
    type Socket;

    /// What it accepts from.
    type Listener;

    /// The time of the last [`Driver::wait`]: the clock of the tick.
    fn now(&self) -> Instant;

    /// The time by now. It costs more than [`Driver::now`]: not to be asked for each message.
    fn read_clock(&self) -> Instant;

    /// All bytes that the kernel took since the start.
    fn bytes_sent(&self) -> u64;

    /// What it has now.
    fn holdings(&self) -> Holdings;

    /// Accepts from a listener, in batches, from now on.
    fn listen(&mut self, listener: Self::Listener) -> io::Result<ListenerId>;

    /// Accepts no more from a listener, but for what is under way.
    fn stop_accept(&mut self, listener: ListenerId);

    /// Accepts those that wait already, and closes the listener behind them: who comes later is
    /// refused. A driver whose listeners nobody waits at has nothing more to do than to stop.
    fn finish_accept(&mut self, listener: ListenerId) {
        self.stop_accept(listener);
    }

    /// Takes over a stream that something else accepted or connects: it is not open yet. One that is
    /// still on its way takes no bytes until it is there.
    fn adopt(&mut self, stream: OwnedFd) -> io::Result<Self::Socket>;

    /// Starts to receive for a connection. From then on it has to be closed.
    fn open(&mut self, id: SlotId, socket: Self::Socket) -> io::Result<()>;

    /// Receives no more, but for what is under way. A connection that fails still says so.
    fn pause_receive(&mut self, id: SlotId);

    /// Receives again, and first what came meanwhile.
    fn resume_receive(&mut self, id: SlotId);

    /// Sends a FIN once all that was handed over is sent; receiving goes on.
    fn shutdown(&mut self, id: SlotId);

    /// Ends a connection; its last completion is [`Completion::Closed`].
    fn close(&mut self, id: SlotId);

    /// Sends, then waits for completions, at most until `until` if nothing else comes, as seen from [`Driver::now`]: what
    /// a tick itself took is not taken off. Returns at once while completions are left to take.
    ///
    /// A connection that had a short send may send again after [`Completion::Writable`].
    fn wait<'b>(
        &mut self,
        sends: impl Iterator<Item = (SlotId, &'b [u8])>,
        until: Option<Instant>,
    ) -> io::Result<()>;

    /// A send of the last wait that was not taken whole, and how much of it was. To be asked until
    /// `None`, before anything else: then the bytes that were handed over are no longer needed.
    fn next_short(&mut self) -> Option<(SlotId, usize)>;

    /// The next completion; `None` when it is time to wait again.
    fn next(&mut self) -> Option<Completion<'_, Self::Socket>>;

    /// Whether the last wait found as much as it can take at once, so that more is likely to be there
    /// already.
    fn is_behind(&self) -> bool;

    /// Gives back the memory that only busier times need: for a time of quiet.
    fn trim(&mut self) {}

    /// What lets another thread end a wait.
    fn waker(&self) -> Arc<dyn Wake>;
}

/// What a driver has, for metrics and for who looks for leaks. Without connections all of it is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Sockets of connections, those among them that are not open yet, or about to be closed.
    pub sockets: usize,
    /// Bytes that were received of connections before they were paused, and are told when they go on.
    pub held_bytes: usize,
    /// Receive buffers that neither the kernel can fill nor anybody was lent: they are lost.
    pub buffers_lost: usize,
}

/// Ends a driver's wait from any thread; it then completes [`Completion::Woken`].
pub trait Wake: Send + Sync {
    /// Ends the wait under way, or else the next one.
    fn wake(&self) -> io::Result<()>;
}

/// Sends before the next [`Driver::wait`], while what was received is lent.
///
/// It is for large payloads, which it takes from where they lie: what goes by a wait is copied together
/// first, which costs less for small ones.
pub trait SendNow {
    /// Sends what the kernel takes at once of these slices, one behind the other, and returns how many
    /// bytes that was. If it was not all, [`Completion::Writable`] comes later, and until then nothing may be
    /// sent on this connection. `None` from a driver that cannot: then nothing was sent.
    ///
    /// Nothing else may wait to be sent on this connection: it would be overtaken.
    fn send_now(&mut self, id: SlotId, slices: &[IoSlice<'_>]) -> Option<usize>;
}

/// For where there is no driver to send by: it sends nothing.
pub(crate) struct Later;

impl SendNow for Later {
    fn send_now(&mut self, _: SlotId, _: &[IoSlice<'_>]) -> Option<usize> {
        None
    }
}

/// What happened.
pub enum Completion<'d, S> {
    /// A new connection, to be opened or dropped.
    Accepted {
        /// What [`Driver::open`] takes.
        socket: S,
        /// The other end.
        peer: PeerAddress,
    },
    /// Accepting failed for want of descriptors or memory; it goes on by itself after a while.
    AcceptFailed {
        /// What the kernel said.
        error: io::Error,
    },
    /// Bytes came, at least one.
    Received {
        /// On which connection.
        id: SlotId,
        /// Lent until the next call.
        bytes: &'d mut [u8],
        /// For answers that are too large to be copied.
        direct: &'d mut dyn SendNow,
    },
    /// Nothing more will come: the peer's FIN, or an error. Not repeated.
    ReceiveEnded {
        /// On which connection.
        id: SlotId,
        /// `None` for a FIN.
        error: Option<io::Error>,
    },
    /// There is room to send after a short send.
    Writable {
        /// On which connection.
        id: SlotId,
    },
    /// The end of a connection: its slot is free.
    Closed {
        /// Which one it was.
        id: SlotId,
    },
    /// Another thread called [`Wake::wake`], once or more often.
    Woken,
}

/// A listener of one driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerId(usize);

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// One of TCP.
    Tcp(TcpListener),
    /// One of Unix sockets.
    Unix(UnixListener),
}

#[expect(clippy::disallowed_methods, reason = "the one clock of the worker")]
fn read_clock() -> Instant {
    Instant::now()
}

/// Asks for the next connection of a listener until it is one that is still there, or none.
fn accept_present<T>(accept: impl Fn() -> io::Result<T>) -> io::Result<T> {
    loop {
        match accept() {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                ) => {}
            accepted => return accepted,
        }
    }
}

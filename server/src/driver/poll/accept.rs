//! Accepting: in batches, and without spinning when descriptors run out.

use crate::{address::PeerAddress, driver::Listener};
use mio::{Interest, Registry, Token, net};
use socket2::Socket;
use std::{
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

/// How many in a row before the established connections have their turn.
const TURN: u32 = 64;
/// How long to leave the kernel alone after it had no descriptor or memory to give.
const BACKOFF: Duration = Duration::from_millis(100);

/// One listener.
pub(super) struct Acceptor {
    listener: Source,
    stopped: bool,
    /// An edge came and the queue was not found empty since.
    readable: bool,
    /// It is in the driver's queue.
    queued: bool,
    turn: u32,
    retry_at: Option<Instant>,
}

enum Source {
    Tcp(net::TcpListener),
    Unix(net::UnixListener),
}

pub(super) enum Accept {
    /// To be called again: at once, or after the others when the turn is over.
    Accepted {
        socket: Socket,
        peer: PeerAddress,
        turn_is_over: bool,
    },
    /// It goes on at [`Acceptor::retry_at`].
    Failed(io::Error),
    Nothing,
}

impl Acceptor {
    pub(super) fn new(listener: Listener, registry: &Registry, token: Token) -> io::Result<Self> {
        let listener = match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let mut listener = net::TcpListener::from_std(listener);
                registry.register(&mut listener, token, Interest::READABLE)?;
                Source::Tcp(listener)
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let mut listener = net::UnixListener::from_std(listener);
                registry.register(&mut listener, token, Interest::READABLE)?;
                Source::Unix(listener)
            }
        };
        Ok(Self {
            listener,
            stopped: false,
            readable: false,
            queued: false,
            turn: 0,
            retry_at: None,
        })
    }

    /// An edge came; whether the acceptor has to be queued.
    pub(super) fn handle_readable(&mut self) -> bool {
        self.readable = true;
        self.enqueue()
    }

    pub(super) const fn stop(&mut self) {
        self.stopped = true;
    }

    pub(super) const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Whether the acceptor has to be queued, because its time to wait is over.
    pub(super) fn is_retry_due(&mut self, now: Instant) -> bool {
        if self.retry_at.is_none_or(|at| at > now) {
            return false;
        }
        self.retry_at = None;
        self.enqueue()
    }

    fn enqueue(&mut self) -> bool {
        let enqueue = self.readable && !self.stopped && !self.queued && self.retry_at.is_none();
        self.queued |= enqueue;
        enqueue
    }

    pub(super) fn accept(&mut self, now: Instant) -> Accept {
        if self.stopped {
            self.queued = false;
            return Accept::Nothing;
        }
        match self.listener.accept() {
            Ok((socket, peer)) => {
                self.turn = (self.turn + 1) % TURN;
                Accept::Accepted { socket, peer, turn_is_over: self.turn == 0 }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                (self.queued, self.readable) = (false, false);
                Accept::Nothing
            }
            Err(error) => {
                self.queued = false;
                self.retry_at = Some(now + BACKOFF);
                Accept::Failed(error)
            }
        }
    }
}

impl Source {
    fn accept(&self) -> io::Result<(Socket, PeerAddress)> {
        loop {
            let accepted = match self {
                Self::Tcp(listener) => listener.accept().map(|(stream, address)| {
                    (Socket::from(OwnedFd::from(stream)), PeerAddress::Tcp(address))
                }),
                Self::Unix(listener) => listener
                    .accept()
                    .map(|(stream, _)| (Socket::from(OwnedFd::from(stream)), PeerAddress::Unix)),
            };
            match accepted {
                // The peer was gone before it was accepted: the next one may be there.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) => {}
                accepted => return accepted,
            }
        }
    }
}

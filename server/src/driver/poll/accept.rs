//! Accepting: in batches, and without spinning when descriptors run out.

use crate::{
    address::PeerAddress,
    driver::{Listener, accept_present},
};
use mio::{Interest, Registry, Token, event, net};
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
/// The most that may wait in the kernel to be accepted; beyond it, they came since.
const WAITING_MAX: u32 = 4096;

/// One listener.
pub(super) struct Acceptor {
    /// `None` once it is closed.
    listener: Option<Source>,
    stopped: bool,
    /// How many are accepted before it is closed, if it is to be.
    left: Option<u32>,
    /// An edge came and the queue was not found empty since.
    readable: bool,
    /// It is in the driver's queue.
    queued: bool,
    turn: u32,
    retry_at: Option<Instant>,
}

/// Descriptors for connections that come when the process has no others: one is given up for each, and had
/// again once there are some. Another thread may be faster to take it; then accepting waits as ever.
#[derive(Default)]
pub(super) struct Reserve {
    count: usize,
    kept: Vec<OwnedFd>,
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
            listener: Some(listener),
            stopped: false,
            left: None,
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

    /// Accepts those that wait, and then closes; whether the acceptor has to be queued.
    pub(super) fn finish(&mut self) -> bool {
        // Those that wait may not have been told of yet.
        (self.readable, self.retry_at) = (true, None);
        self.left = Some(WAITING_MAX);
        self.enqueue()
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
        let is_wanted = self.readable && !self.stopped && self.listener.is_some();
        let enqueue = is_wanted && !self.queued && self.retry_at.is_none();
        self.queued |= enqueue;
        enqueue
    }

    pub(super) fn accept(
        &mut self,
        now: Instant,
        registry: &Registry,
        reserve: &mut Reserve,
    ) -> Accept {
        let Some(listener) = self.listener.as_ref().filter(|_| !self.stopped) else {
            self.queued = false;
            return Accept::Nothing;
        };
        if self.left == Some(0) {
            return self.close(registry);
        }
        let accepted = match listener.accept() {
            Err(error) if reserve.help(&error) => listener.accept(),
            accepted => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                self.left = self.left.map(|left| left - 1);
                self.turn = (self.turn + 1) % TURN;
                Accept::Accepted { socket, peer, turn_is_over: self.turn == 0 }
            }
            Err(_) if self.left.is_some() => self.close(registry),
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

    fn close(&mut self, registry: &Registry) -> Accept {
        self.queued = false;
        if let Some(mut listener) = self.listener.take() {
            // Other workers may have the same socket: then closing it is not enough for epoll. It
            // fails only when epoll does not know it.
            let _ = registry.deregister(listener.as_event_source());
        }
        Accept::Nothing
    }
}

impl Reserve {
    pub(super) fn new(count: usize) -> io::Result<Self> {
        let kept = (0..count).map(|_| descriptor()).collect::<io::Result<_>>()?;
        Ok(Self { count, kept })
    }

    /// Gives up a descriptor if that is what accepting lacked.
    fn help(&mut self, error: &io::Error) -> bool {
        let lacks = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
        lacks && self.kept.pop().is_some()
    }

    /// Has again what was given up, as far as there are descriptors.
    #[inline]
    pub(super) fn refill(&mut self) {
        while self.kept.len() < self.count {
            let Ok(descriptor) = descriptor() else { return };
            self.kept.push(descriptor);
        }
    }
}

/// One that needs next to nothing.
fn descriptor() -> io::Result<OwnedFd> {
    std::fs::File::open("/dev/null").map(OwnedFd::from)
}

impl Source {
    const fn as_event_source(&mut self) -> &mut dyn event::Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => listener,
        }
    }

    fn accept(&self) -> io::Result<(Socket, PeerAddress)> {
        accept_present(|| match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, address)| {
                (Socket::from(OwnedFd::from(stream)), PeerAddress::Tcp(address))
            }),
            Self::Unix(listener) => listener
                .accept()
                .map(|(stream, _)| (Socket::from(OwnedFd::from(stream)), PeerAddress::Unix)),
        })
    }
}

//! Accepting: so many at once as came lately, into free places of the table, each with room for its address.
//!
//! A standing operation (`IORING_ACCEPT_MULTISHOT`) would be one submission for all, but it tells no addresses,
//! and what is in the table has no descriptor to ask for one by. It would also accept those for whom the
//! table has no room, and close them.
#![allow(unsafe_code, reason = "the kernel writes addresses")]

use super::{
    files::{DirectSocket, Files},
    memory::Shared,
    operation::{Operation, Subject},
    ring::Ring,
};
use crate::{
    address::PeerAddress,
    driver::{Listener, accept_present},
};
use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

/// How many are accepted before the established connections have their turn: a bit each.
const TURN: u32 = u64::BITS;
/// How long to leave the kernel alone after it had no place or memory to give.
const BACKOFF: Duration = Duration::from_millis(100);
/// The most that may wait in the kernel to be accepted in the end; beyond it, they came since.
const WAITING_MAX: u32 = 4096;

/// Where the kernel writes an address: `sockaddr_in6` is the longest.
#[repr(C)]
#[derive(Clone, Copy)]
struct Room {
    bytes: [u8; ADDRESS_BYTES],
    len: libc::socklen_t,
}

const ADDRESS_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// One listener.
pub(super) struct Acceptor {
    number: usize,
    /// `None` once it is closed.
    listener: Option<Listener>,
    rooms: Shared,
    /// Where each of those under way goes.
    files: [u32; TURN as usize],
    /// Those under way.
    pending: u64,
    /// How many were accepted since the last turn: as many are likely to come in the next one.
    accepted: u32,
    /// How many failed for want of something. Each was woken for somebody who may still wait, of whom no other
    /// that is under way hears.
    failed: u32,
    /// It had no place to accept into.
    needs_place: bool,
    /// Those under way were cancelled, so that others have their places.
    is_releasing: bool,
    /// It is told when somebody waits, as there is no place for who does.
    is_watched: bool,
    is_stopped: bool,
    /// How many are accepted before it is closed, if it is to be.
    left: Option<u32>,
    retry_at: Option<Instant>,
}

/// What came of accepting.
pub(super) enum Accepted {
    Socket(DirectSocket, PeerAddress),
    /// It goes on at [`Acceptor::retry_at`].
    Failed(io::Error),
}

impl Acceptor {
    pub(super) fn new(number: usize, listener: Listener) -> io::Result<Self> {
        // The kernel waits for a connection only where a thread would.
        match &listener {
            Listener::Tcp(listener) => listener.set_nonblocking(false)?,
            Listener::Unix(listener) => listener.set_nonblocking(false)?,
        }
        Ok(Self {
            number,
            listener: Some(listener),
            rooms: Shared::new::<Room>(TURN as usize),
            files: [0; TURN as usize],
            pending: 0,
            accepted: 0,
            failed: 0,
            needs_place: false,
            is_releasing: false,
            is_watched: false,
            is_stopped: false,
            left: None,
            retry_at: None,
        })
    }

    pub(super) fn stop(&mut self, ring: &mut Ring) {
        self.is_stopped = true;
        self.cancel(ring);
    }

    /// Accepts those that wait, and then closes.
    pub(super) fn finish(&mut self, ring: &mut Ring) {
        if self.left.is_some() {
            return;
        }
        (self.left, self.retry_at) = (Some(WAITING_MAX), None);
        let prepared = match &self.listener {
            Some(Listener::Tcp(listener)) => listener.set_nonblocking(true),
            Some(Listener::Unix(listener)) => listener.set_nonblocking(true),
            None => Ok(()),
        };
        if prepared.is_err() {
            self.left = Some(0);
        }
        self.cancel(ring);
    }

    fn cancel(&self, ring: &mut Ring) {
        if let Some(fd) = self.fd()
            && (self.pending != 0 || self.is_watched)
        {
            ring.push(&Operation::cancel_listener(fd));
        }
    }

    fn fd(&self) -> Option<RawFd> {
        self.listener.as_ref().map(|listener| match listener {
            Listener::Tcp(listener) => listener.as_raw_fd(),
            Listener::Unix(listener) => listener.as_raw_fd(),
        })
    }

    pub(super) const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Whether it has something to do that no completion tells of.
    pub(super) const fn is_finishing(&self) -> bool {
        self.left.is_some()
            && self.listener.is_some()
            && !self.is_stopped
            && self.pending == 0
            && !self.is_watched
    }

    /// Has as many accepted as are likely to come.
    pub(super) fn submit(&mut self, ring: &mut Ring, files: &mut Files, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        let is_wanted = !self.is_stopped && self.left.is_none() && self.retry_at.is_none();
        self.needs_place = false;
        let Some(fd) = self.fd().filter(|_| is_wanted) else { return };
        let (accepted, failed) =
            (std::mem::take(&mut self.accepted), std::mem::take(&mut self.failed));
        let wanted = (2 * accepted).max(self.pending.count_ones() + failed).clamp(1, TURN);
        while self.pending.count_ones() < wanted {
            let Some(file) = files.take() else {
                (self.needs_place, self.failed) = (true, failed);
                if self.pending == 0 && !self.is_watched {
                    self.is_watched = true;
                    ring.push(&Operation::watch_queue(fd, self.number));
                }
                return;
            };
            self.accept(fd, file, ring);
        }
    }

    fn accept(&mut self, fd: RawFd, file: u32, ring: &mut Ring) {
        let place = self.pending.trailing_ones() as usize;
        self.pending |= 1 << place;
        self.files[place] = file;
        let subject = Subject::Accept { listener: self.number, place };
        let is_tcp = matches!(self.listener, Some(Listener::Tcp(_)));
        let room = is_tcp.then(|| self.room(place));
        let (address, len) = match room {
            None => (std::ptr::null_mut(), std::ptr::null_mut()),
            Some(room) => {
                // SAFETY: the place was not pending, so that nobody but this has its room.
                let len = unsafe {
                    (*room).len = ADDRESS_BYTES as libc::socklen_t;
                    &raw mut (*room).len
                };
                (room.cast(), len)
            }
        };
        // SAFETY: the room is for one address of this length. It is the kernel's until the place is no
        // longer pending, and is freed only once the kernel uses it no more.
        ring.push(&unsafe { Operation::accept(fd, address, len, file, subject) });
    }

    /// How many places it has for those that may come.
    pub(super) const fn places(&self) -> usize {
        self.pending.count_ones() as usize
    }

    /// Whether it could not accept as many as it was to, as there are no more places.
    pub(super) const fn needs_place(&self) -> bool {
        self.needs_place
    }

    /// Holds no more places than it needs while nobody comes: one.
    pub(super) fn release(&mut self, ring: &mut Ring) {
        if self.pending.count_ones() > 1 && !self.is_releasing {
            self.is_releasing = true;
            self.cancel(ring);
        }
    }

    fn room(&self, place: usize) -> *mut Room {
        assert!(place < TURN as usize, "there are so many places");
        // SAFETY: the memory is of so many rooms.
        unsafe { self.rooms.start().cast::<Room>().add(place).as_ptr() }
    }

    /// An operation in one of the places is complete.
    pub(super) fn complete(
        &mut self,
        place: usize,
        result: i32,
        files: &mut Files,
        now: Instant,
    ) -> Option<Accepted> {
        self.pending &= !(1 << place);
        self.is_releasing &= self.pending != 0;
        let file = self.files[place];
        if result < 0 {
            files.give_back(file);
            return self.fail(-result, now);
        }
        self.accepted += 1;
        let peer = match self.listener {
            Some(Listener::Unix(_)) => PeerAddress::Unix,
            _ => {
                // SAFETY: the operation is complete, so that the kernel is done with its room, all of
                // which was initialized.
                let room = unsafe { self.room(place).read() };
                parse(&room)
            }
        };
        Some(Accepted::Socket(files.socket(file), peer))
    }

    fn fail(&mut self, error: i32, now: Instant) -> Option<Accepted> {
        match error {
            // It was told to, or the peer was gone before it was accepted.
            libc::ECANCELED | libc::ECONNABORTED | libc::EINTR => None,
            // Another worker that has the same socket made it one that does not wait, as it closes it.
            libc::EAGAIN => {
                self.retry_at = Some(now + BACKOFF);
                None
            }
            error => {
                self.failed += 1;
                // It may be one of many that were under way.
                let is_first = self.retry_at.is_none();
                self.retry_at.get_or_insert(now + BACKOFF);
                is_first.then(|| Accepted::Failed(io::Error::from_raw_os_error(error)))
            }
        }
    }

    /// Somebody waits who could not be accepted, or the wait for that was cancelled.
    pub(super) fn complete_watch(
        &mut self,
        result: i32,
        files: &mut Files,
        now: Instant,
    ) -> Option<Accepted> {
        self.is_watched = false;
        if self.is_stopped || self.left.is_some() {
            return None;
        }
        if let Some(file) = files.take() {
            files.give_back(file);
            return None;
        }
        self.fail(if result < 0 { -result } else { libc::EMFILE }, now)
    }

    /// Accepts one of those that wait, at the end; `None` when it is closed.
    pub(super) fn accept_last(&mut self) -> Option<(OwnedFd, PeerAddress)> {
        let left = self.left.as_mut()?;
        let accepted = match (&self.listener, *left) {
            (None, _) | (_, 0) => Err(ErrorKind::NotFound.into()),
            (Some(listener), _) => accept_now(listener),
        };
        *left = left.saturating_sub(1);
        if accepted.is_err() {
            self.listener = None;
        }
        accepted.ok()
    }

    /// The driver ends, and so did the operation in one of the places.
    pub(super) const fn forget(&mut self, place: usize) {
        self.pending &= !(1 << place);
    }

    /// Closes the listener, and frees the memory unless something is under way. One that accepts on a thread of the
    /// kernel counts as cancelled while it is still about to write an address.
    pub(super) fn free(self) {
        if self.pending == 0 {
            // SAFETY: whatever was to write there is complete; and nobody else has it.
            unsafe { self.rooms.free() };
        }
    }
}

fn accept_now(listener: &Listener) -> io::Result<(OwnedFd, PeerAddress)> {
    accept_present(|| match listener {
        Listener::Tcp(listener) => {
            listener.accept().map(|(stream, peer)| (stream.into(), PeerAddress::Tcp(peer)))
        }
        Listener::Unix(listener) => {
            listener.accept().map(|(stream, _)| (stream.into(), PeerAddress::Unix))
        }
    })
}

/// Reads a `sockaddr_in` or `sockaddr_in6`.
fn parse(room: &Room) -> PeerAddress {
    let Room { bytes, .. } = room;
    let [f0, f1, p0, p1, rest @ ..] = bytes;
    let port = u16::from_be_bytes([*p0, *p1]);
    let (flow, rest) = rest.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
    if i32::from(u16::from_ne_bytes([*f0, *f1])) == libc::AF_INET {
        let ip = Ipv4Addr::from(*flow);
        return PeerAddress::Tcp(SocketAddr::from((ip, port)));
    }
    let (ip, rest) = rest.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    let scope = rest.first_chunk::<4>().unwrap_or(&[0; 4]);
    PeerAddress::Tcp(SocketAddr::V6(SocketAddrV6::new(
        Ipv6Addr::from(*ip),
        port,
        // As the standard library has it.
        u32::from_ne_bytes(*flow),
        u32::from_ne_bytes(*scope),
    )))
}

#[cfg(test)]
mod tests {
    use super::{super::ring::TaskRun, *};
    use std::net::TcpListener;

    struct Bench {
        ring: Ring,
        files: Files,
        acceptor: Option<Acceptor>,
        now: Instant,
    }

    impl Bench {
        #[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
        fn new(files_max: usize) -> Self {
            let ring = Ring::new(TaskRun::Deferred).unwrap();
            let files = Files::register(&ring, files_max).unwrap();
            let listener = Listener::Tcp(TcpListener::bind("127.0.0.1:0").unwrap());
            let acceptor = Acceptor::new(0, listener).unwrap();
            Self { ring, files, acceptor: Some(acceptor), now: Instant::now() }
        }

        /// How many are under way after the next turn. Nothing reaches the kernel.
        fn submit(&mut self) -> u32 {
            let acceptor = self.acceptor.as_mut().unwrap();
            acceptor.submit(&mut self.ring, &mut self.files, self.now);
            acceptor.pending.count_ones()
        }

        fn is_watched(&self) -> bool {
            self.acceptor.as_ref().unwrap().is_watched
        }

        fn fail(&mut self, place: usize, error: i32) -> bool {
            let acceptor = self.acceptor.as_mut().unwrap();
            acceptor.complete(place, -error, &mut self.files, self.now).is_some()
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            if let Some(mut acceptor) = self.acceptor.take() {
                // Nothing reached the kernel.
                acceptor.pending = 0;
                acceptor.free();
            }
        }
    }

    #[test]
    fn whom_the_system_had_no_file_for_is_asked_for_again_though_others_are_under_way() {
        let mut bench = Bench::new(100);
        bench.acceptor.as_mut().unwrap().accepted = 4;
        assert_eq!(bench.submit(), 8);
        // Their wakes are spent: nobody else that is under way hears of those who still wait.
        let told = [0, 1, 2].map(|place| bench.fail(place, libc::ENFILE));
        assert_eq!(told, [true, false, false], "one line for all");
        assert_eq!(bench.submit(), 5);
        bench.now += BACKOFF;
        assert_eq!(bench.submit(), 8);
        assert_eq!(bench.submit(), 8);
    }

    #[test]
    fn a_queue_that_cannot_be_watched_is_left_alone_for_a_while() {
        let mut bench = Bench::new(1);
        let taken = bench.files.take();
        assert_eq!((bench.submit(), bench.is_watched()), (0, true));
        let acceptor = bench.acceptor.as_mut().unwrap();
        let told = acceptor.complete_watch(-libc::ENOMEM, &mut bench.files, bench.now);
        assert!(told.is_some());
        assert_eq!((bench.submit(), bench.is_watched()), (0, false));
        bench.now += BACKOFF;
        assert_eq!((bench.submit(), bench.is_watched()), (0, true));
        bench.files.give_back(taken.unwrap());
    }
}

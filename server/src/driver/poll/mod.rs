//! The driver on readiness: mio, edge-triggered, all operations run inline.

mod accept;
mod sockets;
#[cfg(test)]
mod tests;
#[cfg(feature = "driver")]
mod timer;

use super::{Completion, Driver, Holdings, Listener, ListenerId, Wake, read_clock};
use crate::parts::slots::{SLOTS_MAX, SlotId};
use accept::{Accept, Acceptor, Reserve};
use mio::{Events, Interest, Token, event::Event, unix::SourceFd};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use socket2::Socket;
use sockets::{Connection, Flags, Ready, Sockets};
use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::Shutdown,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

/// One buffer for all connections of a worker, of which only what is received is touched. A message of 256
/// KiB comes in one piece, with its header: in two, its echo took 8-22 % more CPU. With room for two of them
/// one of sixteen in flight took 22 % more, when what the kernel does for both ends fell to the server.
const RECEIVE_BUFFER_BYTES: usize = 260 << 10;
const EVENTS_MAX: usize = 1024;
const WAKER: Token = Token(usize::MAX);
#[cfg(feature = "driver")]
const TIMER: Token = Token(usize::MAX - 1);

/// A driver on readiness: mio, edge-triggered, all operations run inline.
pub struct Poll {
    poll: mio::Poll,
    events: Events,
    waker: Arc<mio::Waker>,
    #[cfg(feature = "driver")]
    timer: Option<timer::Timer>,
    sockets: Sockets,
    acceptors: Vec<Acceptor>,
    reserve: Reserve,
    shorts: VecDeque<(SlotId, usize)>,
    /// How many of those that are ready belong to this tick: what is put back takes its turn in the next
    /// one.
    batch: usize,
    /// The last wait filled `events`.
    is_behind: bool,
    buffer: Box<[u8]>,
    now: Instant,
}

enum Receive {
    Bytes(usize),
    Ended(Option<io::Error>),
    Nothing,
}

impl Poll {
    /// A driver without connections.
    ///
    /// # Errors
    /// The system has no descriptor for it.
    pub fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            waker,
            #[cfg(feature = "driver")]
            timer: None,
            sockets: Sockets::new(2 * EVENTS_MAX),
            acceptors: Vec::new(),
            reserve: Reserve::default(),
            shorts: VecDeque::with_capacity(EVENTS_MAX),
            batch: 0,
            is_behind: false,
            buffer: vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice(),
            now: read_clock(),
        })
    }

    /// A driver whose waits end on time to the microsecond, not to the millisecond. It costs a system
    /// call for each wait that is to end earlier than the one before.
    ///
    /// # Errors
    /// The system has no descriptor for it.
    #[cfg(feature = "driver")]
    pub fn precise() -> io::Result<Self> {
        let mut driver = Self::new()?;
        driver.timer = Some(timer::Timer::new(driver.poll.registry(), TIMER)?);
        Ok(driver)
    }

    /// Keeps so many descriptors for connections that come when the process has no others.
    ///
    /// # Errors
    /// The system has none for it.
    pub(crate) fn reserve(&mut self, count: usize) -> io::Result<()> {
        self.reserve = Reserve::new(count)?;
        Ok(())
    }

    /// When the wait has to end, `None` for now.
    fn timeout(&self, until: Option<Instant>) -> Option<Duration> {
        if !self.sockets.ready.is_empty() || !self.shorts.is_empty() {
            return Some(Duration::ZERO);
        }
        let retries = self.acceptors.iter().filter_map(Acceptor::retry_at);
        let until = until.into_iter().chain(retries).min()?;
        Some(until.saturating_duration_since(self.now))
    }

    /// Leaves a timeout to the timer, if there is one.
    #[cfg(feature = "driver")]
    fn time(&mut self, timeout: Option<Duration>) -> io::Result<Option<Duration>> {
        let (Some(timer), Some(timeout)) = (&mut self.timer, timeout) else { return Ok(timeout) };
        let (until, now) = (self.now + timeout, read_clock());
        if until <= now {
            return Ok(Some(Duration::ZERO));
        }
        timer.set(until, now)?;
        Ok(None)
    }

    #[inline]
    fn handle_events(&mut self) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut count = 0;
        for event in &events {
            count += 1;
            self.handle_event(event);
        }
        self.is_behind = count == EVENTS_MAX;
        self.events = events;
        for (index, acceptor) in self.acceptors.iter_mut().enumerate() {
            if acceptor.is_retry_due(self.now) {
                self.sockets.ready.push_back(Ready::Accept(ListenerId(index)));
            }
        }
        self.batch = self.sockets.ready.len();
    }

    fn handle_event(&mut self, event: &Event) {
        if event.token() == WAKER {
            return self.sockets.ready.push_back(Ready::Woken);
        }
        #[cfg(feature = "driver")]
        if event.token() == TIMER {
            return;
        }
        if let Some(listener) = listener_of(event.token()) {
            if self.acceptors[listener.0].handle_readable() {
                self.sockets.ready.push_back(Ready::Accept(listener));
            }
            return;
        }
        let id = slot_of(event.token());
        let Some(connection) = self.sockets.connection(id) else { return };
        let flags = &mut connection.flags;
        flags.add(Flags::READABLE, event.is_readable() || event.is_read_closed());
        flags.add(Flags::READ_CLOSED, event.is_read_closed());
        let failed = event.is_error() || (event.is_read_closed() && event.is_write_closed());
        flags.add(Flags::FAILED, failed);
        let writable = flags.has(Flags::BLOCKED) && event.is_writable();
        if writable {
            flags.set(Flags::BLOCKED, false);
        }
        self.sockets.queue_receive(id);
        if writable {
            self.sockets.ready.push_back(Ready::Writable(id));
        }
    }

    #[inline]
    fn receive(&mut self, id: SlotId) -> Receive {
        let Self { sockets, buffer, .. } = self;
        let Some(connection) = sockets.connection(id) else { return Receive::Nothing };
        let flags = &mut connection.flags;
        flags.set(Flags::QUEUED, false);
        if flags.has(Flags::PAUSED) && !flags.has(Flags::FAILED) {
            return Receive::Nothing;
        }
        let Some(socket) = connection.socket.as_ref() else { return Receive::Nothing };
        let received = loop {
            match recv(socket, &mut **buffer, RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                received => break received,
            }
        };
        match received {
            Ok((0, _)) => {
                flags.set(Flags::ENDED, true);
                let is_broken = flags.has(Flags::BROKEN);
                Receive::Ended(is_broken.then(|| ErrorKind::BrokenPipe.into()))
            }
            Ok((len, _)) => {
                // After a short read the next bytes raise a new edge; a FIN that is already there
                // does not.
                let is_readable = len == buffer.len() || flags.has(Flags::READ_CLOSED);
                flags.set(Flags::READABLE, is_readable);
                self.sockets.queue_receive(id);
                Receive::Bytes(len)
            }
            Err(Errno::WOULDBLOCK) => {
                flags.set(Flags::READABLE, false);
                if !flags.has(Flags::FAILED) {
                    return Receive::Nothing;
                }
                flags.set(Flags::ENDED, true);
                Receive::Ended(Some(ErrorKind::BrokenPipe.into()))
            }
            Err(error) => {
                flags.set(Flags::ENDED, true);
                Receive::Ended(Some(error.into()))
            }
        }
    }

    fn accept<'d>(&mut self, listener: ListenerId) -> Option<Completion<'d, Socket>> {
        let acceptor = &mut self.acceptors[listener.0];
        match acceptor.accept(self.now, self.poll.registry(), &mut self.reserve) {
            Accept::Accepted { socket, peer, turn_is_over } => {
                if turn_is_over {
                    self.sockets.ready.push_back(Ready::Accept(listener));
                } else {
                    self.sockets.ready.push_front(Ready::Accept(listener));
                    self.batch += 1;
                }
                Some(Completion::Accepted { socket, peer })
            }
            Accept::Failed(error) => Some(Completion::AcceptFailed { error }),
            Accept::Nothing => None,
        }
    }
}

impl Driver for Poll {
    type Socket = Socket;
    type Listener = Listener;

    fn now(&self) -> Instant {
        self.now
    }

    fn read_clock(&self) -> Instant {
        read_clock()
    }

    fn bytes_sent(&self) -> u64 {
        self.sockets.bytes_sent
    }

    fn holdings(&self) -> Holdings {
        // There is one buffer, and what is not received is the kernel's.
        Holdings { sockets: self.sockets.count, ..Holdings::default() }
    }

    fn listen(&mut self, listener: Listener) -> io::Result<ListenerId> {
        let id = ListenerId(self.acceptors.len());
        let acceptor = Acceptor::new(listener, self.poll.registry(), token_of_listener(id))?;
        self.acceptors.push(acceptor);
        Ok(id)
    }

    fn stop_accept(&mut self, listener: ListenerId) {
        self.acceptors[listener.0].stop();
    }

    fn finish_accept(&mut self, listener: ListenerId) {
        if self.acceptors[listener.0].finish() {
            self.sockets.ready.push_back(Ready::Accept(listener));
        }
    }

    fn adopt(&mut self, stream: OwnedFd) -> io::Result<Socket> {
        let socket = Socket::from(stream);
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn open(&mut self, id: SlotId, socket: Socket) -> io::Result<()> {
        self.poll.registry().register(
            &mut SourceFd(&socket.as_raw_fd()),
            token_of(id),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        if self.sockets.connections.len() <= id.index() {
            self.sockets.connections.resize_with(id.index() + 1, Connection::default);
        }
        self.sockets.count += 1;
        self.sockets.connections[id.index()] = Connection {
            socket: Some(socket),
            generation: id.generation(),
            ..Connection::default()
        };
        Ok(())
    }

    fn pause_receive(&mut self, id: SlotId) {
        if let Some(connection) = self.sockets.connection(id) {
            connection.flags.set(Flags::PAUSED, true);
        }
    }

    fn resume_receive(&mut self, id: SlotId) {
        if let Some(connection) = self.sockets.connection(id) {
            connection.flags.set(Flags::PAUSED, false);
            self.sockets.queue_receive(id);
        }
    }

    fn shutdown(&mut self, id: SlotId) {
        if let Some(connection) = self.sockets.connection(id)
            && let Some(socket) = &connection.socket
        {
            // It fails only when the connection is gone already.
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, id: SlotId) {
        if let Some(connection) = self.sockets.connection(id) {
            // epoll forgets a descriptor when it is closed.
            *connection = Connection::default();
            self.sockets.count -= 1;
            self.sockets.ready.push_back(Ready::Closed(id));
        }
    }

    fn wait<'b>(
        &mut self,
        sends: impl Iterator<Item = (SlotId, &'b [u8])>,
        until: Option<Instant>,
    ) -> io::Result<()> {
        // Each part of a chain of iterators by itself, not one by one from whichever it is.
        sends.for_each(|(id, bytes)| {
            if let Some(sent) = self.sockets.send(id, bytes) {
                self.shorts.push_back((id, sent));
            }
        });
        let timeout = self.timeout(until);
        #[cfg(feature = "driver")]
        let timeout = self.time(timeout)?;
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            result => result?,
        }
        self.now = read_clock();
        self.reserve.refill();
        self.handle_events();
        Ok(())
    }

    fn next_short(&mut self) -> Option<(SlotId, usize)> {
        self.shorts.pop_front()
    }

    #[inline]
    fn next(&mut self) -> Option<Completion<'_, Socket>> {
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
                    Receive::Ended(error) => {
                        return Some(Completion::ReceiveEnded { id, error });
                    }
                    Receive::Nothing => {}
                },
                Ready::Writable(id) => return Some(Completion::Writable { id }),
                Ready::Closed(id) => return Some(Completion::Closed { id }),
                Ready::Woken => return Some(Completion::Woken),
                Ready::Accept(listener) => {
                    if let Some(completion) = self.accept(listener) {
                        return Some(completion);
                    }
                }
            }
        }
        None
    }

    fn is_behind(&self) -> bool {
        self.is_behind
    }

    fn trim(&mut self) {
        self.sockets.ready.shrink_to(2 * EVENTS_MAX);
        self.shorts.shrink_to(EVENTS_MAX);
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }
}

impl Wake for mio::Waker {
    fn wake(&self) -> io::Result<()> {
        self.wake()
    }
}

/// A slot's generation above its index; listeners have an index no slot has.
const fn token_of(id: SlotId) -> Token {
    Token((id.generation() as usize) << 32 | id.index())
}

const fn slot_of(token: Token) -> SlotId {
    SlotId::new(token.0 as u32, (token.0 >> 32) as u32)
}

const fn token_of_listener(listener: ListenerId) -> Token {
    Token(SLOTS_MAX + listener.0)
}

const fn listener_of(token: Token) -> Option<ListenerId> {
    match token.0 as u32 as usize {
        index if index >= SLOTS_MAX => Some(ListenerId(index - SLOTS_MAX)),
        _ => None,
    }
}

//! The network between simulated clients and workers, and the clock that all of them share.

use super::{
    faults::{Fault, Faults},
    pipe::{End, Pipe},
};
use crate::{
    address::PeerAddress,
    driver::Wake,
    parts::{
        mutant::{Mutant, is_planted},
        slots::{SlotId, Slots},
    },
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What one direction of a connection holds, unless told otherwise.
const CAPACITY: usize = 256 << 10;
/// How long bytes take, unless [`Fault::Delays`] says otherwise.
const LATENCY: std::ops::Range<u64> = 20_000..200_000;

/// See the [module](self).
pub(crate) struct Network {
    start: Instant,
    now: Instant,
    random: fastrand::Rng,
    faults: Faults,
    events: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
    wires: Slots<Wire>,
    ports: Vec<Port>,
    capacity: usize,
    digest: DefaultHasher,
}

/// Names a connection, as its ends do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WireId(SlotId);

#[derive(Debug)]
struct Wire {
    server: ServerEnd,
    client: ClientEnd,
    peer: PeerAddress,
    up: Pipe,
    down: Pipe,
}

#[derive(Clone, Copy, Debug)]
enum ServerEnd {
    /// It waits to be accepted, or to be opened.
    Waiting,
    Open {
        worker: usize,
        id: SlotId,
    },
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientEnd {
    Open(Owner),
    /// Nothing comes from it, and it takes nothing, but nobody is told.
    Vanished,
    Closed,
}

/// Whose a client's end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// That of a client with a memory.
    Client(u32),
    /// One of many that only answer pings. While nothing is under way, there is no wire.
    Crowd { is_open: bool },
}

/// What a worker's driver is told.
#[derive(Default)]
struct Port {
    accept: VecDeque<WireId>,
    news: Vec<News>,
    is_listening: bool,
    is_out_of_descriptors: bool,
    waker: Arc<SimWaker>,
    sleep: Sleep,
}

/// Something a driver has to look at.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    Readable(SlotId),
    Room(SlotId),
    Accept,
}

/// What a worker's last wait came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// It has something to do.
    #[default]
    Awake,
    /// It has nothing to do until something happens, or then.
    Until(Option<Instant>),
}

#[derive(Debug, Default)]
pub(super) struct SimWaker(AtomicBool);

impl Wake for SimWaker {
    fn wake(&self) -> io::Result<()> {
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scheduled {
    at: Instant,
    sequence: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Connected { wire: (u32, u32), worker: usize },
    ArrivedAtServer((u32, u32)),
    ArrivedAtClient((u32, u32)),
    RoomForServer((u32, u32)),
    RoomForClient((u32, u32)),
    Timer(u64),
}

/// Something that has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A worker has something to look at.
    Worker(usize),
    /// A client has something to read, or may send again.
    Client(Owner, WireId),
    /// A timer is due.
    Timer(u64),
    /// Nothing that anybody has to see to.
    Other,
}

/// What the server finds when it receives.
pub(super) enum Receive {
    Bytes(usize),
    Ended(Option<io::Error>),
    Nothing,
}

impl WireId {
    const fn key(self) -> (u32, u32) {
        (self.0.index() as u32, self.0.generation())
    }

    const fn of((index, generation): (u32, u32)) -> Self {
        Self(SlotId::new(index, generation))
    }

    /// Where it is among the wires that there are now.
    pub(super) const fn index(self) -> u32 {
        self.0.index() as u32
    }
}

impl Network {
    /// A network for so many workers.
    #[expect(clippy::disallowed_methods, reason = "a start: only what passes from there is seen")]
    pub(crate) fn new(seed: u64, faults: Faults, workers: usize) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            random: fastrand::Rng::with_seed(seed),
            faults,
            events: BinaryHeap::new(),
            sequence: 0,
            wires: Slots::new(),
            ports: std::iter::repeat_with(Port::default).take(workers).collect(),
            capacity: CAPACITY,
            digest: DefaultHasher::new(),
        }
    }

    pub(crate) const fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now.duration_since(self.start)
    }

    pub(crate) const fn faults(&self) -> Faults {
        self.faults
    }

    pub(crate) const fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// How much one direction of a new connection holds, unless [`Fault::SmallBuffers`] says otherwise.
    pub(crate) const fn set_capacity(&mut self, bytes: usize) {
        self.capacity = bytes;
    }

    pub(crate) const fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// A number that stands for all that has happened so far.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    pub(super) fn note(&mut self, what: &str, value: impl Hash) {
        (what, self.elapsed(), value).hash(&mut self.digest);
    }

    /// Whether a fault happens now, once in so many times.
    pub(crate) fn happens(&mut self, fault: Fault, once_in: u32) -> bool {
        self.faults.has(fault) && self.random.u32(0..once_in) == 0
    }

    // The clock.

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.events.peek().map(|Reverse(event)| event.at)
    }

    /// Goes on to the next thing that happens.
    pub(crate) fn advance(&mut self) -> Option<Event> {
        let Reverse(Scheduled { at, what, .. }) = self.events.pop()?;
        self.now = self.now.max(at);
        Some(self.handle(what))
    }

    /// Lets time pass in which nothing happens.
    pub(crate) fn pass_until(&mut self, at: Instant) {
        self.now = self.now.max(at);
    }

    /// Tells of a timer at a time.
    pub(crate) fn set_timer(&mut self, at: Instant, key: u64) {
        self.schedule(at, What::Timer(key));
    }

    fn schedule(&mut self, at: Instant, what: What) {
        self.sequence += 1;
        self.events.push(Reverse(Scheduled { at, sequence: self.sequence, what }));
    }

    fn handle(&mut self, what: What) -> Event {
        match what {
            What::Timer(key) => Event::Timer(key),
            What::Connected { wire, worker } => self.arrive_to_be_accepted(wire, worker),
            What::ArrivedAtServer(wire) => {
                if let Some(Wire { server: ServerEnd::Open { worker, id }, .. }) =
                    self.wires.get(WireId::of(wire).0)
                {
                    let (worker, id) = (*worker, *id);
                    return self.tell(worker, News::Readable(id));
                }
                Event::Other
            }
            What::RoomForServer(wire) => {
                if let Some(Wire { server: ServerEnd::Open { worker, id }, down, .. }) =
                    self.wires.get_mut(WireId::of(wire).0)
                    && down.room() > 0
                {
                    down.is_awaited = false;
                    let (worker, id) = (*worker, *id);
                    return self.tell(worker, News::Room(id));
                }
                Event::Other
            }
            What::ArrivedAtClient(wire) | What::RoomForClient(wire) => {
                self.handle_at_client(WireId::of(wire))
            }
        }
    }

    fn arrive_to_be_accepted(&mut self, wire: (u32, u32), worker: usize) -> Event {
        let id = WireId::of(wire);
        if !self.ports.get(worker).is_some_and(|port| port.is_listening) {
            self.close_by_server(id);
            return Event::Other;
        }
        self.ports[worker].accept.push_back(id);
        self.tell(worker, News::Accept)
    }

    fn handle_at_client(&mut self, id: WireId) -> Event {
        let now = self.now;
        let Some(wire) = self.wires.get_mut(id.0) else { return Event::Other };
        match wire.client {
            ClientEnd::Open(owner) => return Event::Client(owner, id),
            ClientEnd::Vanished => {}
            ClientEnd::Closed => {
                if wire.down.has_unread(now) && !matches!(wire.server, ServerEnd::Closed) {
                    let at = now + self.latency();
                    self.end_up(id, End::Reset, at);
                }
            }
        }
        Event::Other
    }

    fn tell(&mut self, worker: usize, news: News) -> Event {
        self.ports[worker].news.push(news);
        Event::Worker(worker)
    }

    fn latency(&mut self) -> Duration {
        let nanoseconds = match is_planted(Mutant::Unseeded) {
            true => fastrand::u64(LATENCY),
            false => self.random.u64(LATENCY),
        };
        let nanoseconds = match self.happens(Fault::Delays, 8) {
            true => nanoseconds << self.random.u32(0..14),
            false => nanoseconds,
        };
        Duration::from_nanos(nanoseconds)
    }

    /// A part of so many, down to one.
    fn cut(&mut self, len: usize) -> usize {
        if len < 2 || !self.happens(Fault::Cuts, 3) {
            return len;
        }
        let most = 1 << self.random.u32(0..=len.ilog2());
        self.random.usize(1..=most)
    }

    // The client's end.

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

    fn end_up(&mut self, id: WireId, end: End, at: Instant) {
        if let Some(wire) = self.wires.get_mut(id.0) {
            let at = wire.up.end(end, at);
            self.schedule(at, What::ArrivedAtServer(id.key()));
        }
    }

    // The server's end.

    pub(super) fn waker(&self, worker: usize) -> Arc<SimWaker> {
        self.ports[worker].waker.clone()
    }

    pub(super) fn take_wake(&mut self, worker: usize) -> bool {
        self.ports[worker].waker.0.swap(false, Ordering::SeqCst)
    }

    /// Whether a worker was woken and has not noticed.
    pub(crate) fn is_woken(&self, worker: usize) -> bool {
        self.ports[worker].waker.0.load(Ordering::SeqCst)
    }

    pub(super) fn take_news(&mut self, worker: usize) -> Vec<News> {
        std::mem::take(&mut self.ports[worker].news)
    }

    pub(super) fn set_sleep(&mut self, worker: usize, sleep: Sleep) {
        self.ports[worker].sleep = sleep;
    }

    pub(crate) fn sleep(&self, worker: usize) -> Sleep {
        self.ports[worker].sleep
    }

    pub(crate) fn set_out_of_descriptors(&mut self, worker: usize, is_out: bool) {
        self.ports[worker].is_out_of_descriptors = is_out;
    }

    pub(super) fn is_out_of_descriptors(&self, worker: usize) -> bool {
        self.ports[worker].is_out_of_descriptors
    }

    pub(super) fn listen(&mut self, worker: usize) {
        self.ports[worker].is_listening = true;
    }

    pub(super) fn stop_accept(&mut self, worker: usize) {
        self.ports[worker].is_listening = false;
        for waiting in std::mem::take(&mut self.ports[worker].accept) {
            self.close_by_server(waiting);
        }
    }

    pub(super) fn accept(&mut self, worker: usize) -> Option<(WireId, PeerAddress)> {
        let id = self.ports[worker].accept.pop_front()?;
        let peer = self.wires.get(id.0)?.peer;
        self.note("accept", (worker, id.key()));
        Some((id, peer))
    }

    pub(super) fn open(&mut self, wire: WireId, worker: usize, id: SlotId) {
        let now = self.now;
        if let Some(wire) = self.wires.get_mut(wire.0) {
            wire.server = ServerEnd::Open { worker, id };
            if wire.up.is_readable(now) {
                self.tell(worker, News::Readable(id));
            }
        }
    }

    /// A wire for a member of a crowd that something is sent to.
    pub(super) fn wake_crowd(&mut self, worker: usize, id: SlotId) -> WireId {
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
    pub(super) fn wire_at(&self, index: u32) -> Option<WireId> {
        self.wires.id_at(index as usize).map(WireId)
    }

    /// Whether it is a crowd's, with nothing under way: then its wire is gone.
    pub(super) fn is_parked(&mut self, id: WireId) -> bool {
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
    pub(super) fn send_to_client(&mut self, id: WireId, bytes: &[u8]) -> Result<usize, ()> {
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

    pub(super) fn receive(&mut self, id: WireId, buffer: &mut [u8]) -> Receive {
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
    pub(super) fn is_readable(&self, id: WireId) -> bool {
        self.wires.get(id.0).is_some_and(|wire| wire.up.is_readable(self.now))
    }

    /// Whether the connection has failed.
    pub(super) fn is_reset(&self, id: WireId) -> bool {
        self.wires.get(id.0).is_some_and(|wire| wire.up.is_reset(self.now))
    }

    pub(super) fn shutdown_by_server(&mut self, id: WireId) {
        let at = self.now + self.latency();
        self.end_down(id, End::Fin, at);
    }

    /// Closes the server's end. If something is there that it did not read, the client gets a RST.
    pub(super) fn close_by_server(&mut self, id: WireId) {
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

    fn end_down(&mut self, id: WireId, end: End, at: Instant) {
        if let Some(wire) = self.wires.get_mut(id.0) {
            let at = wire.down.end(end, at);
            self.schedule(at, What::ArrivedAtClient(id.key()));
        }
    }

    /// Forgets a connection that has no end any more.
    fn release(&mut self, id: WireId) {
        if let Some(wire) = self.wires.get(id.0)
            && matches!(wire.server, ServerEnd::Closed)
            && !matches!(wire.client, ClientEnd::Open(_))
        {
            self.wires.remove(id.0);
        }
    }
}

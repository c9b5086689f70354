//! The network between simulated clients and workers, and the clock that all of them share.

mod client;
mod server;

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

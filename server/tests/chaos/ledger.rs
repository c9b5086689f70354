//! What has to arrive, written down as it is accepted, and what does, compared with it.

use quelea::{Cause, CloseCode, Config, ConnId, Overflow, SendStatus, sim::Clock};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    time::Duration,
};

/// Who sends from outside the server.
pub(crate) const OUTSIDE: usize = usize::MAX;
/// How late something may be on a machine that never stands still: a tick of the wheel, and of the
/// worker.
pub(crate) const SLACK: Duration = Duration::from_millis(100);
/// Publishes of others that may still be on their way when a bird subscribes.
const IN_FLIGHT_MAX: usize = 400;

/// Where something comes from, and by which way: within one, order is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    Direct { from: usize },
    Topic { from: usize, topic: String },
}

/// Something that a bird is to get, or may.
#[derive(Clone, Copy, Debug)]
struct Expected {
    sequence: u64,
    is_required: bool,
}

/// One client's connection, as its handler sees it.
#[derive(Debug, Default)]
pub(crate) struct Bird {
    pub(crate) id: Option<ConnId>,
    pub(crate) worker: usize,
    pub(crate) opened: Option<Duration>,
    pub(crate) closed: Vec<(Duration, Cause, CloseCode)>,
    /// The number that its next command has to have.
    pub(crate) commands: u64,
    /// When the handler asked for its end.
    pub(crate) local_close: Option<Duration>,
    /// When a handle did: that takes its time to get there.
    pub(crate) outside_close: Option<Duration>,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) timers: BTreeMap<u8, (Duration, Duration)>,
    /// When its last message came.
    pub(crate) active: Duration,
    /// What it was subscribed to, ever.
    pub(crate) ever: BTreeSet<String>,
    /// What its pings held that were not answered.
    pub(crate) pings: VecDeque<u64>,
    /// Which of the few addresses it comes from.
    pub(crate) host: u8,
    /// A moment, and what came from it since.
    pub(crate) rate: (Duration, u32),
    /// Since when the handler wants nothing from it, and whether it ever did so.
    pub(crate) paused: Option<Duration>,
    pub(crate) was_paused: bool,
    /// Pongs that came from it.
    pub(crate) ponged: u64,
    /// What it sends on, by stream.
    next: BTreeMap<(Stream, usize), u64>,
    counter: u64,
    expected: BTreeMap<Stream, VecDeque<Expected>>,
    /// The last counter that came directly from each other bird.
    counters: BTreeMap<usize, u64>,
    /// Publishes that it missed.
    lost_publishes: u64,
    /// Messages that went to it by mail, and did not arrive.
    lost_mail: u64,
    /// It has stayed until all that was under way had arrived.
    has_stayed: bool,
    /// By topic, the last that each other published.
    last_of_topic: BTreeMap<String, BTreeMap<Stream, u64>>,
}

impl Bird {
    pub(crate) fn from_host(host: u8) -> Self {
        Self { host, ..Self::default() }
    }
}

/// Everything that is known about a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) clock: Option<Clock>,
    pub(crate) config: Config,
    /// No worker and no clock stands still, so that deadlines are kept to the moment.
    pub(crate) is_punctual: bool,
    pub(crate) may_reset: bool,
    pub(crate) birds: Vec<Bird>,
    outside: Bird,
    /// What was published lately, by topic, and on which worker.
    recent: BTreeMap<String, VecDeque<(Stream, u64, usize)>>,
    pub(crate) counts: Counts,
    /// What every state of a handler has a share of.
    pub(crate) states: Rc<()>,
    /// What kinds of things have happened.
    pub(crate) seen: BTreeSet<String>,
    failure: Option<String>,
}

/// What the run has counted itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) opened: u64,
    pub(crate) closed: Vec<(Cause, CloseCode)>,
    pub(crate) requests: u64,
    pub(crate) messages_received: u64,
    pub(crate) bytes_received: u64,
    pub(crate) pings_received: u64,
    pub(crate) pongs_received: u64,
    pub(crate) round_trips: u64,
    /// By connections, not by handles.
    pub(crate) publishes: u64,
    pub(crate) publishes_dropped: u64,
    /// Messages between connections of one worker.
    pub(crate) near_sent: u64,
    pub(crate) near_dropped: u64,
    /// Messages that went by mail.
    pub(crate) far_sent: u64,
    /// By connections, not by handles.
    pub(crate) far_dropped: u64,
    /// Published messages that clients got.
    pub(crate) arrived: u64,
}

/// A message with its way, as it stands in a text: `d.3 17 20 40 ...` or `t.3.news 17 20 40 ...`.
pub(crate) struct Note {
    pub(crate) stream: Stream,
    pub(crate) sequence: u64,
    pub(crate) counter: u64,
    len: usize,
    filler: String,
}

impl Note {
    fn text(stream: &Stream, sequence: u64, counter: u64, len: usize) -> String {
        let way = match stream {
            Stream::Direct { from } => format!("d.{from}"),
            Stream::Topic { from, topic } => format!("t.{from}.{topic}"),
        };
        let filler = filler(sequence, len);
        format!("{way} {sequence} {counter} {len} {filler}")
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ' ');
        let mut way = parts.next()?.splitn(3, '.');
        let (kind, from) = (way.next()?, way.next()?.parse().ok()?);
        let stream = match (kind, way.next()) {
            ("d", None) => Stream::Direct { from },
            ("t", Some(topic)) => Stream::Topic { from, topic: topic.to_owned() },
            _ => return None,
        };
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (sequence, counter, len) = (number()?, number()?, number()? as usize);
        Some(Self { stream, sequence, counter, len, filler: parts.next()?.to_owned() })
    }

    fn is_whole(&self) -> bool {
        self.filler == filler(self.sequence, self.len)
    }
}

pub(crate) fn filler(sequence: u64, len: usize) -> String {
    let letters = (0..26).map(|at| char::from(b'a' + ((sequence + at) % 26) as u8));
    letters.collect::<String>().repeat(len / 26 + 1)[..len].to_owned()
}

/// What becomes of publishes that a slow bird has no room for.
pub(crate) fn overflow_of(topic: &str) -> Overflow {
    match topic {
        "latest" => Overflow::KeepLatest,
        "close" => Overflow::Close,
        _ => Overflow::Drop,
    }
}

impl Ledger {
    pub(crate) fn new(config: Config, is_punctual: bool) -> Self {
        Self { config, is_punctual, ..Self::default() }
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.as_ref().map_or(Duration::ZERO, Clock::elapsed)
    }

    /// A client was opened: no more of its address are than may be.
    pub(crate) fn check_address(&mut self, number: usize) {
        let host = self.birds[number].host;
        let is_open = |bird: &&Bird| bird.opened.is_some() && bird.closed.is_empty();
        let count = self.birds.iter().filter(is_open).filter(|bird| bird.host == host).count();
        if self.config.connections_per_address_max.is_some_and(|max| count > max) {
            self.fail(format!("{count} of one address are open"));
        }
    }

    /// A message, ping or pong came: no more do in a moment than may, and what time brings.
    pub(crate) fn check_rate(&mut self, number: usize) {
        const MOMENT: Duration = Duration::from_millis(250);
        let now = self.now();
        let Some(rate) = self.config.messages_per_second_max else { return };
        let (since, count) = &mut self.birds[number].rate;
        if now > *since + MOMENT {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        // The clock of the rates has ticks.
        if *count > rate + rate / 4 + rate / 10 {
            self.fail(format!("client {number} sent more than {rate} messages in a second"));
        }
    }

    /// Notes that something of a kind has happened.
    pub(crate) fn saw(&mut self, kind: impl Into<String>) {
        self.seen.insert(kind.into());
    }

    /// Something is wrong. The first thing is what is told.
    pub(crate) fn fail(&mut self, what: String) {
        if self.failure.is_none() {
            self.failure = Some(format!("{what} (at {:?})", self.now()));
        }
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.clone()
    }

    pub(crate) fn bird(&mut self, number: usize) -> &mut Bird {
        if number == OUTSIDE { &mut self.outside } else { &mut self.birds[number] }
    }

    fn is_there(&self, number: usize) -> bool {
        let bird = &self.birds[number];
        bird.opened.is_some() && bird.closed.is_empty() && bird.local_close.is_none()
    }

    /// A message directly to a bird: its text, and what to tell [`Ledger::sent`].
    pub(crate) fn direct(&mut self, from: usize, to: usize, len: usize) -> (String, u64) {
        let bird = self.bird(from);
        let stream = Stream::Direct { from };
        let sequence = bird.next.entry((stream.clone(), to)).or_default();
        let number = *sequence;
        *sequence += 1;
        bird.counter += 1;
        let counter = bird.counter;
        (Note::text(&stream, number, counter, len), number)
    }

    pub(crate) fn sent(&mut self, from: usize, to: usize, sequence: u64, status: SendStatus) {
        self.saw(match status {
            SendStatus::Backlogged => "backlog",
            SendStatus::Dropped => "send refused",
            _ => "send",
        });
        let is_here = from != OUTSIDE && self.birds[from].worker == self.birds[to].worker;
        match status {
            SendStatus::Queued | SendStatus::Backlogged if is_here => self.counts.near_sent += 1,
            SendStatus::Queued | SendStatus::Backlogged => self.counts.far_sent += 1,
            SendStatus::Dropped if is_here => self.counts.near_dropped += 1,
            SendStatus::Dropped => self.counts.far_dropped += u64::from(from != OUTSIDE),
            _ => {}
        }
        if matches!(status, SendStatus::Queued | SendStatus::Backlogged) {
            let is_near = is_here && self.birds[to].outside_close.is_none();
            // What goes by mail may find its bird gone, or with no room.
            let expected = Expected { sequence, is_required: is_near };
            let stream = Stream::Direct { from };
            self.birds[to].expected.entry(stream).or_default().push_back(expected);
        }
    }

    /// A message to a topic: its text, and what to tell [`Ledger::published`].
    pub(crate) fn publish(&mut self, from: usize, topic: &str, len: usize) -> (String, u64) {
        let bird = self.bird(from);
        let stream = Stream::Topic { from, topic: topic.to_owned() };
        let sequence = bird.next.entry((stream.clone(), 0)).or_default();
        let number = *sequence;
        *sequence += 1;
        bird.counter += 1;
        let counter = bird.counter;
        (Note::text(&stream, number, counter, len), number)
    }

    pub(crate) fn published(
        &mut self,
        from: usize,
        topic: &str,
        sequence: u64,
        status: SendStatus,
        to_others: bool,
    ) {
        if from != OUTSIDE {
            self.counts.publishes += u64::from(status == SendStatus::Queued);
            self.counts.publishes_dropped += u64::from(status == SendStatus::Dropped);
        }
        if status != SendStatus::Queued {
            self.saw("publish refused");
        }
        // A handle's publish that one worker has no room for goes to the others.
        let is_partial = from == OUTSIDE && status == SendStatus::Dropped;
        if status != SendStatus::Queued && !is_partial {
            return;
        }
        let stream = Stream::Topic { from, topic: topic.to_owned() };
        let worker = if from == OUTSIDE { OUTSIDE } else { self.birds[from].worker };
        for number in 0..self.birds.len() {
            let is_except = to_others && number == from;
            let is_there = self.is_there(number);
            let bird = &mut self.birds[number];
            if is_except {
                // What it has published itself is the latest, and it knows.
                bird.last_of_topic.remove(topic);
            }
            if is_there && bird.topics.contains(topic) && !is_except {
                let is_required = bird.outside_close.is_none() && !is_partial;
                let expected = Expected { sequence, is_required };
                bird.expected.entry(stream.clone()).or_default().push_back(expected);
                let last = bird.last_of_topic.entry(topic.to_owned()).or_default();
                last.insert(stream.clone(), sequence);
            }
        }
        let recent = self.recent.entry(topic.to_owned()).or_default();
        recent.push_back((stream, sequence, worker));
        if recent.len() > IN_FLIGHT_MAX {
            recent.pop_front();
        }
    }

    pub(crate) fn subscribed(&mut self, number: usize, topic: &str) {
        let recent = self.recent.get(topic).cloned().unwrap_or_default();
        let max = self.config.subscriptions_max;
        let bird = &mut self.birds[number];
        bird.topics.insert(topic.to_owned());
        bird.ever.insert(topic.to_owned());
        if bird.topics.len() > max {
            return self.fail(format!("client {number} has more than {max} subscriptions"));
        }
        let bird = &mut self.birds[number];
        bird.last_of_topic.remove(topic);
        // What other workers have published before may arrive, or may have passed.
        for (stream, sequence, worker) in recent {
            let expected = bird.expected.entry(stream.clone()).or_default();
            let is_known = expected.back().is_some_and(|last| last.sequence >= sequence);
            if worker != bird.worker && !is_known {
                expected.push_back(Expected { sequence, is_required: false });
                let last = bird.last_of_topic.entry(topic.to_owned()).or_default();
                last.insert(stream, sequence);
            }
        }
    }

    pub(crate) fn unsubscribed(&mut self, number: usize, topic: &str) {
        let is_far: Vec<bool> =
            self.birds.iter().map(|bird| bird.worker != self.birds[number].worker).collect();
        let bird = &mut self.birds[number];
        bird.topics.remove(topic);
        bird.last_of_topic.remove(topic);
        for (stream, expected) in &mut bird.expected {
            let Stream::Topic { from, topic: of } = stream else { continue };
            let is_owed = overflow_of(topic) == Overflow::KeepLatest;
            if of == topic && (is_owed || is_far.get(*from).copied().unwrap_or(true)) {
                expected.iter_mut().for_each(|one| one.is_required = false);
            }
        }
    }

    /// A bird's client got a message of the server.
    pub(crate) fn arrived(&mut self, number: usize, text: &str) {
        let Some(note) = Note::read(text) else {
            return self.fail(format!("client {number} got what nobody sent: {text:.40}"));
        };
        if !note.is_whole() {
            return self.fail(format!("client {number} got a broken message: {text:.40}"));
        }
        let Note { stream, sequence, counter, .. } = note;
        let bird = &mut self.birds[number];
        let expected = bird.expected.entry(stream.clone()).or_default();
        let is_direct = matches!(stream, Stream::Direct { .. });
        let mut missing = 0;
        loop {
            match expected.pop_front() {
                Some(one) if one.sequence == sequence => break,
                Some(one) if one.sequence < sequence => {
                    missing += u64::from(one.is_required);
                    bird.lost_mail += u64::from(is_direct && !one.is_required);
                }
                other => {
                    return self.fail(format!(
                        "client {number} got {stream:?} {sequence} twice, out of order or unasked: \
                         next is {other:?}"
                    ));
                }
            }
        }
        self.counts.arrived += u64::from(!is_direct);
        self.miss(number, &stream, missing);
        self.check_order(number, &stream, counter);
    }

    /// What one sends directly comes behind what it published before.
    fn check_order(&mut self, number: usize, stream: &Stream, counter: u64) {
        let bird = &mut self.birds[number];
        match stream {
            Stream::Direct { from } => {
                bird.counters.insert(*from, counter);
            }
            Stream::Topic { from, topic } if overflow_of(topic) != Overflow::KeepLatest => {
                if bird.counters.get(from).is_some_and(|direct| *direct > counter) {
                    self.fail(format!("client {number} got {stream:?} behind what came later"));
                }
            }
            Stream::Topic { .. } => {}
        }
    }

    fn miss(&mut self, number: usize, stream: &Stream, missing: u64) {
        if missing == 0 {
            return;
        }
        match stream {
            Stream::Direct { from } => {
                self.fail(format!("client {number} missed {missing} messages from {from}"));
            }
            Stream::Topic { topic, .. } => {
                let overflow = overflow_of(topic);
                if overflow == Overflow::Close {
                    self.fail(format!("client {number} sees a gap of {missing} in {stream:?}"));
                } else if overflow == Overflow::Drop {
                    self.birds[number].lost_publishes += missing;
                }
            }
        }
    }

    /// A client that has stayed to the end has to have all there is for it.
    pub(crate) fn check_complete(&mut self, number: usize) {
        let bird = &mut self.birds[number];
        bird.has_stayed = true;
        for (stream, rest) in &bird.expected {
            if matches!(stream, Stream::Direct { .. }) {
                bird.lost_mail += rest.iter().filter(|one| !one.is_required).count() as u64;
            }
        }
        let latest = bird.last_of_topic.clone();
        let rest: Vec<_> = bird
            .expected
            .iter()
            .map(|(stream, rest)| {
                (stream.clone(), rest.iter().filter(|one| one.is_required).count() as u64)
            })
            .collect();
        for (stream, missing) in rest {
            self.miss(number, &stream, missing);
        }
        for (topic, last) in latest {
            let bird = &self.birds[number];
            // Which of them is the last of all depends on the ways they took.
            let waits = |(stream, sequence): (&Stream, &u64)| {
                let rest = bird.expected.get(stream)?;
                rest.iter().find(|one| one.sequence == *sequence).map(|one| one.is_required)
            };
            let is_required = last.iter().any(|one| waits(one) == Some(true));
            let has_one = last.iter().any(|one| waits(one).is_none());
            if overflow_of(&topic) == Overflow::KeepLatest && is_required && !has_one {
                self.fail(format!("client {number} missed the latest of {topic}"));
            }
        }
        // What has not come by now is not to come later.
        self.birds[number].expected.clear();
    }

    /// How many publishes those who have stayed have missed.
    pub(crate) fn lost_publishes(&self) -> u64 {
        self.stayed().map(|bird| bird.lost_publishes).sum()
    }

    /// How many messages to those who have stayed were lost where their mail arrived.
    pub(crate) fn lost_mail(&self) -> u64 {
        self.stayed().map(|bird| bird.lost_mail).sum()
    }

    fn stayed(&self) -> impl Iterator<Item = &Bird> {
        self.birds.iter().filter(|bird| bird.has_stayed)
    }

    /// The server has sent a close frame because the handler asked for it: all that it accepted
    /// before came before it, but for what was on its way from other workers.
    pub(crate) fn check_before_close(&mut self, number: usize) {
        let bird = &self.birds[number];
        let worker = bird.worker;
        let is_near =
            |from: usize| self.birds.get(from).is_some_and(|other| other.worker == worker);
        let mut missing = Vec::new();
        for (stream, rest) in &bird.expected {
            let (Stream::Direct { from } | Stream::Topic { from, .. }) = stream;
            let count = rest.iter().filter(|one| one.is_required).count() as u64;
            if count > 0 && is_near(*from) {
                missing.push((stream.clone(), count));
            }
        }
        for (stream, count) in missing {
            self.miss(number, &stream, count);
            self.birds[number].expected.remove(&stream);
        }
    }
}

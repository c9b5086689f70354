//! From a publish to its subscribers: encoded once, kept with the topic until the end of the tick,
//! and sent from there to all who have nothing else to be sent.
//!
//! A subscriber that has something else to be sent gets a copy in its own output, in order. So does
//! one that has to be passed over in part: it subscribed during the tick, or published itself to
//! the others.

use super::{Closing, SendStatus, Slot, Stage, Table, skips::Skips};
use crate::{
    config::Overflow,
    parts::{
        patterns,
        slots::{SlotId, Slots},
        topics::{Kind, Member, TopicId, Topics},
    },
};
use quelea_core::{
    Message, Opcode,
    frame::{self, HEADER_BYTES_MAX, Header},
};
use std::num::NonZeroU32;

/// What subscribers that need a copy may have of it at once, before it is sent.
const COPIED_BYTES_MAX: usize = 4 << 20;
/// What a topic keeps for the next tick.
const PENDING_BYTES_KEPT: usize = 4 << 10;

/// The topics of a worker, and what was published in this tick.
#[derive(Debug)]
pub(super) struct Fanout {
    topics: Topics<Pending>,
    /// Those that something was published to in this tick.
    active: Vec<TopicId>,
    /// Who is sent the bytes of a topic as they are.
    shared: Vec<Shared>,
    /// All that was published in this tick, each counted once.
    pending_bytes: usize,
    /// Subscribers that are to be closed because they are too slow.
    too_slow: Vec<SlotId>,
    /// For the patterns that a name matches, and the topics that a slot is owed something of.
    found: Vec<TopicId>,
    /// Publishes that a subscriber did not get.
    dropped: u64,
    /// How many publishes there were.
    sequence: u32,
    /// By slot, how many there were when it got a copy of what was for it.
    delivered: Vec<u32>,
    /// How far [`Table::settle`] got: in `active`, and in the members of that topic.
    settled: (usize, usize),
    /// Whether some topic keeps its latest message.
    keeps_latest: bool,
    options: FanoutOptions,
}

/// What the topics of a worker are told.
#[derive(Clone, Debug)]
pub(crate) struct FanoutOptions {
    pub(crate) subscriptions_max: usize,
    pub(crate) topic_bytes_max: usize,
    pub(crate) overflow: Overflow,
    pub(crate) topic_overflow: Vec<(String, Overflow)>,
}

/// What became of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscribeStatus {
    /// It is there from now on.
    Subscribed,
    /// It was there already.
    Already,
    /// The connection has
    /// [`Config::subscriptions_max`](crate::Config::subscriptions_max) others.
    TooMany,
    /// The name is empty or longer than
    /// [`Config::topic_bytes_max`](crate::Config::topic_bytes_max), or the pattern has a `>` that is
    /// not its last part.
    InvalidName,
    /// The connection is gone.
    Closed,
}

/// What was published to a topic in this tick.
#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    skips: Skips,
    is_active: bool,
    overflow: Overflow,
    /// Where the last message begins.
    last: usize,
    /// The last message of the ticks before, with [`Overflow::KeepLatest`].
    latest: Vec<u8>,
    /// Who is not to get it.
    latest_except: Option<SlotId>,
}

/// One send of a topic's bytes.
#[derive(Debug)]
struct Shared {
    /// `None` once the subscriber needs a copy after all.
    owner: Option<SlotId>,
    topic: TopicId,
}

/// Where a slot is in the list of those that share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharedId(NonZeroU32);

impl SharedId {
    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// How a publish went for one subscriber.
enum Copied {
    /// There is nothing for it.
    Nothing,
    /// It has all that is for it.
    Done,
    /// It is behind, and is to get the latest message instead.
    Owed,
    /// There is no room.
    Overflow,
}

impl Pending {
    fn new(overflow: Overflow) -> Self {
        Self {
            bytes: Vec::new(),
            skips: Skips::default(),
            is_active: false,
            overflow,
            last: 0,
            latest: Vec::new(),
            latest_except: None,
        }
    }

    /// What is for a slot, in order.
    fn for_slot(&self, slot: usize) -> impl Iterator<Item = &[u8]> {
        let mut skips = self.skips.of_slot(slot);
        let mut at = 0;
        std::iter::from_fn(move || {
            if at >= self.bytes.len() {
                return None;
            }
            let (piece, next) = match skips.next() {
                Some(skip) => (at..skip.start, skip.end),
                None => (at..self.bytes.len(), self.bytes.len()),
            };
            at = next;
            Some(&self.bytes[piece])
        })
    }

    /// Leaves a slot out of what was published so far.
    fn skip_all(&mut self, slot: usize) {
        self.skips.replace(slot, 0..self.bytes.len());
    }

    fn clear(&mut self) {
        if self.overflow == Overflow::KeepLatest && !self.bytes.is_empty() {
            self.latest.clear();
            self.latest.extend_from_slice(&self.bytes[self.last..]);
            self.latest.shrink_to(PENDING_BYTES_KEPT);
        }
        self.last = 0;
        self.bytes.clear();
        self.bytes.shrink_to(PENDING_BYTES_KEPT);
        self.skips.clear();
    }
}

impl Fanout {
    pub(super) fn new(options: FanoutOptions) -> Self {
        Self {
            topics: Topics::new(),
            active: Vec::new(),
            shared: Vec::new(),
            pending_bytes: 0,
            too_slow: Vec::new(),
            found: Vec::new(),
            dropped: 0,
            sequence: 0,
            delivered: Vec::new(),
            settled: (0, 0),
            keeps_latest: false,
            options,
        }
    }

    /// The policy of a topic: the first that matches its name, or that is told for the very
    /// pattern.
    fn overflow_of(&self, name: &str) -> Overflow {
        let FanoutOptions { overflow, topic_overflow, .. } = &self.options;
        let found = topic_overflow.iter().find(|(pattern, _)| patterns::matches(pattern, name));
        found.map_or(*overflow, |(_, overflow)| *overflow)
    }

    /// Whether something was published in this tick that may be for the slot, and that it has not
    /// got a copy of.
    #[inline]
    pub(super) fn has_pending_for(&self, slot: usize) -> bool {
        !self.active.is_empty() && self.delivered.get(slot) != Some(&self.sequence)
    }

    /// All that was published in this tick, in bytes.
    pub(super) const fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// The bytes that a slot shares.
    pub(super) fn shared_bytes(&self, id: SharedId) -> &[u8] {
        self.shared.get(id.index()).map_or(&[], |shared| self.bytes_of(shared.topic))
    }

    fn bytes_of(&self, topic: TopicId) -> &[u8] {
        self.topics.get(topic).map_or(&[], |(_, pending)| &pending.bytes)
    }

    fn is_active(&self, topic: TopicId) -> bool {
        self.topics.get(topic).is_some_and(|(_, pending)| pending.is_active)
    }

    fn share(&mut self, owner: SlotId, topic: TopicId) -> Option<SharedId> {
        self.shared.push(Shared { owner: Some(owner), topic });
        NonZeroU32::new(u32::try_from(self.shared.len()).ok()?).map(SharedId)
    }

    pub(super) fn sends(&self) -> impl Iterator<Item = (SlotId, &[u8])> {
        self.shared.iter().filter_map(|shared| Some((shared.owner?, self.bytes_of(shared.topic))))
    }

    /// What was to be sent is: the owners no longer share anything. Once all is settled, a new
    /// tick starts.
    pub(super) fn finish_sends(&mut self, slots: &mut Slots<Slot>) {
        for shared in self.shared.drain(..) {
            if let Some(slot) = shared.owner.and_then(|owner| slots.get_mut(owner)) {
                slot.output.shared = None;
            }
        }
        if self.settled.0 < self.active.len() {
            return;
        }
        self.settled = (0, 0);
        self.pending_bytes = 0;
        for topic in self.active.drain(..) {
            if let Some((_, pending)) = self.topics.get_mut(topic) {
                pending.clear();
                pending.is_active = false;
            }
        }
    }
}

impl Table {
    /// Subscribes a connection to a topic or a pattern.
    pub(crate) fn subscribe(&mut self, id: SlotId, name: &str, kind: Kind) -> SubscribeStatus {
        let FanoutOptions { subscriptions_max, topic_bytes_max, .. } = self.fanout.options;
        if !self.is_open(id) {
            return SubscribeStatus::Closed;
        }
        if !(1..=topic_bytes_max).contains(&name.len())
            || (kind == Kind::Pattern && !patterns::is_valid(name))
        {
            return SubscribeStatus::InvalidName;
        }
        if self.fanout.topics.count_of_slot(id.index()) >= subscriptions_max {
            let is_there = |topic| self.fanout.topics.is_subscribed(id.index(), topic);
            return match self.fanout.topics.find(name, kind).is_some_and(is_there) {
                true => SubscribeStatus::Already,
                false => SubscribeStatus::TooMany,
            };
        }
        let overflow = self.fanout.overflow_of(name);
        self.fanout.keeps_latest |= overflow == Overflow::KeepLatest;
        let make = || Pending::new(overflow);
        let Some(topic) = self.fanout.topics.subscribe(id.index(), name, kind, make) else {
            return SubscribeStatus::Already;
        };
        // What was published before is not for it.
        if let Some((_, pending)) = self.fanout.topics.get_mut(topic)
            && pending.is_active
        {
            pending.skip_all(id.index());
        }
        SubscribeStatus::Subscribed
    }

    /// Ends a subscription; whether there was one. What was published before still arrives.
    pub(crate) fn unsubscribe(&mut self, id: SlotId, name: &str, kind: Kind) -> bool {
        let Some(topic) = self.fanout.topics.find(name, kind) else { return false };
        if self.slots.get(id).is_none() || !self.fanout.topics.is_subscribed(id.index(), topic) {
            return false;
        }
        if self.is_open(id) {
            self.deliver(id, topic);
        }
        self.fanout.topics.unsubscribe(id.index(), topic)
    }

    /// Publishes to all subscribers of all workers but `except`, or to none.
    pub(crate) fn publish(
        &mut self,
        name: &str,
        message: Message<'_>,
        except: Option<SlotId>,
    ) -> SendStatus {
        if !(1..=self.fanout.options.topic_bytes_max).contains(&name.len()) {
            return SendStatus::Invalid;
        }
        let found = self.find_topics(name);
        let is_sent = HEADER_BYTES_MAX + message.len() <= self.marks.max
            && self.have_room_for(&found, message)
            && (!self.outgoing.is_needed() || self.outgoing.publish(name, message));
        if is_sent {
            found.iter().for_each(|topic| self.publish_to(*topic, message, except));
        } else {
            self.fanout.dropped += 1;
        }
        self.fanout.found = found;
        if is_sent { SendStatus::Queued } else { SendStatus::Dropped }
    }

    /// Publishes to the subscribers of this worker; `false` if they have to take what this tick has
    /// for them first.
    pub(crate) fn publish_from_others(&mut self, name: &str, message: Message<'_>) -> bool {
        let found = self.find_topics(name);
        let has_room = self.have_room_for(&found, message);
        if has_room {
            found.iter().for_each(|topic| self.publish_to(*topic, message, None));
        }
        self.fanout.found = found;
        has_room
    }

    /// The topic of a name and the patterns that it matches, in the vector that is kept for it.
    fn find_topics(&mut self, name: &str) -> Vec<TopicId> {
        let mut found = std::mem::take(&mut self.fanout.found);
        found.clear();
        self.fanout.topics.find_all(name, &mut found);
        found
    }

    /// Whether what one tick has for a topic would not pass the limit of every subscriber.
    fn have_room_for(&self, topics: &[TopicId], message: Message<'_>) -> bool {
        topics.iter().all(|topic| {
            let pending = self.fanout.bytes_of(*topic).len();
            pending == 0 || pending + HEADER_BYTES_MAX + message.len() <= self.marks.max
        })
    }

    fn publish_to(&mut self, topic: TopicId, message: Message<'_>, except: Option<SlotId>) {
        let except = except.filter(|id| self.fanout.topics.is_subscribed(id.index(), topic));
        let Some((_, pending)) = self.fanout.topics.get_mut(topic) else { return };
        if !std::mem::replace(&mut pending.is_active, true) {
            self.fanout.active.push(topic);
        }
        let start = pending.bytes.len();
        append(message, &mut pending.bytes);
        self.fanout.sequence = self.fanout.sequence.wrapping_add(1);
        (pending.last, pending.latest_except) = (start, except);
        if let Some(except) = except {
            pending.skips.add(except.index(), start..pending.bytes.len());
        }
        self.fanout.pending_bytes += pending.bytes.len() - start;
    }

    /// Copies what was published in this tick to a connection's own output, before something else
    /// is written there.
    #[cold]
    pub(super) fn deliver_pending(&mut self, id: SlotId) {
        let Fanout { delivered, sequence, .. } = &mut self.fanout;
        if delivered.len() <= id.index() {
            delivered.resize(id.index() + 1, sequence.wrapping_sub(1));
        }
        delivered[id.index()] = *sequence;
        let mut found = std::mem::take(&mut self.fanout.found);
        found.clear();
        found.extend(self.fanout.topics.of_slot(id.index()));
        found.retain(|topic| self.fanout.is_active(*topic));
        found.iter().for_each(|topic| self.deliver(id, *topic));
        self.fanout.found = found;
    }

    fn deliver(&mut self, id: SlotId, topic: TopicId) {
        if let Some(member) = self.fanout.topics.member(id.index(), topic) {
            self.copy(member, topic);
        }
        if let Some((_, pending)) = self.fanout.topics.get_mut(topic)
            && pending.is_active
        {
            pending.skip_all(id.index());
        }
    }

    /// Decides who is sent what was published in this tick, and how: to be called before
    /// [`Table::sends`]. If that takes more copies than are good to keep at once, the rest is for
    /// another call, after [`Table::finish_sends`] and before anything else: whether all is done.
    pub(crate) fn settle(&mut self) -> bool {
        while let Some(&topic) = self.fanout.active.get(self.fanout.settled.0) {
            let members = self.fanout.topics.get(topic).map_or(0, |(members, _)| members.len());
            for position in self.fanout.settled.1..members {
                if self.arena.len() > COPIED_BYTES_MAX {
                    self.fanout.settled.1 = position;
                    return false;
                }
                self.settle_member(topic, position);
            }
            self.fanout.settled = (self.fanout.settled.0 + 1, 0);
        }
        let mut too_slow = std::mem::take(&mut self.fanout.too_slow);
        for id in too_slow.drain(..) {
            // Behind what was just copied to it.
            self.close_now(id, Closing::TooSlow.frame(), Closing::TooSlow);
        }
        self.fanout.too_slow = too_slow;
        true
    }

    #[inline]
    fn settle_member(&mut self, topic: TopicId, position: usize) {
        let Self { fanout, slots, arena, .. } = self;
        let Some((members, pending)) = fanout.topics.get(topic) else { return };
        let member = members[position];
        let Some(id) = slots.id_at(member.slot()) else { return };
        let Some(slot) = slots.get_mut(id).filter(|slot| slot.stage.is_open()) else { return };
        let has_skips = pending.skips.of_slot(id.index()).next().is_some();
        if slot.output.is_idle(arena) && !has_skips {
            slot.output.shared = fanout.share(id, topic);
        } else {
            self.settle_with_copy(id, member, topic);
        }
    }

    fn settle_with_copy(&mut self, id: SlotId, member: Member, topic: TopicId) {
        let Self { fanout, slots, arena, dirty, .. } = self;
        if let Some(slot) = slots.get_mut(id)
            && let Some(shared) = slot.output.shared.take()
        {
            // A second topic: what the first one shares comes before it, as a copy.
            let bytes = fanout.shared_bytes(shared);
            slot.output.buffer(id, arena, dirty).extend_from_slice(bytes);
            fanout.shared[shared.index()].owner = None;
        }
        self.copy(member, topic);
    }

    /// Copies what is for a connection to its output, or does what its topic says if there is no
    /// room.
    fn copy(&mut self, member: Member, topic: TopicId) {
        let Some(id) = self.slots.id_at(member.slot()) else { return };
        match self.try_copy(id, topic) {
            Copied::Nothing => {}
            Copied::Done if !self.fanout.keeps_latest => {}
            // What it has now is later than what it was owed.
            Copied::Done => self.fanout.topics.set_owed(member, false),
            Copied::Owed => self.fanout.topics.set_owed(member, true),
            Copied::Overflow => {
                self.fanout.dropped += 1;
                let overflow = self.fanout.topics.get(topic).map(|(_, pending)| pending.overflow);
                if overflow == Some(Overflow::Close) {
                    self.fanout.too_slow.push(id);
                }
            }
        }
    }

    fn try_copy(&mut self, id: SlotId, topic: TopicId) -> Copied {
        let Self { fanout, slots, arena, dirty, marks, .. } = self;
        let Some((_, pending)) = fanout.topics.get(topic) else { return Copied::Nothing };
        let Some(slot) = slots.get_mut(id) else { return Copied::Nothing };
        let len: usize = pending.for_slot(id.index()).map(<[u8]>::len).sum();
        if len == 0 {
            return Copied::Nothing;
        }
        if pending.overflow == Overflow::KeepLatest && slot.output.is_blocked() {
            return Copied::Owed;
        }
        let queued = slot.output.queued(arena) + len;
        if queued > marks.max {
            return Copied::Overflow;
        }
        if queued > marks.high {
            slot.backlogged = true;
        }
        let buffer = slot.output.buffer(id, arena, dirty);
        for piece in pending.for_slot(id.index()) {
            buffer.extend_from_slice(piece);
        }
        Copied::Done
    }

    /// A connection took all that waited for it: it gets the latest message of the topics that it
    /// missed some of.
    pub(super) fn deliver_owed(&mut self, id: SlotId) {
        if !self.fanout.keeps_latest || !self.is_open(id) {
            return;
        }
        let mut owed = std::mem::take(&mut self.fanout.found);
        owed.clear();
        self.fanout.topics.take_owed(id.index(), &mut owed);
        let Self { fanout, slots, arena, dirty, .. } = self;
        if let Some(slot) = slots.get_mut(id) {
            for topic in owed.drain(..) {
                if let Some((_, pending)) = fanout.topics.get(topic)
                    && pending.latest_except != Some(id)
                {
                    let buffer = slot.output.buffer(id, arena, dirty);
                    buffer.extend_from_slice(&pending.latest);
                }
            }
        }
        self.fanout.found = owed;
    }

    /// What was too much for a worker that is behind, since the start.
    pub(crate) const fn refused_mail(&self) -> u64 {
        self.outgoing.refused()
    }

    /// Publishes that a subscriber did not get, since the start.
    pub(crate) const fn dropped(&self) -> u64 {
        self.fanout.dropped
    }

    /// Whether messages can be sent to a connection.
    pub(super) fn is_open(&self, id: SlotId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.stage.is_open())
    }

    /// Ends all subscriptions of a connection.
    pub(super) fn unsubscribe_all(&mut self, id: SlotId) {
        self.fanout.topics.unsubscribe_all(id.index());
    }
}

/// Appends a message as a server sends it to anyone: in one frame, without a mask.
fn append(message: Message<'_>, bytes: &mut Vec<u8>) {
    let opcode = match message {
        Message::Text(_) => Opcode::Text,
        Message::Binary(_) => Opcode::Binary,
    };
    let header = Header { fin: true, reserved: 0, opcode, mask: None, payload_len: 0 };
    frame::append(bytes, header, message.as_bytes());
}

impl Stage {
    /// Whether messages can be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::WebSocket(connection) if connection.is_open())
    }
}

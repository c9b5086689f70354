//! The topics of a worker, and what was published to them in this tick: encoded once, kept with the
//! topic until the end of the tick, and sent from there to all who have nothing else to be sent.

use super::{Slot, skips::Skips};
use crate::{
    config::Overflow,
    parts::{
        arena::Arena,
        patterns,
        slots::{SlotId, Slots},
        topics::{Member, TopicId, Topics},
    },
};
use quelea_core::{
    Message, Opcode,
    frame::{self, Header},
};
use std::num::NonZeroU32;

/// What a topic keeps for the next tick.
const PENDING_BYTES_KEPT: usize = 4 << 10;

/// The topics of a worker, and what was published in this tick.
#[derive(Debug)]
pub(super) struct Fanout {
    pub(super) topics: Topics<Pending>,
    /// Those that something was published to in this tick.
    pub(super) active: Vec<TopicId>,
    /// Who is sent the bytes of a topic as they are; `None` for one that needs a copy after all.
    sharers: Vec<Option<SlotId>>,
    /// From which of them on it is which topic's.
    shares: Vec<(usize, TopicId)>,
    /// All that was published in this tick, each counted once.
    pub(super) pending_bytes: usize,
    /// For the topics that a name matches.
    pub(super) found: Vec<TopicId>,
    /// For the memberships of a slot that something was published to, or that are owed something.
    pub(super) due: Vec<(TopicId, Member)>,
    /// How often something was delivered that was owed.
    pub(super) owed_turn: usize,
    /// How many publishes there were, and how many when the tick began.
    pub(super) sequence: u32,
    tick_sequence: u32,
    /// By slot, how many there were when it got a copy of what was for it.
    delivered: Vec<u32>,
    /// How far [`Table::settle`] got: in `active`, and in the members of that topic.
    pub(super) settled: (usize, usize),
    /// Whether some topic keeps its latest message.
    pub(super) keeps_latest: bool,
    pub(super) options: FanoutOptions,
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
pub(super) struct Pending {
    pub(super) bytes: Vec<u8>,
    /// How many messages they are.
    pub(super) messages: u64,
    pub(super) skips: Skips,
    pub(super) is_active: bool,
    /// How many publishes there were with the last one here.
    pub(super) sequence: u32,
    pub(super) overflow: Overflow,
    /// Where the last message begins.
    pub(super) last: usize,
    /// The last message of the ticks before, with [`Overflow::KeepLatest`].
    pub(super) latest: Vec<u8>,
    /// Who is not to get it.
    pub(super) latest_except: Option<SlotId>,
}

/// Where a slot is in the list of those that share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SharedId(NonZeroU32);

impl SharedId {
    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl Pending {
    pub(super) fn new(overflow: Overflow) -> Self {
        Self {
            bytes: Vec::new(),
            messages: 0,
            skips: Skips::default(),
            is_active: false,
            sequence: 0,
            overflow,
            last: 0,
            latest: Vec::new(),
            latest_except: None,
        }
    }

    /// What is for a slot, in order.
    pub(super) fn for_slot(&self, slot: usize) -> impl Iterator<Item = &[u8]> {
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

    /// How many messages are for a slot.
    pub(super) fn messages_for_slot(&self, slot: usize) -> u64 {
        self.messages - self.skips.messages_of_slot(slot)
    }

    /// The last message, if it is for a slot.
    pub(super) fn latest_for(&self, slot: SlotId) -> Option<&[u8]> {
        let latest = if self.is_active { &self.bytes[self.last..] } else { &self.latest[..] };
        (self.latest_except != Some(slot)).then_some(latest)
    }

    /// Leaves a slot out of what was published so far.
    pub(super) fn skip_all(&mut self, slot: usize) {
        self.skips.replace(slot, 0..self.bytes.len(), self.messages);
    }

    fn clear(&mut self) {
        if self.overflow == Overflow::KeepLatest && !self.bytes.is_empty() {
            self.latest.clear();
            self.latest.extend_from_slice(&self.bytes[self.last..]);
            self.latest.shrink_to(PENDING_BYTES_KEPT);
        }
        (self.last, self.messages) = (0, 0);
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
            sharers: Vec::new(),
            shares: Vec::new(),
            pending_bytes: 0,
            found: Vec::new(),
            due: Vec::new(),
            owed_turn: 0,
            sequence: 0,
            tick_sequence: 0,
            delivered: Vec::new(),
            settled: (0, 0),
            keeps_latest: false,
            options,
        }
    }

    /// The policy of a topic: the first that matches its name, or that is told for the very
    /// pattern.
    pub(super) fn overflow_of(&self, name: &str) -> Overflow {
        let FanoutOptions { overflow, topic_overflow, .. } = &self.options;
        let found = topic_overflow.iter().find(|(pattern, _)| patterns::matches(pattern, name));
        found.map_or(*overflow, |(_, overflow)| *overflow)
    }

    /// Whether something was published in this tick that may be for the slot, and that it has not
    /// got a copy of.
    #[inline]
    pub(super) fn has_pending_for(&self, slot: usize) -> bool {
        !self.active.is_empty()
            && self.topics.has_any(slot)
            && self.delivered.get(slot) != Some(&self.sequence)
    }

    /// Takes note that a slot gets all that was published so far. Appends its memberships in topics
    /// that have something for it since it did so before.
    pub(super) fn take_due(&mut self, slot: usize, due: &mut Vec<(TopicId, Member)>) {
        let now = self.sequence;
        if self.delivered.len() <= slot {
            self.delivered.resize(slot + 1, self.tick_sequence);
        }
        let before = std::mem::replace(&mut self.delivered[slot], now);
        let in_this_tick = now.wrapping_sub(self.tick_sequence);
        let new = now.wrapping_sub(before).min(in_this_tick);
        due.extend(self.topics.of_slot(slot).filter(|(topic, _)| {
            self.topics.get(*topic).is_some_and(|(_, pending)| {
                pending.is_active && now.wrapping_sub(pending.sequence) < new
            })
        }));
    }

    /// Whether what was published to a topic in this tick was settled for one of its members.
    pub(super) fn is_settled(&self, topic: TopicId, member: Member) -> bool {
        let at = self.active.iter().position(|active| *active == topic);
        at.is_some_and(|at| (at, self.topics.position(member)) < self.settled)
    }

    /// The bytes that a slot shares.
    pub(super) fn shared_bytes(&self, id: SharedId) -> &[u8] {
        let after = self.shares.partition_point(|(from, _)| *from <= id.index());
        let share = after.checked_sub(1).and_then(|at| self.shares.get(at));
        share.map_or(&[], |(_, topic)| self.bytes_of(*topic))
    }

    /// A slot shares no longer.
    pub(super) fn unshare(&mut self, id: SharedId) {
        if let Some(owner) = self.sharers.get_mut(id.index()) {
            *owner = None;
        }
    }

    pub(super) fn bytes_of(&self, topic: TopicId) -> &[u8] {
        self.topics.get(topic).map_or(&[], |(_, pending)| &pending.bytes)
    }

    /// Lets members of a topic, from a position on, share its bytes, up to the first that needs a
    /// copy: its position. Counts what they get.
    pub(super) fn share(
        &mut self,
        topic: TopicId,
        from: usize,
        slots: &mut Slots<Slot>,
        arena: &Arena,
        deliveries: &mut u64,
    ) -> Option<usize> {
        let form = self.topics.form(topic);
        let (members, pending) = self.topics.get(topic)?;
        let first = self.sharers.len();
        self.shares.push((first, topic));
        let mut copy = None;
        for (position, member) in members.iter().enumerate().skip(from) {
            let Some((id, slot)) = slots.at_mut(member.slot()) else { continue };
            if !slot.stage.is_open() {
                continue;
            }
            let has_skips =
                !pending.skips.is_empty() && pending.skips.of_slot(member.slot()).next().is_some();
            if has_skips || !slot.output.is_idle(arena) {
                copy = Some(position);
                break;
            }
            self.sharers.push(Some(id));
            slot.note_compressed(form);
            slot.output.shared = NonZeroU32::new(self.sharers.len() as u32).map(SharedId);
        }
        *deliveries += (self.sharers.len() - first) as u64 * pending.messages;
        copy
    }

    pub(super) fn sends(&self) -> impl Iterator<Item = (SlotId, &[u8])> {
        self.shares.iter().enumerate().flat_map(|(at, (from, topic))| {
            let to = self.shares.get(at + 1).map_or(self.sharers.len(), |(next, _)| *next);
            let bytes = self.bytes_of(*topic);
            self.sharers[*from..to].iter().filter_map(move |owner| Some(((*owner)?, bytes)))
        })
    }

    /// Gives back what is kept for reuse.
    pub(super) fn trim(&mut self) {
        self.active.shrink_to_fit();
        self.sharers.shrink_to_fit();
        self.shares.shrink_to_fit();
        self.found.shrink_to_fit();
        self.due.shrink_to_fit();
    }

    /// What was to be sent is: the owners no longer share anything. Once all is settled, a new
    /// tick starts.
    pub(super) fn finish_sends(&mut self, slots: &mut Slots<Slot>) {
        self.shares.clear();
        for owner in self.sharers.drain(..) {
            if let Some(slot) = owner.and_then(|owner| slots.get_mut(owner)) {
                slot.output.shared = None;
            }
        }
        if self.settled.0 < self.active.len() {
            return;
        }
        self.settled = (0, 0);
        self.pending_bytes = 0;
        self.tick_sequence = self.sequence;
        for topic in self.active.drain(..) {
            if let Some((_, pending)) = self.topics.get_mut(topic) {
                pending.clear();
                pending.is_active = false;
            }
        }
    }
}

/// Appends a message as a server sends it to anyone: in one frame, without a mask.
pub(super) fn append(message: Message<'_>, bytes: &mut Vec<u8>) {
    let opcode = match message {
        Message::Text(_) => Opcode::Text,
        Message::Binary(_) => Opcode::Binary,
    };
    let header = Header { fin: true, reserved: 0, opcode, mask: None, payload_len: 0 };
    frame::append(bytes, header, message.as_bytes());
}

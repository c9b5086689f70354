//! From a publish to its subscribers: encoded once, kept with the topic until the end of the tick,
//! and sent from there to all who have nothing else to be sent.
//!
//! A subscriber that has something else to be sent gets a copy in its own output, in order. So does
//! one that has to be passed over in part: it subscribed during the tick, or published itself to
//! the others.

use super::{Slot, Stage, Table, skips::Skips};
use crate::parts::{
    arena::Arena,
    slots::{SlotId, Slots},
    topics::{TopicId, Topics},
};
use quelea_core::{
    Message, Opcode,
    frame::{self, HEADER_BYTES_MAX, Header},
};
use std::num::NonZeroU32;

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
}

/// What was published to a topic in this tick.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    skips: Skips,
    is_active: bool,
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

impl Pending {
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
        self.bytes.clear();
        self.bytes.shrink_to(PENDING_BYTES_KEPT);
        self.skips.clear();
    }
}

impl Fanout {
    pub(super) fn new() -> Self {
        Self { topics: Topics::new(), active: Vec::new(), shared: Vec::new(), pending_bytes: 0 }
    }

    /// Whether something was published in this tick that may be for the slot.
    #[inline]
    pub(super) fn has_pending_for(&self, slot: usize) -> bool {
        !self.active.is_empty() && self.topics.of_slot(slot).next().is_some()
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

    fn share(&mut self, owner: SlotId, topic: TopicId) -> Option<SharedId> {
        self.shared.push(Shared { owner: Some(owner), topic });
        NonZeroU32::new(u32::try_from(self.shared.len()).ok()?).map(SharedId)
    }

    pub(super) fn sends(&self) -> impl Iterator<Item = (SlotId, &[u8])> {
        self.shared.iter().filter_map(|shared| Some((shared.owner?, self.bytes_of(shared.topic))))
    }

    /// Starts a new tick; the owners no longer share anything.
    pub(super) fn clear(&mut self, slots: &mut Slots<Slot>) {
        self.pending_bytes = 0;
        for shared in self.shared.drain(..) {
            if let Some(slot) = shared.owner.and_then(|owner| slots.get_mut(owner)) {
                slot.output.shared = None;
            }
        }
        for topic in self.active.drain(..) {
            if let Some((_, pending)) = self.topics.get_mut(topic) {
                pending.clear();
                pending.is_active = false;
            }
        }
    }
}

impl Table {
    /// Subscribes a connection to a topic; whether it was not before.
    pub(crate) fn subscribe(&mut self, id: SlotId, name: &str) -> bool {
        if !self.is_websocket(id) {
            return false;
        }
        let Some(topic) = self.fanout.topics.subscribe(id.index(), name) else { return false };
        // What was published before is not for it.
        if let Some((_, pending)) = self.fanout.topics.get_mut(topic)
            && pending.is_active
        {
            pending.skip_all(id.index());
        }
        true
    }

    /// Ends a subscription; whether there was one. What was published before still arrives.
    pub(crate) fn unsubscribe(&mut self, id: SlotId, name: &str) -> bool {
        let Some(topic) = self.fanout.topics.find(name) else { return false };
        if self.slots.get(id).is_none() || !self.fanout.topics.is_subscribed(id.index(), topic) {
            return false;
        }
        if self.is_open(id) {
            self.deliver(id, topic);
        }
        self.fanout.topics.unsubscribe(id.index(), topic)
    }

    /// Publishes to all subscribers but `except`; returns how many there are, or 0 if it is dropped
    /// because the topic has gathered too much in this tick.
    pub(crate) fn publish(
        &mut self,
        name: &str,
        message: Message<'_>,
        except: Option<SlotId>,
    ) -> usize {
        let Some(topic) = self.fanout.topics.find(name) else { return 0 };
        let except = except.filter(|id| self.fanout.topics.is_subscribed(id.index(), topic));
        let Some((members, pending)) = self.fanout.topics.get_mut(topic) else { return 0 };
        let count = members.len() - usize::from(except.is_some());
        // It would pass the limit of every subscriber.
        if pending.bytes.len() + HEADER_BYTES_MAX + message.len() > self.outbox_bytes_max {
            return 0;
        }
        if !std::mem::replace(&mut pending.is_active, true) {
            self.fanout.active.push(topic);
        }
        let start = pending.bytes.len();
        append(message, &mut pending.bytes);
        if let Some(except) = except {
            pending.skips.add(except.index(), start..pending.bytes.len());
        }
        self.fanout.pending_bytes += pending.bytes.len() - start;
        count
    }

    /// Copies what was published in this tick to a connection's own output, before something else
    /// is written there.
    #[cold]
    pub(super) fn deliver_pending(&mut self, id: SlotId) {
        for at in 0.. {
            let Some(topic) = self.fanout.topics.of_slot(id.index()).nth(at) else { return };
            self.deliver(id, topic);
        }
    }

    fn deliver(&mut self, id: SlotId, topic: TopicId) {
        let Some((_, pending)) = self.fanout.topics.get_mut(topic) else { return };
        if !pending.is_active {
            return;
        }
        if let Some(slot) = self.slots.get_mut(id) {
            let limit = self.outbox_bytes_max;
            copy(pending, id, slot, &mut self.arena, &mut self.dirty, limit);
        }
        pending.skip_all(id.index());
    }

    /// Decides who is sent what was published in this tick, and how: to be called once before
    /// [`Table::sends`].
    pub(crate) fn settle(&mut self) {
        for at in 0..self.fanout.active.len() {
            let topic = self.fanout.active[at];
            let Some((members, pending)) = self.fanout.topics.get(topic) else { continue };
            if pending.bytes.is_empty() {
                continue;
            }
            let members = members.len();
            for position in 0..members {
                self.settle_member(topic, position);
            }
        }
    }

    fn settle_member(&mut self, topic: TopicId, position: usize) {
        let Self { fanout, slots, arena, dirty, .. } = self;
        let Some((members, pending)) = fanout.topics.get(topic) else { return };
        let Some(id) = slots.id_at(members[position].slot()) else { return };
        let Some(slot) = slots.get_mut(id).filter(|slot| slot.stage.is_open()) else { return };
        let has_skips = pending.skips.of_slot(id.index()).next().is_some();
        if slot.output.is_idle(arena) && !has_skips {
            slot.output.shared = fanout.share(id, topic);
            return;
        }
        if let Some(shared) = slot.output.shared.take() {
            // A second topic: what the first one shares comes before it, as a copy.
            let bytes = fanout.shared_bytes(shared);
            slot.output.buffer(id, arena, dirty).extend_from_slice(bytes);
            fanout.shared[shared.index()].owner = None;
        }
        let Some((_, pending)) = fanout.topics.get(topic) else { return };
        copy(pending, id, slot, arena, dirty, self.outbox_bytes_max);
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

/// Copies what is for a connection to its output, or drops it if it would pass the limit.
fn copy(
    pending: &Pending,
    id: SlotId,
    slot: &mut Slot,
    arena: &mut Arena,
    dirty: &mut Vec<SlotId>,
    limit: usize,
) {
    let len: usize = pending.for_slot(id.index()).map(<[u8]>::len).sum();
    if len == 0 || slot.output.queued(arena) + len > limit {
        return;
    }
    let buffer = slot.output.buffer(id, arena, dirty);
    for piece in pending.for_slot(id.index()) {
        buffer.extend_from_slice(piece);
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

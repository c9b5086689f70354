//! From what was published to what is sent. A subscriber that has nothing else to be sent is sent
//! the topic's own bytes.
//!
//! A subscriber that has something else to be sent gets a copy in its own output, in order. So does
//! one that has to be passed over in part: it subscribed during the tick, or published itself to
//! the others.

use super::{Closing, Table};
use crate::{
    config::Overflow,
    metrics::Limit,
    parts::{
        slots::SlotId,
        topics::{Member, TopicId},
    },
};

/// What subscribers that need a copy may have of it at once, before it is sent.
const COPIED_BYTES_MAX: usize = 4 << 20;

/// How what was published went for one subscriber.
enum Copied {
    /// There is nothing for it.
    Nothing,
    /// It has all messages that are for it, so many.
    Done(u64),
    /// It is behind, and is to get the latest of so many instead.
    Owed(u64),
    /// There is no room for so many.
    Overflow(u64),
}

impl Table {
    /// Copies what was published in this tick to a connection's own output, before something else
    /// is written there.
    #[cold]
    pub(super) fn deliver_pending(&mut self, id: SlotId) {
        let mut due = std::mem::take(&mut self.fanout.due);
        due.clear();
        self.fanout.take_due(id.index(), &mut due);
        for (topic, member) in &due {
            self.deliver(id, *topic, *member);
            if self.closing(id) == Closing::TooSlow {
                // Nothing comes behind a close frame.
                break;
            }
        }
        self.fanout.due = due;
    }

    pub(super) fn deliver(&mut self, id: SlotId, topic: TopicId, member: Member) {
        self.copy(member, topic);
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
            let from = self.fanout.settled.1;
            let Self { fanout, slots, arena, metrics, .. } = self;
            let copy = fanout.share(topic, from, slots, arena, &mut metrics.deliveries);
            if let Some(position) = copy {
                if self.copied > COPIED_BYTES_MAX {
                    self.fanout.settled.1 = position;
                    return false;
                }
                self.settle_with_copy(topic, position);
                self.fanout.settled.1 = position + 1;
            } else {
                self.fanout.settled = (self.fanout.settled.0 + 1, 0);
            }
        }
        true
    }

    fn settle_with_copy(&mut self, topic: TopicId, position: usize) {
        let Self { fanout, slots, arena, dirty, copied, .. } = self;
        let Some((members, _)) = fanout.topics.get(topic) else { return };
        let member = members[position];
        if let Some((id, slot)) = slots.at_mut(member.slot())
            && let Some(shared) = slot.output.shared.take()
        {
            // A second topic: what the first one shares comes before it, as a copy.
            let bytes = fanout.shared_bytes(shared);
            slot.output.buffer(id, arena, dirty).extend_from_slice(bytes);
            *copied += bytes.len();
            fanout.unshare(shared);
        }
        self.copy(member, topic);
    }

    /// Copies what is for a connection to its output, or does what its topic says if there is no
    /// room.
    fn copy(&mut self, member: Member, topic: TopicId) {
        let Some(id) = self.slots.id_at(member.slot()) else { return };
        match self.try_copy(id, topic) {
            Copied::Nothing => {}
            Copied::Done(messages) => {
                self.metrics.deliveries += messages;
                // What it has now is later than what it was owed.
                if self.fanout.keeps_latest && self.fanout.topics.set_owed(member, false) {
                    self.metrics.drops[Overflow::KeepLatest] += 1;
                }
            }
            Copied::Owed(messages) => {
                let was_owed = self.fanout.topics.set_owed(member, true);
                self.metrics.drops[Overflow::KeepLatest] += messages - 1 + u64::from(was_owed);
            }
            Copied::Overflow(messages) => {
                let Some((_, pending)) = self.fanout.topics.get(topic) else { return };
                let overflow = pending.overflow;
                self.metrics.drops[overflow] += messages;
                self.reach(Limit::OutboxBytesMax, Some(id));
                if overflow == Overflow::Close {
                    // At once: it is not to see a gap before its end.
                    self.close_now(id, Closing::TooSlow.frame(), Closing::TooSlow);
                }
            }
        }
    }

    fn try_copy(&mut self, id: SlotId, topic: TopicId) -> Copied {
        let Self { fanout, slots, arena, dirty, marks, may_drain, copied, .. } = self;
        let Some((_, pending)) = fanout.topics.get(topic) else { return Copied::Nothing };
        let Some(slot) = slots.get_mut(id) else { return Copied::Nothing };
        let len: usize = pending.for_slot(id.index()).map(<[u8]>::len).sum();
        if len == 0 {
            return Copied::Nothing;
        }
        let messages = pending.messages_for_slot(id.index());
        if pending.overflow == Overflow::KeepLatest && slot.output.is_blocked() {
            return Copied::Owed(messages);
        }
        let queued = slot.output.queued(arena) + len;
        if queued > marks.max {
            if pending.overflow == Overflow::KeepLatest {
                // It gets the latest once it has taken what this tick has for it.
                (slot.backlogged, *may_drain) = (true, true);
                return Copied::Owed(messages);
            }
            return Copied::Overflow(messages);
        }
        *copied += len;
        if queued > marks.high {
            slot.backlogged = true;
            *may_drain = true;
        }
        slot.note_compressed(fanout.topics.form(topic));
        slot.output.extend(id, arena, dirty, pending.for_slot(id.index()));
        Copied::Done(messages)
    }

    /// A connection took all that waited for it: it gets the latest message of the topics that it
    /// missed some of.
    pub(super) fn deliver_owed(&mut self, id: SlotId) {
        if !self.fanout.keeps_latest || !self.is_open(id) {
            return;
        }
        let mut owed = std::mem::take(&mut self.fanout.due);
        owed.clear();
        self.fanout.topics.take_owed(id.index(), &mut owed);
        if !owed.is_empty() {
            // When not all have room, each is the first in its turn.
            let turn = self.fanout.owed_turn % owed.len();
            owed.rotate_left(turn);
        }
        for (topic, member) in &owed {
            self.deliver_latest(id, *topic, *member);
        }
        self.fanout.due = owed;
    }

    fn deliver_latest(&mut self, id: SlotId, topic: TopicId, member: Member) {
        let Self { fanout, slots, arena, dirty, marks, copied, metrics, .. } = self;
        let Some(slot) = slots.get_mut(id) else { return };
        if slot.output.queued(arena) > marks.high {
            // The rest comes when this is taken.
            (slot.backlogged, self.may_drain) = (true, true);
            fanout.topics.set_owed(member, true);
            return;
        }
        fanout.owed_turn = fanout.owed_turn.wrapping_add(1);
        let is_settled = fanout.is_settled(topic, member);
        let form = fanout.topics.form(topic);
        let Some((_, pending)) = fanout.topics.get_mut(topic) else { return };
        // It gets at most one of what it was owed and what is new.
        let mut missed = 1;
        if pending.is_active {
            if !is_settled {
                missed += pending.messages_for_slot(id.index());
            }
            pending.skip_all(id.index());
        }
        if let Some(latest) = pending.latest_for(id) {
            slot.note_compressed(form);
            slot.output.buffer(id, arena, dirty).extend_from_slice(latest);
            *copied += latest.len();
            metrics.deliveries += 1;
            missed -= 1;
        }
        metrics.drops[Overflow::KeepLatest] += missed;
    }
}

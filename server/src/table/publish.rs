//! Subscribing, and publishing: what every subscriber is to get in this tick.

use super::{
    SendStatus, Stage, Table,
    fanout::{FanoutOptions, Pending, SubscribeStatus, append},
};
use crate::{
    config::Overflow,
    metrics::Limit,
    parts::{
        patterns,
        slots::SlotId,
        topics::{Form, Kind, TopicId},
    },
};
#[cfg(feature = "deflate")]
use quelea_core::deflate::WindowBits;
use quelea_core::{Message, frame::HEADER_BYTES_MAX};

/// The largest window, as the form of a topic.
const FORM_MAX: Form = 15;
/// What is kept of the memory that a publish is compressed into.
const FRAME_BYTES_KEPT: usize = 64 << 10;

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
            self.reach(Limit::TopicBytesMax, Some(id));
            return SubscribeStatus::InvalidName;
        }
        if self.fanout.topics.count_of_slot(id.index()) >= subscriptions_max {
            let is_there = |topic| self.fanout.topics.is_subscribed(id.index(), topic);
            if self.fanout.topics.find(name, kind, self.form_of(id)).is_some_and(is_there) {
                return SubscribeStatus::Already;
            }
            self.reach(Limit::SubscriptionsMax, Some(id));
            return SubscribeStatus::TooMany;
        }
        let overflow = self.fanout.overflow_of(name);
        self.fanout.keeps_latest |= overflow == Overflow::KeepLatest;
        let make = || Pending::new(overflow);
        let form = self.form_of(id);
        let Some(topic) = self.fanout.topics.subscribe(id.index(), name, kind, form, make) else {
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
        let Some(topic) = self.fanout.topics.find(name, kind, self.form_of(id)) else {
            return false;
        };
        if self.slots.get(id).is_none() {
            return false;
        }
        let Some(member) = self.fanout.topics.member(id.index(), topic) else { return false };
        if self.is_open(id) {
            self.deliver(id, topic, member);
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
            self.reach(Limit::TopicBytesMax, except);
            return SendStatus::Invalid;
        }
        let found = self.find_topics(name);
        let full = if HEADER_BYTES_MAX + message.len() > self.marks.max
            || !self.have_room_for(&found, message)
        {
            Some(Limit::OutboxBytesMax)
        } else if self.outgoing.is_needed() && !self.outgoing.publish(name, message) {
            Some(Limit::MailboxBytesMax)
        } else {
            self.publish_to_all(&found, message, except);
            None
        };
        self.fanout.found = found;
        if let Some(limit) = full {
            self.metrics.publishes_dropped += 1;
            self.reach(limit, except);
            return SendStatus::Dropped;
        }
        self.metrics.publishes += 1;
        SendStatus::Queued
    }

    /// Publishes to the subscribers of this worker; `false` if they have to take what this tick has
    /// for them first.
    pub(crate) fn publish_from_others(&mut self, name: &str, message: Message<'_>) -> bool {
        let found = self.find_topics(name);
        let has_room = self.have_room_for(&found, message);
        if has_room {
            self.publish_to_all(&found, message, None);
            self.metrics.publishes_mailed += 1;
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

    /// Publishes to these topics, in the form of each: what is compressed for many is compressed once.
    fn publish_to_all(&mut self, topics: &[TopicId], message: Message<'_>, except: Option<SlotId>) {
        let form_of = |topic: &TopicId| 1_u16 << self.fanout.topics.form(*topic);
        let forms = topics.iter().map(form_of).fold(0, |forms, form| forms | form);
        if forms == 1 {
            return topics.iter().for_each(|topic| self.publish_to(*topic, message, None, except));
        }
        let mut frame = std::mem::take(&mut self.scratch);
        for form in (0..=FORM_MAX).filter(|form| forms & 1 << form != 0) {
            frame.clear();
            self.append_in_form(form, message, &mut frame);
            for topic in topics {
                if self.fanout.topics.form(*topic) == form {
                    self.publish_to(*topic, message, Some(&frame), except);
                }
            }
        }
        frame.clear();
        frame.shrink_to(FRAME_BYTES_KEPT);
        self.scratch = frame;
    }

    /// In which form a connection is sent what is published: the window of what is compressed for it.
    fn form_of(&self, _id: SlotId) -> Form {
        #[cfg(feature = "deflate")]
        if let Some(Stage::WebSocket(connection)) = self.slots.get(_id).map(|slot| &slot.stage)
            && let Some(bits) = connection.compressed_window()
        {
            return bits.get();
        }
        0
    }

    fn append_in_form(&mut self, _form: Form, message: Message<'_>, frame: &mut Vec<u8>) {
        #[cfg(feature = "deflate")]
        if let Some(bits) = WindowBits::new(_form)
            && self.context.append_compressed(message, bits, frame)
        {
            return;
        }
        append(message, frame);
    }

    fn publish_to(
        &mut self,
        topic: TopicId,
        message: Message<'_>,
        frame: Option<&[u8]>,
        except: Option<SlotId>,
    ) {
        let except = except.filter(|id| self.fanout.topics.is_subscribed(id.index(), topic));
        let Some((_, pending)) = self.fanout.topics.get_mut(topic) else { return };
        if !std::mem::replace(&mut pending.is_active, true) {
            self.fanout.active.push(topic);
        }
        let start = pending.bytes.len();
        match frame {
            Some(frame) => pending.bytes.extend_from_slice(frame),
            None => append(message, &mut pending.bytes),
        }
        pending.messages += 1;
        self.fanout.sequence = self.fanout.sequence.wrapping_add(1);
        pending.sequence = self.fanout.sequence;
        (pending.last, pending.latest_except) = (start, except);
        if let Some(except) = except {
            pending.skips.add(except.index(), start..pending.bytes.len(), 1);
        }
        self.fanout.pending_bytes += pending.bytes.len() - start;
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

impl Stage {
    /// Whether messages can be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::WebSocket(connection) if connection.is_open())
    }
}

//! The connections of one worker, and what they have to send.

mod deadlines;
#[cfg(test)]
mod example;
mod fanout;
mod gauges;
mod large;
mod output;
mod publish;
#[cfg(feature = "sim")]
mod residue;
mod settle;
mod skips;
mod slot;

pub(crate) use deadlines::{Alarm, Answered, Checked, Timeouts};
pub(crate) use fanout::FanoutOptions;
pub use fanout::SubscribeStatus;
pub(crate) use gauges::Walk;
pub(crate) use large::LARGE_BYTES;
#[cfg(feature = "sim")]
pub use residue::Residue;
pub(crate) use slot::{Closing, Ending, Stage};

use crate::{
    id::ConnId,
    mail::Outgoing,
    metrics::{Limit, WorkerMetrics},
    parts::{
        alarms::Alarms,
        arena::Arena,
        mutant::{Mutant, is_planted},
        rate::{Meter, Rates},
        slots::{SlotId, Slots},
        timer::{Tick, Wheel},
    },
    protocol::http::HttpConnection,
    throttle::Throttle,
};
use fanout::Fanout;
#[cfg(feature = "deflate")]
use quelea_core::deflate::Compress;
use quelea_core::{
    CloseCode, CloseFrame, Connection, Context, Event, Message, Received, Role, Violation,
    connection::SendError, frame::HEADER_BYTES_MAX, handshake,
};
use slot::Slot;
use std::{collections::VecDeque, time::Instant};

/// What became of something that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendStatus {
    /// It leaves at the end of this tick or earlier, or as soon as the peer takes what was sent before.
    Queued,
    /// The same, but more than
    /// [`Config::high_water_bytes`](crate::Config::high_water_bytes) wait for this peer: better
    /// send no more until [`Handler::on_drain`](crate::Handler::on_drain).
    Backlogged,
    /// It is lost: what waits for this peer, or in the mailbox of another worker, would have passed
    /// [`Config::outbox_bytes_max`](crate::Config::outbox_bytes_max) or
    /// [`Config::mailbox_bytes_max`](crate::Config::mailbox_bytes_max).
    Dropped,
    /// The connection, or the server, is gone, closing, or not open yet.
    Closed,
    /// It may not be on the wire: a reserved close code, or a ping of more than 125 bytes.
    Invalid,
}

/// See the [module](self).
pub(crate) struct Table {
    worker: u8,
    slots: Slots<Slot>,
    context: Context,
    arena: Arena,
    /// Outboxes that go out with the next sends.
    dirty: Vec<SlotId>,
    /// Connections that end once all is sent.
    ending: Vec<SlotId>,
    /// Connections whose peers took a backlog at last.
    drained: VecDeque<SlotId>,
    /// Connections whose reading may have to pause or go on, though nothing came from them.
    touched: Vec<SlotId>,
    /// Bytes that were published in this tick, and copied to one connection's own output.
    copied: usize,
    /// Bytes of messages that were sent at once in this tick, whether the peer took them or they were
    /// copied to its outbox.
    large: usize,
    /// Some connection passed the high mark in this tick. If its peer takes all at once, nothing
    /// else will say so.
    may_drain: bool,
    marks: Marks,
    fanout: Fanout,
    /// For what is written behind something that has to be written first.
    scratch: Vec<u8>,
    /// What silent connections gave back, not yet told.
    freed_bytes: usize,
    timers: Wheel,
    alarms: Alarms,
    timeouts: Timeouts,
    /// Set by a drain: until then, peers that have something to take may take it.
    flush_until: Option<Instant>,
    meter: Meter,
    /// Something depends on each message: `meter`, or when the last one came.
    counts_each: bool,
    outgoing: Outgoing,
    start: Instant,
    now: Instant,
    /// What is counted where it happens; not what is there now.
    pub(crate) metrics: WorkerMetrics,
    throttle: Throttle,
}

/// How many bytes may wait for a peer: each mark is at least what the one before it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) max: usize,
}

/// How far a connection came before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It was refused.
    Nothing,
    /// It was let in, but was never a WebSocket.
    Admission,
    /// It was a WebSocket.
    Open,
}

/// What a table is made with.
pub(crate) struct TableOptions {
    pub(crate) worker: u8,
    pub(crate) context: Context,
    pub(crate) marks: Marks,
    pub(crate) timeouts: Timeouts,
    pub(crate) rates: Rates,
    pub(crate) fanout: FanoutOptions,
    pub(crate) outgoing: Outgoing,
    pub(crate) now: Instant,
}

impl Table {
    pub(crate) fn new(options: TableOptions) -> Self {
        let meter = Meter::new(options.rates);
        Self {
            worker: options.worker,
            slots: Slots::reserved(),
            context: options.context,
            arena: Arena::new(),
            dirty: Vec::new(),
            ending: Vec::new(),
            drained: VecDeque::new(),
            touched: Vec::new(),
            copied: 0,
            large: 0,
            may_drain: false,
            marks: options.marks,
            fanout: Fanout::new(options.fanout),
            scratch: Vec::new(),
            freed_bytes: 0,
            timers: Wheel::new(options.now),
            alarms: Alarms::new(options.now),
            timeouts: options.timeouts,
            flush_until: None,
            counts_each: meter.is_on() || options.timeouts.idle.is_some(),
            meter,
            outgoing: options.outgoing,
            start: options.now,
            now: options.now,
            metrics: WorkerMetrics::default(),
            throttle: Throttle::default(),
        }
    }

    /// Starts a tick.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.timers.set_now(now);
    }

    pub(crate) const fn worker(&self) -> u8 {
        self.worker
    }

    /// The time of this tick.
    pub(crate) const fn tick(&self) -> Tick {
        self.timers.now()
    }

    pub(crate) const fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) const fn conn_id(&self, id: SlotId) -> ConnId {
        ConnId::new(self.worker, id)
    }

    /// What is on its way to other workers.
    pub(crate) const fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// A new connection that has its handshake before it; `None` when all slots are taken.
    pub(crate) fn insert(&mut self, http: Box<HttpConnection>) -> Option<SlotId> {
        let is_admitted = http.refusal.is_none();
        let slot = Slot::new(Stage::Http(http), is_admitted, self.timers.now());
        let id = self.slots.insert(slot).ok()?;
        if is_admitted {
            self.arm_handshake(id);
        } else {
            self.arm_refused(id);
        }
        Some(id)
    }

    /// Frees a slot; how far its connection came, `None` if there is no such slot.
    pub(crate) fn remove(&mut self, id: SlotId) -> Option<Reached> {
        let slot = self.slots.remove(id)?;
        if !is_planted(Mutant::KeepTimer) {
            self.timers.disarm(id.index());
        }
        Some(match slot {
            Slot { is_admitted: false, .. } => Reached::Nothing,
            Slot { opened: false, .. } => Reached::Admission,
            Slot { opened: true, .. } => Reached::Open,
        })
    }

    /// How many slots there ever were at once: their indices are below.
    pub(crate) const fn slot_count(&self) -> usize {
        self.slots.bound()
    }

    /// The connection in a slot.
    pub(crate) fn id_at(&self, index: usize) -> Option<SlotId> {
        self.slots.id_at(index)
    }

    pub(crate) fn ids(&self) -> Vec<SlotId> {
        self.slots.ids().collect()
    }

    /// The stage of a connection that was heard of.
    #[inline]
    pub(crate) fn stage_of_heard(&mut self, id: SlotId) -> Option<&mut Stage> {
        let slot = self.slots.get_mut(id)?;
        (slot.heard, slot.pinged) = (self.timers.now(), false);
        Some(&mut slot.stage)
    }

    #[inline]
    pub(crate) fn stage(&mut self, id: SlotId) -> Option<&mut Stage> {
        self.slots.get_mut(id).map(|slot| &mut slot.stage)
    }

    /// Whether a connection is a WebSocket that is open or closing.
    pub(crate) fn is_websocket(&self, id: SlotId) -> bool {
        self.slots.get(id).is_some_and(|slot| matches!(slot.stage, Stage::WebSocket(_)))
    }

    /// Why we began the closing handshake, if we did.
    pub(crate) fn closing(&self, id: SlotId) -> Closing {
        self.slots.get(id).map_or(Closing::No, |slot| slot.closing)
    }

    /// Counts a message or a ping or pong of the peer's; whether it is within the rates.
    #[inline]
    pub(crate) fn count_received(&mut self, id: SlotId, len: usize, is_message: bool) -> bool {
        !self.counts_each || self.count_one(id, len, is_message)
    }

    fn count_one(&mut self, id: SlotId, len: usize, is_message: bool) -> bool {
        let now = self.timers.now();
        if is_message
            && self.timeouts.idle.is_some()
            && let Some(slot) = self.slots.get_mut(id)
        {
            slot.active = now;
        }
        if !self.meter.is_on() {
            return true;
        }
        // What inflates to little may have been long; a message of the most bytes may be longer by some.
        #[cfg(feature = "deflate")]
        let len = if is_message {
            let bytes_max = self.context.limits().message_bytes_max;
            len.max(self.context.take_compressed_bytes().min(bytes_max))
        } else {
            len
        };
        self.meter.take(id.index(), len, now)
    }

    /// What a client that is let in will be, with what is agreed on of compression.
    pub(crate) fn negotiate(&mut self, _upgrade: &mut handshake::Upgrade<'_>) -> Connection {
        #[cfg(feature = "deflate")]
        if let Some(parameters) = _upgrade.negotiate_deflate(&self.context) {
            return Connection::with_deflate(Role::Server, &parameters, &self.context);
        }
        Connection::new(Role::Server)
    }

    /// The handshake is done: from here on it is a WebSocket.
    pub(crate) fn upgrade(&mut self, id: SlotId, connection: Connection) {
        if let Some(slot) = self.slots.get_mut(id) {
            let now = self.timers.now();
            slot.stage = Stage::WebSocket(connection);
            slot.opened = true;
            (slot.heard, slot.active) = (now, now);
            self.meter.reset(id.index(), now);
            self.arm_open(id);
        }
    }

    /// The next event of what was received, if it is a short message and messages are still wanted. On `None` it
    /// is one for [`Table::poll_event`].
    #[inline]
    pub(crate) fn poll_message<'i>(
        &mut self,
        id: SlotId,
        received: &mut Received<'i>,
    ) -> Option<Message<'i>> {
        let slot = self.slots.get_mut(id)?;
        let Stage::WebSocket(connection) = &mut slot.stage else { return None };
        connection.poll_message(received, &self.context)
    }

    /// The next event of what was received; answers go out with the tick. Also whether messages
    /// are still wanted.
    pub(crate) fn poll_event<'r>(
        &mut self,
        id: SlotId,
        received: &'r mut Received<'_>,
    ) -> Result<Option<(Event<'r>, bool)>, Violation> {
        if self.fanout.has_pending_for(id.index()) {
            return self.poll_event_after_pending(id, received);
        }
        let Some(slot) = self.slots.get_mut(id) else { return Ok(None) };
        let Slot { stage: Stage::WebSocket(connection), output, .. } = slot else {
            return Ok(None);
        };
        let out = output.buffer(id, &mut self.arena, &mut self.dirty);
        let event = connection.poll_event(received, &mut self.context, out)?;
        let is_open = connection.is_open();
        Ok(event.map(|event| (event, is_open)))
    }

    /// The same for a subscriber of something that was published in this tick: only if there is an
    /// answer, it needs its copy, in front of the answer.
    fn poll_event_after_pending<'r>(
        &mut self,
        id: SlotId,
        received: &'r mut Received<'_>,
    ) -> Result<Option<(Event<'r>, bool)>, Violation> {
        let Some(Stage::WebSocket(connection)) = self.slots.get_mut(id).map(|slot| &mut slot.stage)
        else {
            return Ok(None);
        };
        let was_open = connection.is_open();
        let mut answer = std::mem::take(&mut self.scratch);
        let event = connection.poll_event(received, &mut self.context, &mut answer);
        let is_open = connection.is_open();
        if !answer.is_empty() {
            if was_open {
                self.deliver_pending(id);
            }
            // Nothing comes behind a close frame, if it was too slow for what is pending.
            if self.closing(id) != Closing::TooSlow
                && let Some(out) = self.output(id)
            {
                out.extend_from_slice(&answer);
            }
            answer.clear();
        }
        self.scratch = answer;
        Ok(event?.map(|event| (event, is_open)))
    }

    #[inline]
    pub(crate) fn send(&mut self, id: SlotId, message: Message<'_>) -> SendStatus {
        let status = self.write(id, message.len(), |connection, context, out| {
            connection.send(message, context, out)
        });
        self.count_sent(message, status);
        status
    }

    /// The same, and says whether to compress it.
    #[cfg(feature = "deflate")]
    pub(crate) fn send_with(
        &mut self,
        id: SlotId,
        message: Message<'_>,
        compress: Compress,
    ) -> SendStatus {
        let status = self.write(id, message.len(), |connection, context, out| {
            connection.send_with(message, compress, context, out)
        });
        self.count_sent(message, status);
        status
    }

    #[inline]
    fn count_sent(&mut self, message: Message<'_>, status: SendStatus) {
        match status {
            SendStatus::Queued | SendStatus::Backlogged => {
                self.metrics.messages_sent += 1;
                self.metrics.message_bytes_sent += message.len() as u64;
            }
            SendStatus::Dropped => self.metrics.messages_dropped += 1,
            SendStatus::Closed | SendStatus::Invalid => {}
        }
    }

    /// Sends to any connection of the server.
    pub(crate) fn send_to(&mut self, id: ConnId, message: Message<'_>) -> SendStatus {
        if id.worker() == self.worker {
            return self.send(id.slot(), message);
        }
        if self.outgoing.send(id, message) {
            return SendStatus::Queued;
        }
        self.metrics.messages_dropped += 1;
        self.reach(Limit::MailboxBytesMax, None);
        SendStatus::Dropped
    }

    pub(crate) fn ping(&mut self, id: SlotId, payload: &[u8]) -> SendStatus {
        let status = self.write(id, payload.len(), |connection, context, out| {
            connection.ping(payload, context, out)
        });
        if matches!(status, SendStatus::Queued | SendStatus::Backlogged) {
            self.metrics.pings_sent += 1;
        }
        status
    }

    /// Begins the closing handshake.
    pub(crate) fn close(&mut self, id: SlotId, code: CloseCode, reason: &str) -> SendStatus {
        self.begin_close(id, CloseFrame { code, reason }, Closing::Local)
    }

    /// Begins the closing handshake for a reason of our own.
    pub(crate) fn shut_down(&mut self, id: SlotId, closing: Closing) {
        self.begin_close(id, closing.frame(), closing);
    }

    /// The same because the server drains, with the code that it was told.
    pub(crate) fn drain(&mut self, id: SlotId, code: CloseCode) {
        let frame = CloseFrame { code, ..Closing::Shutdown.frame() };
        self.begin_close(id, frame, Closing::Shutdown);
    }

    fn begin_close(&mut self, id: SlotId, frame: CloseFrame<'_>, closing: Closing) -> SendStatus {
        self.write_pending(id);
        self.close_now(id, frame, closing)
    }

    /// Begins the closing handshake behind what was written to the connection itself.
    fn close_now(&mut self, id: SlotId, frame: CloseFrame<'_>, closing: Closing) -> SendStatus {
        // A close frame is sent whatever waits before it: it is what ends the waiting.
        let status =
            self.append(id, |connection, context, out| connection.close(frame, context, out));
        if status == SendStatus::Queued
            && let Some(slot) = self.slots.get_mut(id)
        {
            slot.closing = closing;
            // The answer has to be read.
            slot.held = false;
            self.touched.push(id);
            self.arm_close(id);
            if let Some(limit) = closing.limit() {
                self.reach(limit, Some(id));
            }
        }
        status
    }

    /// Bytes that wait for the peer, those of this tick included.
    pub(crate) fn queued(&self, id: SlotId) -> usize {
        self.slots.get(id).map_or(0, |slot| slot.output.queued(&self.arena))
    }

    /// Wants nothing from the peer for now, or something again.
    pub(crate) fn hold(&mut self, id: SlotId, hold: bool) {
        let now = self.timers.now();
        if let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.stage.is_open()) {
            slot.held = hold;
            (slot.heard, slot.active, slot.pinged) = (now, now, false);
        }
    }

    /// Copies what was published before to the connection's own output.
    #[inline]
    fn write_pending(&mut self, id: SlotId) {
        if self.fanout.has_pending_for(id.index()) && self.is_open(id) {
            self.deliver_pending(id);
        }
    }

    #[inline]
    fn write(
        &mut self,
        id: SlotId,
        len: usize,
        append: impl FnOnce(&mut Connection, &mut Context, &mut Vec<u8>) -> Result<(), SendError>,
    ) -> SendStatus {
        self.write_pending(id);
        let Some(slot) = self.slots.get_mut(id) else { return SendStatus::Closed };
        let queued = slot.output.queued(&self.arena) + HEADER_BYTES_MAX + len;
        if queued > self.marks.max {
            return self.drop_above_max(id, queued > HEADER_BYTES_MAX + len);
        }
        let status = self.append(id, append);
        if queued > self.marks.high { self.backlog(id, status) } else { status }
    }

    /// Something was written above the high mark.
    #[cold]
    fn backlog(&mut self, id: SlotId, status: SendStatus) -> SendStatus {
        if status == SendStatus::Queued
            && let Some(slot) = self.slots.get_mut(id)
        {
            (slot.backlogged, self.may_drain) = (true, true);
            return SendStatus::Backlogged;
        }
        status
    }

    #[cold]
    fn drop_above_max(&mut self, id: SlotId, can_drain: bool) -> SendStatus {
        let Some(slot) = self.slots.get_mut(id) else { return SendStatus::Closed };
        if !slot.stage.is_open() {
            return SendStatus::Closed;
        }
        // Who waits for `on_drain` after this is called, as long as there is something to drain.
        slot.backlogged |= can_drain;
        self.may_drain = true;
        self.reach(Limit::OutboxBytesMax, Some(id));
        SendStatus::Dropped
    }

    #[inline]
    fn append(
        &mut self,
        id: SlotId,
        append: impl FnOnce(&mut Connection, &mut Context, &mut Vec<u8>) -> Result<(), SendError>,
    ) -> SendStatus {
        let Some(slot) = self.slots.get_mut(id) else { return SendStatus::Closed };
        let Stage::WebSocket(connection) = &mut slot.stage else { return SendStatus::Closed };
        let out = slot.output.buffer(id, &mut self.arena, &mut self.dirty);
        status_of(append(connection, &mut self.context, out))
    }

    /// Appends bytes that are no WebSocket: an HTTP response.
    pub(crate) fn output(&mut self, id: SlotId) -> Option<&mut Vec<u8>> {
        let slot = self.slots.get_mut(id)?;
        Some(slot.output.buffer(id, &mut self.arena, &mut self.dirty))
    }
}

#[inline]
const fn status_of(appended: Result<(), SendError>) -> SendStatus {
    match appended {
        Ok(()) => SendStatus::Queued,
        Err(SendError::Closed | SendError::InFragments) => SendStatus::Closed,
        Err(_) => SendStatus::Invalid,
    }
}

//! The connections of one worker, and what they have to send.

mod deadlines;
mod output;
mod publish;
mod skips;
mod slot;

pub(crate) use deadlines::Heartbeat;
pub(crate) use slot::{Closing, Ending, Stage};

use crate::{
    id::ConnId,
    parts::{
        arena::Arena,
        slots::{SlotId, Slots},
        timer::Wheel,
    },
};
use publish::Fanout;
use quelea_core::{
    CloseCode, CloseFrame, Connection, Context, Event, Message, Received, Violation,
    connection::SendError,
};
use slot::Slot;
use std::time::{Duration, Instant};

/// What became of something that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendStatus {
    /// It leaves at the end of this tick.
    Queued,
    /// It waits, because the peer is slow to take what was sent before.
    /// [`Handler::on_drain`](crate::Handler::on_drain) tells when all is taken.
    Backlogged,
    /// It is lost: what waits for this peer would have passed
    /// [`Config::outbox_bytes_max`](crate::Config::outbox_bytes_max).
    Dropped,
    /// The connection is gone, closing, or not open yet.
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
    drained: Vec<SlotId>,
    outbox_bytes_max: usize,
    fanout: Fanout,
    /// For what is written behind something that has to be written first.
    scratch: Vec<u8>,
    timers: Wheel,
    timeouts: Timeouts,
    now: Instant,
}

/// How long each wait may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) handshake: Duration,
    pub(crate) close: Duration,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) pong: Duration,
}

/// What a table is made with.
pub(crate) struct TableOptions {
    pub(crate) worker: u8,
    pub(crate) context: Context,
    pub(crate) outbox_bytes_max: usize,
    pub(crate) timeouts: Timeouts,
    pub(crate) now: Instant,
}

impl Table {
    pub(crate) fn new(options: TableOptions) -> Self {
        Self {
            worker: options.worker,
            slots: Slots::new(),
            context: options.context,
            arena: Arena::default(),
            dirty: Vec::new(),
            ending: Vec::new(),
            drained: Vec::new(),
            outbox_bytes_max: options.outbox_bytes_max,
            fanout: Fanout::new(),
            scratch: Vec::new(),
            timers: Wheel::new(options.now),
            timeouts: options.timeouts,
            now: options.now,
        }
    }

    /// Starts a tick.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.timers.set_now(now);
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) const fn conn_id(&self, id: SlotId) -> ConnId {
        ConnId::new(self.worker, id)
    }

    /// The slot of a connection of this worker.
    pub(crate) fn slot_id(&self, id: ConnId) -> Option<SlotId> {
        (id.worker() == self.worker).then(|| id.slot())
    }

    /// A new connection that has its handshake before it; `None` when all slots are taken.
    pub(crate) fn insert(&mut self, stage: Stage) -> Option<SlotId> {
        let id = self.slots.insert(Slot::new(stage, self.timers.now())).ok()?;
        self.arm_handshake(id);
        Some(id)
    }

    pub(crate) fn remove(&mut self, id: SlotId) {
        if self.slots.remove(id).is_some() {
            self.timers.disarm(id.index());
        }
    }

    pub(crate) fn ids(&self) -> Vec<SlotId> {
        self.slots.ids().collect()
    }

    /// The stage of a connection that was heard of.
    #[inline]
    pub(crate) fn stage_of_heard(&mut self, id: SlotId) -> Option<&mut Stage> {
        let slot = self.slots.get_mut(id)?;
        slot.heard = self.timers.now();
        Some(&mut slot.stage)
    }

    #[inline]
    pub(crate) fn stage(&mut self, id: SlotId) -> Option<&mut Stage> {
        self.slots.get_mut(id).map(|slot| &mut slot.stage)
    }

    /// The handshake is done: from here on it is a WebSocket.
    pub(crate) fn upgrade(&mut self, id: SlotId, connection: Connection) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.stage = Stage::WebSocket(connection);
            slot.heard = self.timers.now();
            self.arm_heartbeat(id);
        }
    }

    /// The next event of what was received; answers go out with the tick. Also whether messages
    /// are still wanted.
    #[inline]
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
            if let Some(out) = self.output(id) {
                out.extend_from_slice(&answer);
            }
            answer.clear();
        }
        self.scratch = answer;
        Ok(event?.map(|event| (event, is_open)))
    }

    #[inline]
    pub(crate) fn send(&mut self, id: SlotId, message: Message<'_>) -> SendStatus {
        self.write(id, message.len(), |connection, context, out| {
            connection.send(message, context, out)
        })
    }

    pub(crate) fn ping(&mut self, id: SlotId, payload: &[u8]) -> SendStatus {
        self.write(id, payload.len(), |connection, context, out| {
            connection.ping(payload, context, out)
        })
    }

    /// Begins the closing handshake.
    pub(crate) fn close(&mut self, id: SlotId, code: CloseCode, reason: &str) -> SendStatus {
        self.begin_close(id, CloseFrame { code, reason }, Closing::Local)
    }

    /// Begins the closing handshake because the server stops.
    pub(crate) fn shut_down(&mut self, id: SlotId) {
        let frame = CloseFrame { code: CloseCode::GOING_AWAY, reason: "the server stops" };
        self.begin_close(id, frame, Closing::Shutdown);
    }

    fn begin_close(&mut self, id: SlotId, frame: CloseFrame<'_>, closing: Closing) -> SendStatus {
        // A close frame is sent whatever waits before it: it is what ends the waiting.
        let status =
            self.write(id, 0, |connection, context, out| connection.close(frame, context, out));
        if matches!(status, SendStatus::Queued | SendStatus::Backlogged)
            && let Some(slot) = self.slots.get_mut(id)
        {
            slot.closing = closing;
            self.arm_close(id);
        }
        status
    }

    /// Who began the closing handshake that the peer now ends.
    pub(crate) fn closing(&self, id: SlotId) -> Closing {
        self.slots.get(id).map_or(Closing::No, |slot| slot.closing)
    }

    /// Bytes that wait for the peer, those of this tick included.
    pub(crate) fn queued(&self, id: SlotId) -> usize {
        self.slots.get(id).map_or(0, |slot| slot.output.queued(&self.arena))
    }

    #[inline]
    fn write(
        &mut self,
        id: SlotId,
        len: usize,
        append: impl FnOnce(&mut Connection, &mut Context, &mut Vec<u8>) -> Result<(), SendError>,
    ) -> SendStatus {
        if self.fanout.has_pending_for(id.index()) && self.is_open(id) {
            self.deliver_pending(id);
        }
        let Some(slot) = self.slots.get_mut(id) else { return SendStatus::Closed };
        let Stage::WebSocket(connection) = &mut slot.stage else { return SendStatus::Closed };
        let bytes_max = quelea_core::frame::HEADER_BYTES_MAX + len;
        if len > 0 && slot.output.queued(&self.arena) + bytes_max > self.outbox_bytes_max {
            return if connection.is_open() { SendStatus::Dropped } else { SendStatus::Closed };
        }
        let out = slot.output.buffer(id, &mut self.arena, &mut self.dirty);
        match append(connection, &mut self.context, out) {
            Ok(()) if slot.output.is_blocked() => SendStatus::Backlogged,
            Ok(()) => SendStatus::Queued,
            Err(SendError::Closed | SendError::InFragments) => SendStatus::Closed,
            Err(_) => SendStatus::Invalid,
        }
    }

    /// Appends bytes that are no WebSocket: an HTTP response.
    pub(crate) fn output(&mut self, id: SlotId) -> Option<&mut Vec<u8>> {
        let slot = self.slots.get_mut(id)?;
        Some(slot.output.buffer(id, &mut self.arena, &mut self.dirty))
    }
}

//! A WebSocket from its first frame to its last.

use super::connections::Connections;
use crate::{
    driver::SendNow,
    handler::{Cause, Closed, Handler},
    metrics::Limit,
    parts::slots::SlotId,
    table::{Answered, Closing, Ending},
};
use quelea_core::{CloseCode, Event, Message, Received, Violation};

impl<H: Handler> Connections<H> {
    #[inline]
    pub(super) fn receive_websocket(
        &mut self,
        id: SlotId,
        bytes: &mut [u8],
        direct: &mut dyn SendNow,
    ) {
        let mut received = Received::new(bytes);
        loop {
            match self.table.poll_event(id, &mut received) {
                Ok(Some((event, is_open))) => self.handle_event(id, event, is_open, direct),
                Ok(None) => return,
                Err(violation) => return self.handle_violation(id, violation),
            }
        }
    }

    #[inline]
    fn handle_event(
        &mut self,
        id: SlotId,
        event: Event<'_>,
        is_open: bool,
        direct: &mut dyn SendNow,
    ) {
        match event {
            Event::Message(message) => self.handle_message(id, message, is_open, direct),
            Event::Ping(payload) => self.handle_ping(id, payload, is_open),
            Event::Pong(payload) => self.handle_pong(id, payload, is_open),
            Event::Close(frame) => {
                let closed = Closed::new(frame.code, frame.reason, Cause::PeerClosed);
                self.close(id, &closed, Ending::Clean);
            }
        }
    }

    #[inline]
    fn handle_message(
        &mut self,
        id: SlotId,
        message: Message<'_>,
        is_open: bool,
        direct: &mut dyn SendNow,
    ) {
        if !self.count_received(id, message.len(), true, is_open) {
            return;
        }
        let metrics = &mut self.table.metrics;
        metrics.messages_received += 1;
        metrics.message_bytes_received += message.len() as u64;
        let (handler, mut conn) = self.conn_to_answer(id, direct);
        handler.on_message(&mut conn, message);
    }

    /// Whether something that came has anyone to be read by.
    #[inline]
    fn count_received(&mut self, id: SlotId, len: usize, is_message: bool, is_open: bool) -> bool {
        // After our close frame it has not (RFC 6455, section 7.1.2).
        if !is_open {
            return false;
        }
        let is_within = self.table.count_received(id, len, is_message);
        if !is_within {
            self.table.shut_down(id, Closing::TooFast);
        }
        is_within
    }

    fn handle_ping(&mut self, id: SlotId, payload: &[u8], is_open: bool) {
        if self.count_received(id, payload.len(), false, is_open) {
            self.table.metrics.pings_received += 1;
            self.table.handle_ping(id);
            let (handler, mut conn) = self.conn(id);
            handler.on_ping(&mut conn, payload);
        }
    }

    fn handle_pong(&mut self, id: SlotId, payload: &[u8], is_open: bool) {
        if !self.count_received(id, payload.len(), false, is_open) {
            return;
        }
        let answered = self.table.answered(payload);
        if answered == Answered::Implausible {
            return;
        }
        self.table.metrics.pongs_received += 1;
        let (handler, mut conn) = self.conn(id);
        match answered {
            Answered::Heartbeat(time) => handler.on_round_trip(&mut conn, time),
            _ => handler.on_pong(&mut conn, payload),
        }
    }

    #[cold]
    fn handle_violation(&mut self, id: SlotId, violation: Violation) {
        self.table.metrics.violations[violation] += 1;
        match violation {
            Violation::MessageTooBig => self.table.reach(Limit::MessageBytesMax, Some(id)),
            Violation::TooManyFragments => self.table.reach(Limit::FragmentsMax, Some(id)),
            _ => {}
        }
        let code = violation.close_code();
        let cause = if code == CloseCode::MESSAGE_TOO_BIG {
            Cause::Limit(violation)
        } else {
            Cause::ProtocolError(violation)
        };
        self.close(id, &Closed::new(code, violation.reason(), cause), Ending::Linger);
    }
}

//! A WebSocket from its first frame to its last.

use super::connections::Connections;
use crate::{
    handler::{Cause, Closed, Handler},
    metrics::Limit,
    parts::slots::SlotId,
    table::{Answered, Closing, Ending},
};
use quelea_core::{CloseCode, Event, Received, Violation};

impl<H: Handler> Connections<H> {
    #[inline]
    pub(super) fn receive_websocket(&mut self, id: SlotId, bytes: &mut [u8]) {
        let mut received = Received::new(bytes);
        loop {
            match self.table.poll_event(id, &mut received) {
                Ok(Some((event, is_open))) => self.handle_event(id, event, is_open),
                Ok(None) => return,
                Err(violation) => return self.handle_violation(id, violation),
            }
        }
    }

    #[inline]
    fn handle_event(&mut self, id: SlotId, event: Event<'_>, is_open: bool) {
        let (len, is_message) = match &event {
            Event::Close(frame) => {
                let closed = Closed::new(frame.code, frame.reason, Cause::PeerClosed);
                return self.close(id, &closed, Ending::Clean);
            }
            Event::Message(message) => (message.len(), true),
            Event::Ping(payload) | Event::Pong(payload) => (payload.len(), false),
        };
        // After our close frame messages have no one to be read by (RFC 6455, section 7.1.2).
        if !is_open {
            return;
        }
        if !self.table.count_received(id, len, is_message) {
            return self.table.shut_down(id, Closing::TooFast);
        }
        let metrics = &mut self.table.metrics;
        match &event {
            Event::Message(_) => {
                metrics.messages_received += 1;
                metrics.message_bytes_received += len as u64;
            }
            Event::Ping(_) => {
                metrics.pings_received += 1;
                self.table.handle_ping(id);
            }
            Event::Pong(_) | Event::Close(_) => {}
        }
        let answered = match &event {
            Event::Pong(payload) => self.table.answered(payload),
            _ => Answered::Other,
        };
        if matches!(event, Event::Pong(_)) && answered != Answered::Implausible {
            self.table.metrics.pongs_received += 1;
        }
        let (handler, mut conn) = self.conn(id);
        match (event, answered) {
            (Event::Message(message), _) => handler.on_message(&mut conn, message),
            (Event::Ping(payload), _) => handler.on_ping(&mut conn, payload),
            (Event::Pong(_), Answered::Heartbeat(time)) => handler.on_round_trip(&mut conn, time),
            (Event::Pong(payload), Answered::Other) => handler.on_pong(&mut conn, payload),
            (Event::Pong(_), Answered::Implausible) | (Event::Close(_), _) => {}
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

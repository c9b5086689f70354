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

/// What was next, where it was no short message.
enum Other<'r> {
    Message(Message<'r>),
    Handled,
    Nothing,
}

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
            let message = match self.table.poll_message(id, &mut received) {
                Some(message) => message,
                None if received.is_done() => return,
                None => match self.poll_other(id, &mut received) {
                    Other::Message(message) => message,
                    Other::Handled => continue,
                    Other::Nothing => return,
                },
            };
            self.handle_message(id, message, direct);
        }
    }

    /// Takes what is no short message.
    #[inline(never)]
    fn poll_other<'r>(&mut self, id: SlotId, received: &'r mut Received<'_>) -> Other<'r> {
        let (event, is_open) = match self.table.poll_event(id, received) {
            Ok(Some(polled)) => polled,
            Ok(None) => return Other::Nothing,
            Err(violation) => {
                self.handle_violation(id, violation);
                return Other::Nothing;
            }
        };
        match event {
            Event::Message(message) if is_open => return Other::Message(message),
            // After our close frame nobody reads it (RFC 6455, section 7.1.2).
            Event::Message(_) => {}
            Event::Ping(payload) => self.handle_ping(id, payload, is_open),
            Event::Pong(payload) => self.handle_pong(id, payload, is_open),
            Event::Close(frame) => {
                let closed = Closed::new(frame.code, frame.reason, Cause::PeerClosed);
                self.close(id, &closed, Ending::Clean);
            }
        }
        Other::Handled
    }

    #[inline]
    fn handle_message(&mut self, id: SlotId, message: Message<'_>, direct: &mut dyn SendNow) {
        if !self.count_received(id, message.len(), true) {
            return;
        }
        let metrics = &mut self.table.metrics;
        metrics.messages_received += 1;
        metrics.message_bytes_received += message.len() as u64;
        let (handler, mut conn) = self.conn_to_answer(id, direct);
        handler.on_message(&mut conn, message);
    }

    /// Whether something that came is within the rates; else it is the last.
    #[inline]
    fn count_received(&mut self, id: SlotId, len: usize, is_message: bool) -> bool {
        let is_within = self.table.count_received(id, len, is_message);
        if !is_within {
            self.table.shut_down(id, Closing::TooFast);
        }
        is_within
    }

    fn handle_ping(&mut self, id: SlotId, payload: &[u8], is_open: bool) {
        if is_open && self.count_received(id, payload.len(), false) {
            self.table.metrics.pings_received += 1;
            self.table.handle_ping(id);
            let (handler, mut conn) = self.conn(id);
            handler.on_ping(&mut conn, payload);
        }
    }

    fn handle_pong(&mut self, id: SlotId, payload: &[u8], is_open: bool) {
        if !is_open || !self.count_received(id, payload.len(), false) {
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

//! A WebSocket from its first frame to its last.

use super::connections::Connections;
use crate::{
    handler::{Cause, Closed, Handler},
    parts::slots::SlotId,
    table::{Closing, Ending},
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
        let (handler, mut conn) = self.conn(id);
        match event {
            // After our close frame messages have no one to be read by (RFC 6455, section 7.1.2).
            Event::Message(message) if is_open => handler.on_message(&mut conn, message),
            Event::Ping(payload) if is_open => handler.on_ping(&mut conn, payload),
            Event::Pong(payload) if is_open => handler.on_pong(&mut conn, payload),
            Event::Message(_) | Event::Ping(_) | Event::Pong(_) => {}
            Event::Close(frame) => {
                let cause = match self.table.closing(id) {
                    Closing::No => Cause::PeerClosed,
                    Closing::Local => Cause::LocalClosed,
                    Closing::Shutdown => Cause::Shutdown,
                };
                self.close(id, &Closed::new(frame.code, frame.reason, cause), Ending::Clean);
            }
        }
    }

    #[cold]
    fn handle_violation(&mut self, id: SlotId, violation: Violation) {
        let code = violation.close_code();
        let cause = if code == CloseCode::MESSAGE_TOO_BIG {
            Cause::Limit(violation)
        } else {
            Cause::ProtocolError(violation)
        };
        self.close(id, &Closed::new(code, violation.reason(), cause), Ending::Linger);
    }
}

//! What happens to connections, whatever drives them.

use crate::{
    address::PeerAddress,
    config::Config,
    context::Conn,
    handler::{Cause, Closed, Handler},
    parts::slots::SlotId,
    protocol::http::HttpConnection,
    table::{Closing, Ending, Heartbeat, Stage, Table, TableOptions, Timeouts},
};
use quelea_core::{Context, Limits, handshake::OriginPolicy, http::HeadLimits};
use std::{io, time::Instant};

/// The connections of a worker and the handler that serves them.
pub(super) struct Connections<H: Handler> {
    pub(super) handler: H,
    pub(super) table: Table,
    /// The handler's state by slot: apart from the slots, so that a callback can hold the one and
    /// write to the other.
    pub(super) states: Vec<H::State>,
    pub(super) head_limits: HeadLimits,
    pub(super) origins: OriginPolicy,
    pub(super) outbox_bytes_max: usize,
}

impl<H: Handler> Connections<H> {
    pub(super) fn new(worker: u8, handler: H, config: &Config, now: Instant) -> Self {
        let limits = Limits {
            message_bytes_max: config.message_bytes_max,
            fragments_max: config.fragments_max,
        };
        let table = Table::new(TableOptions {
            worker,
            // A server masks nothing, so no key is ever drawn from this seed.
            context: Context::new(limits, [0; 32]),
            outbox_bytes_max: config.outbox_bytes_max,
            timeouts: Timeouts {
                handshake: config.handshake_timeout,
                close: config.close_timeout,
                ping_interval: config.ping_interval,
                pong: config.pong_timeout,
            },
            now,
        });
        Self {
            handler,
            table,
            states: Vec::new(),
            head_limits: config.head,
            origins: config.origins.clone(),
            outbox_bytes_max: config.outbox_bytes_max,
        }
    }

    /// A slot for a connection that was accepted; `None` when there is none.
    pub(super) fn accept(&mut self, peer: PeerAddress, is_excess: bool) -> Option<SlotId> {
        let http = Box::new(HttpConnection::new(peer, is_excess));
        let id = self.table.insert(Stage::Http(http))?;
        if self.states.len() <= id.index() {
            self.states.resize_with(id.index() + 1, H::State::default);
        }
        tracing::debug!(conn = %self.table.conn_id(id), %peer, "accepted");
        Some(id)
    }

    /// Frees the slot: the driver is done with it.
    pub(super) fn remove(&mut self, id: SlotId) {
        self.table.remove(id);
    }

    #[inline]
    pub(super) fn handle_received(&mut self, id: SlotId, bytes: &mut [u8]) {
        match self.table.stage_of_heard(id) {
            Some(Stage::WebSocket(_)) => self.receive_websocket(id, bytes),
            Some(Stage::Http(_)) => self.receive_http(id, bytes),
            Some(Stage::Ending(_)) | None => {}
        }
    }

    pub(super) fn handle_receive_ended(&mut self, id: SlotId, error: Option<io::Error>) {
        let cause = if error.is_some() { Cause::Reset } else { Cause::Disconnected };
        match self.table.stage(id) {
            Some(Stage::WebSocket(_)) => self.close_abnormally(id, cause),
            Some(Stage::Http(_)) => {
                tracing::debug!(conn = %self.table.conn_id(id), ?cause, "ended without an upgrade");
                self.table.end(id, Ending::Abort);
            }
            // A peer that sends no more may still read the last of what is left to send.
            Some(Stage::Ending(Ending::Linger)) if error.is_none() => {
                self.table.end(id, Ending::Clean);
            }
            Some(Stage::Ending(Ending::Clean)) if error.is_none() => {}
            Some(Stage::Ending(_)) => self.table.end(id, Ending::Abort),
            None => {}
        }
    }

    pub(super) fn handle_drained(&mut self, id: SlotId) {
        if self.table.is_websocket(id) {
            let (handler, mut conn) = self.conn(id);
            handler.on_drain(&mut conn);
        }
    }

    pub(super) fn handle_deadlines(&mut self) {
        while let Some(id) = self.table.next_expired() {
            match self.table.stage(id) {
                Some(Stage::WebSocket(_)) => match self.table.closing(id) {
                    Closing::No => {
                        if self.table.check_heartbeat(id) == Heartbeat::Gone {
                            self.close_abnormally(id, Cause::TimedOut);
                        }
                    }
                    Closing::Local => self.close_abnormally(id, Cause::TimedOut),
                    Closing::Shutdown => self.close_abnormally(id, Cause::Shutdown),
                },
                Some(Stage::Http(_)) => self.time_out_http(id),
                Some(Stage::Ending(_)) => self.table.end(id, Ending::Abort),
                None => {}
            }
        }
    }

    /// The end of a WebSocket without a closing handshake.
    pub(super) fn close_abnormally(&mut self, id: SlotId, cause: Cause) {
        self.close(id, &Closed::abnormal(cause), Ending::Abort);
    }

    /// The end of a WebSocket: tells the handler, and drops its state.
    pub(super) fn close(&mut self, id: SlotId, closed: &Closed<'_>, ending: Ending) {
        tracing::debug!(
            conn = %self.table.conn_id(id), code = closed.code.0, cause = ?closed.cause, "closed",
        );
        self.table.end(id, ending);
        let (handler, mut conn) = self.conn(id);
        handler.on_close(&mut conn, closed);
        self.states[id.index()] = H::State::default();
    }

    /// The handler, and what it gets to do things with.
    #[inline]
    pub(super) fn conn(&mut self, id: SlotId) -> (&mut H, Conn<'_, H::State>) {
        let state = &mut self.states[id.index()];
        (&mut self.handler, Conn::new(id, state, &mut self.table))
    }
}

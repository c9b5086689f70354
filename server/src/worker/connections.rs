//! What happens to connections, whatever drives them.

use super::Member;
use crate::{
    address::PeerAddress,
    admission::{Admission, Refusal},
    config::{Config, EXCESS_MAX},
    context::Conn,
    driver::SendNow,
    handler::{Cause, Closed, Handler},
    mail::{Batch, Mail, Outgoing},
    metrics::{Limit, RefusalReason},
    parts::{
        mutant::{Mutant, shows},
        rate::{Meter, Rates},
        slots::SlotId,
    },
    protocol::http::HttpConnection,
    table::{
        Alarm, Checked, Closing, Ending, FanoutOptions, Marks, Reached, Stage, Table, TableOptions,
        Timeouts,
    },
    throttle::Line,
};
use quelea_core::{Connection, Context, Limits, handshake::OriginPolicy, http::HeadLimits};
use std::{io, net::IpAddr, sync::Arc, time::Instant};

/// The connections of a worker and the handler that serves them.
pub(super) struct Connections<H: Handler> {
    pub(super) handler: H,
    pub(super) table: Table,
    /// The handler's state by slot: apart from the slots, so that a callback can hold the one and
    /// write to the other.
    pub(super) states: Vec<H::State>,
    pub(super) head_limits: HeadLimits,
    pub(super) origins: OriginPolicy,
    pub(super) admission: Arc<Admission>,
    /// Handshakes of this second, under slot 0.
    pub(super) handshakes: Meter,
    /// The addresses that connections are counted by, by slot, if they are.
    addresses: Vec<Option<IpAddr>>,
    /// No WebSocket opens any more.
    pub(super) is_draining: bool,
    /// Connections that are to be told that they are refused.
    refused: usize,
    /// WebSockets, open or closing.
    pub(super) open: usize,
}

impl<H: Handler> Connections<H> {
    pub(super) fn new(member: &Member, handler: H, config: &Config, now: Instant) -> Self {
        let limits = Limits {
            message_bytes_max: config.message_bytes_max,
            fragments_max: config.fragments_max,
        };
        let workers = member.hub.inboxes.len();
        // A server masks nothing, so no key is ever drawn from this seed.
        let context = Context::new(limits, [0; 32]);
        #[cfg(feature = "deflate")]
        let context = context.with_deflate(config.deflate);
        let table = Table::new(TableOptions {
            worker: member.id,
            context,
            marks: Marks {
                low: config.low_water(),
                high: config.high_water(),
                max: config.outbox_bytes_max,
            },
            timeouts: Timeouts {
                handshake: config.handshake_timeout,
                close: config.close_timeout,
                ping_interval: config.ping_interval,
                pong: config.pong_timeout,
                idle: config.idle_timeout,
                lifetime: config.lifetime_max,
            },
            rates: Rates {
                messages: config.messages_per_second_max,
                bytes: config.bytes_per_second_max,
            },
            fanout: FanoutOptions {
                subscriptions_max: config.subscriptions_max,
                topic_bytes_max: config.topic_bytes_max,
                overflow: config.overflow,
                topic_overflow: config.topic_overflow.clone(),
            },
            outgoing: Outgoing::new(usize::from(member.id), workers, config.mailbox_bytes_max),
            now,
        });
        let mut handshakes =
            Meter::new(Rates { messages: config.handshakes_per_second_max, bytes: None });
        handshakes.reset(0, table.tick());
        Self {
            handler,
            table,
            states: Vec::new(),
            head_limits: config.head,
            origins: config.origins.clone(),
            admission: member.hub.admission.clone(),
            handshakes,
            addresses: Vec::new(),
            is_draining: false,
            refused: 0,
            open: 0,
        }
    }

    /// A slot for a connection that was accepted; `None` when there is none, or when too many wait to
    /// be told that they are refused.
    pub(super) fn accept(&mut self, peer: PeerAddress) -> Option<SlotId> {
        self.table.metrics.accepted += 1;
        let admitted = match self.is_draining {
            true => Err(Refusal::Draining),
            false => self.admission.enter(peer),
        };
        match admitted {
            Ok(()) => self.insert(peer, None),
            Err(_) if self.refused >= EXCESS_MAX => self.turn_away(),
            Err(refusal) => self.insert(peer, Some(refusal)),
        }
    }

    /// A slot for a connection that is let in, or is to be told that it is not; `None` when there is
    /// none.
    pub(super) fn insert(&mut self, peer: PeerAddress, refusal: Option<Refusal>) -> Option<SlotId> {
        let address = match refusal {
            None => self.admission.counted_address(peer),
            Some(_) => None,
        };
        let Some(id) = self.table.insert(Box::new(HttpConnection::new(peer, refusal))) else {
            if refusal.is_none() {
                self.admission.leave(false, address);
            }
            return self.turn_away();
        };
        if let Some(refusal) = refusal {
            self.refused += 1;
            self.table.metrics.refused[refusal] += 1;
            refusal.limit().into_iter().for_each(|limit| self.table.reach(limit, Some(id)));
        }
        if self.states.len() <= id.index() {
            self.states.resize_with(id.index() + 1, H::State::default);
        }
        if address.is_some() {
            if self.addresses.len() <= id.index() {
                self.addresses.resize(id.index() + 1, None);
            }
            self.addresses[id.index()] = address;
        }
        tracing::debug!(conn = %self.table.conn_id(id), %peer, ?refusal, "accepted");
        Some(id)
    }

    /// A connection that is not even told that it is refused.
    fn turn_away(&mut self) -> Option<SlotId> {
        self.table.metrics.refused[RefusalReason::Excess] += 1;
        self.table.reach(Limit::Excess, None);
        None
    }

    /// The driver could not open a connection that was accepted.
    pub(super) fn handle_open_failed(&mut self, id: SlotId, error: &io::Error) {
        if self.is_handshaking(id) {
            self.table.metrics.refused[RefusalReason::Unusable] += 1;
        }
        if let Some(left_out) = self.table.admit(Line::OpenFailed) {
            let conn = self.table.conn_id(id);
            tracing::warn!(%conn, %error, left_out, "a connection could not be opened");
        }
        self.remove(id);
    }

    pub(super) fn handle_accept_failed(&mut self, error: &io::Error) {
        self.table.metrics.accept_failures += 1;
        if let Some(left_out) = self.table.admit(Line::AcceptFailed) {
            tracing::warn!(%error, left_out, "accept failed; trying again in a moment");
        }
    }

    /// Whether a connection was let in, and is no WebSocket yet.
    pub(super) fn is_handshaking(&mut self, id: SlotId) -> bool {
        matches!(self.table.stage(id), Some(Stage::Http(http)) if http.refusal.is_none())
    }

    /// Frees the slot: the driver is done with it.
    pub(super) fn remove(&mut self, id: SlotId) {
        tracing::debug!(conn = %self.table.conn_id(id), "gone");
        let address = self.addresses.get_mut(id.index()).and_then(Option::take);
        match self.table.remove(id) {
            Some(Reached::Nothing) => self.refused -= 1,
            Some(_) if shows(Mutant::KeepAdmission) => {}
            Some(reached) => self.admission.leave(reached == Reached::Open, address),
            None => {}
        }
    }

    /// The handshake is done, and this is the state that was made for it.
    pub(super) fn start_websocket(&mut self, id: SlotId, state: H::State, connection: Connection) {
        self.table.upgrade(id, connection);
        self.admission.open();
        self.open += 1;
        self.table.metrics.opened += u64::from(!shows(Mutant::Miscount));
        self.states[id.index()] = state;
        let (handler, mut conn) = self.conn(id);
        handler.on_open(&mut conn);
    }

    #[inline]
    pub(super) fn handle_received(
        &mut self,
        id: SlotId,
        bytes: &mut [u8],
        direct: &mut dyn SendNow,
    ) {
        self.table.metrics.receives += 1;
        self.table.metrics.bytes_received += bytes.len() as u64;
        match self.table.stage_of_heard(id) {
            Some(Stage::WebSocket(_)) => self.receive_websocket(id, bytes, direct),
            Some(Stage::Http(_)) => self.receive_http(id, bytes),
            Some(Stage::Ending(_)) | None => {}
        }
    }

    pub(super) fn handle_receive_ended(&mut self, id: SlotId, error: Option<io::Error>) {
        let cause = if error.is_some() { Cause::Reset } else { Cause::Disconnected };
        match self.table.stage(id) {
            Some(Stage::WebSocket(_)) => self.close_abnormally(id, cause),
            // A peer that sends no more may still read what is left to send.
            Some(Stage::Http(_)) if error.is_none() => self.end_unopened(id, Ending::Clean),
            Some(Stage::Http(_)) => self.end_unopened(id, Ending::Abort),
            Some(Stage::Ending(Ending::Linger)) if error.is_none() => {
                self.table.end(id, Ending::Clean);
            }
            Some(Stage::Ending(Ending::Clean)) if error.is_none() => {}
            Some(Stage::Ending(_)) => self.table.end(id, Ending::Abort),
            None => {}
        }
    }

    /// The end of a connection that was never a WebSocket, and is not refused now.
    pub(super) fn end_unopened(&mut self, id: SlotId, ending: Ending) {
        self.table.metrics.unopened += u64::from(self.is_handshaking(id));
        self.table.end(id, ending);
    }

    pub(super) fn handle_drained(&mut self, id: SlotId) {
        if self.table.is_websocket(id) {
            let (handler, mut conn) = self.conn(id);
            handler.on_drain(&mut conn);
        }
    }

    /// Ends, closes or pings those whose time has come, until the tick has enough to send.
    pub(super) fn handle_deadlines(&mut self, output_bytes_max: usize) {
        while self.table.output_bytes() <= output_bytes_max
            && let Some(id) = self.table.next_expired()
        {
            if self.table.may_flush_on(id) {
                continue;
            }
            match self.table.stage(id) {
                Some(Stage::WebSocket(_)) => self.handle_deadline(id),
                Some(Stage::Http(_)) => self.time_out_http(id),
                Some(Stage::Ending(_)) => {
                    self.table.reach(Limit::CloseTimeout, Some(id));
                    self.table.end(id, Ending::Abort);
                }
                None => {}
            }
        }
        while self.table.output_bytes() <= output_bytes_max
            && let Some((id, alarm)) = self.table.next_alarm()
        {
            match alarm {
                Alarm::Lifetime => self.table.shut_down(id, Closing::Lifetime),
                Alarm::Handler(key) => {
                    let (handler, mut conn) = self.conn(id);
                    handler.on_timer(&mut conn, key);
                }
            }
        }
    }

    fn handle_deadline(&mut self, id: SlotId) {
        if self.table.closing(id) != Closing::No {
            self.table.reach(Limit::CloseTimeout, Some(id));
            return self.close_abnormally(id, Cause::TimedOut);
        }
        match self.table.check_open(id) {
            Checked::Alive => {}
            Checked::Gone => {
                self.table.reach(Limit::PongTimeout, Some(id));
                self.close_abnormally(id, Cause::TimedOut);
            }
            Checked::Idle => self.table.shut_down(id, Closing::Idle),
        }
    }

    /// Does what others ask for, from a position in a batch on; returns where it stopped because
    /// the tick has enough to send.
    pub(super) fn handle_mail(
        &mut self,
        batch: &Batch,
        from: usize,
        output_bytes_max: usize,
    ) -> Option<usize> {
        let own = self.table.worker();
        for at in from..batch.len() {
            if self.table.output_bytes() > output_bytes_max {
                return Some(at);
            }
            match batch.get(at)? {
                Mail::Publish { topic, message } => {
                    if !self.table.publish_from_others(topic, message) {
                        return Some(at);
                    }
                }
                Mail::Send { .. } if shows(Mutant::LoseMail) => {}
                Mail::Send { to, message } if to.worker() == own => {
                    self.table.send(to.slot(), message);
                }
                Mail::Close { to, code, reason } if to.worker() == own => {
                    self.table.close(to.slot(), code, reason);
                }
                // For others that share the batch.
                Mail::Send { .. } | Mail::Close { .. } => {}
            }
        }
        None
    }

    /// The end of a WebSocket without a closing handshake.
    pub(super) fn close_abnormally(&mut self, id: SlotId, cause: Cause) {
        self.close(id, &Closed::abnormal(cause), Ending::Abort);
    }

    /// The end of a WebSocket: tells the handler, and drops its state. If it was we who began the
    /// closing handshake, then the cause is why.
    pub(super) fn close(&mut self, id: SlotId, closed: &Closed<'_>, ending: Ending) {
        let cause = match (self.table.closing(id), closed.cause) {
            (_, Cause::ProtocolError(_) | Cause::Limit(_)) => closed.cause,
            (Closing::No, cause) => cause,
            (Closing::Local, Cause::PeerClosed) => Cause::LocalClosed,
            (Closing::Local, cause) => cause,
            (Closing::Shutdown, _) => Cause::Shutdown,
            (Closing::Idle, _) => Cause::Idle,
            (Closing::Lifetime, _) => Cause::Lifetime,
            (Closing::TooFast, _) => Cause::TooFast,
            (Closing::TooSlow, _) => Cause::TooSlow,
        };
        let closed = Closed { cause, ..*closed };
        tracing::debug!(
            conn = %self.table.conn_id(id), code = closed.code.0, ?cause, "closed",
        );
        self.open -= 1;
        self.table.metrics.closed_by_cause[cause] += 1;
        self.table.metrics.closed_by_code[closed.code] += 1;
        self.table.end(id, ending);
        if !shows(Mutant::NoOnClose) {
            let (handler, mut conn) = self.conn(id);
            handler.on_close(&mut conn, &closed);
        }
        self.states[id.index()] = H::State::default();
    }

    /// The handler, and what it gets to do things with.
    #[inline]
    pub(super) fn conn(&mut self, id: SlotId) -> (&mut H, Conn<'_, H::State>) {
        let state = &mut self.states[id.index()];
        (&mut self.handler, Conn::new(id, state, &mut self.table, None))
    }

    /// The same where large answers can be sent at once.
    #[inline]
    pub(super) fn conn_to_answer<'a>(
        &'a mut self,
        id: SlotId,
        direct: &'a mut dyn SendNow,
    ) -> (&'a mut H, Conn<'a, H::State>) {
        let state = &mut self.states[id.index()];
        (&mut self.handler, Conn::new(id, state, &mut self.table, Some(direct)))
    }
}

//! A connection before it is a WebSocket: plain requests, and the upgrade.

use super::{connections::Connections, refused::Refused};
use crate::{
    address::PeerAddress,
    admission::Refusal,
    handler::Handler,
    http::{Request, Response},
    metrics::{Limit, RefusalReason},
    parts::slots::SlotId,
    table::{Ending, Stage},
    throttle::Line,
    upgrade::{Accept, Upgrade},
};
use quelea_core::{
    handshake,
    http::{Body, FieldError, Fields, ResponseOptions, Status},
};

/// Answers that may wait for a client that has not opened a WebSocket, before it gets no more of
/// them on this connection.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Whether the connection goes on as it was.
enum Next {
    Request,
    Other,
}

impl<H: Handler> Connections<H> {
    #[inline(never)]
    pub(super) fn receive_http(&mut self, id: SlotId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(Stage::Http(http)) = self.table.stage(id) else { return };
            let (peer, refusal) = (http.peer, http.refusal);
            let head = match http.receive(bytes, &self.head_limits) {
                Ok(Some(head)) => head,
                Ok(None) => return,
                Err(error) => return self.refuse(id, &error.into()),
            };
            if let Some(refusal) = refusal {
                return self.refuse(id, &refusal.into());
            }
            bytes = &bytes[head.rest..];
            match self.handle_request(id, peer, head.as_bytes(), bytes.is_empty()) {
                Next::Request => {}
                Next::Other => return,
            }
        }
    }

    fn handle_request(
        &mut self,
        id: SlotId,
        peer: PeerAddress,
        head: &[u8],
        is_last: bool,
    ) -> Next {
        let mut fields = Fields::new();
        let request = match Request::parse(head, &mut fields) {
            Ok(request) => request,
            Err(error) => {
                self.refuse(id, &error.into());
                return Next::Other;
            }
        };
        if handshake::wants_upgrade(&request) {
            let upgraded = handshake::Upgrade::check(&request, &self.origins)
                .and_then(
                    |upgrade| {
                        if is_last { Ok(upgrade) } else { Err(handshake::Refusal::Body) }
                    },
                )
                .map_err(Refused::from)
                .and_then(|mut upgrade| {
                    if self.is_draining {
                        return Err(Refusal::Draining.into());
                    }
                    if !self.handshakes.take(0, 0, self.table.tick()) {
                        return Err(Refusal::Rate.into());
                    }
                    self.upgrade(id, peer, &mut upgrade)
                });
            if let Err(refused) = upgraded {
                self.refuse(id, &refused);
            }
            return Next::Other;
        }
        match (request.method(), request.body()) {
            ("GET" | "HEAD", Body::None) => self.answer(id, &request),
            ("GET" | "HEAD", _) => {
                let text = "a GET or HEAD request must not have a body here\n";
                let response = Response::text(Status::CONTENT_TOO_LARGE, text);
                self.refuse(id, &Refused { reason: RefusalReason::Body, response });
                Next::Other
            }
            _ => {
                let response = Response::text(Status::METHOD_NOT_ALLOWED, "only GET and HEAD\n")
                    .header("Allow", "GET, HEAD");
                self.refuse(id, &Refused { reason: RefusalReason::Method, response });
                Next::Other
            }
        }
    }

    fn upgrade(
        &mut self,
        id: SlotId,
        peer: PeerAddress,
        upgrade: &mut handshake::Upgrade<'_>,
    ) -> Result<(), Refused> {
        let accepted = self.handler.on_upgrade(&Upgrade::new(upgrade, peer));
        let Accept { state, subprotocol, headers } =
            accepted.map_err(|response| Refused { reason: RefusalReason::Handler, response })?;
        let connection = self.table.negotiate(upgrade);
        let fields = headers.iter().map(|(name, value)| (&**name, &**value));
        let Some(out) = self.table.output(id) else { return Ok(()) };
        if let Err(error) = upgrade.write_response(subprotocol.as_deref(), fields, out) {
            self.log_invalid_answer(id, error);
            let response = Response::new(Status::INTERNAL_SERVER_ERROR);
            return Err(Refused { reason: RefusalReason::Failed, response });
        }
        tracing::debug!(conn = %self.table.conn_id(id), path = upgrade.request().path(), "open");
        self.start_websocket(id, state, connection);
        Ok(())
    }

    /// Answers a plain request.
    fn answer(&mut self, id: SlotId, request: &Request<'_>) -> Next {
        self.table.metrics.requests += 1;
        let response = self.handler.on_request(request);
        // A client that sends requests and reads no answer gets no more of them.
        let takes_answers = self.table.queued(id) < ANSWER_BYTES_MAX;
        let keep_alive = request.is_keep_alive() && takes_answers && !self.is_draining;
        let options = ResponseOptions { keep_alive, head_only: request.method() == "HEAD" };
        self.write(id, &response, options);
        if !takes_answers {
            self.table.reach(Limit::Answers, Some(id));
        }
        tracing::debug!(
            conn = %self.table.conn_id(id), path = request.path(), status = response.status.0, "answered",
        );
        if keep_alive {
            self.table.arm_handshake(id);
            Next::Request
        } else {
            self.end_unopened(id, Ending::Linger);
            Next::Other
        }
    }

    /// Answers with an error, and ends the connection.
    fn refuse(&mut self, id: SlotId, refused: &Refused) {
        let Refused { reason, response } = refused;
        let status = response.status.0;
        tracing::debug!(conn = %self.table.conn_id(id), status, ?reason, "refused");
        // What was not let in was counted when it came.
        if self.is_handshaking(id) {
            self.table.metrics.refused[*reason] += 1;
            match reason {
                RefusalReason::HeadTooLong | RefusalReason::TooManyFields => {
                    self.table.reach(Limit::Head, Some(id));
                }
                RefusalReason::Rate => self.table.reach(Limit::HandshakesPerSecondMax, Some(id)),
                _ => {}
            }
        }
        self.write(id, response, ResponseOptions { keep_alive: false, head_only: false });
        self.table.end(id, Ending::Linger);
    }

    /// Appends a response, or a 500 if it cannot be sent.
    fn write(&mut self, id: SlotId, response: &Response, options: ResponseOptions) {
        if let Some(out) = self.table.output(id)
            && let Err(error) = response.write(out, options)
        {
            self.log_invalid_answer(id, error);
        }
    }

    fn log_invalid_answer(&mut self, id: SlotId, error: FieldError) {
        if let Some(left_out) = self.table.admit(Line::InvalidAnswer) {
            let conn = self.table.conn_id(id);
            tracing::error!(%conn, %error, left_out, "the handler's answer cannot be sent");
        }
    }

    /// The time for a request is over.
    pub(super) fn time_out_http(&mut self, id: SlotId) {
        if self.is_handshaking(id) {
            self.table.reach(Limit::HandshakeTimeout, Some(id));
        }
        let takes_nothing = self.table.queued(id) > 0;
        match self.table.stage(id) {
            Some(Stage::Http(http)) if http.is_inside_head() => {
                let response = Response::text(Status::REQUEST_TIMEOUT, "the head took too long\n");
                self.refuse(id, &Refused { reason: RefusalReason::TimedOut, response });
            }
            // It takes none of its answer.
            Some(Stage::Http(_)) if takes_nothing => self.end_unopened(id, Ending::Abort),
            // It has asked nothing: there is nothing to answer.
            _ => self.end_unopened(id, Ending::Clean),
        }
    }
}

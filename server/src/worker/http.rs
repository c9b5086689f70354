//! A connection before it is a WebSocket: plain requests, and the upgrade.

use super::connections::Connections;
use crate::{
    address::PeerAddress,
    admission::Refusal,
    handler::Handler,
    http::{Request, Response},
    parts::slots::SlotId,
    table::{Ending, Stage},
    upgrade::{Accept, Upgrade},
};
use quelea_core::{
    handshake,
    http::{Body, Fields, ResponseOptions, Status},
};

/// What a client that is not let in is told to wait.
const RETRY_AFTER_SECONDS: &str = "1";
/// Answers that may wait for a client that has not opened a WebSocket, before it gets no more of
/// them on this connection.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Whether the connection goes on as it was.
enum Next {
    Request,
    Other,
}

impl<H: Handler> Connections<H> {
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
                .map_err(Response::from)
                .and_then(|upgrade| {
                    if self.is_draining {
                        return Err(Refusal::Draining.into());
                    }
                    if !self.handshakes.take(0, 0, self.table.tick()) {
                        return Err(Refusal::Rate.into());
                    }
                    self.upgrade(id, peer, &upgrade)
                });
            if let Err(response) = upgraded {
                self.refuse(id, &response);
            }
            return Next::Other;
        }
        match (request.method(), request.body()) {
            ("GET" | "HEAD", Body::None) => self.answer(id, &request),
            ("GET" | "HEAD", _) => {
                let text = "a GET or HEAD request must not have a body here\n";
                self.refuse(id, &Response::text(Status::CONTENT_TOO_LARGE, text));
                Next::Other
            }
            _ => {
                let response = Response::text(Status::METHOD_NOT_ALLOWED, "only GET and HEAD\n")
                    .header("Allow", "GET, HEAD");
                self.refuse(id, &response);
                Next::Other
            }
        }
    }

    fn upgrade(
        &mut self,
        id: SlotId,
        peer: PeerAddress,
        upgrade: &handshake::Upgrade<'_>,
    ) -> Result<(), Response> {
        let Accept { state, subprotocol, headers } =
            self.handler.on_upgrade(&Upgrade::new(upgrade, peer))?;
        let fields = headers.iter().map(|(name, value)| (&**name, &**value));
        let Some(out) = self.table.output(id) else { return Ok(()) };
        upgrade.write_response(subprotocol.as_deref(), fields, out).map_err(|error| {
            tracing::error!(%error, "the handler's acceptance cannot be sent");
            Response::new(Status::INTERNAL_SERVER_ERROR)
        })?;
        tracing::debug!(conn = %self.table.conn_id(id), path = upgrade.request().path(), "open");
        self.start_websocket(id, state);
        Ok(())
    }

    /// Answers a plain request.
    fn answer(&mut self, id: SlotId, request: &Request<'_>) -> Next {
        let response = self.handler.on_request(request);
        // A client that sends requests and reads no answer gets no more of them.
        let keep_alive = request.is_keep_alive()
            && self.table.queued(id) < ANSWER_BYTES_MAX
            && !self.is_draining;
        let options = ResponseOptions { keep_alive, head_only: request.method() == "HEAD" };
        if let Some(out) = self.table.output(id) {
            response.write(out, options);
        }
        tracing::debug!(
            conn = %self.table.conn_id(id), path = request.path(), status = response.status.0, "answered",
        );
        if keep_alive {
            self.table.arm_handshake(id);
            Next::Request
        } else {
            self.table.end(id, Ending::Linger);
            Next::Other
        }
    }

    /// Answers with an error, and ends the connection.
    fn refuse(&mut self, id: SlotId, response: &Response) {
        tracing::debug!(conn = %self.table.conn_id(id), status = response.status.0, "refused");
        if let Some(out) = self.table.output(id) {
            response.write(out, ResponseOptions { keep_alive: false, head_only: false });
        }
        self.table.end(id, Ending::Linger);
    }

    /// The time for a request is over.
    pub(super) fn time_out_http(&mut self, id: SlotId) {
        let takes_nothing = self.table.queued(id) > 0;
        match self.table.stage(id) {
            Some(Stage::Http(http)) if http.is_inside_head() => {
                self.refuse(
                    id,
                    &Response::text(Status::REQUEST_TIMEOUT, "the head took too long\n"),
                );
            }
            // It takes none of its answer.
            Some(Stage::Http(_)) if takes_nothing => self.table.end(id, Ending::Abort),
            // It has asked nothing: there is nothing to answer.
            _ => self.table.end(id, Ending::Clean),
        }
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        let (status, text) = match refusal {
            Refusal::Full => (Status::SERVICE_UNAVAILABLE, "the server is full\n"),
            Refusal::Pending => (Status::SERVICE_UNAVAILABLE, "too many are not open yet\n"),
            Refusal::Rate => (Status::SERVICE_UNAVAILABLE, "too many open in this second\n"),
            Refusal::Draining => (Status::SERVICE_UNAVAILABLE, "the server stops\n"),
            Refusal::Address => (Status::TOO_MANY_REQUESTS, "too many from this address\n"),
        };
        Self::text(status, text).header("Retry-After", RETRY_AFTER_SECONDS)
    }
}

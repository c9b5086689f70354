//! A simulated client.

use super::Fault;
use crate::driver::sim::WireId;
use quelea_core::{
    CloseCode, CloseFrame, Connection, Context, Event, Message, Received, Role, Violation,
    handshake::ClientRequest,
    http::{FieldError, Fields, Response, Status},
};
use std::{collections::VecDeque, net::SocketAddr, time::Duration};

/// How a client connects.
///
/// ```
/// use quelea::sim::ClientOptions;
/// let options = ClientOptions {
///     target: "/rooms?name=a".into(),
///     fields: vec![("Authorization".into(), "Bearer x".into())],
///     ..ClientOptions::default()
/// };
/// # drop(options);
/// ```
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The path and query that are asked for. Default: `/`.
    pub target: String,
    /// Header fields besides those of the handshake. Default: none.
    pub fields: Vec<(String, String)>,
    /// The subprotocols that are offered. Default: none.
    pub subprotocols: Vec<String>,
    /// Where the client is. Default: `None`, an address of its own.
    pub address: Option<SocketAddr>,
    /// The worker that it comes to; `None`, the default, is any.
    pub worker: Option<usize>,
    /// It sends nothing by itself, and its bytes are not looked at: for what no well-behaved client
    /// sends. Default: `false`.
    pub is_raw: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            target: "/".into(),
            fields: Vec::new(),
            subprotocols: Vec::new(),
            address: None,
            worker: None,
            is_raw: false,
        }
    }
}

/// What a client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The handshake is done.
    Open {
        /// The one that the server chose.
        subprotocol: Option<String>,
    },
    /// The server refuses.
    Refused(Status),
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping, which is answered already.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close frame, which is answered already.
    Close {
        /// Its code, [`CloseCode::NO_STATUS`] if it has none.
        code: CloseCode,
        /// Its reason.
        reason: String,
    },
    /// The server has broken RFC 6455, or its answer to the handshake is none.
    Violation(String),
    /// What came for a client that is [raw](ClientOptions::is_raw).
    Bytes(Vec<u8>),
    /// The end of the stream: the server's FIN.
    Ended,
    /// The server has reset the connection.
    Reset,
    /// Something was made to go wrong with this client.
    Fault(Fault),
}

pub(super) struct Client {
    pub(super) wire: WireId,
    stage: Stage,
    request: ClientOptions,
    nonce: [u8; 16],
    pub(super) out: Vec<u8>,
    events: VecDeque<(Duration, ClientEvent)>,
    /// It does not read.
    pub(super) is_stalled: bool,
    /// A FIN is to go out behind `out`.
    pub(super) is_finishing: bool,
}

enum Stage {
    Handshake(Vec<u8>),
    Open(Connection),
    Raw,
    Over,
}

impl Client {
    pub(super) fn new(
        wire: WireId,
        request: ClientOptions,
        nonce: [u8; 16],
    ) -> Result<Self, FieldError> {
        let stage = if request.is_raw { Stage::Raw } else { Stage::Handshake(Vec::new()) };
        let is_raw = request.is_raw;
        let events = VecDeque::new();
        let out = Vec::new();
        let (is_stalled, is_finishing) = (false, false);
        let mut client =
            Self { wire, stage, request, nonce, out, events, is_stalled, is_finishing };
        if !is_raw {
            let mut out = Vec::new();
            client.with_request(|request| request.write(&mut out))?;
            client.out = out;
        }
        Ok(client)
    }

    fn with_request<T>(&self, then: impl FnOnce(ClientRequest<'_>) -> T) -> T {
        let ClientOptions { target, fields, subprotocols, .. } = &self.request;
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let subprotocols: Vec<_> = subprotocols.iter().map(|name| &**name).collect();
        let request = ClientRequest::new("simulated", target, &self.nonce);
        then(request.fields(&fields).subprotocols(&subprotocols))
    }

    pub(super) fn tell(&mut self, at: Duration, event: ClientEvent) {
        self.events.push_back((at, event));
    }

    pub(super) fn take_events(&mut self) -> Vec<(Duration, ClientEvent)> {
        self.events.drain(..).collect()
    }

    /// Whether messages can be sent.
    pub(super) const fn is_open(&self) -> bool {
        matches!(&self.stage, Stage::Open(connection) if connection.is_open())
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    pub(super) fn end(&mut self) {
        self.stage = Stage::Over;
        self.out = Vec::new();
    }

    pub(super) fn send(&mut self, message: Message<'_>, context: &mut Context) -> bool {
        let Stage::Open(connection) = &mut self.stage else { return false };
        connection.send(message, context, &mut self.out).is_ok()
    }

    /// Sends a message in so many fragments.
    pub(super) fn send_in_fragments(
        &mut self,
        message: Message<'_>,
        count: usize,
        context: &mut Context,
    ) -> bool {
        let Stage::Open(connection) = &mut self.stage else { return false };
        let mut rest = message.as_bytes();
        for left in (0..count.max(1)).rev() {
            let (piece, more) =
                if left == 0 { (rest, &[][..]) } else { rest.split_at(rest.len() / 2) };
            let kind = message.kind();
            if connection.send_fragment(kind, piece, left == 0, context, &mut self.out).is_err() {
                return false;
            }
            rest = more;
        }
        true
    }

    pub(super) fn ping(&mut self, payload: &[u8], context: &mut Context) -> bool {
        let Stage::Open(connection) = &mut self.stage else { return false };
        connection.ping(payload, context, &mut self.out).is_ok()
    }

    pub(super) fn close(&mut self, frame: CloseFrame<'_>, context: &mut Context) -> bool {
        let Stage::Open(connection) = &mut self.stage else { return false };
        connection.close(frame, context, &mut self.out).is_ok()
    }

    /// Takes what has come.
    pub(super) fn receive(&mut self, at: Duration, bytes: &mut [u8], context: &mut Context) {
        match &mut self.stage {
            Stage::Over => {}
            Stage::Raw if bytes.is_empty() => {}
            Stage::Raw => self.tell(at, ClientEvent::Bytes(bytes.to_vec())),
            Stage::Open(_) => self.receive_frames(at, bytes, context),
            Stage::Handshake(head) => {
                head.extend_from_slice(bytes);
                let head = std::mem::take(head);
                self.receive_head(at, head, context);
            }
        }
    }

    fn receive_head(&mut self, at: Duration, mut head: Vec<u8>, context: &mut Context) {
        let mut fields = Fields::new();
        let (event, len) = match Response::parse(&head, &mut fields) {
            Ok(None) => {
                self.stage = Stage::Handshake(head);
                return;
            }
            Err(error) => (ClientEvent::Violation(error.to_string()), head.len()),
            Ok(Some((response, len))) => {
                let event = match self.with_request(|request| {
                    request.check_response(&response).map(|chosen| chosen.map(str::to_owned))
                }) {
                    Ok(subprotocol) => ClientEvent::Open { subprotocol },
                    Err(_) if response.status() != Status::SWITCHING_PROTOCOLS => {
                        ClientEvent::Refused(response.status())
                    }
                    Err(error) => ClientEvent::Violation(error.to_string()),
                };
                (event, len)
            }
        };
        let is_open = matches!(event, ClientEvent::Open { .. });
        self.tell(at, event);
        if is_open {
            self.stage = Stage::Open(Connection::new(Role::Client));
            self.receive_frames(at, &mut head[len..], context);
        } else {
            self.stage = Stage::Raw;
        }
    }

    fn receive_frames(&mut self, at: Duration, bytes: &mut [u8], context: &mut Context) {
        let Stage::Open(connection) = &mut self.stage else { return };
        let mut received = Received::new(bytes);
        loop {
            let event = match connection.poll_event(&mut received, context, &mut self.out) {
                Ok(None) => return,
                Ok(Some(event)) => own(&event),
                Err(violation) => {
                    self.events.push_back((at, told(violation)));
                    self.stage = Stage::Raw;
                    return;
                }
            };
            self.events.push_back((at, event));
        }
    }
}

fn own(event: &Event<'_>) -> ClientEvent {
    match event {
        Event::Message(Message::Text(text)) => ClientEvent::Text((*text).to_owned()),
        Event::Message(Message::Binary(bytes)) => ClientEvent::Binary(bytes.to_vec()),
        Event::Ping(payload) => ClientEvent::Ping(payload.to_vec()),
        Event::Pong(payload) => ClientEvent::Pong(payload.to_vec()),
        Event::Close(frame) => {
            ClientEvent::Close { code: frame.code, reason: frame.reason.to_owned() }
        }
    }
}

fn told(violation: Violation) -> ClientEvent {
    ClientEvent::Violation(violation.reason().to_owned())
}

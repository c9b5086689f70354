//! One connection, blocking, that tells all that comes in.

use crate::{
    clock::now,
    load::{Deflate, deflate_settings},
    target::Target,
};
use quelea_core::{
    CloseCode, CloseFrame, Connection, Context, Event, Limits, MessageKind, Role,
    handshake::ClientRequest,
    http::{Fields, Response},
};
use std::{
    collections::VecDeque,
    fmt,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Message(MessageKind, Vec<u8>),
    Pong(Vec<u8>),
    Close(u16),
    /// The server ended its side of the stream.
    End,
}

pub(super) struct Session {
    stream: TcpStream,
    connection: Connection,
    context: Context,
    out: Vec<u8>,
    received: VecDeque<Received>,
    /// When all has to be done, and how long that was at first.
    deadline: Instant,
    patience: Duration,
}

/// The longest answer to a handshake that is waited for.
const HEAD_BYTES_MAX: usize = 16 << 10;
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const BUFFER_BYTES: usize = 64 << 10;

impl Session {
    /// Connects and does the opening handshake.
    pub(super) fn open(
        target: &Target,
        patience: Duration,
        deflate: &Deflate,
    ) -> Result<Self, String> {
        let (mut nonce, mut seed) = ([0; 16], [0; 32]);
        random(&mut nonce).and_then(|()| random(&mut seed)).map_err(|error| error.to_string())?;
        let stream = TcpStream::connect_timeout(&target.address, patience)
            .map_err(|error| format!("cannot connect to {}: {error}", target.address))?;
        let limits = Limits { message_bytes_max: MESSAGE_BYTES_MAX, ..Limits::default() };
        let mut session = Self {
            stream,
            connection: Connection::new(Role::Client),
            context: Context::new(limits, seed).with_deflate(deflate_settings()),
            out: Vec::new(),
            received: VecDeque::new(),
            deadline: now() + patience,
            patience,
        };
        let request = ClientRequest::new(&target.host, &target.path, &nonce)
            .deflate(deflate.offered.offers());
        request.write(&mut session.out).map_err(|error| error.to_string())?;
        session.flush()?;
        session.read_response(&request, deflate)?;
        Ok(session)
    }

    /// What is read after the head is the first of what the server sends.
    fn read_response(
        &mut self,
        request: &ClientRequest<'_>,
        deflate: &Deflate,
    ) -> Result<(), String> {
        let mut head = Vec::new();
        let mut buffer = [0; BUFFER_BYTES];
        let len = loop {
            let read = self.read(&mut buffer)?;
            if read == 0 {
                return Err("the server ended the stream".to_owned());
            }
            head.extend_from_slice(&buffer[..read]);
            let mut fields = Fields::new();
            match Response::parse(&head, &mut fields) {
                Ok(Some((response, len))) => {
                    request.check_response(&response).map_err(|error| error.to_string())?;
                    match request.check_deflate(&response).map_err(|error| error.to_string())? {
                        Some(agreed) => {
                            self.connection =
                                Connection::with_deflate(Role::Client, &agreed, &self.context);
                        }
                        None => deflate.check_declined()?,
                    }
                    break len;
                }
                Ok(None) if head.len() <= HEAD_BYTES_MAX => {}
                Ok(None) => return Err("the answer is too long".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        };
        self.take(&mut head[len..])
    }

    /// Sends one fragment of a message, its last if `fin`.
    pub(super) fn send_fragment(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        fin: bool,
    ) -> Result<(), String> {
        self.queue_fragment(kind, payload, fin)?;
        self.flush()
    }

    /// As [`Session::send_fragment`], to be sent with the next flush.
    pub(super) fn queue_fragment(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        fin: bool,
    ) -> Result<(), String> {
        self.connection
            .send_fragment(kind, payload, fin, &mut self.context, &mut self.out)
            .map_err(|error| error.to_string())
    }

    pub(super) fn ping(&mut self, payload: &[u8]) -> Result<(), String> {
        self.connection
            .ping(payload, &mut self.context, &mut self.out)
            .map_err(|error| error.to_string())?;
        self.flush()
    }

    pub(super) fn close(&mut self, code: u16) -> Result<(), String> {
        let frame = CloseFrame { code: CloseCode(code), reason: "verified" };
        self.connection
            .close(frame, &mut self.context, &mut self.out)
            .map_err(|error| error.to_string())?;
        self.flush()
    }

    pub(super) fn flush(&mut self) -> Result<(), String> {
        let time = self.time_left()?;
        let written = self.stream.set_write_timeout(Some(time));
        written
            .and_then(|()| self.stream.write_all(&self.out))
            .map_err(|error| self.describe(&error))?;
        self.out.clear();
        Ok(())
    }

    /// The next that comes in has to be this. Pings of the server are answered, and do not count.
    pub(super) fn expect(&mut self, expected: &Received) -> Result<(), String> {
        match self.next() {
            Ok(received) if received == *expected => Ok(()),
            Ok(received) => Err(format!("expected {expected}, got {}", received.unlike(expected))),
            Err(error) => Err(format!("expected {expected}: {error}")),
        }
    }

    fn next(&mut self) -> Result<Received, String> {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            if let Some(received) = self.received.pop_front() {
                return Ok(received);
            }
            match self.read(&mut buffer)? {
                0 => return Ok(Received::End),
                len => self.take(&mut buffer[..len])?,
            }
        }
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        // A byte at a time: what follows a close frame is to be seen, which the connection drops.
        for byte in bytes.chunks_mut(1) {
            if self.connection.is_finished() {
                return Err("the server went on after its close frame".to_owned());
            }
            let mut byte = quelea_core::Received::new(byte);
            let event = self.connection.poll_event(&mut byte, &mut self.context, &mut self.out);
            let event = event.map_err(|error| format!("the server broke the protocol: {error}"))?;
            self.received.extend(match event {
                Some(Event::Message(message)) => {
                    Some(Received::Message(message.kind(), message.as_bytes().to_vec()))
                }
                Some(Event::Pong(payload)) => Some(Received::Pong(payload.to_vec())),
                Some(Event::Close(frame)) => Some(Received::Close(frame.code.0)),
                Some(Event::Ping(_)) | None => None,
            });
        }
        self.flush()
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        loop {
            let time = self.time_left()?;
            let read = self.stream.set_read_timeout(Some(time));
            match read.and_then(|()| self.stream.read(buffer)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read.map_err(|error| self.describe(&error)),
            }
        }
    }

    fn time_left(&self) -> Result<Duration, String> {
        let time = self.deadline.saturating_duration_since(now());
        if time.is_zero() { Err(self.too_late()) } else { Ok(time) }
    }

    fn too_late(&self) -> String {
        format!("nothing more came within {:?}", self.patience)
    }

    fn describe(&self, error: &io::Error) -> String {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.too_late(),
            _ => format!("the connection broke: {error}"),
        }
    }
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}

impl Received {
    /// What this is, where it is not what was expected.
    fn unlike(&self, expected: &Self) -> String {
        match (self, expected) {
            (Self::Message(_, payload), Self::Message(_, wanted))
                if payload.len() == wanted.len() && payload != wanted =>
            {
                let same = payload.iter().zip(wanted).take_while(|(a, b)| a == b).count();
                format!("{self} that is another from byte {same} on")
            }
            (Self::Pong(payload), Self::Pong(wanted)) if payload.len() == wanted.len() => {
                format!("{self} with another payload")
            }
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(kind, payload) => {
                let kind = match kind {
                    MessageKind::Text => "text",
                    MessageKind::Binary => "binary",
                };
                write!(f, "a {kind} message of {} bytes", payload.len())
            }
            Self::Pong(payload) => write!(f, "a pong of {} bytes", payload.len()),
            Self::Close(code) => write!(f, "a close frame with code {code}"),
            Self::End => f.write_str("the end of the stream"),
        }
    }
}

//! One client connection: its socket, its handshake, its messages.

use crate::target::Target;
use mio::{Interest, Registry, Token, net::TcpStream};
use quelea_core::{
    Connection, Context, Event, Message, MessageKind, Received, Role,
    handshake::ClientRequest,
    http::{Fields, Response},
};
use std::{
    collections::VecDeque,
    error::Error,
    io::{self, ErrorKind, Read, Write},
    time::{Duration, Instant},
};

/// The longest answer to a handshake that is waited for.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a server may take to answer one.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every message of a run is.
#[derive(Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) kind: MessageKind,
    pub(crate) bytes: &'a [u8],
}

/// An open connection with some messages in flight.
pub(crate) struct Client {
    stream: TcpStream,
    connection: Connection,
    out: Vec<u8>,
    sent: usize,
    /// When each message in flight was sent, the oldest first.
    in_flight: VecDeque<Instant>,
}

/// Connects and does the opening handshake, blocking.
pub(crate) fn connect(
    target: &Target,
    nonce: &[u8; 16],
) -> Result<std::net::TcpStream, Box<dyn Error>> {
    let mut stream = std::net::TcpStream::connect(target.address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = ClientRequest::new(&target.host, &target.path, nonce);
    let mut head = Vec::new();
    request.write(&mut head)?;
    stream.write_all(&head)?;
    head.clear();
    // A byte at a time, so that nothing after the head is taken: this is not measured.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > HEAD_BYTES_MAX {
            return Err("the answer to the handshake is too long".into());
        }
    }
    let mut fields = Fields::new();
    let (response, _) = Response::parse(&head, &mut fields)?.ok_or("no whole answer")?;
    request.check_response(&response)?;
    Ok(stream)
}

impl Client {
    pub(crate) fn connect(target: &Target, nonce: &[u8; 16]) -> Result<Self, Box<dyn Error>> {
        let stream = connect(target, nonce)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            connection: Connection::new(Role::Client),
            out: Vec::new(),
            sent: 0,
            in_flight: VecDeque::new(),
        })
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Queues one more fragment of a message, which is in flight from its last one on.
    pub(crate) fn send_fragment(
        &mut self,
        fragment: Payload<'_>,
        fin: bool,
        context: &mut Context,
        now: Instant,
    ) -> Result<(), Box<dyn Error>> {
        self.connection.send_fragment(
            fragment.kind,
            fragment.bytes,
            fin,
            context,
            &mut self.out,
        )?;
        if fin {
            self.in_flight.push_back(now);
        }
        Ok(())
    }

    /// Writes what is queued, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads what is there, and tells the sending time of each message that came back.
    pub(crate) fn receive(
        &mut self,
        payload: Payload<'_>,
        context: &mut Context,
        buffer: &mut [u8],
        mut on_echo: impl FnMut(Instant),
    ) -> Result<(), Box<dyn Error>> {
        loop {
            let len = match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let mut received = Received::new(&mut buffer[..len]);
            while let Some(event) =
                self.connection.poll_event(&mut received, context, &mut self.out)?
            {
                match event {
                    Event::Message(message) => {
                        check(payload, message)?;
                        let sent_at = self.in_flight.pop_front();
                        on_echo(sent_at.ok_or("more came back than was sent")?);
                    }
                    Event::Close(close) => {
                        return Err(
                            format!("the server closed: {} {}", close.code, close.reason).into()
                        );
                    }
                    Event::Ping(_) | Event::Pong(_) => {}
                }
            }
            if len < buffer.len() {
                return Ok(());
            }
        }
    }
}

/// An echo server that does not echo must not be measured.
fn check(payload: Payload<'_>, message: Message<'_>) -> Result<(), &'static str> {
    if message.kind() == payload.kind && message.as_bytes() == payload.bytes {
        Ok(())
    } else {
        Err("the server sent back something else")
    }
}

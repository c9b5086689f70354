//! `quelea-perf bare`: a loop that sends each message to every socket, and nothing else a server has.
//!
//! No queues, no topics, no timeouts, no limits: what is left is what the kernel takes for the sends.
//! What came since the last wait leaves in one send a socket, since a server may do that as well.

use clap::Args;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use quelea_core::{
    Connection, Context, Event, Limits, Message, Opcode, Received, Role,
    frame::{self, Header},
    handshake::Upgrade,
    http::{Fields, HeadLimits, HeadScanner, Request},
};
use socket2::SockRef;
use std::{
    collections::{HashMap, VecDeque},
    error::Error,
    io::{self, ErrorKind, Read},
    net::SocketAddr,
};

#[derive(Args)]
#[command(after_help = "Example:\n  \
    quelea-perf bare --listen 127.0.0.1:9002\n\
    `quelea-perf fanout` starts one by itself.")]
pub(crate) struct Options {
    /// Where to listen, such as 127.0.0.1:9001: loopback only.
    #[arg(long, value_parser = parse_loopback)]
    listen: SocketAddr,
    /// Sends the messages of each receive alone, not with all that came since the last wait.
    #[arg(long)]
    per_receive: bool,
}

pub(crate) fn parse_loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|error| format!("{error}"))?;
    if address.ip().is_loopback() { Ok(address) } else { Err("only loopback is served".into()) }
}

const RECEIVE_BUFFER_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 1024;
const LISTENER: Token = Token(usize::MAX);

/// Serves until it fails.
pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut bare = Bare::bind(options.listen)?;
    bare.per_receive = options.per_receive;
    bare.serve()
}

/// The server. A client's index is its token.
pub(super) struct Bare {
    poll: Poll,
    listener: TcpListener,
    context: Context,
    /// Those that have not shaken hands yet.
    opening: HashMap<usize, Opening>,
    connections: Vec<Option<Connection>>,
    /// Those that have: who is sent everything.
    sockets: Vec<Option<TcpStream>>,
    /// Indices of clients that are gone.
    free: VecDeque<usize>,
    buffer: Vec<u8>,
    /// The frames to send.
    frames: Vec<u8>,
    per_receive: bool,
    short_sends: u64,
}

struct Opening {
    socket: TcpStream,
    head: Vec<u8>,
    scanner: HeadScanner,
}

impl Bare {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            context: Context::new(Limits::default(), [0; 32]),
            opening: HashMap::new(),
            connections: Vec::new(),
            sockets: Vec::new(),
            free: VecDeque::new(),
            buffer: vec![0; RECEIVE_BUFFER_BYTES],
            frames: Vec::new(),
            per_receive: false,
            short_sends: 0,
        })
    }

    #[cfg(test)]
    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Serves until it fails.
    pub(super) fn serve(&mut self) -> Result<(), Box<dyn Error>> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(index) => {
                        let is_over = event.is_read_closed() || event.is_error();
                        if self.receive(index).is_err() || is_over {
                            self.drop_client(index);
                        }
                    }
                }
            }
            self.send_to_all();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut socket, _) = match self.listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                accepted => accepted?,
            };
            socket.set_nodelay(true)?;
            let index = self.free.pop_front().unwrap_or_else(|| {
                self.connections.push(None);
                self.sockets.push(None);
                self.sockets.len() - 1
            });
            self.poll.registry().register(&mut socket, Token(index), Interest::READABLE)?;
            let (head, scanner) = (Vec::new(), HeadScanner::default());
            self.opening.insert(index, Opening { socket, head, scanner });
        }
    }

    /// Takes all that a client sent; an error when it ended, or broke a rule.
    fn receive(&mut self, index: usize) -> Result<(), Box<dyn Error>> {
        while self.opening.contains_key(&index) {
            if self.receive_head(index)? == Progress::Empty {
                return Ok(());
            }
        }
        while self.receive_frames(index)? == Progress::More {}
        Ok(())
    }

    fn receive_head(&mut self, index: usize) -> Result<Progress, Box<dyn Error>> {
        let Some(opening) = self.opening.get_mut(&index) else { return Ok(Progress::Empty) };
        let (received, progress) = read(&mut opening.socket, &mut self.buffer)?;
        opening.head.extend_from_slice(received);
        let limits = HeadLimits::default();
        let Some(len) = opening.scanner.scan(&opening.head, &limits)? else { return Ok(progress) };
        if len < opening.head.len() {
            return Err("the client did not wait for the answer".into());
        }
        let mut fields = Fields::new();
        let request = Request::parse(&opening.head, &mut fields)?;
        let upgrade = Upgrade::check(&request, &Default::default())?;
        let mut response = Vec::new();
        upgrade.write_response(None, [], &mut response)?;
        if !send(&opening.socket, &response) {
            return Err("the client takes no answer".into());
        }
        self.sockets[index] = self.opening.remove(&index).map(|opening| opening.socket);
        self.connections[index] = Some(Connection::new(Role::Server));
        Ok(progress)
    }

    fn receive_frames(&mut self, index: usize) -> Result<Progress, Box<dyn Error>> {
        let (Some(socket), Some(connection)) =
            (&mut self.sockets[index], &mut self.connections[index])
        else {
            return Ok(Progress::Empty);
        };
        let (received, progress) = read(socket, &mut self.buffer)?;
        let (mut received, mut answer) = (Received::new(received), Vec::new());
        while let Some(event) =
            connection.poll_event(&mut received, &mut self.context, &mut answer)?
        {
            if let Event::Message(message) = event {
                append(message, &mut self.frames);
            }
        }
        if !answer.is_empty() && !send(socket, &answer) {
            return Err("the client takes no answer".into());
        }
        if connection.is_finished() {
            return Err("the client closed".into());
        }
        if self.per_receive {
            self.send_to_all();
        }
        Ok(progress)
    }

    /// The loop that all of this is about.
    fn send_to_all(&mut self) {
        if self.frames.is_empty() {
            return;
        }
        let before = self.short_sends;
        for socket in self.sockets.iter().flatten() {
            if !send(socket, &self.frames) {
                self.short_sends += 1;
            }
        }
        self.frames.clear();
        if self.short_sends > before {
            eprintln!("bare: {} sends were short: what was left is lost", self.short_sends);
        }
    }

    fn drop_client(&mut self, index: usize) {
        self.opening.remove(&index);
        (self.connections[index], self.sockets[index]) = (None, None);
        self.free.push_back(index);
    }
}

/// Whether there may be more to read.
#[derive(Debug, PartialEq)]
enum Progress {
    More,
    Empty,
}

/// Reads once; the end of the stream is an error. After a short read the next bytes raise an edge.
fn read<'b>(socket: &mut TcpStream, buffer: &'b mut [u8]) -> io::Result<(&'b mut [u8], Progress)> {
    match socket.read(buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(len) => {
            let progress = if len < buffer.len() { Progress::Empty } else { Progress::More };
            Ok((&mut buffer[..len], progress))
        }
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => Ok((&mut [], Progress::Empty)),
            ErrorKind::Interrupted => Ok((&mut [], Progress::More)),
            _ => Err(error),
        },
    }
}

/// Sends at once; whether the kernel took it whole.
fn send(socket: &TcpStream, bytes: &[u8]) -> bool {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    SockRef::from(socket).send_with_flags(bytes, flags).is_ok_and(|sent| sent == bytes.len())
}

/// Appends a message as a server sends it: in one frame, without a mask.
fn append(message: Message<'_>, frames: &mut Vec<u8>) {
    let opcode = match message {
        Message::Text(_) => Opcode::Text,
        Message::Binary(_) => Opcode::Binary,
    };
    let header = Header { fin: true, reserved: 0, opcode, mask: None, payload_len: 0 };
    frame::append(frames, header, message.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_serves_this_machine_only() {
        assert!(parse_loopback("127.0.0.1:9001").is_ok() && parse_loopback("[::1]:9001").is_ok());
        for text in ["0.0.0.0:9001", "192.0.2.1:9001", "127.0.0.1", "localhost:9001"] {
            assert!(parse_loopback(text).is_err(), "{text}");
        }
    }
}

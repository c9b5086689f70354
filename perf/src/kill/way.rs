//! What one connection does before it ends, and how it ends.

use crate::{
    attack::peer::{BINARY, CLOSE, PING, TEXT, close_payload, frame, header, is_accepted, upgrade},
    target::Target,
};
use fastrand::Rng;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// How long the server has to accept and to answer a handshake.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a server that takes no more bytes is waited for: it has paused this connection.
const BLOCKED: Duration = Duration::from_millis(10);
/// How long one that is told of the end has to end, too.
const LINGER: Duration = Duration::from_millis(200);
/// A message whose answers are not read, and how many of them are sent: more than a socket holds.
const LARGE_BYTES: usize = 256 << 10;
const LARGE_MAX: usize = 32;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing.
    Leave,
    /// Sends a part of its request.
    HalfHandshake,
    /// Sends all of it, and does not read the answer.
    UnreadHandshake,
    /// Sends a part of a frame.
    HalfFrame,
    /// Sends messages, and does not read the answers.
    UnreadAnswers,
    /// Sends large messages, does not read the answers, and so is not read from any more.
    LargeUnread,
    /// The same, but reads some of them: the server is about to send more.
    WhileSending,
    /// Sends messages and reads each answer.
    Echo,
    /// Sends a close frame, perhaps with messages before and behind it.
    Close,
    /// Breaks the protocol, for which it is closed.
    Violation,
}

impl Way {
    pub(super) const ALL: [Self; 10] = [
        Self::Leave,
        Self::HalfHandshake,
        Self::UnreadHandshake,
        Self::HalfFrame,
        Self::UnreadAnswers,
        Self::LargeUnread,
        Self::WhileSending,
        Self::Echo,
        Self::Close,
        Self::Violation,
    ];

    /// Whether it begins with an opening handshake, as all have to do it.
    pub(super) const fn opens(self) -> bool {
        !matches!(self, Self::Leave | Self::HalfHandshake | Self::UnreadHandshake)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Leave => "nothing",
            Self::HalfHandshake => "half a request",
            Self::UnreadHandshake => "a request whose answer is not read",
            Self::HalfFrame => "half a frame",
            Self::UnreadAnswers => "messages whose answers are not read",
            Self::LargeUnread => "large messages whose answers are not read",
            Self::WhileSending => "large messages some of whose answers are read",
            Self::Echo => "messages whose answers are read",
            Self::Close => "a close frame",
            Self::Violation => "a violation",
        }
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By a RST.
    Reset,
    /// As when a process ends: a FIN, or a RST if something is left unread.
    Drop,
    /// By a FIN, behind which the server may end it, too.
    Finish,
}

impl End {
    pub(super) const ALL: [Self; 3] = [Self::Reset, Self::Drop, Self::Finish];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Reset => "by a reset",
            Self::Drop => "by closing the socket",
            Self::Finish => "by a FIN, waiting for the server's",
        }
    }
}

/// A connection to the server, from an address of its own if that is on this machine: the ports of one are
/// used up by those that rest for a minute.
pub(super) fn connect(target: &Target, rng: &mut Rng) -> io::Result<TcpStream> {
    let socket =
        Socket::new(Domain::for_address(target.address), Type::STREAM, Some(Protocol::TCP))?;
    if let IpAddr::V4(to) = target.address.ip()
        && to.is_loopback()
    {
        let from = Ipv4Addr::new(127, rng.u8(1..=200), rng.u8(..), rng.u8(2..=250));
        socket.bind(&SocketAddr::from((from, 0)).into())?;
    }
    socket.connect_timeout(&target.address.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Does the opening handshake.
pub(super) fn open(target: &Target, stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&upgrade(target))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            len => head.extend_from_slice(&bytes[..len]),
        }
    }
    match is_accepted(&String::from_utf8_lossy(&head)) {
        true => Ok(()),
        false => Err(io::Error::other("the handshake was refused")),
    }
}

/// Does all of it, behind the opening handshake if it has one, until the server ends the connection; it may do so
/// at any time.
pub(super) fn act(
    way: Way,
    target: &Target,
    stream: &mut TcpStream,
    rng: &mut Rng,
) -> io::Result<()> {
    match way {
        Way::Leave => {}
        Way::HalfHandshake => {
            let request = upgrade(target);
            stream.write_all(&request[..rng.usize(1..request.len())])?;
        }
        Way::UnreadHandshake => stream.write_all(&upgrade(target))?,
        Way::HalfFrame => {
            let bytes = frame(BINARY, &vec![7; rng.usize(0..100_000)]);
            stream.write_all(&bytes[..rng.usize(1..bytes.len())])?;
        }
        Way::UnreadAnswers => {
            let bytes = frame(TEXT, &vec![b'x'; rng.usize(0..2_000)]).repeat(rng.usize(1..20));
            stream.write_all(&bytes)?;
        }
        Way::LargeUnread => fill(stream, rng)?,
        Way::WhileSending => {
            fill(stream, rng)?;
            let mut left = rng.usize(1..2 * LARGE_BYTES);
            let mut bytes = vec![0; 64 << 10];
            // It may have none for what it had no room for.
            stream.set_read_timeout(Some(LINGER))?;
            while left > 0 {
                let most = left.min(bytes.len());
                left -= stream.read(&mut bytes[..most])?.clamp(1, left);
            }
        }
        Way::Echo => {
            for _ in 0..rng.usize(1..10) {
                echo(stream, &vec![rng.u8(..); rng.usize(0..5_000)])?;
            }
        }
        Way::Close => {
            let before = frame(TEXT, b"before").repeat(rng.usize(0..3));
            let behind = frame(TEXT, b"behind").repeat(rng.usize(0..3));
            let close = frame(CLOSE, &close_payload(1000, "done"));
            stream.write_all(&[before, close, behind].concat())?;
        }
        Way::Violation => {
            let bytes = match rng.u8(..4) {
                // Not masked; a reserved opcode; a long ping; a message beyond any limit.
                0 => vec![TEXT, 1, b'x'],
                1 => frame(0x83, b"x"),
                2 => frame(PING, &[0; 126]),
                _ => header(BINARY, 1 << 40),
            };
            stream.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// Sends until the server takes no more, or for long enough.
fn fill(stream: &mut TcpStream, rng: &mut Rng) -> io::Result<()> {
    let bytes = frame(BINARY, &vec![rng.u8(..); LARGE_BYTES]);
    stream.set_write_timeout(Some(BLOCKED))?;
    for _ in 0..rng.usize(1..=LARGE_MAX) {
        match stream.write_all(&bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            sent => sent?,
        }
    }
    stream.set_write_timeout(Some(PATIENCE))
}

/// Sends a binary message, and reads what has to be its echo.
pub(super) fn echo(stream: &mut TcpStream, payload: &[u8]) -> io::Result<()> {
    stream.write_all(&frame(BINARY, payload))?;
    let mut expected = header(BINARY, payload.len() as u64);
    // A server does not mask.
    expected.truncate(expected.len() - 4);
    expected[1] &= 0x7f;
    expected.extend_from_slice(payload);
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received)?;
    match received == expected {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::InvalidData, "something else than the echo came")),
    }
}

/// Ends the connection.
pub(super) fn end(how: End, stream: TcpStream) -> io::Result<()> {
    match how {
        End::Reset => Socket::from(stream).set_linger(Some(Duration::ZERO)),
        End::Drop => Ok(()),
        End::Finish => {
            stream.shutdown(Shutdown::Write)?;
            stream.set_read_timeout(Some(LINGER))?;
            let mut stream = stream;
            let mut bytes = vec![0; 64 << 10];
            // After an error it waits for the rest of what it was sent, or has reset.
            while matches!(stream.read(&mut bytes), Ok(1..)) {}
            Ok(())
        }
    }
}

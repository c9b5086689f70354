//! A client that sends exactly the bytes it is told to, on a blocking socket, and waits for nothing
//! without a deadline.

use crate::{clock::now, target::Target};
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    thread::sleep,
    time::{Duration, Instant},
};

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// The nonce of RFC 6455, section 1.3.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The longest head or message of the server that is read.
const HEAD_BYTES_MAX: usize = 64 << 10;
const PAYLOAD_BYTES_MAX: u64 = 64 << 20;
const BYTE_INTERVAL: Duration = Duration::from_millis(1);

/// How the server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
}

/// What came from the server before a deadline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<T> {
    Some(T),
    End(End),
    Nothing,
}

/// A frame: its first byte and its payload.
pub(crate) type Frame = (u8, Vec<u8>);

pub(crate) struct Peer {
    stream: TcpStream,
    /// What was read and not yet taken.
    buffer: Vec<u8>,
}

impl Peer {
    pub(crate) fn connect(target: &Target, patience: Duration) -> io::Result<Self> {
        Self::new(TcpStream::connect_timeout(&target.address, patience)?, patience)
    }

    /// One for which the kernel keeps little of what it does not read.
    pub(crate) fn connect_narrow(target: &Target, patience: Duration) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target.address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect_timeout(&target.address.into(), patience)?;
        Self::new(socket.into(), patience)
    }

    fn new(stream: TcpStream, patience: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Connects, and does the opening handshake.
    pub(crate) fn open(target: &Target, patience: Duration) -> io::Result<Self> {
        let mut peer = Self::connect(target, patience)?;
        peer.upgrade(target, patience)?;
        Ok(peer)
    }

    pub(crate) fn upgrade(&mut self, target: &Target, patience: Duration) -> io::Result<()> {
        self.stream.write_all(&upgrade(target))?;
        self.accepted(patience).map(|_| ())
    }

    /// The opening handshake with an offer to compress, and whether that was agreed on.
    pub(crate) fn upgrade_with_deflate(
        &mut self,
        target: &Target,
        patience: Duration,
    ) -> io::Result<bool> {
        let offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        self.stream.write_all(&request(target, "GET", "HTTP/1.1", &[], offer))?;
        let head = self.accepted(patience)?.to_ascii_lowercase();
        Ok(head.lines().any(|line| {
            line.starts_with("sec-websocket-extensions:") && line.contains("permessage-deflate")
        }))
    }

    /// The head of the answer that accepts a handshake.
    fn accepted(&mut self, patience: Duration) -> io::Result<String> {
        let problem = match self.head(now() + patience)? {
            Heard::Some(head) if is_accepted(&head) => return Ok(head),
            Heard::Some(head) => {
                let line = head.lines().next().unwrap_or_default();
                format!("a valid handshake was answered with `{line}`")
            }
            Heard::End(_) => "a valid handshake was answered with the end".to_owned(),
            Heard::Nothing => format!("a valid handshake had no answer in {patience:?}"),
        };
        Err(io::Error::other(problem))
    }

    /// Sends them, if the server still listens: if not, what it said before is what counts.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Each byte as a segment of its own, with time for the server to read it.
    pub(crate) fn send_bytewise(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| {
            sleep(BYTE_INTERVAL);
            self.send(&[*byte])
        })
    }

    /// Writes some of the bytes; waits as long as the server takes none, up to the timeout.
    pub(crate) fn write(&mut self, bytes: &[u8], timeout: Duration) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(timeout))?;
        self.stream.write(bytes)
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { stream: self.stream.try_clone()?, buffer: Vec::new() })
    }

    /// Tells the server that nothing more comes.
    pub(crate) fn finish(&mut self) {
        // It may have ended already.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Ends it for every clone, at once.
    pub(crate) fn abandon(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    /// The head of an answer.
    pub(crate) fn head(&mut self, deadline: Instant) -> io::Result<Heard<String>> {
        loop {
            let end = self.buffer.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(Heard::Some(String::from_utf8_lossy(&head).into_owned()));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("the answer's head does not end"));
            }
            match self.fill(deadline)? {
                Heard::Some(()) => {}
                Heard::End(end) => return Ok(Heard::End(end)),
                Heard::Nothing => return Ok(Heard::Nothing),
            }
        }
    }

    pub(crate) fn frame(&mut self, deadline: Instant) -> io::Result<Heard<Frame>> {
        loop {
            if let Some((header_len, len)) = frame_lengths(&self.buffer)? {
                let whole = header_len + len;
                if self.buffer.len() >= whole {
                    let frame = (self.buffer[0], self.buffer[header_len..whole].to_vec());
                    self.buffer.drain(..whole);
                    return Ok(Heard::Some(frame));
                }
            }
            match self.fill(deadline)? {
                Heard::Some(()) => {}
                Heard::End(end) => return Ok(Heard::End(end)),
                Heard::Nothing => return Ok(Heard::Nothing),
            }
        }
    }

    /// All that comes until the server ends the connection, or until the deadline.
    pub(crate) fn rest(&mut self, deadline: Instant) -> io::Result<(Vec<u8>, Option<End>)> {
        let end = loop {
            match self.fill(deadline)? {
                Heard::Some(()) if self.buffer.len() > HEAD_BYTES_MAX => break None,
                Heard::Some(()) => {}
                Heard::End(end) => break Some(end),
                Heard::Nothing => break None,
            }
        };
        Ok((std::mem::take(&mut self.buffer), end))
    }

    /// Whether there is anything to read, or the end.
    pub(crate) fn is_answered(&mut self) -> io::Result<bool> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        Ok(!matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock))
    }

    /// How the server ends the connection, if it does before the deadline; what still comes is
    /// passed over.
    pub(crate) fn end(&mut self, deadline: Instant) -> io::Result<Option<End>> {
        loop {
            self.buffer.clear();
            match self.fill(deadline)? {
                // A peer that goes on sending is no end.
                Heard::Some(()) if now() > deadline => return Ok(None),
                Heard::Some(()) => {}
                Heard::End(end) => return Ok(Some(end)),
                Heard::Nothing => return Ok(None),
            }
        }
    }

    /// Reads what is there, once something is.
    fn fill(&mut self, deadline: Instant) -> io::Result<Heard<()>> {
        let mut bytes = [0; 16 << 10];
        loop {
            let left = deadline.saturating_duration_since(now());
            // Zero would be no timeout at all; what is there already is always taken.
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            return match self.stream.read(&mut bytes) {
                Ok(0) => Ok(Heard::End(End::Closed)),
                Ok(len) => {
                    self.buffer.extend_from_slice(&bytes[..len]);
                    Ok(Heard::Some(()))
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(Heard::Nothing),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                        Ok(Heard::End(End::Reset))
                    }
                    _ => Err(error),
                },
            };
        }
    }
}

/// The lengths of the header and the payload of a frame of the server, once its header is there.
fn frame_lengths(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(second) = bytes.get(1) else { return Ok(None) };
    let (header_len, len) = match second {
        126 => (4, bytes.get(2..4).map(|len| u64::from(u16::from_be_bytes([len[0], len[1]])))),
        127 => {
            let len = bytes.get(2..10).and_then(|len| len.try_into().ok());
            (10, len.map(u64::from_be_bytes))
        }
        0..126 => (2, Some(u64::from(*second))),
        128.. => return Err(io::Error::other("the server sent a masked frame (RFC 6455, 5.1)")),
    };
    match len {
        Some(len) if len > PAYLOAD_BYTES_MAX => {
            Err(io::Error::other(format!("the server sent a frame of {len} bytes")))
        }
        len => Ok(len.map(|len| (header_len, len as usize))),
    }
}

/// Whether it is the 101 for [`KEY`].
pub(crate) fn is_accepted(head: &str) -> bool {
    head.starts_with("HTTP/1.1 101 ")
        && head.lines().any(|line| {
            line.split_once(':').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("Sec-WebSocket-Accept") && value.trim() == ACCEPT
            })
        })
}

/// A valid request for a WebSocket.
pub(crate) fn upgrade(target: &Target) -> Vec<u8> {
    request(target, "GET", "HTTP/1.1", &[], b"")
}

/// A request for a WebSocket, without some of the fields that it needs, and with more lines.
pub(crate) fn request(
    target: &Target,
    method: &str,
    version: &str,
    without: &[&str],
    lines: &[u8],
) -> Vec<u8> {
    let mut bytes = format!("{method} {} {version}\r\n", target.path).into_bytes();
    for (name, value) in [
        ("Host", target.host.as_str()),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ] {
        if !without.contains(&name) {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    bytes.extend_from_slice(lines);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A client's frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The header of a client's frame, with its mask.
pub(crate) fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = match len {
        0..126 => vec![first, 0x80 | len as u8],
        126..=0xffff => vec![first, 0x80 | 126, (len >> 8) as u8, len as u8],
        _ => [&[first, 0x80 | 127][..], &len.to_be_bytes()].concat(),
    };
    bytes.extend(MASK);
    bytes
}

/// The payload of a close frame.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

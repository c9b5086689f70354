//! A server that trusts its peers: it opens for whatever ends like a request, checks no frame, and
//! keeps what its peers do not read.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

/// What it does wrong beyond what it always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Serves one client after the other's handshake.
    OneHandshakeAtATime,
    /// Keeps the descriptors of those that are gone.
    Leaks,
    /// Serves nobody any more after a frame without a mask.
    Dies,
    /// Agrees to compress, and knows nothing of it.
    Deflates,
}

pub(crate) struct Careless {
    pub(crate) address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
const AGREES: &[u8] = b"Sec-WebSocket-Extensions: permessage-deflate\r\n";
/// What it reserves for a declared length at the most, so that the test has an end.
const RESERVED_MAX: u64 = 2 << 20;
const FRAGMENT_BYTES: usize = 512;

impl Careless {
    pub(crate) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::<AtomicBool>::default();
        let flag = Arc::clone(&is_over);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), false) = (stream, flag.load(Ordering::Acquire)) else { return };
                let flag = Arc::clone(&flag);
                if fault == Fault::OneHandshakeAtATime {
                    let mut peer = stream.try_clone().unwrap();
                    if open(&mut peer, fault).is_ok() {
                        thread::spawn(move || serve(stream, fault, &flag));
                    }
                } else {
                    thread::spawn(move || {
                        if open(&mut stream.try_clone()?, fault).is_ok() {
                            serve(stream, fault, &flag)?;
                        } else if fault == Fault::Leaks {
                            std::mem::forget(stream);
                        }
                        io::Result::Ok(())
                    });
                }
            }
        });
        Self { address, is_over }
    }
}

impl Drop for Careless {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // So that it notices.
        drop(TcpStream::connect(self.address));
    }
}

/// Takes anything up to an empty line.
fn open(stream: &mut TcpStream, fault: Fault) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let extension = if fault == Fault::Deflates { AGREES } else { b"" };
    stream.write_all(&[ANSWER, extension, b"\r\n"].concat())
}

fn serve(mut stream: TcpStream, fault: Fault, is_over: &AtomicBool) -> io::Result<()> {
    // Whatever is not read waits here, however much it is.
    let (outbox, inbox) = channel::<Vec<u8>>();
    let mut writer = stream.try_clone()?;
    thread::spawn(move || {
        for bytes in inbox {
            if writer.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = writer.shutdown(std::net::Shutdown::Both);
    });
    let mut fragments = Vec::new();
    while echo(&mut stream, &mut fragments, &outbox, fault, is_over)? {}
    Ok(())
}

/// Sends a frame back as it came, or with those before it once it is the last of a message; whether
/// more are read.
fn echo(
    stream: &mut TcpStream,
    fragments: &mut Vec<Vec<u8>>,
    outbox: &Sender<Vec<u8>>,
    fault: Fault,
    is_over: &AtomicBool,
) -> io::Result<bool> {
    let header: [u8; 2] = read(stream)?;
    let len = match header[1] & 0x7f {
        126 => u64::from(u16::from_be_bytes(read(stream)?)),
        127 => u64::from_be_bytes(read(stream)?),
        len => u64::from(len),
    };
    let is_masked = header[1] & 0x80 != 0;
    let mask: [u8; 4] = if is_masked { read(stream)? } else { [0; 4] };
    if fault == Fault::Dies && !is_masked {
        is_over.store(true, Ordering::Release);
    }
    if is_over.load(Ordering::Acquire) {
        return Ok(false);
    }
    let mut payload = vec![1; len.min(RESERVED_MAX) as usize];
    if len > RESERVED_MAX {
        // What is too long is taken, and never comes back.
        io::copy(&mut stream.take(len), &mut io::sink())?;
    }
    stream.read_exact(&mut payload)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    if header[0] & 0x0f < 8 {
        // A buffer for each, and a large one.
        let mut fragment = vec![1; FRAGMENT_BYTES.max(payload.len())];
        fragment[..payload.len()].copy_from_slice(&payload);
        fragment.truncate(payload.len());
        fragments.push(fragment);
        if header[0] & 0x80 == 0 {
            return Ok(true);
        }
        payload = fragments.concat();
        fragments.clear();
    }
    let first = match header[0] & 0x0f {
        0 => 0x81,
        9 => 0x8a,
        _ => header[0],
    };
    let mut bytes = match payload.len() {
        len @ ..126 => vec![first, len as u8],
        len @ ..=0xffff => vec![first, 126, (len >> 8) as u8, len as u8],
        len => [&[first, 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    bytes.extend(payload);
    let _ = outbox.send(bytes);
    Ok(header[0] & 0x0f != 8)
}

fn read<const LEN: usize>(stream: &mut TcpStream) -> io::Result<[u8; LEN]> {
    let mut bytes = [0; LEN];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

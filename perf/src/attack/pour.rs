//! Sending until it is enough, for the server or for the row.

use super::peer::Peer;
use crate::clock::now;
use std::{
    io::{self, ErrorKind},
    time::Duration,
};

/// A server that takes nothing for so long has stopped reading.
const STALL: Duration = Duration::from_secs(2);
/// No row pours for longer.
const TIME_MAX: Duration = Duration::from_secs(20);

/// How far it went.
#[derive(Default)]
pub(crate) struct Poured {
    pub(crate) sent: u64,
    /// The server took nothing any more, but did not end the connection.
    pub(crate) is_stalled: bool,
    /// The server ended the connection.
    pub(crate) is_ended: bool,
}

impl Poured {
    pub(crate) fn told(&self) -> String {
        let mebibytes = self.sent as f64 / f64::from(1 << 20);
        format!("after {mebibytes:.1} MiB")
    }
}

/// Sends the same bytes again and again, whole, until there are at least so many; whoever listens
/// stops when there is an answer.
pub(crate) fn pour(peer: &mut Peer, bytes: &[u8], most: u64, listens: bool) -> io::Result<Poured> {
    let start = now();
    let mut poured = Poured::default();
    while poured.sent < most {
        if listens && peer.is_answered()? {
            return Ok(poured);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match peer.write(rest, STALL) {
                Ok(len) => {
                    poured.sent += len as u64;
                    rest = &rest[len..];
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        poured.is_stalled = true;
                        return Ok(poured);
                    }
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                        poured.is_ended = true;
                        return Ok(poured);
                    }
                    _ => return Err(error),
                },
            }
            if start.elapsed() > TIME_MAX {
                return Ok(poured);
            }
        }
    }
    Ok(poured)
}

//! Bytes behind the opening handshake, and what may come back.

use super::{
    arena::Arena,
    finding::Finding,
    peer::{CLOSE, End, Frame, Heard, PONG, Peer, close_payload, frame},
};
use crate::clock::now;
use std::{io, time::Duration};

/// How soon is at once.
const AT_ONCE: Duration = Duration::from_secs(1);

pub(crate) struct Exchange {
    pub(crate) name: String,
    /// What is sent; the next part only if there is no answer to the one before, which is late.
    pub(crate) parts: Vec<Vec<u8>>,
    pub(crate) is_bytewise: bool,
    /// Whether compression has to be agreed on before.
    pub(crate) needs_deflate: bool,
    pub(crate) expect: Expect,
}

pub(crate) enum Expect {
    /// The connection fails: a close frame with one of these codes, and the end.
    Failed(&'static [u16]),
    /// A close frame with one of these codes (none: 1005) answers ours, and the end.
    Closed(Vec<u16>),
    /// These frames come back, in any order.
    Echoed(Vec<Frame>),
}

/// Which of the parts is answered, and how.
struct Answer {
    is_late: bool,
    heard: Heard<Frame>,
}

/// What is found where there is nothing to attack.
pub(crate) fn not_agreed() -> Finding {
    Finding::skip("permessage-deflate is not agreed on")
}

impl Exchange {
    pub(crate) fn new(name: impl Into<String>, bytes: Vec<u8>, expect: Expect) -> Self {
        Self {
            name: name.into(),
            parts: vec![bytes],
            is_bytewise: false,
            needs_deflate: false,
            expect,
        }
    }

    pub(crate) fn bytewise(self) -> Self {
        Self { is_bytewise: true, ..self }
    }

    pub(crate) fn with_deflate(self) -> Self {
        Self { needs_deflate: true, ..self }
    }

    pub(crate) fn or_else(mut self, bytes: Vec<u8>) -> Self {
        self.parts.push(bytes);
        self
    }

    pub(crate) fn run(&self, arena: &Arena<'_>) -> io::Result<Finding> {
        let peer =
            if self.needs_deflate { arena.open_with_deflate()? } else { Some(arena.open()?) };
        let Some(mut peer) = peer else { return Ok(not_agreed()) };
        let answer = self.ask(&mut peer, arena)?;
        match &self.expect {
            Expect::Failed(codes) => failed(&mut peer, answer, codes, arena),
            Expect::Closed(codes) => closed(&mut peer, answer.heard, codes, arena),
            Expect::Echoed(frames) => echoed(&mut peer, answer.heard, frames, arena),
        }
    }

    fn ask(&self, peer: &mut Peer, arena: &Arena<'_>) -> io::Result<Answer> {
        let mut heard = Heard::Nothing;
        for (index, bytes) in self.parts.iter().enumerate() {
            if self.is_bytewise {
                peer.send_bytewise(bytes);
            } else {
                peer.send(bytes);
            }
            let is_last = index + 1 == self.parts.len();
            heard = answer(peer, if is_last { arena.bounds.patience } else { AT_ONCE })?;
            if heard != Heard::Nothing {
                return Ok(Answer { is_late: index > 0, heard });
            }
        }
        Ok(Answer { is_late: true, heard })
    }
}

/// The next frame that is no heartbeat.
pub(crate) fn next(peer: &mut Peer, patience: Duration) -> io::Result<Heard<Frame>> {
    let deadline = now() + patience;
    loop {
        match peer.frame(deadline)? {
            Heard::Some((first, _)) if first & 0x0f == 9 => {}
            heard => return Ok(heard),
        }
    }
}

/// The next frame that is no heartbeat, and no piece of a message that is not finished: those may be
/// echoed as they come.
pub(crate) fn answer(peer: &mut Peer, patience: Duration) -> io::Result<Heard<Frame>> {
    let deadline = now() + patience;
    loop {
        match peer.frame(deadline)? {
            Heard::Some((0..3, _)) => {}
            Heard::Some((first, _)) if first & 0x0f == 9 => {}
            heard => return Ok(heard),
        }
    }
}

/// Judges how the server lets a connection fail (RFC 6455, 7.1.7).
fn failed(
    peer: &mut Peer,
    answer: Answer,
    codes: &[u16],
    arena: &Arena<'_>,
) -> io::Result<Finding> {
    let late = if answer.is_late { ", only once all was there" } else { "" };
    Ok(match answer.heard {
        Heard::Some((CLOSE, payload)) => {
            let code = match code(&payload) {
                Ok(code) => code,
                Err(problem) => return Ok(Finding::fail(problem)),
            };
            let happened = format!("{}{late}", told(code));
            // As a peer does that keeps to the rules: it closes as well.
            peer.send(&frame(CLOSE, &payload));
            peer.finish();
            if !ends(peer, arena)? {
                Finding::fail(format!("{happened}, and open {}", arena.nothing("still")))
            } else if codes.contains(&code) && !answer.is_late {
                Finding::pass(happened)
            } else {
                Finding::weak(happened)
            }
        }
        Heard::Some((first, payload)) => {
            Finding::fail(format!("answered with {}{late}", kind(first, &payload)))
        }
        Heard::End(end) => {
            let ended = if end == End::Reset { "reset" } else { "ended" };
            Finding::weak(format!("{ended} without a close frame{late}"))
        }
        Heard::Nothing => Finding::fail(arena.nothing("neither a close frame nor the end")),
    })
}

/// Judges how the server answers a close frame (RFC 6455, 5.5.1).
fn closed(
    peer: &mut Peer,
    heard: Heard<Frame>,
    codes: &[u16],
    arena: &Arena<'_>,
) -> io::Result<Finding> {
    Ok(match heard {
        Heard::Some((CLOSE, payload)) => {
            let code = match code(&payload) {
                Ok(code) => code,
                Err(problem) => return Ok(Finding::fail(problem)),
            };
            let happened = match codes {
                [expected] if code == *expected => "closed with the same code".to_owned(),
                _ => told(code),
            };
            if !ends(peer, arena)? {
                Finding::fail(format!("{happened}, and open {}", arena.nothing("still")))
            } else if codes.contains(&code) {
                Finding::pass(happened)
            } else if code == 1002 {
                Finding::fail(format!("{happened}, as if it were a violation"))
            } else {
                Finding::weak(happened)
            }
        }
        Heard::Some((first, payload)) => {
            Finding::fail(format!("answered with {}", kind(first, &payload)))
        }
        Heard::End(_) => Finding::fail("ended without a close frame"),
        Heard::Nothing => Finding::fail(arena.nothing("neither a close frame nor the end")),
    })
}

fn echoed(
    peer: &mut Peer,
    mut heard: Heard<Frame>,
    frames: &[Frame],
    arena: &Arena<'_>,
) -> io::Result<Finding> {
    let mut missing: Vec<_> = frames.iter().collect();
    loop {
        let problem = match heard {
            Heard::Some((CLOSE, ref payload)) => code(payload).map_or_else(|problem| problem, told),
            Heard::Some(ref found) => match missing.iter().position(|frame| *frame == found) {
                Some(index) => {
                    missing.remove(index);
                    if missing.is_empty() {
                        return Ok(Finding::pass("echoed"));
                    }
                    heard = answer(peer, arena.bounds.patience)?;
                    continue;
                }
                None => format!("{} that was not sent", kind(found.0, &found.1)),
            },
            Heard::End(_) => "ended without a close frame".to_owned(),
            Heard::Nothing => {
                let missing: Vec<_> =
                    missing.iter().map(|(first, sent)| kind(*first, sent)).collect();
                format!("{}: {}", arena.nothing("something is missing"), missing.join(", "))
            }
        };
        return Ok(Finding::fail(problem));
    }
}

/// Whether the server ends the connection; what it still sends is passed over.
pub(crate) fn ends(peer: &mut Peer, arena: &Arena<'_>) -> io::Result<bool> {
    Ok(peer.end(now() + arena.bounds.patience)?.is_some())
}

/// The code of a close frame, 1005 if there is none; or what is wrong with it.
pub(crate) fn code(payload: &[u8]) -> Result<u16, String> {
    match payload {
        [] => Ok(1005),
        [_] => Err("sent a close frame with one byte (RFC 6455, 5.5.1)".to_owned()),
        [high, low, ..] => match u16::from_be_bytes([*high, *low]) {
            code @ (..1000 | 1005 | 1006 | 1015) => {
                Err(format!("sent code {code}, which is never sent (RFC 6455, 7.4)"))
            }
            code => Ok(code),
        },
    }
}

pub(crate) fn told(code: u16) -> String {
    if code == 1005 { "closed with no code".to_owned() } else { format!("closed with {code}") }
}

fn kind(first: u8, payload: &[u8]) -> String {
    let kind = match first & 0x0f {
        0 => "a continuation",
        1 => "a text",
        2 => "a binary message",
        8 => "a close frame",
        _ if first == PONG => "a pong",
        _ => "another frame",
    };
    format!("{kind} of {} bytes", payload.len())
}

/// A close frame that says this.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(CLOSE, &close_payload(code, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_is_never_sent_is_told_apart_from_none() {
        assert_eq!(code(b""), Ok(1005));
        assert_eq!(code(b"\x03\xe8bye"), Ok(1000));
        for payload in [&b"\x03"[..], b"\x03\xed", b"\x03\xee", b"\x03\xf7", b"\0\0"] {
            assert!(code(payload).is_err(), "{payload:?}");
        }
    }
}

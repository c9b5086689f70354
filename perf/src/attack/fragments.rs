//! Messages that are too long, are never finished, or come in far too many pieces.

use super::{
    arena::Arena,
    exchange::{code, next, told},
    finding::Finding,
    peer::{BINARY, CLOSE, Heard, PING, PONG, Peer, frame, header},
    pour::{Poured, pour},
    row::{Attack, Row, must},
};
use crate::clock::now;
use std::{io, time::Duration};

/// What a peer declares that it will send.
const DECLARED: u64 = 1 << 30;
/// How many peers declare it.
const DECLARING: usize = 50;
const PIECE: usize = 64 << 10;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row::new(
            "frames/declared-length",
            must("CVE-2022-35922"),
            "closed with 1009, or memory as what came",
            Attack::Run(declared_length),
        )
        .bounded_in_memory(),
        Row::new(
            "frames/empty-fragments",
            must("CVE-2026-48779, CVE-2026-12151"),
            "closed with 1009 or 1008, or little memory",
            Attack::Run(empty_fragments),
        )
        .bounded_in_memory(),
        Row::new(
            "frames/tiny-fragments",
            must("CVE-2026-48779, CVE-2026-12151"),
            "closed with 1009 or 1008, or little memory",
            Attack::Run(tiny_fragments),
        )
        .bounded_in_memory(),
    ]
}

/// Messages that a server may keep up to its limit: what it keeps of them afterwards would hide what
/// other rows take, so these come last.
pub(crate) fn long_rows() -> Vec<Row> {
    vec![
        Row::new(
            "floods/too-long-message",
            must("RFC 6455 10.4, 7.4.1"),
            "closed with 1009, before --flood-mib",
            Attack::Run(too_long_message),
        )
        .with_cost(),
        Row::new(
            "floods/never-final",
            must("RFC 6455 10.4, CVE-2014-0193, CVE-2026-73493"),
            "closed with 1009, before --flood-mib",
            Attack::Run(never_final),
        )
        .with_cost(),
    ]
}

/// Many peers that declare a long frame, send a little of it, and wait.
fn declared_length(arena: &Arena<'_>) -> io::Result<Finding> {
    let bytes = [&frame(PING, b"?")[..], &header(BINARY, DECLARED), &[0; 100]].concat();
    let mut peers = Vec::new();
    for _ in 0..DECLARING {
        let mut peer = arena.open()?;
        peer.send(&bytes);
        peers.push(peer);
    }
    let mut waiting = 0;
    let mut refused = None;
    for peer in &mut peers {
        // The pong says that the header was read, or is about to be.
        let mut heard = next(peer, arena.bounds.patience)?;
        if matches!(heard, Heard::Some((PONG, _))) {
            heard = next(peer, Duration::from_millis(50))?;
        }
        match heard {
            Heard::Nothing => waiting += 1,
            Heard::Some((CLOSE, payload)) => refused = Some(payload),
            Heard::End(_) => refused = refused.or(Some(Vec::new())),
            Heard::Some((first, _)) => {
                return Ok(Finding::fail(format!("answered with a frame {first:#x}")));
            }
        }
    }
    Ok(match refused {
        None => Finding::pass(format!("waits for what is to come on {waiting} connections")),
        Some(payload) if payload.is_empty() => Finding::weak("ended without a close frame"),
        Some(payload) => by_code(&payload, &[1009, 1002]),
    })
}

/// A close frame, judged by its code.
pub(crate) fn by_code(payload: &[u8], codes: &[u16]) -> Finding {
    match code(payload) {
        Ok(code) if codes.contains(&code) => Finding::pass(told(code)),
        Ok(code) => Finding::weak(told(code)),
        Err(problem) => Finding::fail(problem),
    }
}

/// One frame that is far too long, sent until the server has enough.
fn too_long_message(arena: &Arena<'_>) -> io::Result<Finding> {
    let mut peer = arena.open()?;
    peer.send(&header(BINARY, 1 << 40));
    let poured = pour(&mut peer, &vec![0; PIECE], arena.flood_bytes(), true)?;
    until_refused(&mut peer, &poured, arena)
}

/// Fragments without a last one.
fn never_final(arena: &Arena<'_>) -> io::Result<Finding> {
    let mut peer = arena.open()?;
    peer.send(&frame(0x02, b"begun"));
    let poured = pour(&mut peer, &frame(0x00, &[b'a'; 16 << 10]), arena.flood_bytes(), true)?;
    until_refused(&mut peer, &poured, arena)
}

pub(crate) fn until_refused(
    peer: &mut Peer,
    poured: &Poured,
    arena: &Arena<'_>,
) -> io::Result<Finding> {
    let sent = poured.told();
    let finding = match next(peer, arena.bounds.patience)? {
        Heard::Some((CLOSE, payload)) => by_code(&payload, &[1009]),
        Heard::Some((0..3, _)) => Finding::pass("each fragment echoed as it comes"),
        Heard::Some((first, _)) => Finding::fail(format!("answered with a frame {first:#x}")),
        Heard::End(_) => Finding::weak("ended without a close frame"),
        Heard::Nothing if poured.is_stalled => Finding::weak("stopped reading"),
        Heard::Nothing => Finding::fail("took all of it, and waits for more"),
    };
    Ok(Finding { happened: format!("{} {sent}", finding.happened), ..finding })
}

fn empty_fragments(arena: &Arena<'_>) -> io::Result<Finding> {
    many_fragments(arena, b"")
}

fn tiny_fragments(arena: &Arena<'_>) -> io::Result<Finding> {
    many_fragments(arena, b"a")
}

/// A message in as many fragments as are allowed, or echoed.
fn many_fragments(arena: &Arena<'_>, payload: &[u8]) -> io::Result<Finding> {
    let count = arena.bounds.fragments;
    let mut peer = arena.open()?;
    let start = frame(0x01, payload);
    let next = frame(0x00, payload).repeat(1000);
    peer.send(&start);
    let poured = pour(&mut peer, &next, (next.len() / 1000 * count) as u64, true)?;
    peer.send(&frame(0x80, payload));
    let fragments = 2 + poured.sent as usize / (next.len() / 1000);
    let deadline = now() + 3 * arena.bounds.patience;
    let mut echoed = 0;
    loop {
        return Ok(match peer.frame(deadline)? {
            Heard::Some((CLOSE, close)) => {
                let finding = by_code(&close, &[1008, 1009]);
                let happened = format!("{} {}", finding.happened, poured.told());
                Finding { happened, ..finding }
            }
            Heard::Some((first @ (0..3 | 0x80..0x83), piece)) => {
                echoed += piece.len();
                if first < 0x80 {
                    continue;
                }
                match echoed == fragments * payload.len() {
                    true => Finding::pass(format!("{fragments} echoed as one message")),
                    false => {
                        Finding::fail(format!("{echoed} bytes came back of {fragments} fragments"))
                    }
                }
            }
            Heard::Some(_) => continue,
            Heard::End(_) => {
                Finding::weak(format!("ended without a close frame {}", poured.told()))
            }
            Heard::Nothing => Finding::fail(format!("no answer to {count} fragments")),
        });
    }
}

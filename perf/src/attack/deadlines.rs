//! Peers that never finish: each wait of a server has to end.

use super::{
    arena::Arena,
    exchange::next,
    finding::Finding,
    peer::{CLOSE, Heard, Peer, upgrade},
};
use crate::clock::now;
use std::{io, thread::sleep, time::Duration};

/// How often a byte comes from one that drips.
const DRIP: Duration = Duration::from_millis(100);

/// One that says nothing, one that stops inside its head, one that sends a byte now and then.
pub(crate) fn unfinished_heads(arena: &Arena<'_>) -> io::Result<Finding> {
    let head = upgrade(arena.target);
    let (path, host) = (&arena.target.path, &arena.target.host);
    let start = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX: ");
    let silent = arena.connect()?;
    let mut half = arena.connect()?;
    let mut dripping = arena.connect()?;
    half.send(&head[..head.len() / 2]);
    dripping.send(start.as_bytes());
    let begin = now();
    let mut waiting =
        [("silent", Some(silent)), ("half a head", Some(half)), ("dripping", Some(dripping))];
    let mut ended = Vec::new();
    while begin.elapsed() < arena.bounds.deadline_wait && ended.len() < waiting.len() {
        for (name, peer) in &mut waiting {
            let Some(open) = peer else { continue };
            if *name == "dripping" {
                open.send(b"y");
            }
            if is_ended(open)? {
                ended.push(format!("{name} {:.1} s", begin.elapsed().as_secs_f64()));
                *peer = None;
            }
        }
        sleep(DRIP);
    }
    let open: Vec<_> =
        waiting.iter().filter(|(_, peer)| peer.is_some()).map(|(name, _)| *name).collect();
    Ok(if open.is_empty() {
        Finding::pass(format!("ended: {}", ended.join(", ")))
    } else {
        let wait = arena.bounds.deadline_wait.as_secs_f64();
        Finding::fail(format!("still open after {wait} s: {}", open.join(", ")))
    })
}

fn is_ended(peer: &mut Peer) -> io::Result<bool> {
    Ok(peer.end(now())?.is_some())
}

/// One that breaks the protocol and then does not close its side.
pub(crate) fn never_closing_peer(arena: &Arena<'_>) -> io::Result<Finding> {
    let mut peer = arena.open()?;
    peer.send(b"\x81\x05hello");
    let start = now();
    let what = match next(&mut peer, arena.bounds.patience)? {
        Heard::Some((CLOSE, _)) => "closed",
        Heard::Some(_) => return Ok(Finding::fail("an unmasked frame was answered")),
        Heard::End(_) => return Ok(Finding::pass("ended at once, without a close frame")),
        Heard::Nothing => "no close frame",
    };
    let end = peer.end(start + arena.bounds.deadline_wait)?;
    let time = start.elapsed().as_secs_f64();
    Ok(match end {
        Some(_) => Finding::pass(format!("{what}, ended after {time:.1} s")),
        None => Finding::fail(format!("{what}, and still open after {time:.0} s")),
    })
}

//! Peers that do not read, and far too many of them.

use super::{
    arena::{Arena, Calm},
    exchange::{self, code, next},
    finding::Finding,
    peer::{BINARY, CLOSE, Heard, PING, Peer, frame, upgrade},
    pour::{Poured, pour},
    process::{Process, own_descriptors_max},
    row::{Attack, Row, must},
};
use crate::clock::now;
use std::{io, thread, thread::sleep, time::Duration};

const CHUNK: usize = 16 << 10;
/// Below it, there are too few to tell anything.
const CONNECTIONS_MIN: usize = 200;
/// How long the slow reader is slow, and how often it reads a little.
const SLOW: Duration = Duration::from_secs(3);
const SLOW_INTERVAL: Duration = Duration::from_millis(20);
const SLOW_ROW_MAX: Duration = Duration::from_secs(20);
/// Left to the rest of a process.
const DESCRIPTORS_SPARE: usize = 64;

pub(crate) fn rows() -> Vec<Row> {
    let bounded = "held back or ended, little memory";
    vec![
        Row::new(
            "floods/pings-not-reading",
            must("CVE-2026-11586, CVE-2021-3690"),
            bounded,
            Attack::Run(pings),
        )
        .bounded_in_memory(),
        Row::new(
            "floods/requests-not-reading",
            must("CVE-2026-33219"),
            bounded,
            Attack::Run(requests),
        )
        .bounded_in_memory(),
        Row::new(
            "floods/never-reader",
            must("micronaut-core#8984"),
            bounded,
            Attack::Run(never_reader),
        )
        .bounded_in_memory(),
        Row::new(
            "floods/slow-reader",
            must("micronaut-core#8984"),
            "each echo in order, or ended; little memory",
            Attack::Run(slow_reader),
        )
        .bounded_in_memory(),
        Row::new(
            "floods/half-open-handshakes",
            must("CVE-2026-73565"),
            "new clients are served meanwhile",
            Attack::Run(half_open),
        )
        .with_cost(),
        Row::new(
            "floods/connect-and-reset",
            must("CVE-2026-73565, CVE-2026-100658"),
            "as many descriptors as before",
            Attack::Run(resets),
        )
        .with_cost(),
    ]
}

/// What came of a flood that nobody reads the answers to.
fn told(poured: &Poured) -> Finding {
    let how = match poured {
        Poured { is_ended: true, .. } => "ended",
        Poured { is_stalled: true, .. } => "held back",
        _ => "took what came",
    };
    Finding::pass(format!("{how} {}", poured.told()))
}

fn pings(arena: &Arena<'_>) -> io::Result<Finding> {
    let mut peer = arena.open_narrow()?;
    let pings = frame(PING, &[b'p'; 125]).repeat(500);
    Ok(told(&pour(&mut peer, &pings, arena.flood_bytes(), false)?))
}

fn requests(arena: &Arena<'_>) -> io::Result<Finding> {
    let mut peer = Peer::connect_narrow(arena.target, arena.bounds.patience)?;
    let (path, host) = (&arena.target.path, &arena.target.host);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    Ok(told(&pour(&mut peer, request.repeat(1000).as_bytes(), arena.flood_bytes(), false)?))
}

fn never_reader(arena: &Arena<'_>) -> io::Result<Finding> {
    let mut peer = arena.open_narrow()?;
    Ok(told(&pour(&mut peer, &frame(BINARY, &[0; CHUNK]), arena.flood_bytes(), false)?))
}

/// Sends as fast as it can; reads slowly for a while, and then as fast as it can.
fn slow_reader(arena: &Arena<'_>) -> io::Result<Finding> {
    let mut reader = arena.open()?;
    let mut writer = reader.try_clone()?;
    let count = arena.flood_bytes() / CHUNK as u64;
    thread::scope(|scope| {
        let writing =
            scope.spawn(move || (0..count).all(|number| send_numbered(&mut writer, number)));
        let finding = read_in_order(&mut reader, arena, count);
        // The writer may still wait for the server to take more.
        reader.abandon();
        writing.join().map_err(|_| io::Error::other("the writer panicked"))?;
        finding
    })
}

fn numbered(number: u64) -> Vec<u8> {
    let mut payload = vec![0; CHUNK];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    payload
}

fn send_numbered(peer: &mut Peer, number: u64) -> bool {
    let bytes = frame(BINARY, &numbered(number));
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match peer.write(rest, SLOW_ROW_MAX) {
            Ok(len) => rest = &rest[len..],
            // What the reader finds is what counts.
            Err(_) => return false,
        }
    }
    true
}

/// Some may be dropped, as servers have policies for slow readers; none may be changed, or come late.
fn read_in_order(peer: &mut Peer, arena: &Arena<'_>, count: u64) -> io::Result<Finding> {
    let start = now();
    let (mut echoes, mut next_number) = (0, 0);
    let told = |how: String, echoes| format!("{how} after {echoes} echoes in order");
    let how = loop {
        match start.elapsed() {
            _ if next_number == count => break "done".to_owned(),
            time if time < SLOW => sleep(SLOW_INTERVAL),
            time if time > SLOW_ROW_MAX => break "out of time".to_owned(),
            _ => {}
        }
        match next(peer, arena.bounds.patience)? {
            Heard::Some((BINARY, payload)) => match number_of(&payload) {
                Some(number) if (next_number..count).contains(&number) => {
                    echoes += 1;
                    next_number = number + 1;
                }
                _ => return Ok(Finding::fail(told("a wrong echo".to_owned(), echoes))),
            },
            Heard::Some((CLOSE, payload)) => {
                break code(&payload).map_or_else(|problem| problem, exchange::told);
            }
            Heard::Some((first, _)) => {
                return Ok(Finding::fail(told(format!("a frame {first:#x}"), echoes)));
            }
            Heard::End(_) => break "ended".to_owned(),
            Heard::Nothing if echoes < next_number => break "no more".to_owned(),
            Heard::Nothing => {
                return Ok(Finding::fail(told(arena.nothing("no more"), echoes)));
            }
        }
    };
    let happened = told(how, echoes);
    Ok(match next_number - echoes {
        0 => Finding::pass(happened),
        lost => Finding::weak(format!("{happened}, {lost} dropped")),
    })
}

/// The number of a payload that is as it was sent.
fn number_of(payload: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*payload.first_chunk()?);
    (payload == numbered(number)).then_some(number)
}

/// How many connections this process and the server may have.
fn crowd(arena: &Arena<'_>) -> io::Result<Result<usize, Finding>> {
    let own = own_descriptors_max()?;
    let server = match arena.process {
        Some(process) => process.descriptors_max()?.saturating_sub(process.descriptors()?),
        None => usize::MAX,
    };
    let who = if own < server { "this process" } else { "the server" };
    let room = own.min(server).saturating_sub(DESCRIPTORS_SPARE);
    if room < CONNECTIONS_MIN {
        let reason = format!("{who} may have only {room} more descriptors: raise `ulimit -n`");
        return Ok(Err(Finding::skip(reason)));
    }
    Ok(Ok(room.min(arena.bounds.connections)))
}

/// Connections that stop inside their handshake, and clients that come meanwhile.
fn half_open(arena: &Arena<'_>) -> io::Result<Finding> {
    let count = match crowd(arena)? {
        Ok(count) => count,
        Err(finding) => return Ok(finding),
    };
    let head = upgrade(arena.target);
    let mut crowd = Vec::with_capacity(count);
    let mut slowest = Duration::ZERO;
    for number in 0..count {
        let start = now();
        let client = match arena.connect() {
            Ok(mut peer) => {
                peer.send(&head[..number % 3 * 40]);
                crowd.push(peer);
                if number % 100 != 99 && number + 1 < count {
                    continue;
                }
                Calm::open(arena)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = client {
            return Ok(Finding::fail(format!(
                "a new client beside {number} half-open ones: {error}"
            )));
        }
        slowest = slowest.max(start.elapsed());
    }
    let milliseconds = slowest.as_secs_f64() * 1e3;
    Ok(Finding::pass(format!("beside {count}, a client is served in {milliseconds:.0} ms at most")))
}

/// Connections that are reset, in each state of a handshake.
fn resets(arena: &Arena<'_>) -> io::Result<Finding> {
    let before = arena.process.map(Process::descriptors).transpose()?;
    let head = upgrade(arena.target);
    let count = arena.bounds.connections;
    for number in 0..count {
        let mut peer = arena.connect()?;
        match number % 4 {
            0 => {}
            1 => drop(peer.send(&head[..number % head.len()])),
            2 => drop(peer.send(&head)),
            _ => {
                peer.upgrade(arena.target, arena.bounds.patience)?;
                peer.send(&frame(BINARY, &[0; 1000]));
            }
        }
        peer.reset()?;
    }
    let (Some(process), Some(before)) = (arena.process, before) else {
        return Ok(Finding::skip("descriptors can be counted only with --server-pid"));
    };
    let start = now();
    loop {
        let after = process.descriptors()?;
        let time = start.elapsed();
        if after <= before {
            let seconds = time.as_secs_f64();
            return Ok(Finding::pass(format!(
                "{before} before {count}, {after} in {seconds:.1} s"
            )));
        }
        if time > arena.bounds.deadline_wait {
            return Ok(Finding::fail(format!("{before} before {count}, {after} after")));
        }
        sleep(SLOW_INTERVAL);
    }
}

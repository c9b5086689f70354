//! What compressed messages cost that are made to cost much: memory of the process, CPU time of the parser.
#![cfg(feature = "deflate")]

#[path = "support/gauge.rs"]
mod gauge;
mod support;

use gauge::*;
use quelea::{
    Config,
    deflate::{Parameters, Policy, Settings, WindowBits},
};
use quelea_core::{Connection, Context, Event, Limits, Received, Role};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{
    alloc::System,
    sync::{Mutex, MutexGuard, PoisonError},
};
use support::*;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is measured is the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const TAKEOVER: Policy = Policy::Takeover { window_bits: WindowBits::MAX, budget_bytes: 8 << 20 };

/// Begins a block in which each 0 bit is a half of a match of 258 zeros, behind 517 of them.
const ZEROS_BEGIN: &[u8] = b"\xec\xe0\x81\x00\x00\x00\x00\x80\x20\xec\x4f\xbd\x48\x05";
/// Begins a block in which each 0 bit is a zero, behind six of them.
const LITERALS_BEGIN: &[u8] = b"\x04\xe0\x81\x00\x00\x00\x00\x80\x20\xb4\xbf\xf4\x01";
/// Ends one of these blocks, and the message.
const END: &[u8] = b"\x03";
const EMPTY_STORED: &[u8] = b"\x00\x00\x00\xff\xff";
/// A block of no bytes, with codes of up to 15 bits for which tables have to be made.
const EMPTY_BY_CODES: &[u8] =
    b"\x04\xee\x01\x82\x24\x49\x92\x64\x3b\xde\xff\xb8\x8f\x58\xd4\x3c\xb2\x7a\xfe\x2e\
    \xf0\x88\x45\xcd\x23\xab\xe7\x7f";

/// A thousand times as many zeros as it has bytes.
fn bomb(zeros: usize) -> Vec<u8> {
    [ZEROS_BEGIN, &vec![0; zeros / 1032], END].concat()
}

/// A connection on which messages may be compressed.
fn open(site: &Site) -> Raw {
    let mut raw = site.serving.connect();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    raw.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}{offer}\r\n").as_bytes());
    let head = raw.read_head();
    assert!(head.contains("\r\nSec-WebSocket-Extensions: permessage-deflate"), "{head}");
    raw
}

#[test]
fn a_bomb_takes_at_no_moment_more_memory_than_the_limit_and_a_little() {
    let _alone = alone();
    let limit = 1 << 20;
    // More than what is kept as it came, an eighth of the limit.
    let bomb = bomb(400 * limit);
    let whole = frame(0xc2, &bomb);
    let pieces = bomb.chunks(1000).enumerate();
    let cut: Vec<_> = pieces
        .flat_map(|(index, piece)| frame(if index == 0 { 0x42 } else { 0x00 }, piece))
        .collect();
    for policy in [Policy::Shared, TAKEOVER] {
        let deflate = Settings::new(policy);
        let site = Site::start(Config { deflate, message_bytes_max: limit, ..Config::default() });
        let mut calm = site.open();
        let mut most = 0;
        for wire in [&whole, &cut].repeat(10) {
            let mut raw = open(&site);
            assert_eq!(ask(&mut calm, "?"), "?");
            let region = Region::new(ALLOCATOR);
            raw.send(wire);
            assert_eq!(raw.read_close().0, 1009);
            // All that was ever allocated, given back or not: there was never more at once.
            most = most.max(region.change().bytes_allocated);
        }
        assert!(most < 2 * limit, "{most} bytes of {policy:?}");
        assert_eq!(ask(&mut calm, "?"), "?");
    }
}

#[test]
fn a_rate_of_bytes_counts_what_was_inflated_or_what_was_on_the_wire_whichever_is_more() {
    let _alone = alone();
    let config = Config {
        deflate: Settings::new(Policy::Shared),
        message_bytes_max: 1100,
        bytes_per_second_max: Some(1100),
        ..Config::default()
    };
    let site = Site::start(config);
    let blocks = [&EMPTY_STORED.repeat(100)[..], b"\x00"].concat();
    let zeros = bomb(0);
    for payload in [&blocks, &zeros] {
        for cut in [payload.len(), 10] {
            let mut raw = open(&site);
            let (start, end) = payload.split_at(payload.len() - cut);
            let message = match start.len() {
                0 => frame(0xc2, payload),
                _ => [frame(0x42, start), frame(0x80, end)].concat(),
            };
            raw.send(&message.repeat(2));
            assert_eq!(ask(&mut raw, "?"), "?");
            raw.send(&message.repeat(2));
            assert_eq!(raw.read_close().0, 1008, "{} bytes", payload.len());
        }
    }
    // Plain messages count as they did.
    let mut raw = open(&site);
    raw.send(&frame(0xc2, &blocks));
    raw.send(&frame(0x82, &[0; 500]));
    assert_eq!(ask(&mut raw, "?"), "?");
    raw.send(&frame(0x82, &[0; 1000]));
    assert_eq!(raw.read_close().0, 1008);
}

#[test]
fn a_compressed_message_costs_time_linear_in_its_bytes_whatever_is_in_it() {
    let _alone = alone();
    let kinds: [(&str, &[u8], &[u8], usize); 5] = [
        ("zeros", ZEROS_BEGIN, &[0], 400),
        ("zeros, a bit each", LITERALS_BEGIN, &[0], 2_000),
        ("empty blocks", b"", EMPTY_STORED, 2_000),
        ("empty blocks by codes", b"", EMPTY_BY_CODES, 400),
        ("stored blocks of a byte", b"", b"\x00\x01\x00\xfe\xffa", 2_000),
    ];
    for (name, begin, again, count) in kinds {
        for chunk_len in [1, 1 << 20] {
            let run = |count: usize| {
                let end = if begin.is_empty() { b"\x00" } else { END };
                let mut bytes = frame(0xc2, &[begin, &again.repeat(count), end].concat());
                assert_eq!(receive(&mut bytes, chunk_len), 1);
            };
            is_linear(&format!("{name}, {chunk_len} at once"), run, count);
        }
    }
    for payload in [&b""[..], b"\x00"] {
        let run = |count: usize| {
            let mut bytes = frame(0x42, LITERALS_BEGIN);
            bytes.extend(frame(0x00, payload).repeat(count));
            bytes.extend(frame(0x80, END));
            assert_eq!(receive(&mut bytes, 1 << 20), 1);
        };
        let name = format!("fragments of {} bytes", payload.len());
        is_linear(&name, run, 4_000);
    }
}

/// How many messages come of these bytes.
fn receive(bytes: &mut [u8], chunk_len: usize) -> usize {
    let limits = Limits { message_bytes_max: 16 << 20, fragments_max: u32::MAX };
    let mut context = Context::new(limits, [0; 32]).with_deflate(Settings::new(Policy::Shared));
    let parameters = Parameters {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        ..Parameters::default()
    };
    let mut connection = Connection::with_deflate(Role::Server, &parameters, &context);
    let (mut out, mut messages) = (Vec::new(), 0);
    for chunk in bytes.chunks_mut(chunk_len) {
        let mut received = Received::new(chunk);
        while let Some(event) =
            connection.poll_event(&mut received, &mut context, &mut out).unwrap()
        {
            messages += usize::from(matches!(event, Event::Message(_)));
        }
    }
    messages
}

//! Compressed messages (RFC 7692) that are none, or far more than they look like. Rows that need compression
//! are skipped where the server does not agree on it.

use super::{
    arena::Arena,
    exchange::{Exchange, Expect, next, not_agreed},
    finding::Finding,
    fragments::{by_code, until_refused},
    peer::{BINARY, CLOSE, Heard, TEXT, close_payload, frame},
    pour::pour,
    row::{Attack, Row, Rule, must, should},
};
use std::io;

const RSV1: u8 = 0x40;
/// "Hello", by the example of RFC 7692, section 7.2.3.1.
const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
/// Begins a block in which each 0 bit is a half of a match of 258 zeros: each byte of zeros stands for 1032.
const ZEROS_BEGIN: &[u8] = b"\xec\xe0\x81\x00\x00\x00\x00\x80\x20\xec\x4f\xbd\x48\x05";
const ZEROS_OF_A_BYTE: u64 = 1032;
/// Ends that block, and the message.
const ZEROS_END: &[u8] = b"\x03";
/// A block of no bytes, with codes of up to 15 bits for which tables have to be made.
const EMPTY_BY_CODES: &[u8] =
    b"\x04\xee\x01\x82\x24\x49\x92\x64\x3b\xde\xff\xb8\x8f\x58\xd4\x3c\xb2\x7a\xfe\x2e\
    \xf0\x88\x45\xcd\x23\xab\xe7\x7f";
/// A block of no bytes that is not compressed.
const EMPTY_STORED: &[u8] = b"\x00\x00\x00\xff\xff";
/// A block of no bytes that says that it is the last.
const EMPTY_LAST: &[u8] = b"\x03\x00";
/// How long a message is that has nothing in it: what servers take by default.
const WIRE_BYTES: usize = 1_000_000;
const PIECE: usize = 16 << 10;

/// The codes for data that cannot be decompressed: RFC 7692 names none.
const INVALID: &[u16] = &[1007, 1002];

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = frames();
    rows.extend(bombs());
    rows
}

fn row(name: &'static str, rule: Rule, expected: &'static str, cases: Vec<Exchange>) -> Row {
    Row::new(name, rule, expected, Attack::Exchanges(cases))
}

fn failing(name: impl Into<String>, bytes: Vec<u8>, codes: &'static [u16]) -> Exchange {
    Exchange::new(name, bytes, Expect::Failed(codes))
}

fn agreed(name: impl Into<String>, bytes: Vec<u8>, codes: &'static [u16]) -> Exchange {
    failing(name, bytes, codes).with_deflate()
}

fn frames() -> Vec<Row> {
    let control = |(name, opcode): (&str, u8), payload: &[u8]| {
        agreed(name, frame(0x80 | RSV1 | opcode, payload), &[1002])
    };
    let (start, end) = HELLO.split_at(3);
    let continued =
        |first: u8, start: &[u8]| [frame(first, start), frame(0x80 | RSV1, end)].concat();
    let invalid: [(&str, &[u8]); 5] = [
        ("a block of the reserved type", b"\x07"),
        ("a length that does not agree", b"\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00"),
        ("a distance before the start", b"\xf2\x00\x11\x00\x00"),
        ("codes that are too many", b"\x04\x00\xfe\xff\xff\xff\xff\xff\xff\xff\x00"),
        ("plain text", b"hello, hello, hello"),
    ];
    let unfinished: [(&str, &[u8]); 2] =
        [("half a block", start), ("stored bytes that do not come", b"\x00\x05\x00\xfa\xff\x48")];
    let whole = |(name, bytes): (&str, &[u8])| agreed(name, frame(TEXT | RSV1, bytes), INVALID);
    vec![
        row(
            "deflate/not-agreed",
            must("RFC 6455 5.2, RFC 7692 6"),
            "closed with 1002",
            vec![failing("nothing was offered", frame(TEXT | RSV1, HELLO), &[1002])],
        ),
        row(
            "deflate/reserved-bits",
            must("RFC 7692 6, RFC 6455 5.2"),
            "closed with 1002",
            vec![
                control(("a ping", 0x9), b"a"),
                control(("a pong", 0xa), b"a"),
                control(("a close", 0x8), &close_payload(1000, "")),
                agreed("a continuation", continued(0x01 | RSV1, start), &[1002]),
                agreed("a continuation of what is plain", continued(0x01, b"a"), &[1002]),
                agreed("RSV2", frame(TEXT | 0x20, b"a"), &[1002]),
                agreed("RSV3", frame(TEXT | RSV1 | 0x10, HELLO), &[1002]),
            ],
        ),
        row(
            "deflate/invalid",
            must("RFC 7692 7.2.2, RFC 1951"),
            "closed with 1007 or 1002",
            invalid.into_iter().map(whole).collect(),
        ),
        row(
            "deflate/unfinished",
            should("RFC 7692 7.2.1, RFC 1951"),
            "closed with 1007 or 1002",
            unfinished.into_iter().map(whole).collect(),
        ),
        row(
            "deflate/utf8",
            must("RFC 6455 8.1, RFC 7692 6.2"),
            "closed with 1007",
            // Stored, and nothing else is wrong with it.
            vec![agreed("\\xff", frame(TEXT | RSV1, b"\x00\x01\x00\xfe\xff\xff\x00"), &[1007])],
        ),
    ]
}

fn bombs() -> Vec<Row> {
    let costs = [
        ("deflate/empty-blocks", empty_blocks as fn(&Arena<'_>) -> io::Result<Finding>),
        ("deflate/empty-blocks-of-codes", empty_blocks_of_codes),
        ("deflate/last-blocks", last_blocks),
    ];
    let bombs = [
        ("deflate/bomb", bomb as fn(&Arena<'_>) -> io::Result<Finding>),
        ("deflate/bomb-in-fragments", bomb_in_fragments),
    ];
    let costs = costs.map(|(name, run)| {
        let expected = "an empty message, or closed, in good time";
        Row::new(name, must("CVE-2018-1000518"), expected, Attack::Run(run)).with_cost()
    });
    let bombs = bombs.map(|(name, run)| {
        let expected = "closed with 1009, or little memory";
        let rule = must("CVE-2016-10544, CVE-2026-27571, CVE-2026-39804");
        Row::new(name, rule, expected, Attack::Run(run)).bounded_in_memory()
    });
    costs.into_iter().chain(bombs).collect()
}

/// Zeros, more than `--flood-mib`, in one frame of a thousandth.
fn bomb(arena: &Arena<'_>) -> io::Result<Finding> {
    let zeros = vec![0; (arena.flood_bytes() / ZEROS_OF_A_BYTE) as usize];
    answered(arena, &frame(BINARY | RSV1, &[ZEROS_BEGIN, &zeros, ZEROS_END].concat()))
}

/// The same in fragments, of which none is the last.
fn bomb_in_fragments(arena: &Arena<'_>) -> io::Result<Finding> {
    let Some(mut peer) = arena.open_with_deflate()? else { return Ok(not_agreed()) };
    peer.send(&frame(0x02 | RSV1, ZEROS_BEGIN));
    let most = arena.flood_bytes() / ZEROS_OF_A_BYTE;
    let poured = pour(&mut peer, &frame(0x00, &[0; PIECE]), most, true)?;
    if !poured.is_ended {
        peer.send(&frame(0x80, ZEROS_END));
    }
    until_refused(&mut peer, &poured, arena)
}

fn empty_blocks(arena: &Arena<'_>) -> io::Result<Finding> {
    nothing_of(arena, EMPTY_STORED)
}

fn empty_blocks_of_codes(arena: &Arena<'_>) -> io::Result<Finding> {
    nothing_of(arena, EMPTY_BY_CODES)
}

/// Behind as much as a window holds: a careless server copies it for each block.
fn last_blocks(arena: &Arena<'_>) -> io::Result<Finding> {
    let window = [ZEROS_BEGIN, &[0; 32], ZEROS_END, &EMPTY_STORED[1..]].concat();
    let blocks = EMPTY_LAST.repeat((WIRE_BYTES - window.len()) / EMPTY_LAST.len());
    answered(arena, &frame(BINARY | RSV1, &[&window[..], &blocks, b"\x00"].concat()))
}

/// A message of many blocks, each with no bytes.
fn nothing_of(arena: &Arena<'_>, block: &[u8]) -> io::Result<Finding> {
    let blocks = block.repeat(WIRE_BYTES / block.len());
    answered(arena, &frame(BINARY | RSV1, &[&blocks[..], b"\x00"].concat()))
}

/// Sends a message that a server may take or refuse, but has to answer in time.
fn answered(arena: &Arena<'_>, bytes: &[u8]) -> io::Result<Finding> {
    let Some(mut peer) = arena.open_with_deflate()? else { return Ok(not_agreed()) };
    peer.send(bytes);
    Ok(match next(&mut peer, arena.bounds.patience)? {
        Heard::Some((CLOSE, payload)) => by_code(&payload, &[1009, 1008, 1007]),
        Heard::Some((first, payload)) if first & 0x0f < 3 => {
            let compressed = if first & RSV1 == 0 { "" } else { ", compressed" };
            Finding::pass(format!("echoed by {} bytes{compressed}", payload.len()))
        }
        Heard::Some((first, _)) => Finding::fail(format!("answered with a frame {first:#x}")),
        Heard::End(_) => Finding::weak("ended without a close frame"),
        Heard::Nothing => Finding::fail(arena.nothing("no answer")),
    })
}

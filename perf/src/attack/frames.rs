//! Frames that break the protocol, or never end.

use super::{
    deadlines,
    exchange::{Exchange, Expect, close},
    finding::Level,
    fragments,
    peer::{BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame},
    row::{Attack, Row, Rule, must, should},
};

const VIOLATION: &str = "closed with 1002";
const PROTOCOL: &[u16] = &[1002];
const UTF8: &[u16] = &[1007];
const LENGTH: &[u16] = &[1002, 1009];

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = headers();
    rows.extend(lengths());
    rows.extend(texts());
    rows.extend(closes());
    rows.extend(fragments::rows());
    rows
}

fn row(name: &'static str, rule: Rule, expected: &'static str, cases: Vec<Exchange>) -> Row {
    let fails = cases.iter().any(|case| matches!(case.expect, Expect::Failed(_)));
    // To end the connection is a duty, to say why with a close frame is not.
    let also = (fails && rule.level == Level::Must).then_some("RFC 6455 7.1.7");
    let rule = Rule { also, ..rule };
    Row::new(name, rule, expected, Attack::Exchanges(cases))
}

fn failing(name: impl Into<String>, bytes: Vec<u8>, codes: &'static [u16]) -> Exchange {
    Exchange::new(name, bytes, Expect::Failed(codes))
}

fn violation(name: impl Into<String>, bytes: Vec<u8>) -> Exchange {
    failing(name, bytes, PROTOCOL)
}

fn headers() -> Vec<Row> {
    let reserved = [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf];
    let opcode = |opcode: u8| violation(format!("{opcode:#x}"), frame(0x80 | opcode, b"a"));
    let bits = [("RSV1", 0x40), ("RSV2", 0x20), ("RSV3", 0x10)];
    let bit = |(name, bit): (&str, u8)| violation(name, frame(TEXT | bit, b"a"));
    let begun = frame(0x01, b"begun");
    vec![
        row(
            "frames/unmasked",
            must("RFC 6455 5.1"),
            VIOLATION,
            vec![
                violation("a text", b"\x81\x05hello".to_vec()),
                violation("a ping", b"\x89\x00".to_vec()),
            ],
        ),
        row(
            "frames/reserved-opcodes",
            must("RFC 6455 5.2"),
            VIOLATION,
            reserved.into_iter().map(opcode).collect(),
        ),
        row(
            "frames/reserved-bits",
            must("RFC 6455 5.2"),
            VIOLATION,
            bits.into_iter().map(bit).collect(),
        ),
        row(
            "frames/long-control",
            must("RFC 6455 5.5"),
            VIOLATION,
            vec![
                violation("a ping of 126 bytes", frame(PING, &[b'a'; 126])),
                violation("a pong of 126 bytes", frame(PONG, &[b'a'; 126])),
                violation(
                    "a close of 126 bytes",
                    frame(CLOSE, &close_payload(1000, &"a".repeat(124))),
                ),
            ],
        ),
        row(
            "frames/fragmented-control",
            must("RFC 6455 5.5"),
            VIOLATION,
            vec![
                violation("a ping", frame(PING & 0x7f, b"a")),
                violation("a close", frame(CLOSE & 0x7f, &close_payload(1000, ""))),
            ],
        ),
        row(
            "frames/mixed-fragments",
            must("RFC 6455 5.4"),
            VIOLATION,
            vec![
                violation("a continuation of nothing", frame(0x80, b"a")),
                violation("a text inside a message", [begun.clone(), frame(TEXT, b"a")].concat()),
                violation("a binary inside a message", [begun, frame(BINARY, b"a")].concat()),
            ],
        ),
    ]
}

fn lengths() -> Vec<Row> {
    let key = [1, 2, 3, 4];
    let long = |first: u8, len: u64| [&[first, 0xff][..], &len.to_be_bytes(), &key].concat();
    let long_form = |form: &[u8]| {
        let masked: Vec<u8> = b"hello".iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b).collect();
        [&[TEXT], form, &key, &masked].concat()
    };
    let begun = frame(0x02, b"begun");
    let most = i64::MAX as u64;
    vec![
        row(
            "frames/length-top-bit",
            must("RFC 6455 5.2, CVE-2020-27813, CVE-2020-13935"),
            "closed with 1002 or 1009, from the header",
            vec![
                failing("2^63", long(BINARY, 1 << 63), LENGTH),
                failing("2^64 - 1", long(TEXT, u64::MAX), LENGTH),
                failing("a continuation", [begun.clone(), long(0x80, u64::MAX)].concat(), LENGTH),
            ],
        ),
        row(
            "frames/length-overflow",
            should("RFC 6455 10.4, CVE-2020-27813"),
            "closed with 1002 or 1009, from the header",
            vec![
                failing("2^63 - 1", long(BINARY, most), LENGTH),
                failing("a continuation", [begun, long(0x80, most)].concat(), LENGTH),
            ],
        ),
        row(
            "frames/length-not-minimal",
            should("RFC 6455 5.2"),
            VIOLATION,
            vec![
                violation("16 bits for 5", long_form(&[0xfe, 0, 5])),
                violation("64 bits for 5", long_form(&[0xff, 0, 0, 0, 0, 0, 0, 0, 5])),
            ],
        ),
    ]
}

fn texts() -> Vec<Row> {
    let invalid: [(&str, &[u8]); 6] = [
        ("a byte that never stands", b"a\xff"),
        ("an overlong form", b"\xc0\xaf"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("beyond U+10FFFF", b"\xf4\x90\x80\x80"),
        ("a lone continuation", b"\x80"),
        ("cut off", b"\xe2\x82"),
    ];
    let whole = |(name, bytes): &(&str, &[u8])| failing(*name, frame(TEXT, bytes), UTF8);
    let split = |(name, bytes): &(&str, &[u8])| {
        let (start, end) = bytes.split_at(1);
        failing(*name, [frame(0x01, start), frame(0x80, end)].concat(), UTF8)
    };
    // The first part shows it; the second ends the message.
    let inside = {
        let bytes = frame(TEXT, &[b"\xed\xa0", &[b'a'; 100][..]].concat());
        let (start, end) = bytes.split_at(bytes.len() - 90);
        failing("inside a frame", start.to_vec(), UTF8).or_else(end.to_vec())
    };
    let between =
        failing("between fragments", [frame(0x01, b"\xf4"), frame(0x00, b"\x90")].concat(), UTF8)
            .or_else(frame(0x80, b"\x80\x80"));
    let text = "a text of several bytes each: \u{e9}\u{20ac}\u{1f600} ".repeat(20);
    let bytes = [frame(TEXT, text.as_bytes()), frame(PING, b"!")].concat();
    let echo = vec![(TEXT, text.clone().into_bytes()), (PONG, b"!".to_vec())];
    vec![
        row(
            "frames/utf8",
            must("RFC 6455 8.1"),
            "closed with 1007",
            invalid.iter().map(whole).collect(),
        ),
        row(
            "frames/utf8-fragments",
            must("RFC 6455 8.1"),
            "closed with 1007",
            invalid.iter().map(split).collect(),
        ),
        row(
            "frames/utf8-at-once",
            should("RFC 6455 8.1"),
            "closed with 1007, before the message ends",
            vec![inside, between],
        ),
        row(
            "frames/byte-at-a-time",
            must("RFC 6455 5.4"),
            "echo and pong",
            vec![Exchange::new("a byte a segment", bytes, Expect::Echoed(echo)).bytewise()],
        )
        .with_cost(),
    ]
}

fn closes() -> Vec<Row> {
    let echoed =
        |code: u16| Exchange::new(code.to_string(), close(code, "bye"), Expect::Closed(vec![code]));
    let refused = |code: u16| violation(code.to_string(), close(code, ""));
    // Codes that came after the RFC may be unknown.
    let defined = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011];
    let later = [1012, 1013, 1014];
    let private = [3000, 3999, 4000, 4999];
    let behind = [close(1000, ""), frame(TEXT, b"late")].concat();
    vec![
        row(
            "frames/close-codes",
            must("RFC 6455 5.5.1"),
            "the same code",
            defined.into_iter().chain(private).map(echoed).collect(),
        ),
        row(
            "frames/close-codes-registered-later",
            should("RFC 6455 11.7"),
            "the same code",
            later.into_iter().map(echoed).collect(),
        ),
        row(
            "frames/close-without-code",
            must("RFC 6455 5.5.1"),
            "closed with no code, or 1000",
            vec![Exchange::new("empty", frame(CLOSE, b""), Expect::Closed(vec![1005, 1000]))],
        ),
        row(
            "frames/close-codes-never-sent",
            must("RFC 6455 7.4.1, 7.4.2"),
            VIOLATION,
            [0, 999, 1005, 1006, 1015].into_iter().map(refused).collect(),
        ),
        row(
            "frames/close-codes-undefined",
            should("RFC 6455 7.4.2"),
            VIOLATION,
            [1004, 1016, 2000, 2999, 5000, 65535].into_iter().map(refused).collect(),
        ),
        row(
            "frames/close-one-byte",
            must("RFC 6455 5.5.1"),
            VIOLATION,
            vec![violation("one byte", frame(CLOSE, b"\x03"))],
        ),
        row(
            "frames/close-reason-utf8",
            must("RFC 6455 5.5.1, 8.1"),
            "closed with 1007 or 1002",
            vec![failing("\\xff", frame(CLOSE, b"\x03\xe8\xff"), &[1007, 1002])],
        ),
        row(
            "frames/data-behind-close",
            should("RFC 6455 1.4"),
            "the close frame, and no echo",
            vec![Exchange::new("a text", behind, Expect::Closed(vec![1000]))],
        ),
        Row::new(
            "frames/never-closing-peer",
            should("RFC 6455 7.1.1"),
            "the end, within --deadline-wait",
            Attack::Run(deadlines::never_closing_peer),
        ),
    ]
}

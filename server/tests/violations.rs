//! Each way to break RFC 6455 is answered with its close code, before TCP closes, as soon as the
//! bytes allow.

mod support;

use quelea::{Cause, CloseCode, Config};
use support::*;

struct Row {
    name: &'static str,
    /// All that is sent: its last byte is the first that shows the violation.
    bytes: Vec<u8>,
    code: u16,
}

fn rows() -> Vec<Row> {
    let row = |name, bytes: &[u8], code| Row { name, bytes: bytes.to_vec(), code };
    let masked = |first: u8, payload: &[u8]| frame(first, payload);
    let header = |first: u8, second: u8| vec![first, second];
    let mut rows = vec![
        row("5.2: RSV1 without an extension", &[0xc1], 1002),
        row("5.2: RSV2", &[0xa1], 1002),
        row("5.2: RSV3", &[0x91], 1002),
        row("5.1: a frame without a mask", &header(TEXT, 5), 1002),
        row("5.5: a fragmented ping", &[0x09], 1002),
        row("5.5: a fragmented close", &[0x08], 1002),
        row("5.5: a ping of 126 bytes", &header(PING, 0xfe), 1002),
        row("5.5: a close with a 64-bit length", &header(CLOSE, 0xff), 1002),
        row("5.4: a continuation of nothing", &[0x80], 1002),
        row("5.4: a text inside a text", &[&masked(0x01, b"a")[..], &[0x81]].concat(), 1002),
        row("5.4: a binary inside a text", &[&masked(0x01, b"a")[..], &[0x02]].concat(), 1002),
        row(
            "5.4: a continuation after the last fragment",
            &[&masked(0x02, b"a")[..], &masked(0x80, b"b"), &[0x80]].concat(),
            1002,
        ),
        row("5.2: a length with its top bit set", &[BINARY, 0xff, 0x80], 1002),
        row("5.2: 16 bits for a length of 125", &[BINARY, 0xfe, 0, 125], 1002),
        row(
            "5.2: 64 bits for a length of 65535",
            &[BINARY, 0xff, 0, 0, 0, 0, 0, 0, 255, 255],
            1002,
        ),
        row("5.5.1: a close payload of one byte", &header(CLOSE, 0x81), 1002),
        row("5.5.1: a close reason that is not UTF-8", &masked(CLOSE, b"\x03\xe8\xff"), 1007),
        row("5.6: a text that is not UTF-8", &masked(TEXT, b"a\xff"), 1007),
        row("5.6: a text that ends inside a character", &masked(TEXT, b"\xe2\x82"), 1007),
        row(
            "8.1: a surrogate, noticed inside the frame",
            &{
                let mut bytes = masked(TEXT, b"\xed\xa0 and much more");
                bytes.truncate(8);
                bytes
            },
            1007,
        ),
        row(
            "8.1: bad UTF-8 across fragments, noticed in the second",
            &{
                let mut bytes = [masked(0x01, b"\xf4"), masked(0x00, b"\x90 and more")].concat();
                bytes.truncate(7 + 7);
                bytes
            },
            1007,
        ),
        row("message_bytes_max, from the header alone", &[BINARY, 0xfe, 0x04, 0x01], 1009),
        row(
            "message_bytes_max, over fragments",
            &{
                let mut bytes = masked(0x02, &[0; 1000]);
                bytes.extend([0x00, 0x80 | 25]);
                bytes
            },
            1009,
        ),
        row("a length of 2^63 - 1", &[BINARY, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255], 1009),
        row(
            "fragments_max",
            &[masked(0x02, b"").as_slice(), &[0, 0x80, 1, 2, 3, 4].repeat(8)].concat(),
            1009,
        ),
    ];
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        rows.push(row("5.2: a reserved opcode", &[0x80 | opcode], 1002));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        rows.push(row(
            "7.4: a close code that may not be sent",
            &masked(CLOSE, &close(code, "")),
            1002,
        ));
    }
    rows
}

/// A header's mask has to be complete before some limits can show.
fn with_mask(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend([1, 2, 3, 4]);
    bytes
}

fn config() -> Config {
    Config { message_bytes_max: 1024, fragments_max: 8, ..Config::default() }
}

fn check(server: &Running, row: &Row, bytewise: bool) {
    let mut raw = server.open();
    if bytewise {
        raw.send_bytewise(&row.bytes);
    } else {
        raw.send(&row.bytes);
    }
    let (code, reason) = raw.read_close();
    assert_eq!(code, row.code, "{}: {reason}", row.name);
    assert!(!reason.is_empty(), "{}", row.name);
    let called = std::iter::repeat_with(|| server.called())
        .find(|called| !matches!(called, Called::Binary(_)))
        .unwrap();
    match called {
        Called::Close(reported, reported_reason, cause) => {
            assert_eq!((reported, &reported_reason), (code, &reason), "{}", row.name);
            let is_limit = matches!(cause, Cause::Limit(_));
            let is_protocol = matches!(cause, Cause::ProtocolError(_));
            assert_eq!((is_limit, is_protocol), (code == 1009, code != 1009), "{}", row.name);
        }
        other => panic!("{}: {other:?}", row.name),
    }
}

#[test]
fn each_violation_in_one_segment_gets_its_close_code() {
    let server = Running::start_with(config(), "127.0.0.1:0");
    for row in rows() {
        check(&server, &complete(row), false);
    }
    assert!(server.is_silent(), "on_close is called once");
}

#[test]
fn each_violation_a_byte_at_a_time_gets_its_close_code() {
    let server = Running::start_with(config(), "127.0.0.1:0");
    for row in rows() {
        check(&server, &complete(row), true);
    }
    assert!(server.is_silent(), "on_close is called once");
}

/// Limits on lengths are checked once the header is complete, mask included.
fn complete(row: Row) -> Row {
    let is_open_header = row.code == 1009 && !row.name.starts_with("fragments");
    Row { bytes: if is_open_header { with_mask(row.bytes) } else { row.bytes }, ..row }
}

#[test]
fn what_is_sent_after_a_violation_does_not_destroy_the_close_frame() {
    let server = Running::start();
    let mut raw = server.open();
    let mut bytes = vec![0x83];
    bytes.extend(vec![0xaa; 300_000]);
    raw.send(&bytes);
    assert_eq!(raw.read_close().0, CloseCode::PROTOCOL_ERROR.0);
}

#[test]
fn a_violation_touches_no_other_connection() {
    let server = Running::start();
    let mut good = server.open();
    let mut bad = server.open();
    bad.send(&[0xff]);
    assert_eq!(bad.read_close().0, 1002);
    good.send(&frame(TEXT, b"still here"));
    assert_eq!(good.read_frame(), (TEXT, b"still here".to_vec()));
}

//! Frames that break the protocol, or never end.

use crate::support::*;
use quelea::{Cause, Config};
use std::{io::Write, thread::sleep, time::Duration};

const MOMENT: Duration = Duration::from_millis(50);

/// Holds that a connection is served, and that the handler has heard of nothing else.
fn is_served(server: &Running, calm: &mut Raw) {
    calm.send(&frame(TEXT, b"calm"));
    assert_eq!(calm.read_frame(), (TEXT, b"calm".to_vec()));
    assert_eq!(server.called(), Called::Text("calm".into()));
}

/// The next end of a connection that the handler is told of.
fn ended(server: &Running) -> (u16, Cause) {
    let mut calls = std::iter::repeat_with(|| server.called());
    let found = calls.find_map(|called| match called {
        Called::Close(code, _, cause) => Some((code, cause)),
        _ => None,
    });
    found.unwrap()
}

/// Goes on sending until the server has ended the connection: it may take what it likes, but not for
/// ever.
fn send_until_it_ends(raw: &mut Raw, bytes: &[u8]) {
    let ended = (0..2_000).any(|_| {
        sleep(Duration::from_millis(5));
        raw.stream.write_all(bytes).is_err()
    });
    assert!(ended, "it is still listened to");
}

#[test]
fn fragments_are_counted_whatever_stands_between_them() {
    let config = Config { fragments_max: 8, ..Config::default() };
    let server = Running::start_with(config, "127.0.0.1:0");
    let mut calm = server.open();
    let mut bytes = frame(0x01, b"");
    for number in 0..20 {
        bytes.extend([frame(PING, &[number]), frame(PONG, b""), frame(0x00, b"")].concat());
    }
    for is_bytewise in [false, true] {
        let mut raw = server.open();
        if is_bytewise {
            raw.send_bytewise(&bytes);
        } else {
            raw.send(&bytes);
        }
        for number in 0..8 {
            assert_eq!(raw.read_frame(), (PONG, vec![number]), "in time, and in order");
        }
        assert_eq!(raw.read_close().0, 1009);
        let (code, cause) = ended(&server);
        assert!(code == 1009 && matches!(cause, Cause::Limit(_)), "{code} {cause:?}");
        is_served(&server, &mut calm);
    }
}

#[test]
fn a_message_that_is_never_finished_is_no_message() {
    let config = Config { idle_timeout: Some(6 * MOMENT), ..Config::default() };
    let server = Running::start_with(config, "127.0.0.1:0");
    let mut raw = server.open();
    raw.send(&frame(0x01, b"on "));
    for _ in 0..12 {
        sleep(MOMENT);
        raw.send(&[frame(0x00, b"and on "), frame(PING, b"")].concat());
    }
    while raw.read_frame().0 != CLOSE {}
    raw.send(&frame(CLOSE, &close(1000, "")));
    assert_eq!(ended(&server), (1000, Cause::Idle));
}

#[test]
fn a_length_that_no_message_has_is_refused_wherever_it_stands() {
    let server = Running::start();
    let mut calm = server.open();
    let top_bit = |first: u8| vec![first, 0xff, 0x80];
    let longest = |first: u8| [&[first, 0xff, 0x7f][..], &[0xff; 7], &[1, 2, 3, 4]].concat();
    let begun = frame(0x02, b"begun");
    let mut rows = Vec::new();
    for (before, first) in [
        (&[][..], TEXT),
        (&[], BINARY),
        (&[], 0x01),
        (&[], 0x02),
        (&begun, 0x00),
        (&begun, 0x80),
        (&frame(TEXT, b"whole"), TEXT),
    ] {
        rows.push(([before, &top_bit(first)].concat(), 1002));
        rows.push(([before, &longest(first)].concat(), 1009));
    }
    // A control frame has no long form at all, and need not be waited for.
    for before in [&[][..], &begun] {
        for first in [PING, PONG, CLOSE] {
            for second in [0xfe, 0xff] {
                rows.push(([before, &[first, second]].concat(), 1002));
            }
        }
    }
    for (bytes, code) in rows {
        for is_bytewise in [false, true] {
            let mut raw = server.open();
            if is_bytewise {
                raw.send_bytewise(&bytes);
            } else {
                raw.send(&bytes);
            }
            assert_eq!(raw.read_close().0, code, "{bytes:02x?}");
            assert_eq!(ended(&server).0, code, "{bytes:02x?}");
        }
    }
    is_served(&server, &mut calm);
}

#[test]
fn who_breaks_the_protocol_and_goes_on_is_listened_to_until_the_deadline_only() {
    let config = Config { close_timeout: 4 * MOMENT, ..Config::default() };
    let server = Running::start_with(config, "127.0.0.1:0");
    let mut calm = server.open();
    let mut open = server.open();
    open.send(&[0xff]);
    assert_eq!(ended(&server).0, 1002);
    send_until_it_ends(&mut open, &frame(TEXT, b"still there?"));
    let mut refused = server.connect();
    refused.send(b"\x16\x03\x01");
    assert!(refused.read_head().starts_with("HTTP/1.1 400 "));
    send_until_it_ends(&mut refused, b"GET / HTTP/1.1\r\n");
    is_served(&server, &mut calm);
}

#[test]
fn who_talks_on_instead_of_closing_is_heard_no_more_and_ended_at_the_deadline() {
    let config = Config { close_timeout: 4 * MOMENT, ..Config::default() };
    let server = Running::start_with(config, "127.0.0.1:0");
    let mut calm = server.open();
    let mut raw = server.open();
    raw.send(&frame(TEXT, b"close 4000"));
    assert!(matches!(server.called(), Called::Text(_)));
    assert!(matches!(server.called(), Called::Sent(_)));
    send_until_it_ends(&mut raw, &[frame(TEXT, b"but"), frame(PING, b"?")].concat());
    let end = server.called();
    assert_eq!(end, Called::Close(1006, String::new(), Cause::TimedOut));
    is_served(&server, &mut calm);
}

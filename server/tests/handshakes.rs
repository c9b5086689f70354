//! Each bad handshake gets its HTTP status, whole or a byte at a time, and then the connection ends.

mod support;

use quelea::{Config, HeadLimits, OriginPolicy};
use std::{io::Write, time::Duration};
use support::*;

struct Row {
    name: &'static str,
    request: String,
    status: u16,
    /// What has to stand in the answer's head.
    contains: &'static str,
}

fn rows() -> Vec<Row> {
    let row = |name, request: String, status| Row { name, request, status, contains: "" };
    let upgrade = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n");
    let without = |field: &str| {
        let kept = HANDSHAKE.lines().filter(|line| !line.starts_with(field));
        kept.map(|line| format!("{line}\r\n")).collect::<String>()
    };
    let with = |field: &str| format!("{HANDSHAKE}{field}\r\n");
    let replaced = |from: &str, to: &str| {
        assert!(HANDSHAKE.contains(from));
        HANDSHAKE.replace(from, to)
    };
    let versions = Row {
        contains: "Sec-WebSocket-Version: 13\r\n",
        ..row("4.4: version 8", upgrade(&replaced("13", "8")), 426)
    };
    let method = Row {
        contains: "Allow: GET\r\n",
        ..row("4.1: POST with an upgrade", upgrade(HANDSHAKE).replace("GET", "POST"), 405)
    };
    let plain_method = Row {
        contains: "Allow: GET, HEAD\r\n",
        ..row("a plain DELETE", "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405)
    };
    vec![
        versions,
        method,
        plain_method,
        row("4.1: no version", upgrade(&without("Sec-WebSocket-Version")), 426),
        row("4.1: no key", upgrade(&without("Sec-WebSocket-Key")), 400),
        row("4.1: a short key", upgrade(&replaced("dGhl", "")), 400),
        row("4.1: two keys", upgrade(&with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")), 400),
        row("4.1: no Upgrade", upgrade(&without("Upgrade")), 400),
        row("4.1: no Connection", upgrade(&without("Connection")), 400),
        row("4.1: no Host", upgrade(&without("Host")), 400),
        row("4.1: two hosts", upgrade(&with("Host: b")), 400),
        row("4.1: HTTP/1.0", upgrade(HANDSHAKE).replace("HTTP/1.1", "HTTP/1.0"), 400),
        row("HTTP/2.0", upgrade(HANDSHAKE).replace("HTTP/1.1", "HTTP/2.0"), 505),
        row("9.1: no list of extensions", upgrade(&with("Sec-WebSocket-Extensions: a b")), 400),
        row("4.1: repeated subprotocols", upgrade(&with("Sec-WebSocket-Protocol: a, a")), 400),
        row("10.2: another origin", upgrade(&with("Origin: http://evil.com")), 403),
        row(
            "10.2: an origin that only ends alike",
            upgrade(&with("Origin: http://evil127.0.0.1")),
            403,
        ),
        row("10.2: origin null", upgrade(&with("Origin: null")), 403),
        row("a body on the upgrade", upgrade(&with("Content-Length: 5")) + "hello", 400),
        row("an encoded body", upgrade(&with("Transfer-Encoding: chunked")) + "0\r\n\r\n", 400),
        row("two lengths", upgrade(&with("Content-Length: 0\r\nContent-Length: 0")), 400),
        row(
            "length and encoding",
            upgrade(&with("Content-Length: 1\r\nTransfer-Encoding: chunked")),
            400,
        ),
        row("a field without a colon", upgrade(&with("Broken")), 400),
        row("a space before the colon", upgrade(&with("X : y")), 400),
        row("a folded line", upgrade(&with("X: a\r\n b")), 400),
        row("a bare LF", upgrade(&with("X: a\nY: b")), 400),
        row("a NUL in a value", upgrade(&with("X: \0")), 400),
        row("no HTTP", "\x16\x03\x01\x02".into(), 400),
        row("a head too long", upgrade(&with(&format!("X: {}", "y".repeat(5000)))), 431),
        row("a line that never ends", format!("GET /{}", "y".repeat(5000)), 431),
        row("too many fields", upgrade(&with("X: y\r\n".repeat(30).trim_end())), 431),
        row("refused by the handler", upgrade(HANDSHAKE).replace("GET /", "GET /refused"), 401),
        row("no such path", upgrade(HANDSHAKE).replace("GET /", "GET /missing"), 404),
        row(
            "a subprotocol that was not offered",
            upgrade(HANDSHAKE).replace("GET /", "GET /subprotocol"),
            500,
        ),
    ]
}

fn config() -> Config {
    Config { head: HeadLimits { bytes_max: 4096, fields_max: 20 }, ..Config::default() }
}

fn check(server: &Running, row: &Row, bytewise: bool) {
    let mut raw = server.connect();
    if bytewise {
        raw.send_bytewise(row.request.as_bytes());
    } else {
        raw.send(row.request.as_bytes());
    }
    let (head, _) = raw.read_response();
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", row.status)), "{}: {head}", row.name);
    assert!(head.contains(row.contains), "{}: {head}", row.name);
    assert!(
        head.contains("Connection: close\r\n") || head.contains("Connection: close, "),
        "{head}"
    );
    assert!(raw.is_at_end(), "{}", row.name);
}

#[test]
fn each_bad_handshake_in_one_segment_gets_its_status() {
    let server = Running::start_with(config(), "127.0.0.1:0");
    for row in rows() {
        check(&server, &row, false);
    }
    assert!(server.is_silent(), "no handler sees a connection that never opened");
}

#[test]
fn each_bad_handshake_a_byte_at_a_time_gets_its_status() {
    let server = Running::start_with(config(), "127.0.0.1:0");
    for row in rows() {
        check(&server, &row, true);
    }
    assert!(server.is_silent(), "no handler sees a connection that never opened");
}

#[test]
fn frames_sent_before_the_101_are_refused() {
    let server = Running::start();
    let mut raw = server.connect();
    let mut bytes = format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").into_bytes();
    bytes.extend(frame(TEXT, b"too early"));
    raw.send(&bytes);
    let (head, body) = raw.read_response();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(body.contains("before its answer"), "{body}");
}

#[test]
fn an_offered_subprotocol_and_own_fields_are_answered() {
    let server = Running::start();
    let mut raw = server.connect();
    let fields = format!("{HANDSHAKE}Sec-WebSocket-Protocol: a, b\r\n");
    raw.send(format!("GET /subprotocol HTTP/1.1\r\n{fields}\r\n").as_bytes());
    let head = raw.read_head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.contains("Sec-WebSocket-Protocol: b\r\n") && head.contains("X-Own: yes\r\n"),
        "{head}"
    );
    assert_eq!(server.called(), Called::Open);
}

#[test]
fn extensions_that_are_offered_are_ignored() {
    let server = Running::start();
    let mut raw = server.connect();
    let fields = format!("{HANDSHAKE}Sec-WebSocket-Extensions: permessage-deflate\r\n");
    raw.send(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
    let head = raw.read_head();
    assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains("Extensions"), "{head}");
}

#[test]
fn an_allowed_origin_connects() {
    let list = OriginPolicy::List(vec!["https://good.com".parse().unwrap()]);
    for (origins, origin) in [
        (OriginPolicy::SameHost, "http://127.0.0.1"),
        (OriginPolicy::Any, "http://evil.com"),
        (list, "https://good.com:443"),
    ] {
        let server = Running::start_with(Config { origins, ..Config::default() }, "127.0.0.1:0");
        let mut raw = server.connect();
        raw.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}Origin: {origin}\r\n\r\n").as_bytes());
        assert!(raw.read_head().starts_with("HTTP/1.1 101 "), "{origin}");
    }
}

#[test]
fn plain_requests_are_answered_one_after_the_other_on_one_connection() {
    let server = Running::start();
    let mut raw = server.connect();
    let get = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    raw.send(format!("{get}{get}").as_bytes());
    for _ in 0..2 {
        let (head, body) = raw.read_response();
        assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("Connection"), "{head}");
        assert_eq!(body, "a page\n");
    }
    raw.send(b"HEAD /page HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(raw.read_head().contains("Content-Length: 7\r\n"));
    raw.send(b"GET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(raw.read_response().0.contains("Connection: close\r\n"));
    assert!(raw.is_at_end());
}

#[test]
fn a_plain_request_to_a_websocket_server_is_told_to_upgrade() {
    let server = Running::start();
    let mut raw = server.connect();
    raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, _) = raw.read_response();
    assert!(head.starts_with("HTTP/1.1 426 ") && head.contains("Upgrade: websocket\r\n"), "{head}");
}

#[test]
fn a_plain_request_can_be_followed_by_an_upgrade() {
    let server = Running::start();
    let mut raw = server.connect();
    raw.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
    raw.read_response();
    raw.upgrade("/");
    assert_eq!(server.called(), Called::Open);
}

#[test]
fn a_response_that_cannot_be_sent_is_a_500() {
    let server = Running::start();
    let mut raw = server.connect();
    raw.send(b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(raw.read_response().0.starts_with("HTTP/1.1 500 "));
}

#[test]
fn a_head_that_takes_too_long_is_a_408_and_silence_just_ends() {
    let handshake_timeout = Duration::from_millis(100);
    let config = Config { handshake_timeout, ..Config::default() };
    let server = Running::start_with(config, "127.0.0.1:0");
    let mut silent = server.connect();
    let mut slow = server.connect();
    slow.send(b"GET / HTTP/1.1\r\nHost");
    assert!(slow.read_response().0.starts_with("HTTP/1.1 408 "));
    assert!(slow.is_at_end());
    assert!(silent.is_at_end());
}

#[test]
fn an_open_connection_has_no_handshake_deadline() {
    let handshake_timeout = Duration::from_millis(100);
    let config = Config { handshake_timeout, ..Config::default() };
    let server = Running::start_with(config, "127.0.0.1:0");
    let mut raw = server.open();
    let mut other = server.connect();
    assert!(other.is_at_end(), "the deadline has passed");
    raw.send(&frame(TEXT, b"here"));
    assert_eq!(raw.read_frame(), (TEXT, b"here".to_vec()));
}

#[test]
fn beyond_the_connection_limit_there_is_a_503_until_one_leaves() {
    let config = Config { connections_max: 2, ..Config::default() };
    let server = Running::start_with(config, "127.0.0.1:0");
    let (mut first, _second) = (server.open(), server.open());
    let mut third = server.connect();
    third.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
    let (head, _) = third.read_response();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: 1\r\n"), "{head}");
    drop(third);
    first.send(&frame(CLOSE, &close(1000, "")));
    first.read_close();
    assert!(matches!(server.called(), Called::Close(1000, ..)));
    // Both are gone for the server soon after: a client tries again, as it was told to.
    let connected = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let mut raw = server.connect();
        raw.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
        raw.read_head().starts_with("HTTP/1.1 101 ")
    });
    assert!(connected);
}

#[test]
fn a_client_that_leaves_inside_its_handshake_leaves_nothing_behind() {
    let config = Config { connections_max: 4, ..Config::default() };
    let server = Running::start_with(config, "127.0.0.1:0");
    for number in 0..200 {
        let mut raw = server.connect();
        let request = format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n");
        let _ = raw.stream.write_all(&request.as_bytes()[..number % request.len()]);
    }
    let connected = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let mut raw = server.connect();
        raw.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
        raw.read_head().starts_with("HTTP/1.1 101 ")
    });
    assert!(connected);
}

//! Requests that are none, are odd, or never end.

use crate::support::*;
use quelea::{Config, HeadLimits, OriginPolicy};
use std::{
    io::{ErrorKind, Read},
    thread::sleep,
    time::{Duration, Instant},
};

const MOMENT: Duration = Duration::from_millis(50);

fn start(config: Config) -> Running {
    Running::start_with(config, "127.0.0.1:0")
}

fn is_served(calm: &mut Raw) {
    calm.send(&frame(TEXT, b"calm"));
    assert_eq!(calm.read_frame(), (TEXT, b"calm".to_vec()));
}

/// The status of the answer to these bytes, whole or a byte at a time.
fn status_of(server: &Running, bytes: &[u8], is_bytewise: bool) -> String {
    let mut raw = server.connect();
    if is_bytewise {
        raw.send_bytewise(bytes);
    } else {
        raw.send(bytes);
    }
    let head = raw.read_head();
    let status = head.strip_prefix("HTTP/1.1 ").unwrap();
    status[..3].to_owned()
}

fn check(server: &Running, bytes: &[u8], status: &str) {
    for is_bytewise in [false, true] {
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
        assert_eq!(status_of(server, bytes, is_bytewise), status, "{name:?} {is_bytewise}");
    }
}

fn upgrade(target: &str, fields: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\n{fields}\r\n").into_bytes()
}

/// Sends a byte every few milliseconds until there is an answer, or the end; returns how many, and
/// the answer.
fn drip(raw: &mut Raw, bytes: impl Iterator<Item = u8>) -> (usize, String) {
    raw.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut answer = vec![0];
    for (count, byte) in bytes.enumerate() {
        raw.send(&[byte]);
        match raw.stream.read(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            ended => {
                answer.truncate(ended.unwrap());
                raw.stream.set_read_timeout(Some(PATIENCE)).unwrap();
                raw.stream.read_to_end(&mut answer).unwrap();
                return (count + 1, String::from_utf8(answer).unwrap());
            }
        }
    }
    panic!("it took all of them");
}

fn head_without_end() -> impl Iterator<Item = u8> {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ";
    head.iter().copied().chain(std::iter::repeat_n(b'y', 200))
}

#[test]
fn a_head_that_drips_in_has_one_deadline_not_one_for_each_byte() {
    let timeout = 10 * MOMENT;
    let server = start(Config { handshake_timeout: timeout, ..Config::default() });
    let mut calm = server.open();
    for is_second in [false, true] {
        let mut raw = server.connect();
        if is_second {
            raw.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n");
            raw.read_response();
        }
        let start = Instant::now();
        let (_, answer) = drip(&mut raw, head_without_end());
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(start.elapsed() >= timeout - MOMENT, "{:?}", start.elapsed());
        is_served(&mut calm);
    }
}

#[test]
fn one_that_is_refused_has_a_second_to_ask_however_often_a_byte_comes() {
    let server = start(Config { connections_max: 1, ..Config::default() });
    let mut calm = server.open();
    let mut raw = server.connect();
    let (_, answer) = drip(&mut raw, head_without_end());
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    is_served(&mut calm);
}

#[test]
fn those_that_drip_keep_the_others_out_until_their_deadline_only() {
    let config = Config {
        handshakes_pending_max: 20,
        handshake_timeout: 10 * MOMENT,
        close_timeout: 2 * MOMENT,
        ..Config::default()
    };
    let server = start(config);
    let mut calm = server.open();
    let mut slow: Vec<_> = (0..20).map(|_| server.connect()).collect();
    let mut is_let_in = false;
    let mut refused = 0;
    for byte in head_without_end() {
        for raw in &mut slow {
            // Those that have had their time are closed.
            let _ = std::io::Write::write_all(&mut raw.stream, &[byte]);
        }
        sleep(MOMENT / 5);
        is_served(&mut calm);
        let mut raw = server.connect();
        raw.send(&upgrade("/", HANDSHAKE));
        is_let_in = raw.read_head().starts_with("HTTP/1.1 101 ");
        if is_let_in {
            break;
        }
        refused += 1;
    }
    assert!(is_let_in && refused > 0, "{is_let_in} {refused}");
}

#[test]
fn what_is_no_http_is_refused_as_soon_as_that_shows() {
    let server = start(Config::default());
    let mut calm = server.open();
    // A TLS 1.3 ClientHello: record, handshake, version, random, and what may look like an empty line.
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    hello.extend([0x0d, 0x0a, 0x0d, 0x0a].repeat(120));
    for (bytes, status) in [
        (&hello[..], "400"),
        (&hello[..1], "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "505"),
        (b"PRI * HTTP/2.0\r\n", "505"),
        (b"GET /\r\n", "400"),
        (b"GET /\n", "400"),
        (b"GET / HTTP/1.1\n", "400"),
        (b"GET / HTTP/1.2\r\n\r\n", "505"),
        (b"GET / HTTP/11\r\n", "505"),
        (b"GET / http/1.1\r\n", "505"),
        (b"GET\t/\tHTTP/1.1\r\n", "400"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "400"),
        (b"EHLO a\r\n", "400"),
        (b"*1\r\n$4\r\nPING\r\n", "400"),
        (b"{\"json\": 1}", "400"),
        (b"\xef\xbb\xbfGET / HTTP/1.1\r\n", "400"),
        (b"\r\n\r\n\r\n", "400"),
        (b"\n", "400"),
        (b"\0", "400"),
        (b" GET / HTTP/1.1\r\n", "400"),
        (b"\x81\x85\x01\x02\x03\x04hello", "400"),
    ] {
        check(&server, bytes, status);
    }
    is_served(&mut calm);
}

#[test]
fn a_target_is_of_one_of_the_known_forms_or_refused() {
    let server = start(Config::default());
    let mut calm = server.open();
    for (target, status) in [
        ("/", "101"),
        ("//evil.com/", "101"),
        ("/../../etc/passwd", "101"),
        ("/%00%0d%0a", "101"),
        ("http://127.0.0.1/", "101"),
        ("ws://127.0.0.1", "101"),
        ("*", "400"),
        ("", "400"),
        ("evil.com/", "400"),
        ("evil.com:80", "400"),
        ("http:///", "400"),
        ("http://user@127.0.0.1/", "400"),
        ("http://127.0.0.1:99999/", "400"),
        ("http://127.0.0.1\\@evil.com/", "400"),
        ("/#fragment", "400"),
        ("/a b", "505"),
        ("/\t", "400"),
        ("/\u{e9}", "400"),
        ("/\0", "400"),
    ] {
        check(&server, &upgrade(target, HANDSHAKE), status);
    }
    for (request, status) in [
        ("CONNECT 127.0.0.1:80", "405"),
        ("CONNECT /", "400"),
        ("OPTIONS *", "405"),
        ("HEAD /", "405"),
        ("get /", "405"),
        ("G\u{e9}T /", "400"),
    ] {
        let bytes = format!("{request} HTTP/1.1\r\n{HANDSHAKE}\r\n");
        check(&server, bytes.as_bytes(), status);
    }
    is_served(&mut calm);
}

#[test]
fn odd_values_of_the_fields_that_count_are_refused() {
    let server = start(Config::default());
    let mut calm = server.open();
    let odd: [&[u8]; 10] = [
        b"\xff\xfe",
        "\u{e9}".as_bytes(),
        b"a\0b",
        b"a\rb",
        b"a\nb",
        b"a\x7fb",
        b"a\r\n b",
        b"a\r\n\tb",
        b"\"quoted\"",
        b"a b",
    ];
    for field in [
        "Host",
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Origin",
    ] {
        let others = HANDSHAKE.lines().filter(|line| !line.starts_with(field));
        let others: String = others.map(|line| format!("{line}\r\n")).collect();
        for value in odd {
            let start = format!("GET / HTTP/1.1\r\n{others}{field}: ");
            let bytes = [start.as_bytes(), value, b"\r\n\r\n"].concat();
            let is_control = value.iter().any(u8::is_ascii_control);
            let status = match field {
                _ if is_control => "400",
                "Sec-WebSocket-Version" => "426",
                "Origin" => "403",
                _ => "400",
            };
            check(&server, &bytes, status);
        }
    }
    // What does not count may be odd, as long as it can end no line.
    check(&server, &upgrade("/", &format!("{HANDSHAKE}Cookie: \u{e9}\r\n")), "101");
    is_served(&mut calm);
}

#[test]
fn fields_that_may_stand_once_are_refused_twice_and_long_lists_are_just_read() {
    let server = start(Config::default());
    let mut calm = server.open();
    for (field, status) in [
        ("Host: 127.0.0.1", "400"),
        ("host: 127.0.0.1", "400"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "400"),
        ("SEC-WEBSOCKET-VERSION: 13", "426"),
        ("Origin: http://127.0.0.1\r\nOrigin: http://127.0.0.1", "403"),
        ("Upgrade: websocket", "101"),
        ("Connection: Upgrade, Upgrade", "101"),
    ] {
        check(&server, &upgrade("/", &format!("{HANDSHAKE}{field}\r\n")), status);
    }
    let without = |field: &str| {
        let others = HANDSHAKE.lines().filter(|line| !line.starts_with(field));
        others.map(|line| format!("{line}\r\n")).collect::<String>()
    };
    let many = "a,".repeat(6_000);
    for (fields, status) in [
        (format!("{}Connection: {many}Upgrade\r\n", without("Connection")), "101"),
        (format!("{}Connection: {many}\r\n", without("Connection")), "400"),
        (format!("{}Upgrade: {}websocket\r\n", without("Upgrade"), ",".repeat(12_000)), "101"),
        (format!("{HANDSHAKE}Sec-WebSocket-Protocol: {many}\r\n"), "400"),
        (format!("{HANDSHAKE}Sec-WebSocket-Extensions: {many}\r\n"), "101"),
    ] {
        check(&server, &upgrade("/", &fields), status);
    }
    is_served(&mut calm);
}

#[test]
fn a_page_of_another_origin_is_refused_however_it_is_spelled() {
    let table = [
        ("good.com", "http://good.com", true),
        ("good.com", "HTTPS://GOOD.COM:443", true),
        ("good.com", "http://evilgood.com", false),
        ("good.com", "http://good.com.evil.com", false),
        ("good.com", "http://good.com@evil.com", false),
        ("good.com", "http://evil.com?good.com", false),
        ("good.com", "http://evil.com#good.com", false),
        ("good.com", "http://evil.com/good.com", false),
        ("good.com", "http://evil.com\\good.com", false),
        ("good.com", "http://good.com.", false),
        ("good.com", "http://sub.good.com", false),
        ("good.com", "http://good.com:8080", false),
        ("good.com", "http://good.com, http://evil.com", false),
        ("good.com", "http://evil.com http://good.com", false),
        ("good.com", "file://good.com", false),
        ("good.com", "//good.com", false),
        ("good.com", "good.com", false),
        ("good.com", "null", false),
        ("good.com", "", false),
        ("127.0.0.1", "http://127.1", false),
        ("127.0.0.1", "http://2130706433", false),
        ("", "http://", false),
    ];
    let list = vec!["http://good.com".parse().unwrap()];
    for origins in [OriginPolicy::SameHost, OriginPolicy::List(list)] {
        let is_list = origins != OriginPolicy::SameHost;
        let server = start(Config { origins, ..Config::default() });
        let mut calm = server.open();
        for (host, origin, is_allowed) in table {
            let fields = HANDSHAKE.replace("Host: 127.0.0.1", &format!("Host: {host}"));
            let bytes = upgrade("/", &format!("{fields}Origin: {origin}\r\n"));
            // A list knows the scheme as well.
            let is_allowed = is_allowed && !(is_list && origin.starts_with("HTTPS"));
            let status = if is_allowed { "101" } else { "403" };
            assert_eq!(status_of(&server, &bytes, false), status, "{host} {origin} {is_list}");
        }
        is_served(&mut calm);
    }
    // The target of a request goes before its Host.
    let server = start(Config::default());
    for (origin, status) in [("http://good.com", "101"), ("http://127.0.0.1", "403")] {
        let bytes = upgrade("http://good.com/", &format!("{HANDSHAKE}Origin: {origin}\r\n"));
        assert_eq!(status_of(&server, &bytes, false), status, "{origin}");
    }
}

#[test]
fn a_head_at_its_limits_is_taken_and_one_beyond_them_is_not() {
    let head = HeadLimits { bytes_max: 1000, fields_max: 10 };
    let server = start(Config { head, ..Config::default() });
    let whole_of = |len: usize| {
        let empty = upgrade("/", &format!("{HANDSHAKE}X: \r\n")).len();
        upgrade("/", &format!("{HANDSHAKE}X: {}\r\n", "y".repeat(len - empty)))
    };
    check(&server, &whole_of(1000), "101");
    check(&server, &whole_of(1001), "431");
    let fields = |count: usize| upgrade("/", &format!("{HANDSHAKE}{}", "X: y\r\n".repeat(count)));
    check(&server, &fields(10 - 5), "101");
    check(&server, &fields(10 - 5 + 1), "431");
}

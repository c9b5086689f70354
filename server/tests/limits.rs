//! Who is let in, how much a peer may ask for, and how long it may live.
#![expect(clippy::disallowed_methods, reason = "a test measures time")]

mod support;

use quelea::{Cause, Config, Conn, Handler, Message, SubscribeStatus};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use support::*;

fn closed(code: u16, reason: &str, cause: Cause) -> Called {
    Called::Close(code, reason.into(), cause)
}

fn start(config: Config) -> Running {
    Running::start_with(config, "127.0.0.1:0")
}

const SOON: Duration = Duration::from_millis(100);

/// Asks for a WebSocket, and is refused.
fn is_refused(server: &Running, status: &str) {
    let mut raw = server.connect();
    raw.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
    let (head, body) = raw.read_response();
    assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
    assert!(
        head.contains("\r\nRetry-After: 1\r\n") && head.contains("Connection: close"),
        "{head}"
    );
    assert!(body.ends_with('\n') && body.len() > 10, "{body}");
    assert!(raw.is_at_end());
}

/// Asks again and again until it is let in: the server hears of those that leave in its own time.
fn is_let_in_at_last(server: &Running) -> Raw {
    let start = Instant::now();
    loop {
        let mut raw = server.connect();
        raw.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
        if raw.read_head().starts_with("HTTP/1.1 101") {
            return raw;
        }
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn connections_beyond_the_limit_of_all_workers_get_503_until_one_leaves() {
    let server = start(Config { connections_max: 2, ..Config::default() });
    let first = server.open();
    let mut second = server.open();
    is_refused(&server, "503");
    drop(first);
    assert_eq!(server.called(), closed(1006, "", Cause::Disconnected));
    let _third = is_let_in_at_last(&server);
    second.send(&frame(TEXT, b"hello"));
    assert_eq!(second.read_frame().1, b"hello");
}

#[test]
fn connections_of_one_address_beyond_its_limit_get_429_and_others_are_let_in() {
    let server = start(Config { connections_per_address_max: Some(1), ..Config::default() });
    let first = server.open();
    is_refused(&server, "429");
    let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    other.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    other.connect(&server.tcp_address().into()).unwrap();
    let mut other = Raw::new(other.into());
    other.upgrade("/");
    drop(first);
    let _second = is_let_in_at_last(&server);
}

#[test]
fn an_address_that_is_refused_takes_nothing_from_the_others() {
    let server = start(Config {
        connections_per_address_max: Some(2),
        handshakes_pending_max: 5,
        connections_max: 6,
        ..Config::default()
    });
    // They say nothing, so that nobody can be told that they are too many.
    let silent: Vec<_> = (0..20).map(|_| server.connect()).collect();
    std::thread::sleep(SOON);
    let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    other.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    other.connect(&server.tcp_address().into()).unwrap();
    Raw::new(other.into()).upgrade("/");
    drop(silent);
}

#[test]
fn connections_that_are_not_open_yet_have_a_limit_of_their_own() {
    let server = start(Config { handshakes_pending_max: 2, ..Config::default() });
    let mut open: Vec<_> = (0..5).map(|_| server.open()).collect();
    let mut idle: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for raw in &mut idle {
        raw.send(b"GET / HTTP/1.1\r\n");
    }
    std::thread::sleep(SOON);
    is_refused(&server, "503");
    drop(idle);
    open.push(is_let_in_at_last(&server));
}

#[test]
fn handshakes_beyond_the_rate_get_503_and_the_open_ones_go_on() {
    let config = Config {
        handshakes_per_second_max: Some(3),
        // Each worker has its own rate.
        workers: Some(1),
        ..Config::default()
    };
    let server = subscribers(config);
    let mut open: Vec<_> = (0..3)
        .map(|_| {
            let mut raw = server.connect();
            raw.upgrade("/");
            raw
        })
        .collect();
    let mut raw = server.connect();
    raw.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
    let (head, _) = raw.read_response();
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("Retry-After: 1"), "{head}");
    for raw in &mut open {
        raw.send(&frame(TEXT, b"x"));
        assert_eq!(raw.read_frame().1, b"Subscribed");
    }
    std::thread::sleep(Duration::from_millis(500));
    let mut raw = server.connect();
    raw.upgrade("/");
}

#[test]
fn a_flood_of_messages_or_pings_is_closed_with_1008() {
    // A pong is written before the ping is counted.
    for (first, answers_max) in [(TEXT, 10), (PING, 11)] {
        let server = start(Config { messages_per_second_max: Some(10), ..Config::default() });
        let mut raw = server.open();
        let mut calm = server.open();
        let flood: Vec<u8> = std::iter::repeat_n(frame(first, b"x"), 50).flatten().collect();
        raw.send(&flood);
        let answers = std::iter::repeat_with(|| raw.read_frame().0);
        // What was within the limit is answered.
        assert_eq!(answers.take_while(|first| *first != CLOSE).count(), answers_max);
        raw.send(&frame(CLOSE, &close(1008, "")));
        for _ in 0..10 {
            assert!(matches!(server.called(), Called::Text(_) | Called::Ping(_)));
        }
        assert_eq!(server.called(), closed(1008, "", Cause::TooFast));
        calm.send(&frame(TEXT, b"calm"));
        assert_eq!(calm.read_frame().1, b"calm");
    }
}

#[test]
fn a_flood_of_bytes_is_closed_with_1008_though_the_peer_does_not_answer() {
    let server = start(Config {
        message_bytes_max: 10_000,
        bytes_per_second_max: Some(20_000),
        close_timeout: SOON,
        ..Config::default()
    });
    let mut raw = server.open();
    for _ in 0..3 {
        raw.send(&frame(BINARY, &[1; 9_000]));
    }
    for _ in 0..2 {
        assert!(matches!(server.called(), Called::Binary(_)));
    }
    assert_eq!(server.called(), closed(1006, "", Cause::TooFast));
    let (code, reason) = raw.read_close();
    assert_eq!((code, reason.as_str()), (1008, "too much in a second"));
}

#[test]
fn a_peer_that_sends_no_message_is_idle_whatever_else_it_sends() {
    let server = start(Config { idle_timeout: Some(3 * SOON), ..Config::default() });
    let mut raw = server.open();
    let mut busy = server.open();
    for _ in 0..8 {
        std::thread::sleep(SOON / 2);
        raw.send(&frame(PING, b""));
        busy.send(&frame(TEXT, b"x"));
    }
    while raw.read_frame().0 != CLOSE {}
    raw.send(&frame(CLOSE, &close(1000, "")));
    let calls = std::iter::repeat_with(|| server.called());
    let ended = calls.filter(|called| matches!(called, Called::Close(..))).take(1);
    assert_eq!(ended.collect::<Vec<_>>(), [closed(1000, "", Cause::Idle)]);
    busy.send(&frame(TEXT, b"still here"));
    while busy.read_frame().1 != b"still here" {}
}

#[test]
fn a_connection_that_lived_long_enough_is_told_to_come_back() {
    let server = start(Config { lifetime_max: Some(4 * SOON), ..Config::default() });
    let start = Instant::now();
    let mut raw = server.open();
    while start.elapsed() < 3 * SOON {
        raw.send(&frame(TEXT, b"busy"));
        assert_eq!(raw.read_frame().1, b"busy");
        assert_eq!(server.called(), Called::Text("busy".into()));
        std::thread::sleep(SOON / 10);
    }
    let (first, payload) = raw.read_frame();
    assert_eq!((first, &payload[..2]), (CLOSE, &1012u16.to_be_bytes()[..]));
    assert!((3 * SOON..6 * SOON).contains(&start.elapsed()), "{:?}", start.elapsed());
    raw.send(&frame(CLOSE, &close(1012, "")));
    assert_eq!(server.called(), closed(1012, "", Cause::Lifetime));
}

#[test]
fn a_handshake_that_is_never_finished_ends_by_its_deadline() {
    let server = start(Config { handshake_timeout: SOON, ..Config::default() });
    let mut silent = server.connect();
    let mut slow = server.connect();
    let start = Instant::now();
    slow.send(b"GET / HTTP/1.1\r\nHost: ");
    let (head, _) = slow.read_response();
    assert!(head.starts_with("HTTP/1.1 408"), "{head}");
    assert!(slow.is_at_end() && silent.is_at_end());
    assert!(start.elapsed() >= SOON);
    assert!(server.is_silent(), "the handler never heard of them");
}

#[test]
fn timers_are_due_in_order_and_can_be_moved_and_cleared() {
    let server = start(Config::default());
    let mut raw = server.open();
    let orders = ["timer 7 200", "timer 8 50", "timer 9 100", "clear 9", "timer 7 120"];
    for order in orders {
        raw.send(&frame(TEXT, order.as_bytes()));
        assert_eq!(server.called(), Called::Text(order.into()));
    }
    assert_eq!(server.called(), Called::Timer(8));
    assert_eq!(server.called(), Called::Timer(7));
    raw.send(&frame(TEXT, b"timer 3 50"));
    server.called();
    raw.send(&frame(CLOSE, b""));
    assert!(matches!(server.called(), Called::Close(..)));
    std::thread::sleep(SOON);
    assert!(server.is_silent(), "what is gone has no timers");
}

/// Subscribes to what it is told, and says how that went.
struct Subscriber;

impl Handler for Subscriber {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        let status = match text.strip_prefix("match ") {
            Some(pattern) => conn.subscribe_pattern(pattern),
            None => conn.subscribe(text),
        };
        conn.send(&format!("{status:?}"));
    }
}

fn subscribers(config: Config) -> Serving {
    Serving::start(config, &["127.0.0.1:0"], |_| Subscriber)
}

#[test]
fn subscriptions_are_bounded_in_number_and_in_length() {
    let config = Config { subscriptions_max: 3, topic_bytes_max: 10, ..Config::default() };
    let server = subscribers(config);
    let mut raw = server.connect();
    raw.upgrade("/");
    use SubscribeStatus::*;
    for (text, expected) in [
        ("", InvalidName),
        ("elevenbytes", InvalidName),
        ("match a.>.b", InvalidName),
        ("ten.bytes.", Subscribed),
        ("a", Subscribed),
        ("match a", Subscribed),
        ("a", Already),
        ("b", TooMany),
        ("match *", TooMany),
        ("match a", Already),
    ] {
        raw.send(&frame(TEXT, text.as_bytes()));
        assert_eq!(raw.read_frame().1, format!("{expected:?}").as_bytes(), "{text}");
    }
}

//! Counts are what an observer at the other end of the sockets counts.
mod support;

use quelea::{
    Config, Violation,
    metrics::{CloseCause, ConnectionState, Limit, RefusalReason},
};
use std::time::Duration;
use support::{
    metrics::{counted, once},
    *,
};

fn start(config: Config) -> Running {
    Running::start_with(config, "127.0.0.1:0")
}

/// Sends a request, and reads the status of its answer, which is the last.
fn status_of(server: &Running, request: &str) -> u16 {
    let mut raw = server.connect();
    raw.send(request.as_bytes());
    let (head, _) = raw.read_response();
    assert!(raw.is_at_end());
    head[9..12].parse().unwrap()
}

#[test]
fn every_connection_is_refused_or_opened_or_ended_before_or_still_asks() {
    let close_timeout = Duration::from_millis(100);
    let mut server = start(Config { close_timeout, ..Config::default() });
    let without = |field: &str| {
        let fields = HANDSHAKE.split_inclusive("\r\n").filter(|line| !line.starts_with(field));
        format!("GET / HTTP/1.1\r\n{}\r\n", fields.collect::<String>())
    };
    let with = |field: &str| format!("GET / HTTP/1.1\r\n{HANDSHAKE}{field}\r\n\r\n");
    let good = without("nothing");
    let old_version = good.replace("Version: 13", "Version: 8");
    let long = format!("X: {}", "y".repeat(20_000));
    for (request, status, reason) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400, RefusalReason::Malformed),
        ("GET / HTTP/1.1\r\n\r\n", 400, RefusalReason::Host),
        ("GET / HTTP/2.0\r\n\r\n", 505, RefusalReason::HttpVersion),
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405, RefusalReason::Method),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", 413, RefusalReason::Body),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400, RefusalReason::Framing),
        (&with(&long), 431, RefusalReason::HeadTooLong),
        (&with(&"X: y\r\n".repeat(100)), 431, RefusalReason::TooManyFields),
        (&without("Connection"), 400, RefusalReason::Connection),
        (&without("Sec-WebSocket-Key"), 400, RefusalReason::Key),
        (&old_version, 426, RefusalReason::Version),
        (&with("Sec-WebSocket-Protocol: a b"), 400, RefusalReason::Subprotocols),
        (&with("Sec-WebSocket-Extensions: a b"), 400, RefusalReason::Extensions),
        (&with("Origin: http://evil.example"), 403, RefusalReason::Origin),
        (&good.replace("GET /", "GET /refused"), 401, RefusalReason::Handler),
    ] {
        let before = counted(&server.handle);
        assert_eq!(status_of(&server, request), status, "{request}");
        let after = counted(&server.handle);
        assert_eq!(after.refused[reason], before.refused[reason] + 1, "{reason:?}");
        assert_eq!(after.refused.total(), before.refused.total() + 1, "{reason:?}");
    }
    let refused = counted(&server.handle).refused.total();
    // They leave, or ask nothing more; one stays.
    drop(server.connect());
    let page = "GET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(&server, page), 200);
    let mut asks = server.connect();
    asks.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\nGET ");
    assert!(asks.read_response().0.contains(" 200 "));
    let _open = server.open();
    let metrics = once(&server.handle, |metrics| metrics.unopened == 2);
    assert_eq!((metrics.accepted, metrics.opened, metrics.requests), (refused + 4, 1, 2));
    assert_eq!(metrics.connections[ConnectionState::Handshaking], 1);
    assert_eq!(metrics.connections[ConnectionState::Open], 1);
    assert_eq!(metrics.limits[Limit::Head], 2);
    server.stop();
    let last = counted(&server.handle);
    assert_eq!((last.unopened, last.connections.total()), (3, 0));
    assert_eq!(last.closed_by_cause[CloseCause::Shutdown], 1);
}

#[test]
fn who_still_asked_when_the_server_ended_at_once_is_counted_as_never_opened() {
    let mut server = start(Config::default());
    let mut asks = server.connect();
    asks.send(b"GET ");
    let _open = server.open();
    once(&server.handle, |metrics| metrics.connections[ConnectionState::Handshaking] == 1);
    server.handle.abort();
    server.stop();
    let last = counted(&server.handle);
    assert_eq!((last.accepted, last.unopened, last.connections.total()), (2, 1, 0));
}

#[test]
fn every_end_is_counted_by_its_cause_and_its_code() {
    let server = start(Config {
        message_bytes_max: 100,
        fragments_max: 2,
        outbox_bytes_max: 1 << 20,
        messages_per_second_max: Some(5),
        close_timeout: Duration::from_millis(100),
        ..Config::default()
    });
    let end = |bytes: &[u8]| {
        let mut raw = server.open();
        raw.send(bytes);
        while !matches!(server.called(), Called::Close(..)) {}
        raw
    };
    let flood = frame(TEXT, b"!").repeat(6);
    let fragments = [frame(0x01, b"a"), frame(0x00, b"b"), frame(0x00, b"c")].concat();
    for bytes in [
        &frame(CLOSE, &close(1000, "")),
        &frame(CLOSE, &close(1001, "")),
        &frame(CLOSE, &[]),
        &frame(CLOSE, &close(3999, "")),
        &frame(CLOSE, &close(4000, "")),
        &frame(CLOSE, &close(4999, "")),
        // A reserved bit, text that is no text, a message too long, and one in too many pieces.
        &frame(0xc1, b"x"),
        &frame(TEXT, b"\xff"),
        &frame(BINARY, &[0; 101]),
        &fragments,
        // These do not answer the server's close frame in time.
        &frame(TEXT, b"close 4002"),
        &flood,
    ] {
        end(bytes);
    }
    drop(server.open());
    while !matches!(server.called(), Called::Close(..)) {}
    let mut answers = server.open();
    answers.send(&frame(TEXT, b"close 1013"));
    answers.read_frame();
    answers.send(&frame(CLOSE, &close(1013, "")));
    while !matches!(server.called(), Called::Close(..)) {}

    let metrics = counted(&server.handle);
    let causes: Vec<_> = metrics.closed_by_cause.iter().filter(|(_, count)| *count > 0).collect();
    let expected = [
        (CloseCause::PeerClosed, 6),
        (CloseCause::LocalClosed, 1),
        (CloseCause::Disconnected, 1),
        (CloseCause::TimedOut, 1),
        (CloseCause::ProtocolError, 2),
        (CloseCause::Limit, 2),
        (CloseCause::TooFast, 1),
    ];
    assert_eq!(causes, expected);
    let codes: Vec<_> = metrics
        .closed_by_code
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(c, n)| (c.0, n))
        .collect();
    // Without an answer to our close frame, there is no code of the peer's.
    let expected = [
        (1000, 1),
        (1001, 1),
        (1002, 1),
        (1005, 1),
        (1006, 3),
        (1007, 1),
        (1009, 2),
        (1013, 1),
        (3000, 1),
        (4000, 2),
    ];
    assert_eq!(codes, expected);
    for violation in [
        Violation::ReservedBits,
        Violation::TextNotUtf8,
        Violation::MessageTooBig,
        Violation::TooManyFragments,
    ] {
        assert_eq!(metrics.violations[violation], 1, "{violation:?}");
    }
    for (limit, count) in [
        (Limit::MessageBytesMax, 1),
        (Limit::FragmentsMax, 1),
        (Limit::PerSecondMax, 1),
        (Limit::CloseTimeout, 2),
    ] {
        assert_eq!(metrics.limits[limit], count, "{limit:?}");
    }
}

#[test]
fn messages_and_bytes_are_those_that_the_peers_send_and_receive() {
    let server = start(Config::default());
    let (mut sent, mut received, mut peers) = (0, 0, Vec::new());
    for _ in 0..3 {
        let mut raw = server.connect();
        let request = format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n");
        raw.send(request.as_bytes());
        received += raw.read_head().len();
        sent += request.len();
        assert_eq!(server.called(), Called::Open);
        peers.push(raw);
    }
    let lengths = [0, 1, 125, 126, 65_535, 65_536, 300_000];
    for raw in &mut peers {
        for len in lengths {
            let payload = vec![b'x'; len];
            for first in [TEXT, BINARY] {
                let message = frame(first, &payload);
                raw.send(&message);
                sent += message.len();
                assert_eq!(raw.read_frame(), (first, payload.clone()));
                received += message.len() - 4;
            }
        }
        let fragments = [frame(0x01, b"in "), frame(PING, b"!"), frame(0x80, b"two")].concat();
        raw.send(&fragments);
        assert_eq!(raw.read_frame(), (PONG, b"!".to_vec()));
        assert_eq!(raw.read_frame(), (TEXT, b"in two".to_vec()));
        raw.send(&frame(PONG, b"unasked"));
        sent += fragments.len() + frame(PONG, b"unasked").len();
        received += 3 + 8;
        // To one connection, which may be another worker's.
        raw.send(&frame(TEXT, b"to first hello"));
        sent += frame(TEXT, b"to first hello").len();
        received += 7;
    }
    for _ in 0..3 {
        assert_eq!(peers[0].read_frame(), (TEXT, b"hello".to_vec()));
    }
    let metrics = counted(&server.handle);
    let payload = 3 * (2 * lengths.iter().sum::<usize>() + 6);
    let echoes = 3 * (2 * lengths.len() + 1);
    assert_eq!(metrics.messages_received, (echoes + 3) as u64);
    assert_eq!(metrics.message_bytes_received, (payload + 3 * "to first hello".len()) as u64);
    assert_eq!(metrics.messages_sent, (echoes + 3) as u64);
    assert_eq!(metrics.message_bytes_sent, (payload + 3 * "hello".len()) as u64);
    assert_eq!((metrics.pings_received, metrics.pongs_received, metrics.pings_sent), (3, 3, 0));
    assert_eq!((metrics.bytes_received, metrics.bytes_sent), (sent as u64, received as u64));
    assert!(metrics.receives >= 3 * 16 && metrics.ticks > 0);
    assert_eq!(metrics.limits.total(), 0, "{:?}", metrics.limits);
    assert_eq!((metrics.queued_bytes, metrics.mailbox_bytes, metrics.backlogged), (0, 0, 0));
}

#[test]
fn heartbeats_and_deadlines_are_timed() {
    let server = start(Config {
        ping_interval: Some(Duration::from_millis(50)),
        pong_timeout: Duration::from_millis(40),
        ..Config::default()
    });
    let mut raw = server.open();
    for _ in 0..2 {
        let (first, payload) = raw.read_frame();
        assert_eq!(first, PING);
        std::thread::sleep(Duration::from_millis(5));
        raw.send(&frame(PONG, &payload));
        assert!(matches!(server.called(), Called::RoundTrip(_)));
    }
    // The third one is not answered.
    assert!(matches!(server.called(), Called::Close(..)));
    let metrics = counted(&server.handle);
    assert_eq!((metrics.pings_sent, metrics.pongs_received), (3, 2));
    assert_eq!(metrics.round_trip.count(), 2);
    assert!(metrics.round_trip.sum() >= Duration::from_millis(10));
    assert_eq!(metrics.limits[Limit::PongTimeout], 1);
    assert_eq!(metrics.closed_by_cause[CloseCause::TimedOut], 1);
    assert!(metrics.timer_lag.count() >= 4, "three pings, and an end: {:?}", metrics.timer_lag);
    assert_eq!(metrics.tick_duration.count(), metrics.ticks / 16, "{}", metrics.ticks);
}

#[test]
fn each_limit_of_admission_is_counted_with_what_it_refused() {
    for (config, limit, reason) in [
        (
            Config { connections_max: 1, ..Config::default() },
            Limit::ConnectionsMax,
            RefusalReason::Full,
        ),
        (
            Config { connections_per_address_max: Some(1), ..Config::default() },
            Limit::ConnectionsPerAddressMax,
            RefusalReason::Address,
        ),
        (
            Config { handshakes_per_second_max: Some(1), ..Config::default() },
            Limit::HandshakesPerSecondMax,
            RefusalReason::Rate,
        ),
    ] {
        let server = start(config);
        let mut refused = 0;
        let mut open = Vec::new();
        while refused < 3 {
            let mut raw = server.connect();
            raw.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
            match raw.read_head().contains(" 101 ") {
                true => open.push(raw),
                false => refused += 1,
            }
        }
        // That of a second is of each worker.
        assert!((1..=workers()).contains(&open.len()), "{}", open.len());
        let metrics = counted(&server.handle);
        assert_eq!((metrics.limits[limit], metrics.refused[reason]), (3, 3), "{limit:?}");
        assert_eq!((metrics.limits.total(), metrics.refused.total()), (3, 3), "{limit:?}");
    }
    let server = start(Config { handshakes_pending_max: 1, ..Config::default() });
    let _pending = server.connect();
    let _refused = server.connect();
    let metrics = once(&server.handle, |metrics| metrics.accepted == 2);
    assert_eq!(metrics.limits[Limit::HandshakesPendingMax], 1);
    assert_eq!(metrics.refused[RefusalReason::Pending], 1);
    assert_eq!(metrics.connections[ConnectionState::Refused], 1, "it has not asked");
    assert_eq!(metrics.connections[ConnectionState::Handshaking], 1);
}

#[test]
fn each_deadline_is_counted_with_what_it_ended() {
    let moment = Duration::from_millis(60);
    let server = start(Config {
        handshake_timeout: moment,
        idle_timeout: Some(moment),
        close_timeout: moment,
        ..Config::default()
    });
    let _silent = server.connect();
    let mut slow = server.connect();
    slow.send(b"GET / ");
    let mut idle = server.open();
    let metrics = once(&server.handle, |metrics| metrics.closed_by_cause.total() == 1);
    assert_eq!(idle.read_frame().0, CLOSE);
    assert_eq!(slow.read_response().0[9..12], *"408");
    assert_eq!(metrics.limits[Limit::HandshakeTimeout], 2);
    assert_eq!(metrics.refused[RefusalReason::TimedOut], 1);
    assert_eq!(metrics.unopened, 1);
    assert_eq!(metrics.limits[Limit::IdleTimeout], 1);
    assert_eq!(metrics.closed_by_cause[CloseCause::Idle], 1);
    assert!(metrics.limits[Limit::CloseTimeout] >= 1, "it did not answer our close frame");
}

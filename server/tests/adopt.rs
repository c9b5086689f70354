//! Connections that something else accepted, with what was read from them before.
#![expect(clippy::disallowed_methods, reason = "a test measures time")]

mod support;

use quelea::{Adoption, Cause, Config};
use std::{
    net::Shutdown,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};
use support::*;

fn gone(cause: Cause) -> Called {
    Called::Close(1006, String::new(), cause)
}

/// Ends a connection, and sees that the handler is told once.
fn end(server: &Running, raw: Raw) {
    drop(raw);
    assert_eq!(server.called(), gone(Cause::Disconnected));
}

#[test]
fn a_handshake_goes_on_wherever_what_was_read_of_it_ends() {
    let server = Running::start();
    let head = format!("GET /subprotocol HTTP/1.1\r\n{HANDSHAKE}Sec-WebSocket-Protocol: b\r\n\r\n");
    for cut in 0..=head.len() {
        let (read, rest) = head.as_bytes().split_at(cut);
        let (stream, mut raw) = pair();
        server.handle.adopt(stream, read).unwrap();
        raw.send(rest);
        let answer = raw.read_head();
        assert!(answer.starts_with("HTTP/1.1 101 "), "cut at {cut}: {answer}");
        assert!(answer.contains("X-Own: yes\r\n"), "{answer}");
        assert_eq!(server.called(), Called::Open);
        raw.send(&frame(TEXT, b"hello"));
        assert_eq!(raw.read_frame(), (TEXT, b"hello".to_vec()));
        assert_eq!(server.called(), Called::Text("hello".into()));
        end(&server, raw);
    }
    assert!(server.is_silent());
}

#[test]
fn plain_requests_that_were_read_before_are_answered() {
    let server = Running::start();
    let (stream, mut raw) = pair();
    let request = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    server.handle.adopt(stream, [request, &request[..20]].concat()).unwrap();
    assert_eq!(raw.read_response().1, "a page\n");
    raw.send(&request.as_bytes()[20..]);
    assert_eq!(raw.read_response().1, "a page\n");
}

#[test]
fn frames_go_on_wherever_what_was_read_of_them_ends() {
    let server = Running::start();
    let messages: [(u8, &[u8]); 3] = [(TEXT, b"hello"), (BINARY, &[7; 200]), (PING, b"there?")];
    let bytes = messages.map(|(first, payload)| frame(first, payload)).concat();
    for cut in 0..=bytes.len() {
        let (read, rest) = bytes.split_at(cut);
        let mut raw = server.adopt(read);
        raw.send(rest);
        for (first, payload) in messages {
            let answer = if first == PING { PONG } else { first };
            assert_eq!(raw.read_frame(), (answer, payload.to_vec()), "cut at {cut}");
            server.called();
        }
        end(&server, raw);
    }
}

#[test]
fn what_is_longer_than_a_receive_buffer_comes_whole_and_first() {
    let server = Running::start();
    let long = vec![3; 1 << 20];
    let bytes = [frame(TEXT, b"first"), frame(BINARY, &long), frame(TEXT, b"last")].concat();
    for cut in [bytes.len(), bytes.len() - 3, bytes.len() - 10, 1 << 20, 300_000] {
        let (read, rest) = bytes.split_at(cut);
        let mut raw = server.adopt(read);
        raw.send(rest);
        raw.send(&frame(TEXT, b"from the socket"));
        assert_eq!(server.called(), Called::Text("first".into()));
        assert!(server.called() == Called::Binary(long.clone()));
        assert_eq!(server.called(), Called::Text("last".into()));
        assert_eq!(server.called(), Called::Text("from the socket".into()));
        assert_eq!(raw.read_frame().1, b"first");
        assert!(raw.read_frame().1 == long);
        assert_eq!(raw.read_frame().1, b"last");
        assert_eq!(raw.read_frame().1, b"from the socket");
        end(&server, raw);
    }
}

#[test]
fn what_waits_in_the_kernel_comes_behind_what_was_read() {
    let server = Running::start();
    for read in [&b""[..], &frame(TEXT, b"read before")] {
        let (stream, mut raw) = pair();
        raw.send(&frame(TEXT, b"in the kernel"));
        server.handle.adopt_websocket(stream, read, Adoption::default()).unwrap();
        assert_eq!(server.called(), Called::Open);
        if !read.is_empty() {
            assert_eq!(server.called(), Called::Text("read before".into()));
        }
        assert_eq!(server.called(), Called::Text("in the kernel".into()));
        while raw.read_frame().1 != b"in the kernel" {}
        end(&server, raw);
    }
}

#[test]
fn a_fin_that_came_before_is_seen_behind_all_bytes() {
    let server = Running::start();
    for read in [&b""[..], &frame(TEXT, b"hello")] {
        let (stream, mut raw) = pair();
        raw.send(&frame(TEXT, b"in the kernel"));
        raw.stream.shutdown(Shutdown::Write).unwrap();
        server.handle.adopt_websocket(stream, read, Adoption::default()).unwrap();
        assert_eq!(server.called(), Called::Open);
        if !read.is_empty() {
            assert_eq!(server.called(), Called::Text("hello".into()));
        }
        assert_eq!(server.called(), Called::Text("in the kernel".into()));
        assert_eq!(server.called(), gone(Cause::Disconnected));
    }
    let (stream, mut raw) = pair();
    raw.stream.shutdown(Shutdown::Write).unwrap();
    server.handle.adopt(stream, *b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(raw.read_response().1, "a page\n");
    assert!(raw.is_at_end());
    assert!(server.is_silent());
}

#[test]
fn the_end_that_was_read_before_is_told_once() {
    let server = Running::start();
    let read = [frame(CLOSE, &close(4000, "bye")), frame(TEXT, b"too late")].concat();
    let mut raw = server.adopt(&read);
    assert_eq!(raw.read_close(), (4000, String::new()));
    assert_eq!(server.called(), Called::Close(4000, "bye".into(), Cause::PeerClosed));
    // Not masked.
    let mut raw = server.adopt(&[TEXT, 1, b'x']);
    let (first, payload) = raw.read_frame();
    assert_eq!((first, &payload[..2]), (CLOSE, &1002_u16.to_be_bytes()[..]));
    assert!(matches!(server.called(), Called::Close(1002, _, Cause::ProtocolError(_))));
    drop(raw);
    assert!(server.is_silent());
}

#[test]
fn nothing_of_what_was_read_is_lost_on_a_peer_that_does_not_read() {
    let config = Config { outbox_bytes_max: 1 << 20, ..Config::default() };
    let server = Running::start_with(Config { message_bytes_max: 10_000, ..config }, "127.0.0.1:0");
    let payload = |number: u32| [&number.to_be_bytes()[..], &[0; 9_000]].concat();
    let count = 2_000;
    let bytes: Vec<u8> = (0..count).flat_map(|number| frame(BINARY, &payload(number))).collect();
    let (read, rest) = bytes.split_at(bytes.len() - 20_000);
    let mut raw = server.adopt(read);
    // It takes its time, and there is far more than may wait for it.
    std::thread::sleep(Duration::from_millis(200));
    // Nobody else has to wait for it.
    let mut other = is_adopted_at_last(&server.handle);
    other.send(&frame(TEXT, b"hello"));
    assert_eq!(other.read_frame(), (TEXT, b"hello".to_vec()));
    raw.send(rest);
    let start = Instant::now();
    for number in 0..count {
        assert!(raw.read_frame().1 == payload(number), "{number}");
    }
    assert!(start.elapsed() < PATIENCE, "it was read all the time: {:?}", start.elapsed());
}

#[test]
fn a_pause_holds_back_what_was_read_and_is_not_in_the_buffer() {
    let server = Running::start();
    let orders = [frame(TEXT, b"timer 1 300"), frame(TEXT, b"pause")].concat();
    let bytes = [orders, frame(BINARY, &[1; 300_000]), frame(TEXT, b"last")].concat();
    let start = Instant::now();
    let mut raw = server.adopt(&bytes);
    raw.send(&frame(TEXT, b"from the socket"));
    assert_eq!(server.called(), Called::Text("timer 1 300".into()));
    assert_eq!(server.called(), Called::Text("pause".into()));
    assert_eq!(server.called(), Called::Timer(1));
    assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    assert!(server.called() == Called::Binary(vec![1; 300_000]));
    assert_eq!(server.called(), Called::Text("last".into()));
    assert_eq!(server.called(), Called::Text("from the socket".into()));
}

#[test]
fn a_unix_stream_is_adopted_as_well() {
    let server = Running::start();
    let (stream, client) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut raw = Raw { stream: client };
    server.handle.adopt(stream, *b"GET ").unwrap();
    raw.send(format!("/ HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
    assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    assert_eq!(server.called(), Called::Open);
    raw.send(&frame(TEXT, b"hello"));
    assert_eq!(raw.read_frame(), (TEXT, b"hello".to_vec()));
}

#[test]
fn a_peer_that_is_gone_is_told_of_behind_what_was_read_before() {
    let server = Running::start();
    let read = [frame(TEXT, b"pause"), frame(BINARY, &[1; 300_000])].concat();
    let (stream, client) = UnixStream::pair().unwrap();
    let mut raw = Raw { stream: client };
    raw.send(&frame(TEXT, b"in the kernel"));
    // It is neither there to read nor to write any more: that is told even while reading is paused.
    drop(raw);
    server.handle.adopt_websocket(stream, read, Adoption::default()).unwrap();
    assert_eq!(server.called(), Called::Open);
    assert_eq!(server.called(), Called::Text("pause".into()));
    assert!(server.called() == Called::Binary(vec![1; 300_000]));
    assert_eq!(server.called(), Called::Text("in the kernel".into()));
    assert!(matches!(server.called(), Called::Close(1006, ..)));
    assert!(server.is_silent());
}

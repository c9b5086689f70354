//! What a handler and a client see of a connection, from open to close.

mod support;

use quelea::{Cause, Config, ListenAddress, SendStatus};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};
use support::*;

fn closed(code: u16, reason: &str, cause: Cause) -> Called {
    Called::Close(code, reason.into(), cause)
}

#[test]
fn messages_of_every_length_form_come_back_whole() {
    let server = Running::start();
    let mut raw = server.open();
    for len in [0, 1, 125, 126, 127, 65535, 65536, 1 << 20] {
        let text = "x".repeat(len);
        raw.send(&frame(TEXT, text.as_bytes()));
        assert_eq!(raw.read_frame(), (TEXT, text.clone().into_bytes()));
        assert_eq!(server.called(), Called::Text(text));
        let bytes: Vec<u8> = (0..len).map(|index| index as u8).collect();
        raw.send(&frame(BINARY, &bytes));
        assert_eq!(raw.read_frame(), (BINARY, bytes.clone()));
        assert_eq!(server.called(), Called::Binary(bytes));
    }
}

#[test]
fn a_message_a_byte_at_a_time_comes_back_in_one_frame() {
    let server = Running::start();
    let mut raw = server.open();
    let text = "gräßlich".repeat(30);
    raw.send_bytewise(&frame(TEXT, text.as_bytes()));
    assert_eq!(raw.read_frame(), (TEXT, text.into_bytes()));
}

#[test]
fn fragments_with_a_ping_between_them_are_one_message() {
    let server = Running::start();
    let mut raw = server.open();
    raw.send(&[frame(0x01, b"one "), frame(PING, b"now"), frame(0x80, b"message")].concat());
    assert_eq!(raw.read_frame(), (PONG, b"now".to_vec()));
    assert_eq!(raw.read_frame(), (TEXT, b"one message".to_vec()));
    assert_eq!(server.called(), Called::Ping(b"now".to_vec()));
    assert_eq!(server.called(), Called::Text("one message".into()));
}

#[test]
fn many_messages_in_one_segment_come_back_in_order() {
    let server = Running::start();
    let mut raw = server.open();
    let numbers = || (0..5000).map(|number| number.to_string().into_bytes());
    raw.send(&numbers().flat_map(|number| frame(TEXT, &number)).collect::<Vec<_>>());
    for number in numbers() {
        assert_eq!(raw.read_frame(), (TEXT, number));
    }
}

#[test]
fn pings_and_pongs_reach_the_other_side() {
    let server = Running::start();
    let mut raw = server.open();
    raw.send(&frame(TEXT, b"ping"));
    assert_eq!(raw.read_frame(), (PING, b"from the server".to_vec()));
    assert_eq!(server.called(), Called::Text("ping".into()));
    assert_eq!(server.called(), Called::Sent(SendStatus::Queued));
    raw.send(&frame(PONG, b"from the server"));
    assert_eq!(server.called(), Called::Pong(b"from the server".to_vec()));
    raw.send(&frame(TEXT, b"long ping"));
    server.called();
    assert_eq!(server.called(), Called::Sent(SendStatus::Invalid));
}

#[test]
fn the_peers_close_is_answered_and_ends_the_connection() {
    let server = Running::start();
    for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
        let mut raw = server.open();
        raw.send(&frame(CLOSE, &close(code, "bye")));
        assert_eq!(raw.read_close(), (code, String::new()));
        assert_eq!(server.called(), closed(code, "bye", Cause::PeerClosed));
    }
    let mut raw = server.open();
    raw.send(&frame(CLOSE, b""));
    assert_eq!(raw.read_close(), (1005, String::new()));
    assert_eq!(server.called(), closed(1005, "", Cause::PeerClosed));
}

#[test]
fn the_servers_close_waits_for_the_answer_and_drops_what_comes_before_it() {
    let server = Running::start();
    let mut raw = server.open();
    raw.send(&frame(TEXT, b"close 4000"));
    assert_eq!(server.called(), Called::Text("close 4000".into()));
    assert_eq!(server.called(), Called::Sent(SendStatus::Queued));
    assert_eq!(raw.read_frame(), (CLOSE, close(4000, "as told")));
    raw.send(&[frame(TEXT, b"late"), frame(PING, b"late")].concat());
    raw.send(&frame(CLOSE, &close(4000, "")));
    assert!(raw.is_at_end());
    assert_eq!(server.called(), closed(4000, "", Cause::LocalClosed));
    assert!(server.is_silent());
}

#[test]
fn a_close_code_that_may_not_be_sent_is_refused_and_the_connection_goes_on() {
    let server = Running::start();
    let mut raw = server.open();
    for code in [0, 999, 1004, 1006, 1015, 1016, 5000] {
        raw.send(&frame(TEXT, format!("close {code}").as_bytes()));
        server.called();
        assert_eq!(server.called(), Called::Sent(SendStatus::Invalid));
    }
    raw.send(&frame(TEXT, b"still open"));
    assert_eq!(raw.read_frame(), (TEXT, b"still open".to_vec()));
}

#[test]
fn a_peer_that_does_not_answer_a_close_is_timed_out() {
    let close_timeout = Duration::from_millis(100);
    let server = Running::start_with(Config { close_timeout, ..Config::default() }, "127.0.0.1:0");
    let mut raw = server.open();
    raw.send(&frame(TEXT, b"close 1000"));
    assert_eq!(raw.read_frame().0, CLOSE);
    server.called();
    server.called();
    assert_eq!(server.called(), closed(1006, "", Cause::TimedOut));
    // Whether the end is a FIN or a RST, there is nothing more to read.
    assert!(matches!(raw.stream.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn the_end_of_a_connection_waits_for_no_other_event() {
    let server = Running::start();
    #[expect(clippy::disallowed_methods, reason = "bounds the test by the real clock")]
    let start = Instant::now();
    for _ in 0..40 {
        let mut raw = server.open();
        raw.send(&[0xff]);
        assert_eq!(raw.read_close().0, 1002);
        assert!(matches!(server.called(), Called::Close(..)));
    }
    assert!(start.elapsed() < PATIENCE, "each waited for a deadline");
}

#[test]
fn a_fin_without_a_close_frame_is_a_disconnect() {
    let server = Running::start();
    drop(server.open());
    assert_eq!(server.called(), closed(1006, "", Cause::Disconnected));
}

#[test]
fn a_reset_is_told_from_a_fin() {
    let server = Running::start();
    let raw = server.open();
    let socket = socket2::Socket::from(raw.stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    assert_eq!(server.called(), closed(1006, "", Cause::Reset));
}

#[test]
fn sending_to_another_connection_works_until_it_is_gone() {
    let server = Running::start();
    let mut first = server.open();
    let mut second = server.open();
    second.send(&frame(TEXT, b"to first hello"));
    assert_eq!(first.read_frame(), (TEXT, b"hello".to_vec()));
    server.called();
    assert_eq!(server.called(), Called::Sent(SendStatus::Queued));
    first.send(&frame(CLOSE, b""));
    first.read_close();
    assert!(matches!(server.called(), Called::Close(..)));
    // The slot is used again, by another connection.
    let mut third = server.open();
    second.send(&frame(TEXT, b"to first hello"));
    server.called();
    let sent = server.called();
    // What goes to another worker is on its way.
    let on_its_way = workers() > 1 && sent == Called::Sent(SendStatus::Queued);
    assert!(sent == Called::Sent(SendStatus::Closed) || on_its_way, "{sent:?}");
    third.send(&frame(TEXT, b"mine"));
    assert_eq!(third.read_frame(), (TEXT, b"mine".to_vec()));
}

#[test]
fn a_slow_reader_is_backlogged_then_told_and_loses_nothing_that_was_taken() {
    let config = Config { outbox_bytes_max: 64 << 20, ..Config::default() };
    let server = Running::start_with(config, "127.0.0.1:0");
    let mut raw = server.open();
    let len = 40_000_000;
    raw.send(&frame(TEXT, format!("send {len}").as_bytes()));
    server.called();
    assert_eq!(server.called(), Called::Sent(SendStatus::Backlogged));
    assert!(server.is_silent(), "it is not drained, and nothing more is read");
    raw.send(&frame(TEXT, b"send 10"));
    assert!(server.is_silent());
    assert_eq!(raw.read_exact(10), [&[BINARY, 127][..], &(len as u64).to_be_bytes()].concat());
    assert!(raw.read_exact(len).iter().all(|byte| *byte == 7));
    assert_eq!(raw.read_frame(), (BINARY, vec![7; 10]));
    assert_eq!(server.called(), Called::Drain);
    assert_eq!(server.called(), Called::Text("send 10".into()));
    assert_eq!(server.called(), Called::Sent(SendStatus::Queued));
}

#[test]
fn what_would_pass_the_outbox_limit_is_dropped_and_said_so() {
    let config = Config { outbox_bytes_max: 1 << 20, ..Config::default() };
    let server = Running::start_with(config, "127.0.0.1:0");
    let mut raw = server.open();
    raw.send(&frame(TEXT, format!("send {}", 2 << 20).as_bytes()));
    server.called();
    assert_eq!(server.called(), Called::Sent(SendStatus::Dropped));
    raw.send(&frame(TEXT, b"still here"));
    assert_eq!(raw.read_frame(), (TEXT, b"still here".to_vec()));
}

#[test]
fn an_echo_to_a_peer_that_writes_before_it_reads_loses_nothing() {
    let server = Running::start();
    let mut raw = server.open();
    let payload = vec![9; 100_000];
    let bytes = frame(BINARY, &payload);
    let mut writer = raw.stream.try_clone().unwrap();
    let count = 400;
    let thread = std::thread::spawn(move || {
        for _ in 0..count {
            writer.write_all(&bytes).unwrap();
        }
    });
    // 40 MB are far beyond what the outbox may hold: the server has to stop reading.
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..count {
        let (first, echoed) = raw.read_frame();
        assert_eq!(first, BINARY);
        assert!(echoed == payload);
    }
    thread.join().unwrap();
}

#[test]
fn a_flood_of_pings_to_a_peer_that_does_not_read_is_answered_with_the_latest() {
    let server = Running::start_with(
        Config { outbox_bytes_max: 64 << 20, ..Config::default() },
        "127.0.0.1:0",
    );
    let mut raw = server.open();
    let len = 20_000_000;
    raw.send(&frame(TEXT, format!("send {len}").as_bytes()));
    server.called();
    server.called();
    for number in 0..10_000u32 {
        raw.send(&frame(PING, &number.to_be_bytes()));
    }
    for number in 0..10_000u32 {
        assert_eq!(server.called(), Called::Ping(number.to_be_bytes().to_vec()));
    }
    raw.read_exact(10 + len);
    assert_eq!(raw.read_frame(), (PONG, 9_999u32.to_be_bytes().to_vec()));
    raw.send(&frame(TEXT, b"next"));
    assert_eq!(raw.read_frame(), (TEXT, b"next".to_vec()));
}

#[test]
fn stopping_closes_every_connection_with_1001_and_returns() {
    let mut server = Running::start();
    let mut raws = [server.open(), server.open()];
    let half = server.connect();
    let readers: Vec<_> = raws
        .iter_mut()
        .map(|raw| raw.stream.try_clone().unwrap())
        .map(|stream| {
            std::thread::spawn(move || {
                let mut raw = Raw::new(stream);
                let (first, payload) = raw.read_frame();
                assert_eq!((first, &payload[..2]), (CLOSE, &1001u16.to_be_bytes()[..]));
                raw.send(&frame(CLOSE, &payload));
                assert!(raw.is_at_end());
            })
        })
        .collect();
    server.stop();
    for reader in readers {
        reader.join().unwrap();
    }
    for _ in 0..2 {
        assert_eq!(server.called(), closed(1001, "the server stops", Cause::Shutdown));
    }
    drop(half);
}

#[test]
fn stopping_waits_no_longer_than_its_timeout_for_a_silent_peer() {
    let close_timeout = Duration::from_millis(100);
    let mut server =
        Running::start_with(Config { close_timeout, ..Config::default() }, "127.0.0.1:0");
    let _silent = server.open();
    server.stop();
    assert_eq!(server.called(), closed(1006, "", Cause::Shutdown));
    assert!(server.is_silent());
}

/// Pings after 100 ms.
fn heartbeat(pong_timeout: Duration) -> Config {
    Config { ping_interval: Some(SOON), pong_timeout, ..Config::default() }
}

const SOON: Duration = Duration::from_millis(100);

#[test]
fn a_silent_peer_is_pinged_and_one_that_stays_silent_is_timed_out() {
    let server = Running::start_with(heartbeat(SOON), "127.0.0.1:0");
    let mut raw = server.open();
    assert_eq!(raw.read_frame().0, PING);
    assert!(matches!(raw.stream.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(server.called(), closed(1006, "", Cause::TimedOut));
}

#[test]
fn a_peer_that_answers_pings_stays() {
    let server = Running::start_with(heartbeat(10 * SOON), "127.0.0.1:0");
    let mut raw = server.open();
    for _ in 0..3 {
        let (first, payload) = raw.read_frame();
        assert_eq!(first, PING);
        std::thread::sleep(SOON / 2);
        raw.send(&frame(PONG, &payload));
        match server.called() {
            Called::RoundTrip(time) => assert!(time >= SOON / 2 && time < 10 * SOON, "{time:?}"),
            other => panic!("{other:?}"),
        }
    }
    // One that makes up when it was asked, which says nothing, and one that was not asked.
    let (_, mut payload) = raw.read_frame();
    payload[4] = 1;
    raw.send(&frame(PONG, &payload));
    raw.send(&frame(PONG, b"mine"));
    assert_eq!(server.called(), Called::Pong(b"mine".to_vec()));
}

#[test]
fn a_server_that_slept_pings_before_it_ends_anyone() {
    let server = Running::start_with(heartbeat(2 * SOON), "127.0.0.1:0");
    let mut silent = server.open();
    let mut busy = server.open();
    busy.send(&frame(TEXT, b"sleep 600"));
    // The worker of `busy` sleeps for longer than both limits; if it is that of `silent` too, that
    // one could not be pinged meanwhile.
    std::thread::sleep(6 * SOON);
    for raw in [&mut silent, &mut busy] {
        let (first, payload) = raw.read_frame();
        if first == TEXT {
            assert_eq!(raw.read_frame().0, PING);
        }
        raw.send(&frame(PONG, &payload));
    }
}

#[test]
fn a_peer_that_takes_its_backlog_is_not_timed_out_though_it_sends_nothing() {
    let config = Config { outbox_bytes_max: 64 << 20, ..heartbeat(5 * SOON) };
    let server = Running::start_with(config, "127.0.0.1:0");
    let mut raw = server.open();
    raw.send(&frame(TEXT, b"send 60000000"));
    server.called();
    server.called();
    // It takes several times its limit of silence for all of it.
    raw.read_exact(10);
    for _ in 0..60 {
        raw.read_exact(1_000_000);
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut called = server.called();
    if called == Called::Drain {
        raw.send(&frame(TEXT, b"here"));
        called = server.called();
    }
    assert_eq!(called, Called::Text("here".into()));
}

#[test]
fn a_peer_that_takes_nothing_is_timed_out_though_it_is_not_read_from() {
    let config = Config { outbox_bytes_max: 64 << 20, ..heartbeat(SOON) };
    let server = Running::start_with(config, "127.0.0.1:0");
    let mut raw = server.open();
    raw.send(&frame(TEXT, b"send 60000000"));
    server.called();
    server.called();
    assert_eq!(server.called(), closed(1006, "", Cause::TimedOut));
}

#[test]
fn ipv6_is_served() {
    let server = Running::start_with(Config::default(), "[::1]:0");
    let mut raw = server.open();
    raw.send(&frame(TEXT, b"six"));
    assert_eq!(raw.read_frame(), (TEXT, b"six".to_vec()));
}

#[test]
fn a_unix_socket_is_served_and_its_file_removed_in_the_end() {
    let path = std::env::temp_dir().join(format!("quelea-test-{}.sock", std::process::id()));
    // What a server that was killed leaves behind is no hindrance.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut server = Running::start_with(Config::default(), &format!("unix:{}", path.display()));
    assert_eq!(server.addresses, [ListenAddress::Unix(path.clone())]);
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut raw = Raw { stream };
    raw.upgrade("/");
    raw.send(&frame(TEXT, b"local"));
    assert_eq!(raw.read_frame(), (TEXT, b"local".to_vec()));
    raw.send(&frame(CLOSE, &close(1000, "")));
    assert_eq!(raw.read_close().0, 1000);
    let taken = quelea::Server::new(|_| Nothing).listen(&*format!("unix:{}", path.display()));
    assert!(matches!(taken, Err(quelea::Error::Listen { .. })), "a live server keeps its file");
    server.stop();
    assert!(!path.exists());
}

struct Nothing;

impl quelea::Handler for Nothing {
    type State = ();

    fn on_message(&mut self, _: &mut quelea::Conn<'_, ()>, _: quelea::Message<'_>) {}
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let running = Running::start();
    let address = running.tcp_address();
    let error = quelea::Server::new(|_| Nothing).listen(address).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()), "{error}");
    let error = quelea::Server::new(|_| Nothing).run().unwrap_err().to_string();
    assert!(error.contains("listen"), "{error}");
    let config = Config { message_bytes_max: 0, ..Config::default() };
    let error = quelea::Server::new(|_| Nothing).config(config).unwrap_err().to_string();
    assert!(error.contains("message_bytes_max"), "{error}");
}

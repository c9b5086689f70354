//! Draining, and other ways to an end, over real sockets.
#![expect(clippy::disallowed_methods, reason = "a test measures time")]

mod support;

use quelea::{
    AdoptRefusal, Adoption, Cause, CloseCode, Closed, Config, Conn, ConnId, Drain, Handler,
    Message, Server,
};
use std::{
    collections::HashSet,
    io::{ErrorKind, Read},
    net::TcpStream,
    ops::Deref,
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use support::*;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(100);

/// All at once, with time for slow readers.
fn at_once() -> Drain {
    Drain { window: Duration::ZERO, timeout: PATIENCE, ..Drain::default() }
}

/// So slowly that only the first connection of each worker is closed while a test runs.
fn slowly() -> Drain {
    Drain { window: 10 * PATIENCE, timeout: 20 * PATIENCE, code: CloseCode::SERVICE_RESTART }
}

/// What a handler shares with its test.
#[derive(Default)]
struct Shared {
    closed: Mutex<Vec<(ConnId, u16, Cause)>>,
    is_asleep: AtomicBool,
}

/// Subscribes every connection, echoes, and notes how each one closed.
#[derive(Default)]
struct Subscriber(Arc<Shared>);

impl Handler for Subscriber {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.subscribe("all");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        if message == Message::Text("sleep") {
            self.0.is_asleep.store(true, Ordering::SeqCst);
            std::thread::sleep(5 * MOMENT);
        }
        conn.send(message);
    }

    fn on_close(&mut self, conn: &mut Conn<'_, ()>, closed: &Closed<'_>) {
        self.0.closed.lock().unwrap().push((conn.id(), closed.code.0, closed.cause));
    }
}

struct Site {
    serving: Serving,
    shared: Arc<Shared>,
}

impl Deref for Site {
    type Target = Serving;

    fn deref(&self) -> &Serving {
        &self.serving
    }
}

impl Site {
    fn start() -> Self {
        Self::start_with(Config { workers: Some(workers()), ..Config::default() })
    }

    /// One with one worker, on which all connections are.
    fn start_with_one_worker() -> Self {
        Self::start_with(Config { workers: Some(1), ..Config::default() })
    }

    fn start_with(config: Config) -> Self {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let make = move |_| Subscriber(Arc::clone(&own));
        Self { serving: Serving::start(config, &["127.0.0.1:0"], make), shared }
    }

    fn open(&self, count: usize) -> Vec<Raw> {
        let raws = (0..count).map(|_| {
            let mut raw = self.connect();
            raw.upgrade("/");
            raw
        });
        raws.collect()
    }

    /// Holds the worker up: what comes from now on waits.
    fn put_to_sleep(&self, raw: &mut Raw) {
        raw.send(&frame(TEXT, b"sleep"));
        let start = Instant::now();
        while !self.shared.is_asleep.load(Ordering::SeqCst) {
            assert!(start.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the server has ended by itself.
    fn end(&mut self) {
        self.serving.wait().unwrap().unwrap();
    }

    /// Each of `count` connections was closed once, and because the server ends.
    fn all_were_shut_down(&self, count: usize, code: u16) {
        let closed = self.shared.closed.lock().unwrap();
        assert_eq!(closed.len(), count, "on_close was called so often");
        assert_eq!(closed.iter().map(|(id, ..)| id).collect::<HashSet<_>>().len(), count);
        for (id, with, cause) in closed.iter() {
            assert_eq!((*with, *cause), (code, Cause::Shutdown), "{id}");
        }
    }
}

/// Answers the close frame that comes next; its code and reason.
fn answer_close<S: Read + std::io::Write>(raw: &mut Raw<S>) -> (u16, String) {
    let (first, payload) = raw.read_frame();
    assert_eq!(first, CLOSE, "a close frame");
    raw.send(&frame(CLOSE, &payload));
    assert!(raw.is_at_end());
    let (code, reason) = payload.split_first_chunk().unwrap();
    (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
}

/// Those that were not closed yet, after a moment.
fn still_open(raws: Vec<Raw>) -> Vec<Raw> {
    std::thread::sleep(MOMENT);
    let open = raws.into_iter().filter(|raw| {
        raw.stream.set_nonblocking(true).unwrap();
        let peeked = raw.stream.peek(&mut [0]);
        raw.stream.set_nonblocking(false).unwrap();
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    open.collect()
}

#[test]
fn connections_are_closed_one_after_the_other_over_the_window_with_the_code_of_the_drain() {
    const COUNT: usize = 150;
    let mut site = Site::start();
    let raws = site.open(COUNT);
    let window = 3 * SECOND;
    let timeout = window + PATIENCE;
    assert!(!site.handle.is_draining());
    let start = Instant::now();
    site.handle.drain(Drain { window, timeout, code: CloseCode::SERVICE_RESTART }).unwrap();
    assert!(site.handle.is_draining());
    let threads: Vec<_> = raws
        .into_iter()
        .map(|mut raw| {
            std::thread::spawn(move || {
                let told = answer_close(&mut raw);
                assert_eq!(told, (1012, "the server stops".into()));
                start.elapsed()
            })
        })
        .collect();
    let mut thirds = [0; 4];
    for thread in threads {
        let third = thread.join().unwrap().as_millis() * 3 / window.as_millis();
        thirds[third.min(3) as usize] += 1;
    }
    site.end();
    assert!(thirds[..3].iter().all(|count| (30..=70).contains(count)), "{thirds:?}");
    assert!(thirds[3] <= 20, "{thirds:?}");
    site.all_were_shut_down(COUNT, 1012);
    assert!(site.handle.is_draining(), "and it stays so");
}

#[test]
fn a_slow_reader_gets_all_that_is_queued_before_the_close_frame_however_long_it_takes() {
    const LEN: usize = 30_000_000;
    let config =
        Config { outbox_bytes_max: 64 << 20, close_timeout: 8 * MOMENT, ..Config::default() };
    // If there is a worker without a connection, it ends at once, and does not take this one's with
    // it.
    let mut server = Running::start_with(config, "127.0.0.1:0");
    let mut raw = server.open();
    raw.send(&frame(TEXT, format!("send {LEN}").as_bytes()));
    server.called();
    server.called();
    server.handle.drain(at_once()).unwrap();
    let start = Instant::now();
    assert_eq!(raw.read_exact(10)[0], BINARY);
    for number in 0..30 {
        assert!(raw.read_exact(LEN / 30).iter().all(|byte| *byte == 7));
        // What the kernel keeps for it, a few of these, no server knows of.
        if number < 20 {
            std::thread::sleep(MOMENT / 2);
        }
    }
    assert!(start.elapsed() > 9 * MOMENT, "it was slow");
    // It has taken all just now, and has the time to answer from here on.
    std::thread::sleep(MOMENT);
    assert_eq!(answer_close(&mut raw).0, 1001);
    server.wait();
    loop {
        match server.called() {
            Called::Drain => {}
            called => break assert_eq!(called, Called::Close(1001, reason(), Cause::Shutdown)),
        }
    }
    assert!(server.is_silent());
}

fn reason() -> String {
    "the server stops".into()
}

#[test]
fn a_peer_that_never_reads_is_ended_at_the_deadline_and_not_before() {
    let config =
        Config { outbox_bytes_max: 64 << 20, close_timeout: 2 * MOMENT, ..Config::default() };
    let mut server = Running::start_with(config, "127.0.0.1:0");
    let mut raw = server.open();
    raw.send(&frame(TEXT, b"send 30000000"));
    server.called();
    server.called();
    let start = Instant::now();
    server.handle.drain(Drain { timeout: SECOND, ..at_once() }).unwrap();
    server.wait();
    let took = start.elapsed();
    assert!(took >= SECOND && took < SECOND + PATIENCE / 2, "{took:?}");
    assert_eq!(server.called(), Called::Close(1006, String::new(), Cause::Shutdown));
    assert!(server.is_silent());
}

#[test]
fn all_are_told_of_a_drain_whose_deadline_is_the_end_of_its_window() {
    let mut site = Site::start();
    let mut raws = site.open(200);
    let window = 5 * MOMENT;
    site.handle.drain(Drain { window, timeout: window, ..Drain::default() }).unwrap();
    for raw in &mut raws {
        let (first, payload) = raw.read_frame();
        assert_eq!((first, &payload[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
    }
    site.end();
    site.all_were_shut_down(200, 1006);
}

#[test]
fn a_peer_that_has_taken_all_and_does_not_answer_has_the_time_of_any_closing_handshake() {
    for len in [0, 30_000_000] {
        let config =
            Config { outbox_bytes_max: 64 << 20, close_timeout: 8 * MOMENT, ..Config::default() };
        let mut server = Running::start_with(config, "127.0.0.1:0");
        let mut raw = server.open();
        raw.send(&frame(TEXT, format!("send {len}").as_bytes()));
        server.called();
        server.called();
        server.handle.drain(at_once()).unwrap();
        if len > 0 {
            // By now it is known to have something to take.
            std::thread::sleep(9 * MOMENT);
        }
        assert_eq!(raw.read_frame(), (BINARY, vec![7; len]));
        assert_eq!(raw.read_frame().0, CLOSE);
        let start = Instant::now();
        server.wait();
        let took = start.elapsed();
        // Its last megabytes were sent some time before they were read here.
        assert!(took >= 2 * MOMENT && took < PATIENCE / 2, "{took:?}");
        let gone = Called::Close(1006, String::new(), Cause::Shutdown);
        assert_eq!(
            std::iter::repeat_with(|| server.called()).find(|c| *c != Called::Drain),
            Some(gone)
        );
    }
}

#[test]
fn what_a_handle_published_before_it_drains_arrives_before_the_close_frames() {
    // More than is sent in a few ticks.
    const PUBLISHES: u32 = 300;
    let mut site = Site::start_with_one_worker();
    let mut raws = site.open(20);
    site.put_to_sleep(&mut raws[0]);
    let payload = |number: u32| [&number.to_be_bytes()[..], &[0; 10_000]].concat();
    for number in 0..PUBLISHES {
        site.handle.publish("all", &payload(number));
    }
    site.handle.drain(at_once()).unwrap();
    for raw in &mut raws {
        for number in 0..PUBLISHES {
            let mut frames = std::iter::repeat_with(|| raw.read_frame());
            assert_eq!(frames.find(|(first, _)| *first != TEXT), Some((BINARY, payload(number))));
        }
        assert_eq!(answer_close(raw).0, 1001);
    }
    site.end();
    site.all_were_shut_down(20, 1001);
}

#[test]
fn open_connections_go_on_until_their_turn_and_a_second_drain_changes_nothing() {
    let site = Site::start();
    let raws = site.open(8);
    site.handle.drain(slowly()).unwrap();
    site.handle.drain(at_once()).unwrap();
    let mut open = still_open(raws);
    assert!(open.len() >= 8 - workers(), "{} are open", open.len());
    for raw in &mut open {
        raw.send(&frame(TEXT, b"still here"));
        assert_eq!(raw.read_frame(), (TEXT, b"still here".to_vec()));
    }
    site.handle.abort();
}

#[test]
fn stopping_ends_the_window_of_a_drain() {
    let mut site = Site::start();
    let raws = site.open(8);
    site.handle.drain(slowly()).unwrap();
    let open = still_open(raws);
    assert!(open.len() >= 8 - workers(), "{} are open", open.len());
    site.handle.stop();
    for mut raw in open {
        assert_eq!(answer_close(&mut raw), (1001, reason()));
    }
    site.end();
    // And what is quicker is not undone.
    site.handle.drain(slowly()).unwrap();
}

#[test]
fn once_it_is_stopped_a_drain_waits_for_slow_readers_no_longer_than_a_stop_does() {
    let config =
        Config { outbox_bytes_max: 64 << 20, close_timeout: 3 * MOMENT, ..Config::default() };
    let mut server = Running::start_with(config, "127.0.0.1:0");
    let mut raw = server.open();
    raw.send(&frame(TEXT, b"send 30000000"));
    server.called();
    server.called();
    server.handle.drain(slowly()).unwrap();
    // It would wait for longer by now.
    std::thread::sleep(4 * MOMENT);
    assert!(server.is_silent());
    let start = Instant::now();
    server.handle.stop();
    server.wait();
    assert!(start.elapsed() < PATIENCE / 2);
    assert_eq!(server.called(), Called::Close(1006, String::new(), Cause::Shutdown));
}

#[test]
fn aborting_ends_a_drain_at_once_and_each_connection_is_told_to_the_handler() {
    let mut site = Site::start();
    let raws = site.open(8);
    site.handle.drain(slowly()).unwrap();
    let start = Instant::now();
    site.handle.abort();
    site.end();
    assert!(start.elapsed() < 3 * SECOND, "no peer is waited for");
    site.all_were_shut_down(8, 1006);
    drop(raws);
}

#[test]
fn aborting_ends_a_server_that_serves() {
    let mut site = Site::start();
    let mut raws = site.open(1);
    site.handle.abort();
    site.end();
    site.all_were_shut_down(1, 1006);
    assert!(raws[0].is_at_end());
}

const PAGE: &str = "GET /page HTTP/1.1\r\nHost: 127.0.0.1\r\n";

#[test]
fn a_request_that_is_under_way_is_answered_as_the_last_one() {
    let mut server = Running::start();
    let mut raw = server.connect();
    // Once the first is answered, the server has the half of the second.
    raw.send(format!("{PAGE}\r\n{PAGE}").as_bytes());
    let (head, _) = raw.read_response();
    assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("Connection: close"), "{head}");
    server.handle.drain(at_once()).unwrap();
    std::thread::sleep(MOMENT);
    raw.send(b"\r\n");
    let (head, body) = raw.read_response();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Connection: close"), "{head}");
    assert_eq!(body, "a page\n");
    assert!(raw.is_at_end());
    drop(raw);
    server.wait();
}

#[test]
fn an_upgrade_that_is_under_way_is_refused_with_503() {
    let mut server = Running::start();
    let mut raw = server.connect();
    raw.send(format!("{PAGE}\r\nGET / HTTP/1.1\r\n").as_bytes());
    raw.read_response();
    server.handle.drain(at_once()).unwrap();
    std::thread::sleep(MOMENT);
    raw.send(format!("{HANDSHAKE}\r\n").as_bytes());
    is_refused(raw);
    server.wait();
    assert!(server.is_silent(), "it was never open");
}

fn is_refused(mut raw: Raw) {
    let (head, body) = raw.read_response();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(
        head.contains("\r\nRetry-After: 1\r\n") && head.contains("Connection: close"),
        "{head}"
    );
    assert_eq!(body, "the server stops\n");
    assert!(raw.is_at_end());
}

#[test]
fn a_connection_that_waits_without_a_request_is_ended() {
    let mut server = Running::start();
    let mut raw = server.connect();
    raw.send(format!("{PAGE}\r\n").as_bytes());
    raw.read_response();
    server.handle.drain(at_once()).unwrap();
    assert!(raw.is_at_end());
    drop(raw);
    server.wait();
}

#[test]
fn who_waits_to_be_accepted_is_answered_and_who_comes_later_finds_nobody() {
    let site = Site::start_with_one_worker();
    let mut raws = site.open(2);
    site.put_to_sleep(&mut raws[0]);
    // More than are accepted in the tick that learns of the drain.
    let mut silent: Vec<_> = (0..100).map(|_| site.connect()).collect();
    let mut waiting = site.connect();
    waiting.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
    site.handle.drain(slowly()).unwrap();
    is_refused(waiting);
    let start = Instant::now();
    assert!(silent[99].is_at_end());
    assert!(start.elapsed() < PATIENCE / 2, "who asks nothing is not waited for");
    let address = site.tcp_address();
    while TcpStream::connect(address).is_ok() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    // Another server may take its place.
    Server::new(|_| Subscriber::default()).listen(address).unwrap();
    site.handle.abort();
}

#[test]
fn a_websocket_that_waits_to_be_adopted_is_closed_properly_and_later_ones_are_refused() {
    let mut site = Site::start_with_one_worker();
    let mut raws = site.open(1);
    site.put_to_sleep(&mut raws[0]);
    let (stream, mut waiting) = pair();
    site.handle.adopt_websocket(stream, [], Adoption::default()).unwrap();
    site.handle.drain(slowly()).unwrap();
    assert_eq!(answer_close(&mut waiting), (1012, reason()));
    let (stream, _) = pair();
    let refused = site.handle.adopt_websocket(stream, [], Adoption::default()).unwrap_err();
    assert_eq!(refused.reason, AdoptRefusal::Stopped);
    assert_eq!(raws[0].read_frame(), (TEXT, b"sleep".to_vec()));
    assert_eq!(answer_close(&mut raws[0]), (1012, reason()));
    site.end();
    site.all_were_shut_down(2, 1012);
}

#[test]
fn what_was_read_of_a_websocket_that_waits_to_be_adopted_comes_before_its_close() {
    for window in [slowly().window, Duration::ZERO] {
        let mut site = Site::start_with_one_worker();
        let mut raws = site.open(2);
        // It leaves a slot that the drain looks at.
        drop(raws.pop());
        let start = Instant::now();
        while site.shared.closed.lock().unwrap().pop().is_none() {
            assert!(start.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
        site.put_to_sleep(&mut raws[0]);
        let (stream, mut waiting) = pair();
        let long = vec![7; 600_000];
        let read = [frame(TEXT, b"first"), frame(BINARY, &long), frame(TEXT, b"last")].concat();
        site.handle.adopt_websocket(stream, read, Adoption::default()).unwrap();
        site.handle.drain(Drain { window, ..slowly() }).unwrap();
        assert_eq!(waiting.read_frame(), (TEXT, b"first".to_vec()));
        let (first, payload) = waiting.read_frame();
        assert_eq!((first, payload.len()), (BINARY, long.len()), "{window:?}");
        assert!(payload == long);
        assert_eq!(waiting.read_frame(), (TEXT, b"last".to_vec()));
        assert_eq!(answer_close(&mut waiting), (1012, reason()));
        raws[0].read_frame();
        answer_close(&mut raws[0]);
        site.end();
        site.all_were_shut_down(2, 1012);
    }
}

#[test]
fn a_stream_that_waits_to_be_adopted_is_refused_and_does_not_hold_a_drain_up() {
    let mut site = Site::start_with_one_worker();
    let mut raws = site.open(1);
    site.put_to_sleep(&mut raws[0]);
    let request = format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n");
    let [mut asks, mut waits] = [request.as_str(), ""].map(|read| {
        let (stream, raw) = pair();
        site.handle.adopt(stream, read).unwrap();
        raw
    });
    let start = Instant::now();
    site.handle.drain(at_once()).unwrap();
    assert!(asks.read_head().starts_with("HTTP/1.1 503 "));
    drop(asks);
    assert!(waits.is_at_end());
    drop(waits);
    assert_eq!(raws[0].read_frame(), (TEXT, b"sleep".to_vec()));
    assert_eq!(answer_close(&mut raws[0]), (1001, reason()));
    site.end();
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    site.all_were_shut_down(1, 1001);
}

#[test]
fn the_file_of_a_unix_socket_is_removed_before_the_last_connection_is_gone() {
    let path = std::env::temp_dir().join(format!("quelea-drain-{}.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    let mut server = Running::start_with(Config::default(), &address);
    let mut raws: Vec<_> = (0..8)
        .map(|_| {
            let stream = UnixStream::connect(&path).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut raw = Raw { stream };
            raw.upgrade("/");
            raw
        })
        .collect();
    server.handle.drain(slowly()).unwrap();
    let start = Instant::now();
    while path.exists() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    // What takes its place is not removed in the end.
    let _next = UnixListener::bind(&path).unwrap();
    server.handle.stop();
    for raw in &mut raws {
        let (code, _) = answer_close(raw);
        assert!(matches!(code, 1001 | 1012), "{code}");
    }
    server.wait();
    assert!(path.exists());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn without_connections_a_drain_ends_at_once() {
    let mut site = Site::start();
    let start = Instant::now();
    site.handle.drain(slowly()).unwrap();
    site.end();
    assert!(start.elapsed() < 3 * SECOND);
}

#[test]
fn a_server_that_drains_before_it_runs_ends_as_soon_as_it_does() {
    let config = Config { driver: driver(), ..Config::default() };
    let server = Server::new(|_| Subscriber::default()).config(config).unwrap();
    let server = server.listen("127.0.0.1:0").unwrap();
    let handle = server.handle();
    let error = handle.drain(Drain { code: CloseCode::ABNORMAL, ..slowly() }).unwrap_err();
    assert!(error.to_string().contains("drain.code"), "{error}");
    assert!(!handle.is_draining());
    handle.drain(slowly()).unwrap();
    server.run().unwrap();
}

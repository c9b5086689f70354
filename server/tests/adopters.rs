//! Who is adopted and who is not, by which worker, and what becomes of those that wait for it.
#![expect(clippy::disallowed_methods, reason = "a test measures time")]

mod support;

use quelea::{
    AdoptRefusal, Adopted, Adoption, Closed, Config, Conn, Handle, Handler, Message, PeerAddress,
    Server, Worker,
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    ops::Deref,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use support::*;

fn start(config: Config) -> Running {
    Running::start_with(config, "127.0.0.1:0")
}

/// What the server could not adopt works as before.
fn still_works(mut stream: TcpStream, raw: &mut Raw) {
    stream.write_all(b"sorry").unwrap();
    assert_eq!(raw.read_exact(5), b"sorry");
    raw.send(b"never mind");
    let mut bytes = [0; 10];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"never mind");
}

/// Tries to hand over both kinds of stream, and gets all back.
fn is_refused(handle: &Handle, reason: AdoptRefusal) {
    let (stream, mut raw) = pair();
    let adoption = Adoption::new("/path").subprotocol("a").data(7_u32);
    let error = handle.adopt_websocket(stream, *b"websocket", adoption).unwrap_err();
    assert_eq!((error.reason, &error.received[..]), (reason, &b"websocket"[..]));
    let text = format!("{error} {:?}", error.adoption);
    assert!(text.contains(&reason.to_string()) && text.contains("/path"), "{text}");
    still_works(error.stream, &mut raw);
    let (stream, mut raw) = pair();
    let error = handle.adopt(stream, *b"http").unwrap_err();
    assert_eq!((error.reason, &error.received[..]), (reason, &b"http"[..]));
    still_works(error.stream, &mut raw);
}

#[test]
fn adopted_and_accepted_connections_share_their_limit_and_leave_it() {
    let server = start(Config { connections_max: 3, ..Config::default() });
    let accepted = server.open();
    let one = server.adopt(b"");
    let (stream, other) = pair();
    server.handle.adopt(stream, *b"GET / ").unwrap();
    is_refused(&server.handle, AdoptRefusal::Full);
    let mut late = server.connect();
    late.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
    assert!(late.read_head().starts_with("HTTP/1.1 503 "));
    for leaving in [one, other, accepted] {
        drop(leaving);
        drop(is_adopted_at_last(&server.handle));
    }
    // None is counted twice, and none for ever.
    let all = [(); 3].map(|()| is_adopted_at_last(&server.handle));
    is_refused(&server.handle, AdoptRefusal::Full);
    drop(all);
    soon(|| server.handle.counts().connections == 0);
}

#[test]
fn adopted_connections_count_for_their_address() {
    let server = start(Config { connections_per_address_max: Some(1), ..Config::default() });
    let one = server.adopt(b"");
    is_refused(&server.handle, AdoptRefusal::Address);
    // A Unix stream has none.
    let (stream, _client) = UnixStream::pair().unwrap();
    server.handle.adopt_websocket(stream, [], Adoption::default()).unwrap();
    drop(one);
    drop(is_adopted_at_last(&server.handle));
}

#[test]
fn a_handshake_that_was_adopted_is_pending_until_it_is_done_and_has_its_deadline() {
    let timeout = Duration::from_millis(300);
    let server = start(Config {
        handshakes_pending_max: 1,
        handshake_timeout: timeout,
        ..Config::default()
    });
    // Those that are open are not pending.
    let _open = [(); 3].map(|()| is_adopted_at_last(&server.handle));
    soon(|| server.handle.counts().connections == 3);
    let start = Instant::now();
    let (stream, mut raw) = pair();
    server.handle.adopt(stream, *b"GET / ").unwrap();
    is_refused(&server.handle, AdoptRefusal::Pending);
    assert!(raw.read_head().starts_with("HTTP/1.1 408 "));
    assert!(start.elapsed() >= timeout - Duration::from_millis(20), "{:?}", start.elapsed());
    drop(raw);
    drop(is_adopted_at_last(&server.handle));
}

#[test]
fn a_stream_whose_peer_is_gone_is_given_back() {
    let server = Running::start();
    let (stream, raw) = pair();
    socket2::SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(raw);
    let error = server.handle.adopt(stream, []).unwrap_err();
    assert_eq!(error.reason, AdoptRefusal::NotConnected);
}

/// Tells what it was told of those that were adopted, and on which worker they are.
struct Host {
    worker: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_stuck: AtomicBool,
    closed: Mutex<usize>,
}

struct User(String);

impl Handler for Host {
    type State = String;

    fn on_adopt(&mut self, adopted: Adopted) -> String {
        let is_tcp =
            matches!(adopted.peer(), PeerAddress::Tcp(address) if address.ip().is_loopback());
        let told = format!("{} {:?} {:?}", adopted.path(), adopted.query(), adopted.subprotocol());
        let name = adopted.into_data().map(|User(name)| name);
        format!("{told} {is_tcp} {name:?}")
    }

    fn on_open(&mut self, conn: &mut Conn<'_, String>) {
        conn.send(&format!("worker {}", self.worker));
    }

    fn on_message(&mut self, conn: &mut Conn<'_, String>, message: Message<'_>) {
        match message {
            Message::Text("stick") => {
                self.shared.is_stuck.store(true, Ordering::SeqCst);
                while self.shared.is_stuck.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Message::Text("panic") => panic!("as told"),
            Message::Text("who?") => {
                let state = conn.state.clone();
                conn.send(&state);
            }
            message => {
                conn.send(message);
            }
        }
    }

    fn on_close(&mut self, _: &mut Conn<'_, String>, _: &Closed<'_>) {
        *self.shared.closed.lock().unwrap() += 1;
    }
}

/// Hosts without a listener, that is, all of whose connections are adopted.
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
    fn start(config: Config) -> Self {
        let shared: Arc<Shared> = Arc::default();
        let own = shared.clone();
        let make = move |worker: Worker| Host { worker: worker.index(), shared: own.clone() };
        let serving = Serving::start(config, &[], make);
        Self { serving, shared }
    }

    /// A WebSocket, and the worker it is on.
    fn open(&self, received: &[u8], adoption: Adoption) -> (Raw, usize) {
        let (stream, mut raw) = pair();
        self.handle.adopt_websocket(stream, received, adoption).unwrap();
        let text = String::from_utf8(raw.read_frame().1).unwrap();
        (raw, text.strip_prefix("worker ").unwrap().parse().unwrap())
    }

    /// The same, and its only worker does nothing until it is told.
    fn stuck(config: Config) -> (Self, Raw) {
        let site = Self::start(Config { workers: Some(1), ..config });
        let (mut raw, _) = site.open(b"", Adoption::default());
        raw.send(&frame(TEXT, b"stick"));
        soon(|| site.shared.is_stuck.load(Ordering::SeqCst));
        (site, raw)
    }

    fn free(&self) {
        self.shared.is_stuck.store(false, Ordering::SeqCst);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.free();
    }
}

#[test]
fn the_handler_makes_the_state_of_what_the_application_tells() {
    let site = Site::start(Config { workers: Some(workers()), ..Config::default() });
    let ann = Adoption::new("/room?a=b?c").subprotocol("chat").data(User("ann".into()));
    for (adoption, expected) in [
        (ann, r#"/room Some("a=b?c") Some("chat") true Some("ann")"#),
        (Adoption::default(), " None None true None"),
        (Adoption::new("/").data("another type"), "/ None None true None"),
    ] {
        // The question was read before, and finds the state.
        let (mut raw, _) = site.open(&frame(TEXT, b"who?"), adoption);
        assert_eq!(String::from_utf8(raw.read_frame().1).unwrap(), expected);
    }
}

#[test]
fn they_go_where_the_fewest_connections_are() {
    let site = Site::start(Config { workers: Some(4), ..Config::default() });
    // All at once, so that none of the workers knows how many the others have.
    let mut streams = Vec::new();
    for _ in 0..64 {
        let (stream, raw) = pair();
        site.handle.adopt_websocket(stream, [], Adoption::default()).unwrap();
        streams.push(raw);
    }
    let mut by_worker = [(); 4].map(|()| Vec::new());
    for mut raw in streams {
        let text = String::from_utf8(raw.read_frame().1).unwrap();
        let worker: usize = text.strip_prefix("worker ").unwrap().parse().unwrap();
        by_worker[worker].push(raw);
    }
    for all in &by_worker {
        assert!((12..=20).contains(&all.len()), "{} of 64 on one of 4 workers", all.len());
    }
    by_worker[2].clear();
    soon(|| site.handle.counts().connections == by_worker.iter().map(Vec::len).sum());
    for _ in 0..12 {
        let (raw, worker) = site.open(b"", Adoption::default());
        assert_eq!(worker, 2);
        by_worker[2].push(raw);
    }
}

#[test]
fn handshakes_that_are_under_way_are_spread_as_well() {
    let site = Site::start(Config { workers: Some(4), ..Config::default() });
    let silent = [(); 16].map(|()| {
        let (stream, raw) = pair();
        site.handle.adopt(stream, *b"GET ").unwrap();
        std::thread::sleep(Duration::from_millis(2));
        raw
    });
    let mut by_worker = [0; 4];
    for mut raw in silent {
        raw.send(format!("/ HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
        raw.read_head();
        let text = String::from_utf8(raw.read_frame().1).unwrap();
        by_worker[text.strip_prefix("worker ").unwrap().parse::<usize>().unwrap()] += 1;
    }
    assert!(by_worker.iter().all(|count| (2..=6).contains(count)), "{by_worker:?}");
}

#[test]
fn those_that_wait_for_a_worker_count_as_its_own() {
    let site = Site::start(Config { workers: Some(2), ..Config::default() });
    let (mut raw, stuck) = site.open(b"", Adoption::default());
    raw.send(&frame(TEXT, b"stick"));
    soon(|| site.shared.is_stuck.load(Ordering::SeqCst));
    let others = [(); 19].map(|()| {
        let raw = is_adopted_at_last(&site.handle);
        std::thread::sleep(Duration::from_millis(2));
        raw
    });
    site.free();
    let name = format!("worker {stuck}");
    let with_it = others
        .into_iter()
        .filter_map(|mut raw| (raw.read_frame().1 == name.as_bytes()).then_some(()));
    let count = 1 + with_it.count();
    assert!((8..=12).contains(&count), "{count} of 20 on one of 2 workers");
}

#[test]
fn threads_adopt_while_the_workers_are_busy() {
    let site = Site::start(Config { workers: Some(workers()), ..Config::default() });
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (mut busy, _) = site.open(b"", Adoption::default());
            let is_done = &is_done;
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    busy.send(&frame(BINARY, &[1; 10_000]));
                    assert_eq!(busy.read_frame().1.len(), 10_000);
                }
            });
        }
        let site = &site;
        let adopters = [0, 1].map(|thread| {
            scope.spawn(move || {
                for number in 0..200 {
                    let text = format!("{thread} {number}");
                    let bytes = frame(TEXT, text.as_bytes());
                    let (read, rest) = bytes.split_at(number % bytes.len());
                    let (mut raw, _) = site.open(read, Adoption::default());
                    raw.send(rest);
                    assert_eq!(raw.read_frame().1, text.as_bytes());
                }
            })
        });
        adopters.into_iter().for_each(|adopter| adopter.join().unwrap());
        is_done.store(true, Ordering::Relaxed);
    });
    soon(|| site.handle.counts().connections == 0);
    assert_eq!(*site.shared.closed.lock().unwrap(), 402);
}

#[test]
fn before_it_runs_and_once_it_is_stopped_a_server_adopts_nothing() {
    let make = |worker: Worker| Host { worker: worker.index(), shared: Arc::default() };
    let server = Server::new(make).without_listener();
    is_refused(&server.handle(), AdoptRefusal::NotRunning);
    let mut site = Site::start(Config::default());
    site.handle.stop();
    is_refused(&site.handle, AdoptRefusal::Stopped);
    site.serving.join().unwrap().unwrap().unwrap();
    is_refused(&site.handle, AdoptRefusal::Stopped);
}

#[test]
fn what_waits_for_a_worker_is_bounded_in_bytes_and_lost_in_none() {
    let config = Config { mailbox_bytes_max: 2 << 20, ..Config::default() };
    // Those that are refused take no place.
    let (site, _raw) = Site::stuck(Config { connections_max: 6, ..config });
    let mut waiting = Vec::new();
    for number in 0..8 {
        let (stream, raw) = pair();
        let text = number.to_string();
        let bytes = [frame(TEXT, text.as_bytes()), frame(BINARY, &[0; 500_000])].concat();
        match site.handle.adopt_websocket(stream, bytes, Adoption::default()) {
            Ok(()) => waiting.push((raw, text)),
            Err(error) => assert_eq!(error.reason, AdoptRefusal::Busy),
        }
    }
    assert_eq!(waiting.len(), 4);
    site.free();
    for (raw, text) in &mut waiting {
        assert_eq!(raw.read_frame().1, b"worker 0");
        assert_eq!(raw.read_frame().1, text.as_bytes());
        assert_eq!(raw.read_frame().1.len(), 500_000);
    }
    drop(is_adopted_at_last(&site.handle));
}

#[test]
fn those_that_wait_are_pending() {
    let (site, _raw) = Site::stuck(Config { handshakes_pending_max: 3, ..Config::default() });
    let waiting = [(); 3].map(|()| is_adopted_at_last(&site.handle));
    is_refused(&site.handle, AdoptRefusal::Pending);
    site.free();
    for mut raw in waiting {
        assert_eq!(raw.read_frame().1, b"worker 0");
    }
}

#[test]
fn those_that_wait_are_closed_when_the_server_is_stopped() {
    let config = Config { close_timeout: Duration::from_millis(300), ..Config::default() };
    let (mut site, mut raw) = Site::stuck(config);
    let mut waiting = [(); 3].map(|()| is_adopted_at_last(&site.handle));
    site.handle.stop();
    site.free();
    for raw in &mut waiting {
        assert!(raw.is_at_end());
    }
    assert_eq!(raw.read_close().0, 1001);
    site.serving.join().unwrap().unwrap().unwrap();
    assert_eq!(*site.shared.closed.lock().unwrap(), 1, "those that waited were never open");
}

#[test]
fn those_that_wait_are_closed_when_a_handler_panics() {
    let (mut site, mut raw) = Site::stuck(Config::default());
    let mut waiting = [(); 3].map(|()| is_adopted_at_last(&site.handle));
    raw.send(&frame(TEXT, b"panic"));
    site.free();
    for raw in &mut waiting {
        assert!(raw.is_at_end());
    }
    site.serving.join().unwrap().unwrap_err();
    is_refused(&site.handle, AdoptRefusal::Stopped);
}

#[test]
fn those_that_wait_for_a_worker_that_never_starts_are_closed() {
    let (stream, mut raw) = pair();
    let (stream, has_failed) = (Mutex::new(Some(stream)), Arc::new(AtomicBool::new(false)));
    let noted = has_failed.clone();
    let server = Server::new(move |worker: Worker| -> Host {
        let stream = stream.lock().unwrap().take().unwrap();
        worker.handle().adopt(stream, b"").unwrap();
        noted.store(true, Ordering::SeqCst);
        panic!("no handler for this worker");
    });
    let config = Config { workers: Some(1), driver: driver(), ..Config::default() };
    let server = server.config(config).unwrap();
    let server = server.without_listener();
    let handle = server.handle();
    std::thread::spawn(move || server.run()).join().unwrap_err();
    assert!(has_failed.load(Ordering::SeqCst));
    assert!(raw.is_at_end());
    is_refused(&handle, AdoptRefusal::Stopped);
}

#[test]
fn a_server_that_stops_says_so_to_those_that_it_adopted() {
    let mut site = Site::start(Config { workers: Some(workers()), ..Config::default() });
    let (mut raw, _) = site.open(&frame(BINARY, &[1; 600_000])[..500_000], Adoption::default());
    site.handle.stop();
    let (first, payload) = raw.read_frame();
    assert_eq!((first, &payload[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));
    raw.send(&frame(BINARY, &[1; 600_000])[500_000..]);
    raw.send(&frame(CLOSE, &close(1001, "")));
    assert!(raw.is_at_end());
    site.serving.join().unwrap().unwrap().unwrap();
    assert_eq!(*site.shared.closed.lock().unwrap(), 1);
}

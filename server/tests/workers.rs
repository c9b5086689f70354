//! Several workers are one server: from a handle, from each other, and to the network.

mod support;

use quelea::{
    CloseCode, Closed, Config, Conn, ConnId, Handler, Message, SendStatus, Server, Worker,
};
use std::{
    collections::HashSet,
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use support::{BINARY, CLOSE, Raw, Serving, TEXT, close, driver, frame, is_running, soon};

/// Tells which worker serves a connection; does as told.
struct Teller {
    worker: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ids: Mutex<Vec<ConnId>>,
    closed: Mutex<Vec<String>>,
    is_stuck: AtomicBool,
}

impl Handler for Teller {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.subscribe("all");
        self.shared.ids.lock().unwrap().push(conn.id());
        conn.send(&format!("worker {}", self.worker));
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        match message {
            Message::Text("panic") => panic!("as told"),
            Message::Text("stick") => {
                self.shared.is_stuck.store(true, Ordering::SeqCst);
                while self.shared.is_stuck.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                conn.send("free");
            }
            // Publishes numbers until it is told that they are too many.
            Message::Text("overfill") => {
                let mut count = 0_u32;
                let mut payload = vec![0; 10_000];
                let sent = loop {
                    payload[..4].copy_from_slice(&count.to_be_bytes());
                    let status = conn.publish("all", &payload);
                    if status != SendStatus::Queued {
                        break status;
                    }
                    count += 1;
                };
                conn.send(&format!("{count} {sent:?}"));
            }
            Message::Text(text) => {
                for id in self.shared.ids.lock().unwrap().iter() {
                    assert_ne!(conn.send_to(*id, text), SendStatus::Dropped);
                }
            }
            Message::Binary(payload) => {
                conn.publish("all", payload);
            }
        }
    }

    fn on_close(&mut self, _: &mut Conn<'_, ()>, closed: &Closed<'_>) {
        self.shared.closed.lock().unwrap().push(format!("{} {:?}", closed.code, closed.cause));
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

fn make(shared: &Arc<Shared>) -> impl Fn(Worker) -> Teller + Send + Sync + 'static {
    let shared = Arc::clone(shared);
    move |worker| {
        assert!(worker.index() < worker.count());
        Teller { worker: worker.index(), shared: Arc::clone(&shared) }
    }
}

impl Site {
    fn start(config: Config) -> Self {
        let shared = Arc::default();
        Self { serving: Serving::start(config, &["127.0.0.1:0"], make(&shared)), shared }
    }

    /// A connection, and the worker it is on.
    fn open(&self) -> (Raw, usize) {
        let mut raw = self.connect();
        raw.upgrade("/");
        let text = String::from_utf8(raw.read_frame().1).unwrap();
        (raw, text.strip_prefix("worker ").unwrap().parse().unwrap())
    }

    /// A connection on each of two workers.
    fn open_on_both(&self) -> [Raw; 2] {
        let mut both = [None, None];
        while both.iter().any(Option::is_none) {
            let (raw, worker) = self.open();
            both[worker].get_or_insert(raw);
        }
        both.map(Option::unwrap)
    }
}

fn two() -> Config {
    Config {
        workers: Some(2),
        driver: driver(),
        close_timeout: Duration::from_millis(300),
        ..Config::default()
    }
}

#[test]
fn connections_are_spread_over_all_workers_and_each_gets_what_any_publishes() {
    let site = Site::start(Config { workers: Some(4), ..Config::default() });
    let mut all: Vec<_> = (0..64).map(|_| site.open()).collect();
    let workers: HashSet<_> = all.iter().map(|(_, worker)| *worker).collect();
    assert_eq!(workers.len(), 4, "64 connections all missed one worker");
    soon(|| site.handle.counts().connections == 64);
    for publisher in 0..8 {
        all[publisher].0.send(&frame(BINARY, &[publisher as u8]));
        for (raw, _) in &mut all {
            assert_eq!(raw.read_frame(), (BINARY, vec![publisher as u8]));
        }
    }
    drop(all);
    soon(|| site.handle.counts().connections == 0);
}

#[test]
fn a_handle_sends_publishes_and_closes_from_any_thread_in_order() {
    let site = Site::start(two());
    let mut both = site.open_on_both();
    let ids = site.shared.ids.lock().unwrap().clone();
    let handle = site.handle.clone();
    std::thread::spawn(move || {
        for number in 0..100_u8 {
            assert_eq!(handle.publish("all", &[number]), SendStatus::Queued);
            for id in &ids {
                assert_eq!(handle.send(*id, "direct"), SendStatus::Queued);
            }
        }
        for id in &ids {
            assert_eq!(handle.close(*id, CloseCode(4321), "enough"), SendStatus::Queued);
            assert_eq!(handle.close(*id, CloseCode::NO_STATUS, ""), SendStatus::Invalid);
        }
    })
    .join()
    .unwrap();
    // What no connection could do is refused here as well.
    assert_eq!(site.handle.publish("", "x"), SendStatus::Invalid);
    assert_eq!(site.handle.publish(&"x".repeat(257), "x"), SendStatus::Invalid);
    assert_eq!(site.handle.publish("all", &vec![0; 4 << 20]), SendStatus::Dropped);
    for raw in &mut both {
        for number in 0..100 {
            assert_eq!(raw.read_frame(), (BINARY, vec![number]));
            assert_eq!(raw.read_frame(), (TEXT, b"direct".to_vec()));
        }
        assert_eq!(raw.read_frame(), (CLOSE, close(4321, "enough")));
        raw.send(&frame(CLOSE, &close(4321, "")));
        assert!(raw.is_at_end());
    }
    soon(|| site.shared.closed.lock().unwrap().iter().any(|how| how.contains("LocalClosed")));
}

#[test]
fn what_one_connection_publishes_and_sends_reaches_other_workers_in_order() {
    let site = Site::start(two());
    let [mut here, mut there] = site.open_on_both();
    let words = |number: u32| format!("{number}");
    let mut bytes = Vec::new();
    for number in 0..1000 {
        let first = if number % 3 == 0 { TEXT } else { BINARY };
        bytes.extend(frame(first, words(number).as_bytes()));
    }
    here.send(&bytes);
    for raw in [&mut there, &mut here] {
        for number in 0..1000 {
            assert_eq!(raw.read_frame().1, words(number).as_bytes());
        }
    }
}

#[test]
fn a_worker_that_is_stuck_is_told_of_and_loses_nothing_that_was_accepted() {
    let site =
        Site::start(Config { mailbox_bytes_max: 2 << 20, outbox_bytes_max: 64 << 20, ..two() });
    let [mut here, mut stuck] = site.open_on_both();
    stuck.send(&frame(TEXT, b"stick"));
    soon(|| site.shared.is_stuck.load(Ordering::SeqCst));
    let mut accepted = Vec::new();
    // The first fills what may wait at the worker itself; then the mailbox is full as well.
    for _ in 0..4 {
        here.send(&frame(TEXT, b"overfill"));
        let text = loop {
            let (first, payload) = here.read_frame();
            if first == TEXT {
                break String::from_utf8(payload).unwrap();
            }
        };
        let (count, status) = text.split_once(' ').unwrap();
        assert_eq!(status, "Dropped");
        accepted.push(count.parse::<u32>().unwrap());
    }
    assert_eq!(accepted[2..], [0, 0], "{accepted:?}");
    soon(|| site.handle.counts().refused_mail == 4);
    let mut status = SendStatus::Queued;
    for _ in 0..1000 {
        status = site.handle.publish("all", &[0xff; 10_000]);
    }
    assert_eq!(status, SendStatus::Dropped);
    let refused = site.handle.counts().refused_mail;
    assert!(refused > 4, "{refused}");
    site.shared.is_stuck.store(false, Ordering::SeqCst);
    let mut found = Vec::new();
    let mut next = 0;
    while found.len() < 2 {
        let (first, payload) = stuck.read_frame();
        if first == TEXT || payload[0] == 0xff {
            continue;
        }
        let number = u32::from_be_bytes(payload[..4].try_into().unwrap());
        if number == 0 && next > 0 {
            next = 0;
        }
        assert_eq!(number, next);
        next += 1;
        if next == accepted[found.len()] {
            found.push(next);
            next = 0;
        }
    }
    assert_eq!(found, accepted[..2]);
    // And it goes on.
    here.send(&frame(BINARY, b"later"));
    while stuck.read_frame().1 != b"later" {}
}

#[test]
fn before_and_after_it_runs_a_server_is_closed_to_its_handle() {
    let server = Server::new(make(&Arc::default())).config(two()).unwrap();
    let server = server.listen("127.0.0.1:0").unwrap();
    let handle = server.handle();
    assert_eq!(handle.publish("all", "early"), SendStatus::Closed);
    assert_eq!(handle.counts(), quelea::Counts::default());
    handle.stop();
    // It was stopped before it began.
    server.run().unwrap();
    assert_eq!(handle.publish("all", "late"), SendStatus::Closed);
}

#[test]
fn a_handler_that_panics_stops_all_workers_and_the_panic_goes_on() {
    let mut site = Site::start(two());
    let [mut one, mut other] = site.open_on_both();
    one.send(&frame(TEXT, b"panic"));
    let (code, reason) = other.read_close();
    assert_eq!((code, reason.as_str()), (1001, "the server stops"));
    let panic = site.serving.join().unwrap().unwrap_err();
    assert!(panic.downcast_ref::<&str>().is_some_and(|text| *text == "as told"));
}

#[test]
fn a_port_that_a_server_listens_on_is_not_shared_with_another() {
    let site = Site::start(two());
    let error = Server::new(|_| Teller { worker: 0, shared: Arc::default() })
        .listen(site.tcp_address())
        .unwrap_err();
    assert!(matches!(error, quelea::Error::Listen { .. }), "{error}");
    // And one that was stopped leaves its port to the next at once.
    let address = site.tcp_address();
    let _connection = site.open();
    drop(site);
    Server::new(|_| Teller { worker: 0, shared: Arc::default() }).listen(address).unwrap();
}

#[test]
fn a_port_is_shared_by_servers_that_ask_for_it_and_refused_to_one_that_does_not() {
    let config = || Config { share_port: true, ..two() };
    let first = Site::start(config());
    let listen = |config| {
        let server = Server::new(|_| Teller { worker: 0, shared: Arc::default() });
        server.config(config).unwrap().listen(first.tcp_address())
    };
    assert!(listen(Config { share_port: false, ..two() }).is_err());
    let second = listen(config()).unwrap();
    let handle = second.handle();
    let thread = std::thread::spawn(move || second.run());
    is_running(&handle);
    let mut raws = Vec::new();
    while [&first.handle, &handle].iter().any(|handle| handle.counts().connections == 0) {
        assert!(raws.len() < 1000, "the kernel spreads them");
        raws.push(first.open());
    }
    handle.stop();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_port_of_one_worker_that_did_not_ask_to_share_it_is_refused_to_one_that_does() {
    let site = Site::start(Config { workers: Some(1), ..two() });
    let server = Server::new(|_| Teller { worker: 0, shared: Arc::default() });
    let server = server.config(Config { share_port: true, ..two() }).unwrap();
    let error = server.listen(site.tcp_address()).unwrap_err();
    assert!(matches!(error, quelea::Error::Listen { .. }), "{error}");
}

#[test]
fn pinned_workers_serve() {
    let site = Site::start(Config { pin_workers: true, ..two() });
    let _both = site.open_on_both();
}

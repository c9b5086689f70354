//! What a slow peer gets, what it costs, and what its handler is told.

mod support;

use quelea::{
    CloseCode, Closed, Config, Conn, Handler, Message, Overflow, Request, Response, SendStatus,
    Status, Upgrade,
};
use std::{
    io::{Read, Write},
    net::Shutdown,
    ops::Deref,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    time::Duration,
};
use support::*;

/// Subscribes to `t.drop`, `t.close` or `t.latest` by its path, publishes what it is sent there, and
/// notes what it is called for.
struct Topical {
    log: Arc<Mutex<Vec<String>>>,
}

const PAGE_BYTES: usize = 12 << 20;

impl Topical {
    fn note(&self, text: String) {
        self.log.lock().unwrap().push(text);
    }
}

impl Handler for Topical {
    type State = String;

    fn on_upgrade(&mut self, upgrade: &Upgrade<'_>) -> Result<quelea::Accept<String>, Response> {
        Ok(quelea::Accept::new(upgrade.path()[1..].to_owned()))
    }

    fn on_request(&mut self, _: &Request<'_>) -> Response {
        Response::new(Status::OK).content("application/octet-stream", vec![b'x'; PAGE_BYTES])
    }

    fn on_open(&mut self, conn: &mut Conn<'_, String>) {
        if !conn.state.is_empty() {
            let topic = conn.state.clone();
            conn.subscribe(&topic);
        }
        conn.send("open");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, String>, message: Message<'_>) {
        match message {
            Message::Binary(payload) => {
                let topic = conn.state.clone();
                if topic == "others" {
                    // To all, but in two parts: a copy for each that is not its sender.
                    conn.publish_to_others(&topic, payload);
                    conn.send(payload);
                } else {
                    conn.publish(&topic, payload);
                }
            }
            Message::Text("fill") => {
                let mut statuses = Vec::new();
                while statuses.last() != Some(&SendStatus::Dropped) {
                    statuses.push(conn.send(&[7; 1000]));
                }
                let count = |status| statuses.iter().filter(|one| **one == status).count();
                self.note(format!(
                    "{} queued, {} backlogged",
                    count(SendStatus::Queued),
                    count(SendStatus::Backlogged),
                ));
            }
            Message::Text("pause") => {
                conn.pause();
                conn.set_timer(0, Duration::from_millis(300));
                conn.send("paused");
            }
            Message::Text(text) => {
                conn.send(text);
                self.note(text.to_owned());
            }
        }
    }

    fn on_timer(&mut self, conn: &mut Conn<'_, String>, _: u8) {
        self.note("resume".into());
        conn.resume();
    }

    fn on_drain(&mut self, conn: &mut Conn<'_, String>) {
        self.note(format!("drained at {}", conn.queued()));
        conn.send("drained");
    }

    fn on_close(&mut self, _: &mut Conn<'_, String>, closed: &Closed<'_>) {
        self.note(format!("{:?}", closed.cause));
    }
}

struct Site {
    serving: Serving,
    log: Arc<Mutex<Vec<String>>>,
}

impl Deref for Site {
    type Target = Serving;

    fn deref(&self) -> &Serving {
        &self.serving
    }
}

impl Site {
    fn start(config: Config, address: &str) -> Self {
        let config = Config { workers: Some(workers()), ..config };
        let log = Arc::new(Mutex::default());
        let own = Arc::clone(&log);
        let make = move |_| Topical { log: Arc::clone(&own) };
        Self { serving: Serving::start(config, &[address], make), log }
    }

    fn open(&self, path: &str) -> Raw {
        let mut raw = self.connect();
        raw.upgrade(path);
        assert_eq!(raw.read_frame(), (TEXT, b"open".to_vec()));
        raw
    }

    /// Waits until something was noted.
    fn noted(&self, text: &str) -> bool {
        (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            self.log.lock().unwrap().iter().any(|noted| noted == text)
        })
    }
}

/// Numbered payloads of 10,000 bytes, published one after the other; each is read back by the
/// publisher before the next, so that the server has nothing else to do.
fn publish(publisher: &mut Raw, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut payload = vec![0; 10_000];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        publisher.send(&frame(BINARY, &payload));
        let (_, echoed) = publisher.read_frame();
        assert_eq!(echoed[..4], number.to_be_bytes());
    }
}

/// The number of the next payload; what the handler says is passed over.
fn read_number(raw: &mut Raw) -> u32 {
    let mut frames = std::iter::repeat_with(|| raw.read_frame());
    let (_, payload) = frames.find(|(first, _)| *first == BINARY).unwrap();
    number_of(&payload)
}

fn number_of(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "bounds a test by the real clock")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

fn small() -> Config {
    let topic_overflow =
        vec![("*.latest".into(), Overflow::KeepLatest), ("t.close".into(), Overflow::Close)];
    Config { outbox_bytes_max: 1 << 20, topic_overflow, ..Config::default() }
}

#[test]
fn a_slow_subscriber_of_a_dropping_topic_has_gaps_and_goes_on() {
    let site = Site::start(small(), "127.0.0.1:0");
    let (mut slow, mut fast) = (site.open("/t.drop"), site.open("/t.drop"));
    publish(&mut fast, 0..2000);
    // It reads again, and what comes from now on finds room.
    let mut seen: Vec<_> = (0..100).map(|_| read_number(&mut slow)).collect();
    let mut number = 2000;
    while seen.last() < Some(&2000) {
        publish(&mut fast, number..number + 1);
        number += 1;
        seen.extend((0..10).map(|_| read_number(&mut slow)));
    }
    assert!(site.handle.counts().dropped_publishes > 0);
    assert!(seen.len() < 2000, "{} came", seen.len());
    assert!(seen.is_sorted(), "in order");
}

#[test]
fn a_slow_subscriber_of_a_latest_topic_gets_the_last_state_once_it_reads() {
    let site = Site::start(small(), "127.0.0.1:0");
    let (mut slow, mut fast) = (site.open("/t.latest"), site.open("/t.latest"));
    publish(&mut fast, 0..2000);
    let mut seen = Vec::new();
    while seen.last() != Some(&1999) {
        seen.push(read_number(&mut slow));
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "in order, and none twice");
    assert!(seen.len() < 1999, "{} came", seen.len());
    publish(&mut fast, 2000..2003);
    let after: Vec<_> = (0..3).map(|_| read_number(&mut slow)).collect();
    assert_eq!(after, [2000, 2001, 2002], "a subscriber that keeps up gets all");
}

#[test]
fn a_slow_subscriber_of_a_closing_topic_is_closed_with_1013() {
    let config = Config { close_timeout: Duration::from_secs(30), ..small() };
    let site = Site::start(config, "127.0.0.1:0");
    let (mut slow, mut fast) = (site.open("/t.close"), site.open("/t.close"));
    publish(&mut fast, 0..2000);
    let mut next = 0;
    loop {
        let (first, payload) = slow.read_frame();
        if first == CLOSE {
            assert_eq!(payload[..2], CloseCode::TRY_AGAIN_LATER.0.to_be_bytes());
            break;
        }
        if first == BINARY {
            assert_eq!(number_of(&payload), next, "no gap before the end");
            next += 1;
        }
    }
    slow.send(&frame(CLOSE, &close(1013, "")));
    assert!(slow.is_at_end());
    assert!(site.noted("TooSlow"));
}

#[test]
fn one_that_never_reads_is_ended_as_too_slow_by_the_deadline_for_closing() {
    let config = Config { close_timeout: Duration::from_millis(200), ..small() };
    let site = Site::start(config, "127.0.0.1:0");
    let (_slow, mut fast) = (site.open("/t.close"), site.open("/t.close"));
    publish(&mut fast, 0..1000);
    assert!(site.noted("TooSlow"));
}

#[test]
fn sending_says_when_to_stop_and_draining_when_to_go_on() {
    let config = Config {
        outbox_bytes_max: 100_000,
        high_water_bytes: Some(50_000),
        low_water_bytes: Some(10_000),
        ping_interval: None,
        ..Config::default()
    };
    let site = Site::start(config, "127.0.0.1:0");
    let mut raw = site.open("/");
    let start = now();
    raw.send(&frame(TEXT, b"fill"));
    let mut count = 0;
    while raw.read_frame() != (TEXT, b"drained".to_vec()) {
        count += 1;
    }
    // The kernel took all at once: nothing was ever short, and yet it is told, and at once.
    assert_eq!(count, 99);
    assert_eq!(*site.log.lock().unwrap(), ["49 queued, 50 backlogged", "drained at 0"]);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

#[test]
fn on_drain_comes_at_the_low_mark_not_when_all_is_gone() {
    let config = Config {
        outbox_bytes_max: 40 << 20,
        high_water_bytes: Some(30 << 20),
        low_water_bytes: Some(20 << 20),
        ..Config::default()
    };
    let site = Site::start(config, "127.0.0.1:0");
    let mut raw = site.open("/");
    raw.send(&frame(TEXT, b"fill"));
    let mut left = 40 << 20;
    let mut buffer = vec![0; 1 << 20];
    while site.log.lock().unwrap().len() < 2 && left > 0 {
        left -= raw.stream.read(&mut buffer).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    let drained = site.log.lock().unwrap()[1].clone();
    let at: usize = drained.strip_prefix("drained at ").unwrap().parse().unwrap();
    assert!((1 << 20..=20 << 20).contains(&at), "{drained}");
}

#[test]
fn a_handler_that_pauses_hears_nothing_until_it_resumes_and_then_all() {
    let config = Config {
        // Nobody who is not listened to is timed out.
        ping_interval: Some(Duration::from_millis(50)),
        pong_timeout: Duration::from_millis(50),
        idle_timeout: Some(Duration::from_millis(150)),
        ..Config::default()
    };
    let site = Site::start(config, "127.0.0.1:0");
    let mut raw = site.open("/");
    raw.send(&frame(TEXT, b"pause"));
    while raw.read_frame() != (TEXT, b"paused".to_vec()) {}
    raw.send(&frame(TEXT, b"after"));
    while raw.read_frame() != (TEXT, b"after".to_vec()) {}
    assert_eq!(*site.log.lock().unwrap(), ["resume", "after"]);
}

#[test]
fn a_slow_reader_of_its_own_echo_loses_nothing_whatever_its_socket_takes_at_once() {
    // A Unix socket takes little at a time: each edge makes less room than a read may fill.
    let path = std::env::temp_dir().join(format!("quelea-slow-{}.sock", std::process::id()));
    let config = Config { outbox_bytes_max: 1 << 20, ..Config::default() };
    let _site = Site::start(config, &format!("unix:{}", path.display()));
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    socket2::SockRef::from(&stream).set_send_buffer_size(1 << 20).unwrap();
    let mut raw = Raw { stream };
    raw.upgrade("/");
    raw.read_frame();
    let mut writer = raw.stream.try_clone().unwrap();
    let count = 3000;
    let thread = std::thread::spawn(move || {
        for number in 0..count {
            writer.write_all(&frame(TEXT, format!("{number:08192}").as_bytes())).unwrap();
        }
    });
    for number in 0..count {
        if number % 4 == 0 {
            std::thread::sleep(Duration::from_micros(500));
        }
        let mut frames = std::iter::repeat_with(|| raw.read_frame().1);
        let echoed = frames.find(|payload| payload != b"drained").unwrap();
        assert!(echoed == format!("{number:08192}").as_bytes(), "{number}");
    }
    thread.join().unwrap();
}

#[test]
fn a_crowd_that_publishes_to_its_others_costs_a_bounded_amount() {
    // Each of them needs a copy of its own, without its own message: 400 MB if all were made first.
    let site = Site::start(Config::default(), "127.0.0.1:0");
    let count = 400;
    let others = "/others";
    let mut crowd: Vec<_> = (0..count).map(|_| site.open(others)).collect();
    let before = resident();
    let message = frame(BINARY, &[1; 2500]);
    for raw in &mut crowd {
        raw.send(&message);
    }
    let mut peak = 0;
    for raw in &mut crowd {
        for _ in 0..count {
            assert_eq!(raw.read_frame().1.len(), 2500);
        }
        peak = peak.max(resident());
    }
    let grown = peak.saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB", grown >> 20);
}

/// Anonymous memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// A response of 12 MiB, read at about 12 MiB a second from a server whose timeouts are far shorter.
#[test]
fn a_response_may_take_longer_than_any_timeout_if_it_is_taken_steadily() {
    let config = Config {
        handshake_timeout: Duration::from_millis(300),
        close_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    for connection in ["keep-alive", "close"] {
        let site = Site::start(config.clone(), "127.0.0.1:0");
        let stream = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let stream = stream.unwrap();
        stream.set_recv_buffer_size(64 << 10).unwrap();
        stream.connect(&site.tcp_address().into()).unwrap();
        let mut raw = Raw::new(stream.into());
        raw.send(
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n").as_bytes(),
        );
        let head = raw.read_head();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        for _ in 0..PAGE_BYTES >> 17 {
            raw.read_exact(1 << 17);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_client_that_sends_no_more_still_gets_all_of_its_response() {
    let site = Site::start(Config::default(), "127.0.0.1:0");
    let mut raw = site.connect();
    raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    raw.stream.shutdown(Shutdown::Write).unwrap();
    let head = raw.read_head();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    raw.read_exact(PAGE_BYTES);
    assert!(raw.is_at_end());
}

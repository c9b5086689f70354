//! What hostile peers cost: memory, CPU time of the worker and of the parsers, descriptors.

#[path = "support/gauge.rs"]
mod gauge;
mod support;

use gauge::*;
use quelea::{Config, HeadLimits, OriginPolicy, Overflow};
use quelea_core::{
    Connection, Context, Event, Limits, Received, Role,
    handshake::Upgrade,
    http::{Fields, HeadScanner, Request},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{
    alloc::System,
    io::Read,
    net::Shutdown,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::Duration,
};
use support::{metrics::once, *};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is measured is the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory that the process has more than when this was made, in bytes.
struct Grown(Region<'static, System>);

impl Grown {
    fn from_now() -> Self {
        Self(Region::new(ALLOCATOR))
    }

    fn bytes(&self) -> isize {
        let change = self.0.change();
        change.bytes_allocated as isize - change.bytes_deallocated as isize
    }
}

/// Fragments that are no last one, each with this payload.
fn fragments(first: u8, payload: &[u8], count: usize) -> Vec<u8> {
    let mut bytes = frame(first, payload);
    let next = frame(0x00, payload);
    for _ in 1..count {
        bytes.extend_from_slice(&next);
    }
    bytes
}

struct Receiver {
    connection: Connection,
    context: Context,
    /// The length of each message that came.
    messages: Vec<usize>,
}

impl Receiver {
    fn new() -> Self {
        let limits = Limits { message_bytes_max: 1 << 40, fragments_max: u32::MAX };
        Self {
            connection: Connection::new(Role::Server),
            context: Context::new(limits, [0; 32]),
            messages: Vec::with_capacity(8),
        }
    }

    fn receive(&mut self, bytes: &mut [u8]) {
        let mut received = Received::new(bytes);
        let mut out = Vec::new();
        while let Some(event) =
            self.connection.poll_event(&mut received, &mut self.context, &mut out).unwrap()
        {
            if let Event::Message(message) = event {
                self.messages.push(message.len());
            }
        }
    }
}

#[test]
fn a_message_costs_time_linear_in_its_bytes_however_it_is_cut() {
    let _alone = alone();
    for (first, payload) in [(0x02, &b"x"[..]), (0x01, b"x"), (0x02, b"")] {
        for chunk_len in [1, 7, 1 << 20] {
            let name = format!("fragments of {} bytes, {chunk_len} at once", payload.len());
            let run = |count: usize| {
                let mut bytes = fragments(first, payload, count);
                bytes.extend(frame(0x80, payload));
                let mut receiver = Receiver::new();
                for chunk in bytes.chunks_mut(chunk_len) {
                    receiver.receive(chunk);
                }
                assert_eq!(receiver.messages, [(count + 1) * payload.len()]);
            };
            is_linear(&name, run, 8_000);
        }
    }
    let run = |len: usize| {
        let mut bytes = frame(TEXT, "é".repeat(len / 2).as_bytes());
        let mut receiver = Receiver::new();
        for chunk in bytes.chunks_mut(1) {
            receiver.receive(chunk);
        }
        assert_eq!(receiver.messages, [len]);
    };
    is_linear("one frame, a byte at a time", run, 64_000);
}

#[test]
fn a_million_fragments_take_no_more_memory_than_their_payload() {
    let _alone = alone();
    for (first, payload) in [(0x02, &b"x"[..]), (0x01, b"x"), (0x02, b"")] {
        let count = 1_000_000;
        let mut bytes = fragments(first, payload, count);
        let mut receiver = Receiver::new();
        let grown = Grown::from_now();
        receiver.receive(&mut bytes);
        // A buffer that grows by doubling may be half empty.
        let most = 2 * (count * payload.len()) as isize + 1024;
        assert!(grown.bytes() <= most, "{} bytes", grown.bytes());
        let change = grown.0.change();
        let allocations = change.allocations + change.reallocations;
        assert!(allocations < 64, "{allocations} allocations");
        receiver.receive(&mut frame(0x80, b""));
        assert_eq!(receiver.messages, [count * payload.len()]);
        receiver.messages.clear();
        // For the next large message, until it is quiet.
        assert!(grown.bytes() <= most, "{} bytes are kept", grown.bytes());
        receiver.context.trim();
        assert!(grown.bytes() < 64 << 10, "{} bytes are kept", grown.bytes());
    }
}

#[test]
fn a_declared_length_reserves_nothing() {
    let _alone = alone();
    let huge = 1 << 40;
    let site = Site::start(Config {
        message_bytes_max: huge,
        mailbox_bytes_max: huge,
        ..Config::default()
    });
    for first in [0x01, 0x02] {
        let mut raws: Vec<_> = (0..100).map(|_| site.open()).collect();
        // The ping's answer says that what follows it was received as well.
        let mut bytes = [frame(first, b"a"), frame(PING, b"")].concat();
        bytes.extend([0x80, 0xff]);
        bytes.extend((huge as u64 - 1).to_be_bytes());
        bytes.extend([1, 2, 3, 4, 0, 0]);
        let grown = Grown::from_now();
        for raw in &mut raws {
            raw.send(&bytes);
        }
        for raw in &mut raws {
            assert_eq!(raw.read_frame().0, PONG);
        }
        let each = grown.bytes() / 100;
        assert!(each < 1024, "{each} bytes for each connection");
        // What is there grows with what came.
        let more = [0; 10_000];
        for raw in &mut raws {
            raw.send(&more);
        }
        settle(&site);
        let each = grown.bytes() / 100;
        assert!((10_000..22_000).contains(&each), "{each} bytes for each connection");
        drop(raws);
    }
}

/// Waits until the worker has taken all that was sent to it before.
fn settle(site: &Site) {
    let mut raw = site.open();
    // What comes in one tick is in any order.
    for _ in 0..3 {
        assert_eq!(ask(&mut raw, "?"), "?");
    }
}

#[test]
fn pings_of_a_peer_that_never_reads_are_answered_with_the_latest_and_cost_nothing_more() {
    let _alone = alone();
    let site = Site::start(Config::default());
    let mut calm = site.open();
    let mut raw = site.open();
    let payload = |number: u32| {
        let mut payload = [0; 125];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        payload
    };
    let mut flood = Vec::with_capacity(1 << 20);
    let grown = Grown::from_now();
    let (mut number, mut peak) = (0, 0);
    // 32 MiB of pongs, of which the kernel takes a few.
    while number < 256 << 10 {
        flood.clear();
        for _ in 0..1024 {
            flood.extend(frame(PING, &payload(number)));
            number += 1;
        }
        raw.send(&flood);
        peak = peak.max(grown.bytes());
        assert_eq!(ask(&mut calm, "?"), "?");
    }
    assert!(peak < 1 << 20, "{peak} bytes");
    let mut last = 0;
    let mut count = 0;
    while last < number - 1 {
        let (first, pong) = raw.read_frame();
        let next = u32::from_be_bytes(pong[..4].try_into().unwrap());
        assert_eq!((first, pong.len()), (PONG, 125));
        assert!(next >= last, "{next} after {last}");
        last = next;
        count += 1;
    }
    assert!(count < number, "all were answered: the kernel took too much for this test");
    assert_eq!(ask(&mut raw, "and on"), "and on");
}

#[test]
fn a_client_that_asks_and_never_reads_gets_no_more_answers() {
    let _alone = alone();
    let site = Site::start(Config::default());
    let mut calm = site.open();
    let mut raw = site.serving.connect();
    let flood = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10_000);
    let grown = Grown::from_now();
    raw.send(flood.as_bytes());
    settle(&site);
    assert!(grown.bytes() < 512 << 10, "{} bytes", grown.bytes());
    let mut all = Vec::new();
    raw.stream.read_to_end(&mut all).unwrap();
    let answers = String::from_utf8(all).unwrap();
    let count = answers.matches("HTTP/1.1 426 ").count();
    assert!((10..2_000).contains(&count), "{count} answers");
    assert_eq!(answers.matches("Connection: close").count(), 1, "the last says so");
    assert_eq!(ask(&mut calm, "?"), "?");
}

#[test]
fn subscribers_that_never_read_keep_no_more_than_their_outbox() {
    let _alone = alone();
    let topic_overflow = vec![("state".into(), Overflow::KeepLatest)];
    let outbox = 256 << 10;
    let config = Config { outbox_bytes_max: outbox, topic_overflow, ..Config::default() };
    let site = Site::start(config);
    let mut calm = site.open();
    let mut never: Vec<_> = (0..20).map(|_| site.open()).collect();
    for (index, raw) in never.iter_mut().enumerate() {
        let topic = ["subscribe news", "subscribe state"][index % 2];
        assert_eq!(ask(raw, topic), topic);
    }
    let grown = Grown::from_now();
    let mut peak = 0;
    // 40 times 20 MB, beyond what the kernel takes.
    for _ in 0..1000 {
        for text in ["publish news 20000", "publish state 20000"] {
            assert_eq!(ask(&mut calm, text), text);
        }
        peak = peak.max(grown.bytes());
    }
    assert!(site.serving.handle.counts().dropped_publishes > 0, "none was too slow");
    let most = 2 * 20 * outbox as isize;
    assert!(peak < most, "{peak} bytes");
}

#[test]
fn heads_cost_time_linear_in_their_bytes_whatever_is_in_them() {
    let _alone = alone();
    let limits = HeadLimits { bytes_max: 8 << 20, fields_max: 128 };
    let run = |len: usize| {
        let head = format!("GET / HTTP/1.1\r\n{HANDSHAKE}X: {}\r\n\r\n", "y".repeat(len));
        let mut scanner = HeadScanner::default();
        let found = (1..=head.len()).map(|len| scanner.scan(&head.as_bytes()[..len], &limits));
        assert_eq!(found.last(), Some(Ok(Some(head.len()))));
    };
    is_linear("a head that comes a byte at a time", run, 16 << 10);
    for field in ["Connection", "Upgrade", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"] {
        for element in [",", "a,", "a ,\t"] {
            let run = |len: usize| {
                let list = element.repeat(len / element.len());
                let head = format!("GET / HTTP/1.1\r\n{HANDSHAKE}{field}: {list}\r\n\r\n");
                let mut fields = Fields::new();
                let request = Request::parse(head.as_bytes(), &mut fields).unwrap();
                let _ = std::hint::black_box(Upgrade::check(&request, &OriginPolicy::SameHost));
            };
            is_linear(&format!("a list of {element:?} in {field}"), run, 64 << 10);
        }
    }
}

#[test]
fn a_head_that_is_too_long_costs_no_more_than_the_limit() {
    let _alone = alone();
    let site = Site::start(Config::default());
    let mut calm = site.open();
    let mut raw = site.serving.connect();
    let line = [b'y'; 64 << 10];
    let grown = Grown::from_now();
    raw.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ");
    settle(&site);
    let mut peak = 0;
    for _ in 0..64 {
        raw.send(&line);
        assert_eq!(ask(&mut calm, "?"), "?");
        peak = peak.max(grown.bytes());
    }
    assert!(peak < 48 << 10, "{peak} bytes for 4 MiB");
    assert!(raw.read_response().0.starts_with("HTTP/1.1 431 "));
    assert!(raw.is_at_end());
}

#[test]
fn a_head_that_is_never_finished_keeps_no_more_than_the_limit() {
    let _alone = alone();
    let site = Site::start(Config::default());
    let mut calm = site.open();
    let mut raws: Vec<_> = (0..100).map(|_| site.serving.connect()).collect();
    settle(&site);
    let grown = Grown::from_now();
    let most = HeadLimits::default().bytes_max;
    // One that comes in two parts: a buffer that doubles when the second comes has room for two.
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(most));
    for part in [0..most - 100, most - 100..most - 1] {
        for raw in &mut raws {
            raw.send(&head.as_bytes()[part.clone()]);
        }
        assert_eq!(ask(&mut calm, "?"), "?");
        settle(&site);
    }
    let each = grown.bytes() / 100;
    assert!(each > most as isize / 2, "{each} bytes: they are not there yet");
    assert!(each <= most as isize + 256, "{each} bytes for each connection");
}

/// A handshake that fails, in one of many ways; what it is answered with, if anything.
fn fail_handshake(site: &Site, number: usize) -> (Raw, &'static str) {
    let mut raw = site.serving.connect();
    let upgrade = |target: &str, fields: &str| {
        format!("GET {target} HTTP/1.1\r\n{HANDSHAKE}{fields}\r\n").into_bytes()
    };
    let whole = upgrade("/", "");
    let (bytes, answer) = match number % 12 {
        0 => (upgrade("/", "Origin: http://evil.com\r\n"), "HTTP/1.1 403 "),
        1 => (upgrade("/", "Host: b\r\n"), "HTTP/1.1 400 "),
        2 => (upgrade("/refused", ""), "HTTP/1.1 401 "),
        3 => (upgrade("/", "").repeat(2), "HTTP/1.1 400 "),
        4 => (b"\x16\x03\x01\x02\x00".to_vec(), "HTTP/1.1 400 "),
        5 => (upgrade("/", &"X: y\r\n".repeat(200)), "HTTP/1.1 431 "),
        6 => (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc".to_vec(),
            "HTTP/1.1 405 ",
        ),
        7 => ([&whole[..], &[0xff; 300]].concat(), "HTTP/1.1 400 "),
        8 => (Vec::new(), ""),
        9 => (whole[..number % whole.len()].to_vec(), ""),
        10 => (whole, "HTTP/1.1 101 "),
        _ => (b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), ""),
    };
    raw.send(&bytes);
    (raw, answer)
}

/// Waits until only one client is left, and no descriptor of another: not each connection has one.
fn wait_for_the_end(site: &Site, calm: &mut Raw, descriptors_before: usize) {
    for _ in 0..2_000 {
        let connections = site.serving.handle.metrics(PATIENCE).total().connections.total();
        if (descriptors(), connections) == (descriptors_before, 1) {
            return;
        }
        sleep(Duration::from_millis(5));
        assert_eq!(ask(calm, "?"), "?");
    }
    panic!("{} descriptors, and {descriptors_before} before", descriptors());
}

/// Ends a connection by a reset.
fn reset(raw: Raw) {
    socket2::SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Nothing is given back only because a deadline came.
fn patient() -> Config {
    let long = Duration::from_secs(60);
    Config {
        handshake_timeout: long,
        close_timeout: long,
        ping_interval: None,
        ..Config::default()
    }
}

#[test]
fn ten_thousand_failed_handshakes_leave_nothing_behind() {
    let _alone = alone();
    let room = 40;
    let site = Site::start(Config {
        connections_max: room,
        handshakes_pending_max: room,
        connections_per_address_max: Some(room),
        ..patient()
    });
    // One has its place all the time, and is not affected.
    let mut calm = site.open();
    let descriptors_before = descriptors();
    let mut number = 0;
    let mut fail = |calm: &mut Raw, count: usize| {
        let end = number + count;
        while number < end {
            let failing: Vec<_> =
                (1..room).map(|one| fail_handshake(&site, number + one)).collect();
            number += failing.len();
            for (index, (mut raw, answer)) in failing.into_iter().enumerate() {
                if !answer.is_empty() {
                    let head = raw.read_head();
                    assert!(head.starts_with(answer), "{answer}: {head}");
                }
                if index % 2 == 0 {
                    reset(raw);
                }
            }
            wait_for_the_end(&site, calm, descriptors_before);
        }
    };
    // What is kept for reuse is there after these.
    fail(&mut calm, 1_000);
    let grown = Grown::from_now();
    fail(&mut calm, 9_000);
    assert!(grown.bytes() < 64 << 10, "{} bytes", grown.bytes());
    assert_eq!(site.serving.handle.counts().connections, 1);
    // Not a place is lost, and not one too many is given.
    let mut open: Vec<_> = (1..room).map(|_| site.open()).collect();
    let mut one_more = site.serving.connect();
    one_more.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
    assert!(one_more.read_head().starts_with("HTTP/1.1 503 "));
    for raw in open.iter_mut().chain([&mut calm]) {
        assert_eq!(ask(raw, "?"), "?");
    }
}

#[test]
fn a_client_that_resets_before_its_answer_is_gone_at_once() {
    let _alone = alone();
    let site = Site::start(patient());
    let mut calm = site.open();
    let descriptors_before = descriptors();
    let mut accepted = 1;
    let grown = Grown::from_now();
    for request in ["GET /page HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        // The worker finds the reset together with the request.
        calm.send(&frame(TEXT, b"sleep 200"));
        for _ in 0..50 {
            let mut raw = site.serving.connect();
            raw.send(request.as_bytes());
            reset(raw);
        }
        assert_eq!(calm.read_frame().1, b"sleep 200");
        accepted += 50;
        once(&site.serving.handle, |metrics| metrics.accepted == accepted);
        wait_for_the_end(&site, &mut calm, descriptors_before);
    }
    let kept = grown.bytes() - 2 * PAGE_BYTES as isize;
    assert!(kept < 1 << 20, "{kept} bytes beyond what one tick may write");
}

#[test]
fn peers_that_are_stuck_cost_no_time() {
    let _alone = alone();
    let site = Site::start(Config { outbox_bytes_max: 16 << 20, ..patient() });
    let mut calm = site.open();
    let send_much = frame(TEXT, b"send 12000000");
    let page = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    let stuck: Vec<(&str, Raw)> = (0..3)
        .flat_map(|_| {
            let with = |mut raw: Raw, bytes: &[&[u8]], is_ended: bool| {
                raw.send(&bytes.concat());
                if is_ended {
                    raw.stream.shutdown(Shutdown::Write).unwrap();
                }
                raw
            };
            let (open, connect) = (|| site.open(), || site.serving.connect());
            [
                ("half a head", with(connect(), &[b"GET / HTTP/1.1\r\nHost"], false)),
                ("half a frame", with(open(), &[&frame(TEXT, b"whole")[..5]], false)),
                ("it does not read", with(open(), &[&send_much], false)),
                (
                    "it does not read, and sends",
                    with(open(), &[&send_much, &frame(BINARY, &[0; 100_000])], false),
                ),
                ("it does not read, and sent its FIN", with(open(), &[&send_much], true)),
                ("it takes no response", with(connect(), &[page], false)),
                ("it takes no response, and sends", with(connect(), &[&page.repeat(3)], false)),
                ("it takes no response, and sent its FIN", with(connect(), &[page], true)),
                ("it broke the protocol, and stays", with(open(), &[&[0xff; 100]], false)),
                ("it is refused, and stays", with(connect(), &[&[0xff; 100]], false)),
                ("a message without end", with(open(), &[&frame(0x01, b"a")], false)),
            ]
        })
        .collect();
    settle(&site);
    sleep(Duration::from_millis(300));
    let before = cpu_of_worker(&mut calm);
    sleep(Duration::from_secs(1));
    let spent = cpu_of_worker(&mut calm) - before;
    // Who spins takes all of the second; to be asked takes far less than this.
    assert!(spent < Duration::from_millis(50), "{spent:?} in a second");
    drop(stuck);
}

//! Messages that are sent from where they lie: in their order, and told as all others.

mod support;

use quelea::{Config, Conn, Handler, Message, SendStatus};
use std::{
    os::unix::net::UnixStream,
    sync::mpsc::{Receiver, Sender, channel},
    thread::sleep,
    time::Duration,
};
use support::*;

/// Answers a number with a small message, large ones, and a small one; reports what became of them.
struct Burst {
    lens: &'static [usize],
    report: Sender<Told>,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Sent(Vec<SendStatus>),
    Drained,
}

impl Handler for Burst {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let Message::Text(number) = message else { return };
        let statuses = self.lens.iter().map(|&len| conn.send(&payload(number, len)));
        let _ = self.report.send(Told::Sent(statuses.collect()));
    }

    fn on_drain(&mut self, _: &mut Conn<'_, ()>) {
        let _ = self.report.send(Told::Drained);
    }
}

fn payload(number: &str, len: usize) -> String {
    number.repeat(len.div_ceil(number.len()))[..len].to_owned()
}

fn start(config: Config, address: &str, lens: &'static [usize]) -> (Serving, Receiver<Told>) {
    let (report, told) = channel();
    let config = Config { workers: Some(workers()), ..config };
    let make = move |_| Burst { lens, report: report.clone() };
    (Serving::start(config, &[address], make), told)
}

fn ask(raw: &mut Raw<impl std::io::Read + std::io::Write>, number: usize) {
    raw.send(&frame(TEXT, format!("{number:04}").as_bytes()));
}

fn expect(raw: &mut Raw<impl std::io::Read + std::io::Write>, number: usize, lens: &[usize]) {
    for &len in lens {
        let (first, answer) = raw.read_frame();
        let wanted = payload(&format!("{number:04}"), len);
        assert!(first == TEXT && answer == wanted.as_bytes(), "answer {number} of {len} bytes");
    }
}

const MIXED: &[usize] = &[10, 65_535, 65_536, 10, 300_000, 200_000, 0, 10];

#[test]
fn large_messages_keep_their_place_between_small_ones() {
    let (serving, told) = start(Config::default(), "127.0.0.1:0", MIXED);
    let mut raw = serving.connect();
    raw.upgrade("/");
    for number in 0..20 {
        ask(&mut raw, number);
        expect(&mut raw, number, MIXED);
    }
    assert!(
        told.try_iter()
            .all(|told| !matches!(told, Told::Sent(all) if all.contains(&SendStatus::Dropped)))
    );
}

#[test]
fn large_messages_keep_their_place_for_a_peer_that_takes_little_at_a_time() {
    let path = std::env::temp_dir().join(format!("quelea-large-{}.sock", std::process::id()));
    let config = Config { outbox_bytes_max: 64 << 20, ..Config::default() };
    let (_serving, _told) = start(config, &format!("unix:{}", path.display()), MIXED);
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut raw = Raw { stream };
    raw.upgrade("/");
    for number in 0..50 {
        ask(&mut raw, number);
    }
    for number in 0..50 {
        expect(&mut raw, number, MIXED);
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_large_message_that_a_peer_does_not_take_is_a_backlog_until_it_does() {
    let config = Config { outbox_bytes_max: 64 << 20, ..Config::default() };
    let (serving, told) = start(config, "127.0.0.1:0", &[40 << 20, 10]);
    let mut raw = serving.connect();
    raw.upgrade("/");
    ask(&mut raw, 1);
    let both = vec![SendStatus::Backlogged; 2];
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Sent(both)));
    assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "nothing was read");
    expect(&mut raw, 1, &[40 << 20, 10]);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Drained));
    ask(&mut raw, 2);
    expect(&mut raw, 2, &[40 << 20, 10]);
}

#[test]
fn a_backlog_that_left_with_a_large_message_is_told_as_drained() {
    let config = Config {
        outbox_bytes_max: 400_000,
        high_water_bytes: Some(20_000),
        low_water_bytes: Some(10_000),
        ..Config::default()
    };
    let lens = &[15_000, 15_000, 100_000];
    let (serving, told) = start(config, "127.0.0.1:0", lens);
    let mut raw = serving.connect();
    raw.upgrade("/");
    for number in 0..3 {
        ask(&mut raw, number);
        expect(&mut raw, number, lens);
        let Ok(Told::Sent(statuses)) = told.recv_timeout(PATIENCE) else { panic!("not sent") };
        assert_eq!(statuses[..2], [SendStatus::Queued, SendStatus::Backlogged]);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Drained));
    }
}

#[test]
fn a_large_message_that_passes_the_limit_is_dropped_and_the_others_are_not() {
    let config = Config { outbox_bytes_max: 100_000, ..Config::default() };
    let (serving, told) = start(config, "127.0.0.1:0", &[10, 100_000, 20]);
    let mut raw = serving.connect();
    raw.upgrade("/");
    ask(&mut raw, 7);
    expect(&mut raw, 7, &[10, 20]);
    let Ok(Told::Sent(statuses)) = told.recv_timeout(PATIENCE) else { panic!("not sent") };
    assert_eq!(statuses, [SendStatus::Queued, SendStatus::Dropped, SendStatus::Queued]);
}

/// Says so much that it is a backlog, which leaves with a large message, and publishes to itself.
struct Speaker(Sender<Told>);

impl Handler for Speaker {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.subscribe("all");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let Message::Text(number) = message else { return };
        let lens = [15_000, 15_000, 100_000];
        let statuses = lens.map(|len| conn.send(&payload(number, len)));
        conn.publish("all", &payload(number, 8));
        let _ = self.0.send(Told::Sent(statuses.to_vec()));
    }

    fn on_drain(&mut self, _: &mut Conn<'_, ()>) {
        let _ = self.0.send(Told::Drained);
    }
}

#[test]
fn a_backlog_that_left_with_a_large_message_is_told_as_drained_to_who_is_published_to_then() {
    let config = Config {
        outbox_bytes_max: 400_000,
        high_water_bytes: Some(20_000),
        low_water_bytes: Some(10_000),
        workers: Some(workers()),
        ..Config::default()
    };
    let (report, told) = channel();
    let serving = Serving::start(config, &["127.0.0.1:0"], move |_| Speaker(report.clone()));
    let mut raw = serving.connect();
    raw.upgrade("/");
    for number in 0..3 {
        ask(&mut raw, number);
        expect(&mut raw, number, &[15_000, 15_000, 100_000, 8]);
        let Ok(Told::Sent(statuses)) = told.recv_timeout(PATIENCE) else { panic!("not sent") };
        assert_eq!(statuses[..2], [SendStatus::Queued, SendStatus::Backlogged]);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Told::Drained));
    }
}

/// Sends until it is told that it is too much.
struct Pourer(Sender<usize>);

impl Handler for Pourer {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, _: Message<'_>) {
        let chunk = vec![7; POURED_BYTES];
        let mut count = 1;
        while count < 10_000 && conn.send(&chunk) == SendStatus::Queued {
            count += 1;
        }
        let _ = self.0.send(count);
    }
}

const POURED_BYTES: usize = 100_000;

#[test]
fn who_sends_until_there_is_a_backlog_is_told_of_one_however_fast_the_peer_is() {
    let config =
        Config { high_water_bytes: Some(500_000), workers: Some(workers()), ..Config::default() };
    let (report, told) = channel();
    let serving = Serving::start(config, &["127.0.0.1:0"], move |_| Pourer(report.clone()));
    let mut raw = serving.connect();
    raw.upgrade("/");
    raw.send(&frame(TEXT, b"pour"));
    let mut received = 0;
    let count = loop {
        assert_eq!(raw.read_frame().1.len(), POURED_BYTES);
        received += 1;
        if let Ok(count) = told.try_recv() {
            break count;
        }
    };
    for _ in received..count {
        raw.read_frame();
    }
    assert!(count * POURED_BYTES < 2_000_000, "{count} messages in one callback");
}

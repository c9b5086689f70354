//! What goes on, and what it costs, while a worker has more to do than it can.
#![expect(clippy::disallowed_methods, reason = "bounds tests by the real clock")]

mod support;

use quelea::{Config, Conn, ConnId, Handler, Message, Overflow, SendStatus};
use std::{
    io::{Read, Write},
    ops::Deref,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{PATIENCE, Raw, Serving, TEXT, frame};

/// What is done with a text; all else is echoed.
type Act = Arc<dyn Fn(&mut Conn<'_, ()>, &str) + Send + Sync>;

struct Acting(Act);

impl Handler for Acting {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        match message {
            Message::Text(text) => (self.0)(conn, text),
            Message::Binary(payload) => drop(conn.send(payload)),
        }
    }

    fn on_timer(&mut self, conn: &mut Conn<'_, ()>, _: u8) {
        (self.0)(conn, "timer");
    }
}

/// One worker on a Unix socket, which takes little at once, so that peers are soon slow; and on a TCP
/// socket, which takes much.
struct Site {
    serving: Serving,
    path: String,
}

impl Deref for Site {
    type Target = Serving;

    fn deref(&self) -> &Serving {
        &self.serving
    }
}

impl Site {
    fn start(config: Config, act: Act) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quelea-overload-{}-{number}.sock", std::process::id());
        let path = std::env::temp_dir().join(name).display().to_string();
        let close_timeout = Duration::from_millis(300);
        let config = Config { workers: Some(1), ping_interval: None, close_timeout, ..config };
        let make = move |_| Acting(Arc::clone(&act));
        let addresses = [&*format!("unix:{path}"), "127.0.0.1:0"];
        Self { serving: Serving::start(config, &addresses, make), path }
    }

    fn open(&self) -> Raw<UnixStream> {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Raw { stream };
        raw.upgrade("/");
        raw
    }
}

fn tell<S: Read + Write>(raw: &mut Raw<S>, text: &str) {
    raw.send(&frame(TEXT, text.as_bytes()));
}

/// Anonymous memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn mail_and_timers_go_on_while_peers_keep_the_worker_busy() {
    let id = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&id);
    let act: Act = Arc::new(move |conn, text| {
        *shared.lock().unwrap() = Some(conn.id());
        conn.send(text);
        conn.set_timer(0, Duration::from_millis(20));
    });
    let site = Site::start(Config { outbox_bytes_max: 256 << 10, ..Config::default() }, act);
    let mut calm = site.open();
    calm.stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    tell(&mut calm, "begin");
    assert_eq!(calm.read_frame().1, b"begin");
    let end = Instant::now() + Duration::from_secs(1);
    let flood: Vec<u8> = std::iter::repeat_n(frame(0x82, &[1; 1000]), 100).flatten().collect();
    let busy: Vec<_> = (0..8)
        .map(|_| {
            let mut raw = site.open();
            let mut reader = raw.stream.try_clone().unwrap();
            let flood = flood.clone();
            let reading = thread::spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                while reader.read(&mut buffer).is_ok_and(|len| len > 0) {}
            });
            thread::spawn(move || {
                while Instant::now() < end && raw.stream.write_all(&flood).is_ok() {}
                raw.stream.shutdown(std::net::Shutdown::Both).unwrap();
                reading.join().unwrap();
            })
        })
        .collect();
    let to = id.lock().unwrap().unwrap();
    let (mut timers, mut mails) = (0, 0);
    while Instant::now() < end {
        assert_eq!(site.handle.send(to, "mail"), SendStatus::Queued);
        // Both come, or the read times out.
        while calm.read_frame().1 != b"mail" {
            timers += 1;
        }
        mails += 1;
    }
    for thread in busy {
        thread.join().unwrap();
    }
    assert!(timers >= 5 && mails >= 5, "{timers} timers, {mails} mails");
}

#[test]
fn a_publish_to_many_that_are_written_to_as_well_costs_a_bounded_amount() {
    let ids: Arc<Mutex<Vec<ConnId>>> = Arc::default();
    let shared = Arc::clone(&ids);
    let act: Act = Arc::new(move |conn, text| match text {
        "begin" => {
            conn.subscribe("all");
            shared.lock().unwrap().push(conn.id());
            conn.send("begun");
        }
        _ => {
            for id in shared.lock().unwrap().iter() {
                conn.send_to(*id, "first");
            }
            conn.publish("all", &vec![7; 1 << 20]);
        }
    });
    let site = Site::start(Config::default(), act);
    let mut all: Vec<_> = (0..300)
        .map(|_| {
            let mut raw = site.connect();
            raw.upgrade("/");
            raw
        })
        .collect();
    for raw in &mut all {
        tell(raw, "begin");
        assert_eq!(raw.read_frame().1, b"begun");
    }
    let before = resident();
    let readers: Vec<_> = all
        .iter()
        .map(|raw| {
            let mut raw = Raw { stream: raw.stream.try_clone().unwrap() };
            thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(move || {
                    assert_eq!(raw.read_frame().1, b"first");
                    raw.read_exact(10);
                    let mut left = 1 << 20;
                    let mut buffer = [0; 4096];
                    while left > 0 {
                        let want = left.min(buffer.len());
                        left -= raw.stream.read(&mut buffer[..want]).unwrap();
                    }
                })
                .unwrap()
        })
        .collect();
    tell(&mut all[0], "publish");
    let mut peak = 0;
    while readers.iter().any(|reader| !reader.is_finished()) {
        peak = peak.max(resident());
        thread::sleep(Duration::from_millis(1));
    }
    for reader in readers {
        reader.join().unwrap();
    }
    let grown = peak.saturating_sub(before) >> 20;
    assert!(grown < 64, "{grown} MiB");
    drop(all);
}

#[test]
fn a_latest_state_that_has_no_room_comes_once_there_is_some() {
    let act: Act = Arc::new(|conn, _| {
        conn.subscribe("state");
        conn.send(&[1; 60_000]);
        assert_eq!(conn.publish("state", &[2; 10_000]), SendStatus::Queued);
    });
    let config =
        Config { outbox_bytes_max: 64 << 10, overflow: Overflow::KeepLatest, ..Config::default() };
    let site = Site::start(config, act);
    let mut raw = site.open();
    tell(&mut raw, "go");
    assert_eq!(raw.read_frame().1.len(), 60_000);
    assert_eq!(raw.read_frame().1.len(), 10_000);
}

#[test]
fn the_latest_of_many_topics_come_within_the_limit_of_the_outbox() {
    const TOPICS: usize = 200;
    let most = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&most);
    let act: Act = Arc::new(move |conn, text| match text {
        "subscribe" => {
            for number in 0..TOPICS {
                conn.subscribe(&format!("t{number}"));
            }
        }
        "fill" => drop(conn.send(&[1; 60_000])),
        "timer" => {
            shared.fetch_max(conn.queued(), Ordering::Relaxed);
            conn.set_timer(0, Duration::from_millis(1));
        }
        "watch" => assert!(conn.set_timer(0, Duration::from_millis(1))),
        topic => {
            let mut payload = vec![2; 50_000];
            payload[..topic.len()].copy_from_slice(topic.as_bytes());
            conn.publish(topic, &payload);
            conn.send("published");
        }
    });
    let config =
        Config { outbox_bytes_max: 128 << 10, overflow: Overflow::KeepLatest, ..Config::default() };
    let site = Site::start(config, act);
    let (mut slow, mut publisher) = (site.open(), site.open());
    tell(&mut slow, "subscribe");
    tell(&mut slow, "watch");
    for _ in 0..8 {
        tell(&mut slow, "fill");
    }
    thread::sleep(Duration::from_millis(100));
    for number in 0..TOPICS {
        tell(&mut publisher, &format!("t{number}"));
        assert_eq!(publisher.read_frame().1, b"published");
    }
    let mut missing: Vec<_> = (0..TOPICS).map(|number| format!("t{number}")).collect();
    while !missing.is_empty() {
        let (_, payload) = slow.read_frame();
        missing
            .retain(|topic| !(payload.starts_with(topic.as_bytes()) && payload[topic.len()] == 2));
    }
    let most = most.load(Ordering::Relaxed);
    assert!(most <= (128 << 10) + 50_010, "{most} bytes were queued");
}

#[test]
fn the_newest_state_is_not_lost_between_two_slices_of_a_tick() {
    let act: Act = Arc::new(|conn, text| match text {
        "watch" => {
            conn.subscribe("state");
            conn.send(&[1; 300_000]);
        }
        "bulk" => {
            conn.subscribe("b1");
            conn.subscribe("b2");
            conn.send("begun");
        }
        "sleep" => thread::sleep(Duration::from_millis(400)),
        "ask" => drop(conn.send("answer")),
        // The two large ones take copies for all that are subscribed to both: several slices.
        "go" => {
            conn.publish("state", "NEW");
            conn.publish("b1", &[1; 450_000]);
            conn.publish("b2", &[1; 450_000]);
        }
        other => panic!("{other}"),
    });
    let topic_overflow = vec![("state".into(), Overflow::KeepLatest)];
    let site = Site::start(Config { topic_overflow, ..Config::default() }, act);
    let (mut watcher, mut sleeper, mut publisher) = (site.open(), site.open(), site.open());
    for _ in 0..20 {
        let mut raw = site.open();
        tell(&mut raw, "bulk");
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while raw.stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
        });
    }
    tell(&mut watcher, "watch");
    thread::sleep(Duration::from_millis(100));
    // All of this comes to the worker in one tick, when it has slept: the watcher is blocked, is
    // answered behind the new state, and is writable.
    tell(&mut sleeper, "sleep");
    thread::sleep(Duration::from_millis(50));
    tell(&mut publisher, "go");
    thread::sleep(Duration::from_millis(50));
    tell(&mut watcher, "ask");
    assert_eq!(watcher.read_frame().1.len(), 300_000);
    let rest = [watcher.read_frame().1, watcher.read_frame().1];
    assert!(rest.contains(&b"NEW".to_vec()) && rest.contains(&b"answer".to_vec()), "{rest:?}");
}

#[test]
fn mail_behind_a_publish_that_has_no_room_arrives_though_its_topic_is_flooded() {
    let id = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&id);
    let act: Act = Arc::new(move |conn, text| match text {
        "subscribe" => {
            conn.subscribe("busy");
        }
        "calm" => {
            *shared.lock().unwrap() = Some(conn.id());
            conn.send("begun");
        }
        // One receive of these fills the topic.
        _ => drop(conn.publish("busy", &[7; 10_000])),
    });
    let site = Site::start(Config { outbox_bytes_max: 1 << 20, ..Config::default() }, act);
    let mut calm = site.open();
    tell(&mut calm, "calm");
    assert_eq!(calm.read_frame().1, b"begun");
    calm.stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let end = Instant::now() + Duration::from_secs(1);
    let mut subscriber = site.open();
    tell(&mut subscriber, "subscribe");
    let mut reader = subscriber.stream.try_clone().unwrap();
    let reading = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while reader.read(&mut buffer).is_ok_and(|len| len > 0) {}
    });
    let mut flooder = site.open();
    let flood: Vec<u8> = std::iter::repeat_n(frame(TEXT, b"x"), 20_000).flatten().collect();
    let flooding =
        thread::spawn(
            move || {
                while Instant::now() < end && flooder.stream.write_all(&flood).is_ok() {}
            },
        );
    let to = id.lock().unwrap().unwrap();
    let mut mails = 0;
    while Instant::now() < end {
        site.handle.publish("busy", "from outside");
        assert_eq!(site.handle.send(to, "mail"), SendStatus::Queued);
        assert_eq!(calm.read_frame().1, b"mail");
        mails += 1;
    }
    flooding.join().unwrap();
    subscriber.stream.shutdown(std::net::Shutdown::Both).unwrap();
    reading.join().unwrap();
    assert!(mails >= 5, "{mails} mails");
}

#[test]
fn nothing_comes_behind_the_close_frame_of_one_that_is_too_slow() {
    let act: Act = Arc::new(|conn, _| {
        conn.subscribe("later");
        conn.subscribe("strict");
        conn.send(&[1; 60_000]);
        conn.publish("strict", &[2; 10_000]);
        conn.publish("later", "late");
        assert_eq!(conn.send("too late"), SendStatus::Closed);
    });
    let topic_overflow = vec![("strict".into(), Overflow::Close)];
    let config = Config { outbox_bytes_max: 64 << 10, topic_overflow, ..Config::default() };
    let site = Site::start(config, act);
    let mut raw = site.open();
    // A ping in the same segment is answered in front of the close frame, or not at all.
    raw.send(&[frame(TEXT, b"go"), frame(0x89, b"?")].concat());
    assert_eq!(raw.read_frame().1.len(), 60_000);
    let (first, payload) = raw.read_frame();
    assert_eq!((first, &payload[..2]), (0x88, &1013_u16.to_be_bytes()[..]));
    raw.send(&frame(0x88, &1013_u16.to_be_bytes()));
    assert!(raw.is_at_end());
}

#[test]
fn states_that_are_owed_have_their_turn_though_newer_ones_keep_coming() {
    const TOPICS: usize = 60;
    let act: Act = Arc::new(move |conn, text| match text {
        "subscribe" => {
            for number in 0..TOPICS {
                conn.subscribe(&format!("t{number}"));
            }
        }
        _ => {
            for number in 0..TOPICS {
                let mut payload = vec![b' '; 10_000];
                let name = format!("t{number}");
                payload[..name.len()].copy_from_slice(name.as_bytes());
                conn.publish(&name, &payload);
            }
            conn.send("published");
        }
    });
    let config =
        Config { outbox_bytes_max: 64 << 10, overflow: Overflow::KeepLatest, ..Config::default() };
    let site = Site::start(config, act);
    let (mut slow, mut publisher) = (site.open(), site.open());
    tell(&mut slow, "subscribe");
    let end = Instant::now() + Duration::from_secs(5);
    let publishing = thread::spawn(move || {
        while Instant::now() < end {
            tell(&mut publisher, "publish");
            if publisher.read_frame().1 != b"published" {
                return;
            }
        }
    });
    let mut missing: Vec<_> = (0..TOPICS).map(|number| format!("t{number} ")).collect();
    while !missing.is_empty() && Instant::now() < end {
        let (_, payload) = slow.read_frame();
        missing.retain(|topic| !payload.starts_with(topic.as_bytes()));
        thread::sleep(Duration::from_micros(200));
    }
    assert!(missing.is_empty(), "{} topics never came: {missing:?}", missing.len());
    drop((slow, site));
    publishing.join().unwrap();
}

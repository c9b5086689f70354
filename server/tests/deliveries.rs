//! What was published is delivered to a subscriber, or counted as what it missed.

mod support;

use quelea::{
    CloseCode, Config, Conn, ConnId, Handler, Message, Overflow, SendStatus,
    metrics::{CloseCause, Limit, WorkerMetrics},
};
use std::{
    io::{Read, Write},
    ops::Deref,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::{
    metrics::{counted, once},
    *,
};

/// Does as it is told by text.
struct Scripted {
    worker: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ids: Mutex<Vec<ConnId>>,
    is_stuck: AtomicBool,
}

impl Handler for Scripted {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        self.shared.ids.lock().unwrap().push(conn.id());
        conn.send(&format!("worker {}", self.worker));
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        let (command, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let lost = |statuses: &mut dyn Iterator<Item = SendStatus>| {
            statuses.filter(|status| *status == SendStatus::Dropped).count()
        };
        let answer = match command {
            "subscribe" => format!("{:?}", conn.subscribe(name)),
            "pattern" => format!("{:?}", conn.subscribe_pattern(name)),
            "unsubscribe" => conn.unsubscribe(name).to_string(),
            "publish" => format!("{:?}", conn.publish(name, rest)),
            "others" => format!("{:?}", conn.publish_to_others(name, rest)),
            // So many messages of 10,000 bytes each, in one tick.
            "burst" => {
                let count = rest.parse().unwrap();
                let payload = [7; 10_000];
                lost(&mut std::iter::repeat_with(|| conn.publish(name, &payload)).take(count))
                    .to_string()
            }
            "fill" => {
                let count = name.parse().unwrap();
                lost(&mut std::iter::repeat_with(|| conn.send(&[7; 1000])).take(count)).to_string()
            }
            "flood" => {
                let others = self.shared.ids.lock().unwrap().clone();
                let send = |id| std::iter::repeat_n(id, 100);
                let own = conn.id();
                let mut others = others.into_iter().filter(|id| *id != own).flat_map(send);
                lost(&mut others.by_ref().map(|id| conn.send_to(id, &[7; 1000]))).to_string()
            }
            "stick" => {
                while self.shared.is_stuck.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                "free".to_owned()
            }
            _ => panic!("{text}"),
        };
        conn.send(&answer);
    }
}

struct Site {
    serving: Serving,
    shared: Arc<Shared>,
    path: String,
}

impl Deref for Site {
    type Target = Serving;

    fn deref(&self) -> &Serving {
        &self.serving
    }
}

impl Drop for Site {
    /// A test that fails leaves nobody stuck.
    fn drop(&mut self) {
        self.shared.is_stuck.store(false, Ordering::SeqCst);
    }
}

impl Site {
    /// On a Unix socket, which takes little at once: peers that do not read are soon slow.
    fn start(config: Config) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quelea-deliveries-{}-{number}.sock", std::process::id());
        let path = std::env::temp_dir().join(name).display().to_string();
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let make = move |worker: quelea::Worker| Scripted {
            worker: worker.index(),
            shared: Arc::clone(&own),
        };
        let addresses = [&*format!("unix:{path}"), "127.0.0.1:0"];
        Self { serving: Serving::start(config, &addresses, make), shared, path }
    }

    fn open(&self) -> Raw<UnixStream> {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Raw { stream };
        raw.upgrade("/");
        raw.read_frame();
        raw
    }

    /// A connection on each of two workers.
    fn open_on_both(&self) -> [Raw; 2] {
        let mut both = [None, None];
        while both.iter().any(Option::is_none) {
            let mut raw = self.connect();
            raw.upgrade("/");
            let text = String::from_utf8(raw.read_frame().1).unwrap();
            let worker: usize = text.strip_prefix("worker ").unwrap().parse().unwrap();
            both[worker].get_or_insert(raw);
        }
        both.map(Option::unwrap)
    }
}

fn config(overflow: Overflow) -> Config {
    Config {
        workers: Some(workers()),
        outbox_bytes_max: 1 << 20,
        overflow,
        close_timeout: Duration::from_millis(500),
        ..Config::default()
    }
}

/// The answer to a command; what is published comes as binary, and is passed over.
fn tell<S: Read + Write>(raw: &mut Raw<S>, text: &str) -> String {
    raw.send(&frame(TEXT, text.as_bytes()));
    loop {
        let (first, payload) = raw.read_frame();
        if first == TEXT {
            return String::from_utf8(payload).unwrap();
        }
    }
}

/// How many published messages come before the answer to a command, or a close frame.
fn published_before_answer<S: Read + Write>(raw: &mut Raw<S>) -> u64 {
    let mut count = 0;
    while raw.read_frame().0 == BINARY {
        count += 1;
    }
    count
}

fn missed(metrics: &WorkerMetrics) -> [u64; 3] {
    [Overflow::Drop, Overflow::KeepLatest, Overflow::Close].map(|policy| metrics.drops[policy])
}

#[test]
fn each_publish_counts_once_and_each_delivery_once_a_subscriber() {
    let site = Site::start(config(Overflow::Drop));
    let mut peers: Vec<_> = (0..4).map(|_| site.open()).collect();
    for raw in &mut peers[..3] {
        assert_eq!(tell(raw, "subscribe news"), "Subscribed");
    }
    assert_eq!(tell(&mut peers[0], "pattern n*"), "Subscribed");
    assert_eq!(tell(&mut peers[0], "pattern *"), "Subscribed");
    // To three subscribers and a pattern; the others of its sender; nobody; and by a handle.
    for command in ["publish news a", "others news b", "publish none c"] {
        peers[1].send(&frame(TEXT, command.as_bytes()));
        // A pattern of one star matches both names.
        let to_publisher = if command == "publish news a" { 2 } else { 1 };
        for _ in 0..to_publisher {
            peers[1].read_frame();
        }
    }
    assert_eq!(site.handle.publish("news", "d"), SendStatus::Queued);
    assert_eq!(peers[1].read_frame().1, b"d");
    assert_eq!(peers[2].read_frame().1, b"a");
    assert_eq!([peers[2].read_frame().1, peers[2].read_frame().1], [b"b", b"d"]);
    let mut first: Vec<_> = (0..7).map(|_| peers[0].read_frame().1).collect();
    first.sort();
    assert_eq!(first, [b"a", b"a", b"b", b"b", b"c", b"d", b"d"]);
    let metrics = counted(&site.handle);
    assert_eq!(metrics.publishes, 3);
    assert_eq!(metrics.publishes_dropped, 0);
    // Each worker but its sender's hears of a publish, and each of one by a handle.
    assert_eq!(metrics.publishes_mailed as usize, 3 * (workers() - 1) + workers());
    assert_eq!(metrics.deliveries, 7 + 2 + 3);
    assert_eq!(metrics.drops.total(), 0);
    assert_eq!(metrics.limits.total(), 0);
}

#[test]
fn what_a_slow_subscriber_missed_and_what_it_got_are_all_that_was_published() {
    for overflow in [Overflow::Drop, Overflow::KeepLatest] {
        let site = Site::start(config(overflow));
        let (mut slow, mut publisher) = (site.open(), site.open());
        assert_eq!(tell(&mut slow, "subscribe news"), "Subscribed");
        // Ticks with one message, and with many.
        for _ in 0..30 {
            assert_eq!(tell(&mut publisher, "burst news 1"), "0");
            assert_eq!(tell(&mut publisher, "burst news 20"), "0");
        }
        let mailed = 30 * 21 * (workers() as u64 - 1);
        let metrics = once(&site.handle, |metrics| metrics.publishes_mailed == mailed);
        assert!(metrics.queued_bytes > 0, "it is slow");
        // All that waits for it comes before the answer, and then what it is owed.
        slow.send(&frame(TEXT, b"publish end !"));
        let mut got = published_before_answer(&mut slow);
        if overflow == Overflow::KeepLatest {
            // The latest may be behind the answer.
            got += u64::from(got < counted(&site.handle).deliveries);
        }
        let metrics = once(&site.handle, |metrics| metrics.queued_bytes == 0);
        let missed = missed(&metrics);
        assert_eq!(metrics.deliveries, got, "{overflow:?}");
        assert_eq!(got + missed.iter().sum::<u64>(), 30 * 21, "{overflow:?}: {missed:?}");
        assert_eq!(
            missed[usize::from(overflow == Overflow::KeepLatest)],
            missed.iter().sum::<u64>()
        );
        assert!(missed.iter().sum::<u64>() > 100);
        let reached = metrics.limits[Limit::OutboxBytesMax];
        assert_eq!(reached > 0, overflow == Overflow::Drop, "{reached}");
        if overflow == Overflow::Drop {
            assert_eq!(site.handle.counts().dropped_publishes, missed[0]);
        }
    }
}

#[test]
fn a_subscriber_that_is_closed_for_being_slow_is_counted_with_what_it_missed() {
    let site = Site::start(config(Overflow::Close));
    let (mut slow, mut publisher) = (site.open(), site.open());
    assert_eq!(tell(&mut slow, "subscribe news"), "Subscribed");
    for _ in 0..20 {
        assert_eq!(tell(&mut publisher, "burst news 10"), "0");
    }
    // On another worker it hears of it later.
    once(&site.handle, |metrics| metrics.drops.total() > 0);
    let got = published_before_answer(&mut slow);
    slow.send(&frame(CLOSE, &close(1013, "")));
    let metrics = once(&site.handle, |metrics| metrics.closed_by_cause.total() == 1);
    assert_eq!(metrics.closed_by_cause[CloseCause::TooSlow], 1);
    assert_eq!(metrics.closed_by_code[CloseCode::TRY_AGAIN_LATER], 1);
    assert_eq!(metrics.deliveries, got);
    let missed = missed(&metrics);
    assert_eq!((missed[0], missed[1]), (0, 0));
    assert!((1..=200 - got).contains(&missed[2]), "{got}, and {missed:?} missed");
}

#[test]
fn what_finds_no_room_is_counted_as_it_was_told() {
    let config = Config { high_water_bytes: Some(100_000), ..config(Overflow::Drop) };
    let config = Config { subscriptions_max: 1, topic_bytes_max: 8, ..config };
    let site = Site::start(config);
    let mut raw = site.open();
    let lost: u64 = tell(&mut raw, "fill 2000").parse().unwrap();
    assert!((900..1100).contains(&lost), "{lost}");
    assert_eq!(tell(&mut raw, "subscribe a"), "Subscribed");
    assert_eq!(tell(&mut raw, "subscribe b"), "TooMany");
    assert_eq!(tell(&mut raw, "subscribe far-too-long"), "InvalidName");
    assert_eq!(tell(&mut raw, "publish far-too-long x"), "Invalid");
    // One tick has more for one topic than may wait for anyone.
    let whole: u64 = tell(&mut raw, "burst a 150").parse().unwrap();
    assert!((40..50).contains(&whole), "{whole}");
    let metrics = counted(&site.handle);
    assert_eq!((metrics.messages_dropped, metrics.publishes_dropped), (lost, whole));
    assert_eq!(metrics.publishes, 150 - whole);
    assert_eq!(metrics.limits[Limit::OutboxBytesMax], lost + whole);
    assert_eq!(metrics.limits[Limit::SubscriptionsMax], 1);
    assert_eq!(metrics.limits[Limit::TopicBytesMax], 2);
    assert_eq!(metrics.limits[Limit::HighWaterBytes], 2);
    // It was told of all that was sent: "open", and six answers.
    assert_eq!(metrics.messages_sent, 2000 - lost + 7);
}

#[test]
fn a_worker_that_is_stuck_is_known_by_its_last_counts_and_by_its_mail() {
    let config = Config { mailbox_bytes_max: 50_000, ..config(Overflow::Drop) };
    let site = Site::start(Config { workers: Some(2), message_bytes_max: 10_000, ..config });
    let [mut first, mut second] = site.open_on_both();
    let stuck = 1;
    site.shared.is_stuck.store(true, Ordering::SeqCst);
    second.send(&frame(TEXT, b"stick"));
    // It answers until it has what it is told.
    let moment = Duration::from_millis(20);
    let mut metrics = site.handle.metrics(moment);
    while metrics.workers[stuck].unanswered.is_none() {
        metrics = site.handle.metrics(moment);
    }
    assert_eq!(metrics.workers[0].unanswered, None);
    let before = metrics.workers[stuck].metrics.clone();
    let lost: u64 = tell(&mut first, "flood").parse().unwrap();
    let handles = (0..100).filter(|_| site.handle.publish("t", &[7; 1000]) == SendStatus::Dropped);
    let lost_by_handle = handles.count() as u64;
    assert!(lost > 0 && lost_by_handle > 40, "{lost} {lost_by_handle}");
    let metrics = site.handle.metrics(moment);
    let [own, other] = &metrics.workers[..] else { panic!("two workers") };
    assert!(other.unanswered >= Some(2 * moment), "{:?}", other.unanswered);
    assert!((40_000..=50_000).contains(&other.metrics.mailbox_bytes), "{:?}", other.metrics);
    assert!(other.metrics.mailbox_batches >= 1);
    assert_eq!(other.metrics.messages_received, before.messages_received);
    assert_eq!((own.unanswered, own.metrics.messages_dropped), (None, lost));
    assert_eq!(own.metrics.limits[Limit::MailboxBytesMax], lost);
    assert_eq!(metrics.handle_mail_dropped, lost_by_handle);
    assert_eq!(site.handle.counts().refused_mail, lost + lost_by_handle);
    site.shared.is_stuck.store(false, Ordering::SeqCst);
    let metrics = once(&site.handle, |metrics| metrics.mailbox_bytes == 0);
    assert_eq!(metrics.messages_received, 2, "what both were told");
}

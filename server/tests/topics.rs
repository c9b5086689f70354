//! What is published reaches its subscribers: all of it, once, in order, and nobody else.

mod support;

use proptest::{prelude::*, test_runner::TestRunner};
use quelea::{CloseCode, Config, Conn, ConnId, Handler, Message, SubscribeStatus};
use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::{BINARY, CLOSE, PING, PONG, Raw, Serving, TEXT, frame};

/// Does what it is told in text: `sub T`, `unsub T`, `pub T WORDS`, `others T WORDS`, `say WORDS`,
/// `many T COUNT LEN`, `close`. To `sync N` it sends `done` to the Nth connection: behind all that
/// its sender has published, on whatever worker.
struct Told {
    birds: Arc<Mutex<Vec<ConnId>>>,
}

impl Handler for Told {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        self.birds.lock().unwrap().push(conn.id());
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        let (command, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (topic, words) = rest.split_once(' ').unwrap_or((rest, ""));
        match command {
            "sub" => assert_eq!(conn.subscribe(topic), SubscribeStatus::Subscribed),
            "match" => assert_eq!(conn.subscribe_pattern(topic), SubscribeStatus::Subscribed),
            "unmatch" => assert!(conn.unsubscribe_pattern(topic)),
            "again" => assert_eq!(conn.subscribe(topic), SubscribeStatus::Already),
            "unsub" => assert!(conn.unsubscribe(topic)),
            "pub" => drop(conn.publish(topic, words)),
            "others" => drop(conn.publish_to_others(topic, words)),
            "say" => drop(conn.send(rest)),
            "sync" => {
                let to = self.birds.lock().unwrap()[rest.parse::<usize>().unwrap()];
                conn.send_to(to, "done");
            }
            "close" => drop(conn.close(CloseCode::NORMAL, "")),
            "many" => {
                let (count, len) = words.split_once(' ').unwrap();
                for number in 0..count.parse::<u32>().unwrap() {
                    let mut payload = vec![0; len.parse().unwrap()];
                    payload[..4].copy_from_slice(&number.to_be_bytes());
                    conn.publish(topic, &payload);
                }
            }
            other => panic!("no command {other}"),
        }
    }
}

struct Flock {
    serving: Serving,
    count: AtomicUsize,
}

/// A connection of a flock, by its number.
struct Bird {
    raw: Raw,
    number: usize,
}

impl Deref for Bird {
    type Target = Raw;

    fn deref(&self) -> &Raw {
        &self.raw
    }
}

impl DerefMut for Bird {
    fn deref_mut(&mut self) -> &mut Raw {
        &mut self.raw
    }
}

impl Flock {
    fn start(config: Config) -> Self {
        let config = Config { workers: Some(support::workers()), ..config };
        let birds = Arc::default();
        let make = move |_| Told { birds: Arc::clone(&birds) };
        let serving = Serving::start(config, &["127.0.0.1:0"], make);
        Self { serving, count: AtomicUsize::new(0) }
    }

    /// A connection that was told some things, and has done them.
    fn bird(&self, orders: &[&str]) -> Bird {
        let mut raw = self.serving.connect();
        raw.upgrade("/");
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mut bird = Bird { raw, number };
        tell(&mut bird, orders);
        assert_eq!(heard(&mut bird), [""; 0]);
        bird
    }
}

/// Sends all orders in one segment, so that they are done in one tick.
fn tell(raw: &mut Raw, orders: &[impl AsRef<str>]) {
    let bytes: Vec<u8> =
        orders.iter().flat_map(|order| frame(TEXT, order.as_ref().as_bytes())).collect();
    raw.send(&bytes);
}

/// The texts that come to a connection before the `done` it asks for.
fn heard(bird: &mut Bird) -> Vec<String> {
    let sync = format!("sync {}", bird.number);
    tell(bird, &[sync]);
    until_done(bird)
}

/// The texts that come to a connection, up to and with what another one has published by now.
fn heard_from(publisher: &mut Bird, bird: &mut Bird) -> Vec<String> {
    tell(publisher, &[format!("sync {}", bird.number)]);
    until_done(bird)
}

fn until_done(bird: &mut Bird) -> Vec<String> {
    std::iter::repeat_with(|| String::from_utf8(bird.read_frame().1).unwrap())
        .take_while(|text| text != "done")
        .collect()
}

#[test]
fn a_publish_reaches_all_subscribers_and_nobody_else() {
    let flock = Flock::start(Config::default());
    let mut ada = flock.bird(&["sub north", "again north"]);
    let mut bob = flock.bird(&["sub north", "sub south"]);
    let mut carl = flock.bird(&["sub south"]);
    let mut dora = flock.bird(&[]);
    tell(&mut dora, &["pub north one", "pub south two", "pub east three"]);
    assert_eq!(heard_from(&mut dora, &mut ada), ["one"]);
    let mut heard_by_bob = heard_from(&mut dora, &mut bob);
    // Between two topics there is no order.
    heard_by_bob.sort();
    assert_eq!(heard_by_bob, ["one", "two"]);
    assert_eq!(heard_from(&mut dora, &mut carl), ["two"]);
    assert_eq!(heard(&mut dora), [""; 0]);
}

#[test]
fn a_publish_to_others_passes_its_sender_over() {
    let flock = Flock::start(Config::default());
    let mut ada = flock.bird(&["sub t"]);
    let mut bob = flock.bird(&["sub t"]);
    tell(&mut ada, &["pub t 1", "others t 2", "pub t 3", "others t 4", "others t 5", "pub t 6"]);
    assert_eq!(heard_from(&mut ada, &mut bob), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(heard(&mut ada), ["1", "3", "6"]);
}

#[test]
fn a_subscription_begins_and_ends_between_two_publishes_of_one_tick() {
    let flock = Flock::start(Config::default());
    let mut bob = flock.bird(&["sub t"]);
    let mut ada = flock.bird(&[]);
    tell(&mut ada, &["pub t 1", "sub t", "pub t 2", "unsub t", "pub t 3", "sub t", "pub t 4"]);
    assert_eq!(heard_from(&mut ada, &mut bob), ["1", "2", "3", "4"]);
    assert_eq!(heard(&mut ada), ["2", "4"]);
}

#[test]
fn a_pattern_gets_what_is_published_to_all_names_it_matches() {
    let flock = Flock::start(Config::default());
    let mut star = flock.bird(&["match a.*.c"]);
    let mut rest = flock.bird(&["match a.>", "sub a.b"]);
    // A name that reads like a pattern is a name.
    let mut literal = flock.bird(&["sub a.*.c"]);
    let mut ada = flock.bird(&[]);
    tell(&mut ada, &["pub a.b.c 1", "pub a.b 2", "pub a 3", "pub a.x.c 4", "pub b.b.c 5"]);
    tell(&mut ada, &["pub a.*.c 6"]);
    assert_eq!(heard_from(&mut ada, &mut star), ["1", "4", "6"]);
    let mut heard_by_rest = heard_from(&mut ada, &mut rest);
    heard_by_rest.sort();
    assert_eq!(heard_by_rest, ["1", "2", "2", "4", "6"], "twice by two subscriptions");
    assert_eq!(heard_from(&mut ada, &mut literal), ["6"]);
    tell(&mut star, &["unmatch a.*.c"]);
    assert_eq!(heard(&mut star), [""; 0]);
    tell(&mut ada, &["pub a.b.c 7"]);
    assert_eq!(heard_from(&mut ada, &mut star), [""; 0]);
    assert_eq!(heard_from(&mut ada, &mut rest), ["7"]);
}

#[test]
fn what_is_sent_and_what_is_published_keep_their_order() {
    let flock = Flock::start(Config::default());
    let mut ada = flock.bird(&["sub t"]);
    tell(&mut ada, &["say 1", "pub t 2", "pub t 3", "say 4", "pub t 5", "say 6", "pub t 7"]);
    assert_eq!(heard(&mut ada), ["1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn a_pong_and_a_close_come_after_what_was_published_before_them() {
    let flock = Flock::start(Config::default());
    let mut ada = flock.bird(&["sub t"]);
    let mut bytes = frame(TEXT, b"pub t first");
    bytes.extend(frame(PING, b"?"));
    bytes.extend(frame(TEXT, b"pub t second"));
    bytes.extend(frame(CLOSE, b""));
    ada.send(&bytes);
    assert_eq!(ada.read_frame(), (TEXT, b"first".to_vec()));
    assert_eq!(ada.read_frame(), (PONG, b"?".to_vec()));
    assert_eq!(ada.read_frame(), (TEXT, b"second".to_vec()));
    assert_eq!(ada.read_close().0, 1005);
}

#[test]
fn nothing_is_published_to_a_connection_behind_its_close_frame() {
    let flock = Flock::start(Config::default());
    let mut ada = flock.bird(&["sub t"]);
    let mut bob = flock.bird(&["sub t"]);
    tell(&mut ada, &["pub t before"]);
    assert_eq!(heard_from(&mut ada, &mut bob), ["before"]);
    tell(&mut ada, &["close"]);
    assert_eq!(ada.read_frame(), (TEXT, b"before".to_vec()));
    assert_eq!(ada.read_frame().0, CLOSE);
    tell(&mut bob, &["pub t after"]);
    assert_eq!(heard(&mut bob), ["after"]);
    ada.send(&frame(CLOSE, b""));
    assert!(ada.is_at_end());
}

#[test]
fn a_violation_does_not_lose_what_was_published_before_it() {
    let flock = Flock::start(Config::default());
    let mut ada = flock.bird(&["sub t"]);
    let mut bytes = frame(TEXT, b"pub t last words");
    bytes.push(0xff);
    ada.send(&bytes);
    assert_eq!(ada.read_frame(), (TEXT, b"last words".to_vec()));
    assert_eq!(ada.read_close().0, 1002);
}

#[test]
fn a_burst_of_one_callback_arrives_whole_and_in_order_up_to_the_limit() {
    let flock = Flock::start(Config::default());
    let mut ada = flock.bird(&["sub t"]);
    let mut bob = flock.bird(&["sub t"]);
    // 3 MB, of at most 4 MiB; and more than that.
    tell(&mut ada, &["many t 300 10000"]);
    for raw in [&mut ada, &mut bob] {
        for number in 0..300u32 {
            let (first, payload) = raw.read_frame();
            assert_eq!((first, &payload[..4]), (BINARY, &number.to_be_bytes()[..]));
            assert_eq!(payload.len(), 10_000);
        }
    }
    tell(&mut ada, &["many t 500 10000"]);
    let kept = (4 << 20) / 10_004;
    for raw in [&mut ada, &mut bob] {
        for number in 0..kept {
            assert_eq!(raw.read_frame().1[..4], u32::to_be_bytes(number));
        }
    }
    assert_eq!(heard_from(&mut ada, &mut bob), [""; 0]);
    assert_eq!(heard(&mut ada), [""; 0]);
}

#[test]
fn a_subscriber_that_does_not_read_costs_its_bound_and_the_others_nothing() {
    let config = Config { outbox_bytes_max: 1 << 20, ..Config::default() };
    let flock = Flock::start(config);
    let mut slow = flock.bird(&["sub t"]);
    let mut ada = flock.bird(&["sub t"]);
    let bursts = 40;
    for _ in 0..bursts {
        tell(&mut ada, &["many t 50 10000"]);
        for number in 0..50u32 {
            assert_eq!(ada.read_frame().1[..4], number.to_be_bytes());
        }
    }
    // What the slow one was sent is whole messages, in order, and ends well before all 20 MB.
    slow.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut count = 0;
    let mut header = [0; 4];
    while std::io::Read::read_exact(&mut slow.stream, &mut header).is_ok() {
        assert_eq!(header, [BINARY, 126, 39, 16]);
        assert_eq!(slow.read_exact(10_000).len(), 10_000);
        count += 1;
    }
    assert!(count < bursts * 50, "{count} of {} were kept for it", bursts * 50);
    tell(&mut ada, &["pub t again"]);
    slow.stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert_eq!(slow.read_frame(), (TEXT, b"again".to_vec()));
}

#[test]
fn a_connection_that_is_gone_is_no_subscriber() {
    let flock = Flock::start(Config::default());
    for _ in 0..50 {
        drop(flock.bird(&["sub t", "sub u"]));
    }
    // Its slot is used again, by one that subscribed to nothing.
    let mut ada = flock.bird(&[]);
    let mut bob = flock.bird(&["sub t"]);
    tell(&mut bob, &["pub t here"]);
    assert_eq!(heard_from(&mut bob, &mut ada), [""; 0]);
    assert_eq!(heard(&mut bob), ["here"]);
}

#[test]
fn any_orders_of_one_tick_give_each_topic_in_order() {
    let flock = Flock::start(Config::default());
    let mut ada = flock.bird(&[]);
    let mut witness = flock.bird(&["sub a", "sub b"]);
    let order = prop_oneof![
        (0usize..2).prop_map(|topic| ("toggle", topic)),
        (0usize..2).prop_map(|topic| ("pub", topic)),
        (0usize..2).prop_map(|topic| ("others", topic)),
        Just(("say", 0)),
    ];
    let orders = prop::collection::vec(order, 1..60);
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..Default::default() });
    let ada = std::cell::RefCell::new(&mut ada);
    let witness = std::cell::RefCell::new(&mut witness);
    runner
        .run(&orders, |orders| {
            let names = ["a", "b"];
            let (mut subscribed, mut told) = ([false; 2], Vec::new());
            // By topic, and what is sent directly as the third.
            let (mut own, mut others) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
            for (number, (command, topic)) in orders.iter().enumerate() {
                let (name, word) = (names[*topic], format!("{}-{number}", names[*topic]));
                match *command {
                    "toggle" => {
                        let command = if subscribed[*topic] { "unsub" } else { "sub" };
                        subscribed[*topic] ^= true;
                        told.push(format!("{command} {name}"));
                    }
                    "say" => {
                        told.push(format!("say c-{number}"));
                        own[2].push(format!("c-{number}"));
                    }
                    publish => {
                        told.push(format!("{publish} {name} {word}"));
                        if subscribed[*topic] && publish == "pub" {
                            own[*topic].push(word.clone());
                        }
                        others[*topic].push(word);
                    }
                }
            }
            for topic in (0..2).filter(|topic| subscribed[*topic]) {
                told.push(format!("unsub {}", names[topic]));
            }
            let by_topic = |heard: Vec<String>| {
                ["a-", "b-", "c-"].map(|start| {
                    heard.iter().filter(|text| text.starts_with(start)).cloned().collect::<Vec<_>>()
                })
            };
            tell(*ada.borrow_mut(), &told);
            let heard_by_witness = heard_from(*ada.borrow_mut(), *witness.borrow_mut());
            prop_assert_eq!(by_topic(heard_by_witness), others);
            prop_assert_eq!(by_topic(heard(*ada.borrow_mut())), own);
            Ok(())
        })
        .unwrap();
}

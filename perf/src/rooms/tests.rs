//! The options, and all of it against servers on threads.

use super::*;
use crate::testing::TestServer;
use clap::Parser;
use quelea::{Accept, Config, Conn, Handler, Message, Response, Upgrade};
use std::thread;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn parse(words: &[&str]) -> Result<Options, clap::Error> {
    let words = ["rooms"].iter().chain(words);
    Arguments::try_parse_from(words).map(|arguments| arguments.options)
}

/// What a server does with the n-th message, n from 1.
type Publish = fn(&mut Conn<'_, String>, u64, Message<'_>);

/// Rooms by path, or by the first message after `join:`.
struct Rooms {
    publish: Publish,
    messages: u64,
}

impl Handler for Rooms {
    type State = String;

    fn on_upgrade(&mut self, upgrade: &Upgrade<'_>) -> Result<Accept<String>, Response> {
        let accept = Accept::new(upgrade.path().to_owned());
        let is_asked = upgrade.subprotocols().any(|name| name == "rooms.v1");
        Ok(if is_asked { accept.subprotocol("rooms.v1") } else { accept })
    }

    fn on_open(&mut self, conn: &mut Conn<'_, String>) {
        let room = conn.state.clone();
        conn.subscribe(&room);
        conn.send("welcome");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, String>, message: Message<'_>) {
        if let Message::Text(text) = message
            && let Some(room) = text.strip_prefix("join:")
        {
            room.clone_into(conn.state);
            conn.subscribe(room);
            return;
        }
        self.messages += 1;
        (self.publish)(conn, self.messages, message);
    }
}

fn publish(conn: &mut Conn<'_, String>, _: u64, message: Message<'_>) {
    let room = conn.state.clone();
    conn.publish(&room, message);
}

fn measure_with(publish: Publish, words: &[&str]) -> Outcome<Report> {
    let server = TestServer::start(Config::default(), move |_| Rooms { publish, messages: 0 });
    let url = format!("ws://{}/all", server.address);
    let fixed = [&url, "--seconds", "0.4", "--warm-up", "0.1", "--size", "64"];
    let words: Vec<_> = fixed.iter().chain(words).copied().collect();
    measure::<Poll>(&parse(&words).unwrap())
}

fn figure(report: &Report, name: &str) -> f64 {
    report.figures[name].value
}

#[test]
fn options_that_cannot_be_measured_are_refused() {
    let url = "ws://127.0.0.1:1/";
    for words in [["--rate", "0"], ["--members", "0"], ["--rooms", "0"], ["--size", "63"]] {
        assert!(parse(&[&[url], &words[..]].concat()).is_err(), "{words:?}");
    }
    let error = |words: &[&str]| {
        let options = parse(&[&[url], words].concat()).unwrap();
        measure::<Poll>(&options).unwrap_err().to_string()
    };
    assert!(error(&["--rooms", "2"]).contains("--join"));
    assert!(error(&["--members", "1", "--others-only"]).contains("no others"));
    assert!(error(&["--members", "1000000"]).contains("ulimit"));
    assert!(error(&[]).starts_with("connect: "));
}

#[test]
fn each_message_comes_to_all_members_of_a_server_that_is_one_room() {
    let pid = std::process::id().to_string();
    let report = measure_with(publish, &["--members", "7", "--server-pid", &pid]).unwrap();
    let messages = figure(&report, "messages");
    assert!((3.0..=6.0).contains(&messages), "{messages}");
    assert_eq!(report.histograms["latency_last"].histogram.len() as f64, messages);
    assert_eq!(report.histograms["latency"].histogram.len() as f64, messages * 7.0);
    for name in ["lost", "duplicated", "reordered", "corrupt", "misdelivered"] {
        assert_eq!(figure(&report, name), 0.0, "{name}");
    }
    assert!(report.figures.contains_key("server_cpu_ns_per_delivery"));
    assert!(report.histograms["latency"].histogram.max() < 1_000_000_000);
}

#[test]
fn rooms_are_joined_by_path_or_by_message_and_do_not_hear_each_other() {
    let by_path = ["--join", "/room/{room}", "--subprotocol", "rooms.v1"];
    let by_message = ["--join", "join:{room}", "--message", r#"{"of":"{member}","t":"{payload}"}"#];
    for join in [by_path, by_message] {
        let rooms = ["--rooms", "5", "--members", "3", "--rate", "50"];
        let report = measure_with(publish, &[&rooms[..], &join].concat()).unwrap();
        let messages = figure(&report, "messages");
        assert!((80.0..=115.0).contains(&messages), "{messages}");
        assert_eq!(report.histograms["latency"].histogram.len() as f64, messages * 3.0);
        assert_eq!(figure(&report, "misdelivered") + figure(&report, "lost"), 0.0);
    }
}

#[test]
fn a_server_that_hears_rooms_apart_from_each_other_wrongly_is_told_of() {
    let publish: Publish = |conn, _, message| {
        conn.publish("/all", message);
    };
    let words = ["--rooms", "2", "--members", "2", "--rate", "50", "--join", "join:{room}"];
    let report = measure_with(publish, &words).unwrap();
    assert!(figure(&report, "misdelivered") > 0.0);
    assert!(report.invalid_because.join("; ").contains("to another room"));
}

#[test]
fn members_that_have_to_be_told_and_are_not_lose_messages() {
    let publish: Publish = |conn, number, message| {
        let room = conn.state.clone();
        if number % 5 != 0 {
            conn.publish(&room, message);
        }
        if number % 7 == 0 {
            conn.publish(&room, message);
        }
    };
    let report = measure_with(publish, &["--members", "2", "--rate", "200"]).unwrap();
    let messages = figure(&report, "messages");
    let (lost, duplicated) = (figure(&report, "lost"), figure(&report, "duplicated"));
    assert!((messages * 0.2..=messages * 0.5).contains(&lost), "{lost} of {messages}");
    assert!(duplicated > 0.0, "{duplicated} of {messages}");
    assert!(report.invalid_because.join("; ").contains("deliveries were lost"));
}

#[test]
fn a_publisher_that_is_not_told_of_its_own_messages_misses_none() {
    let publish: Publish = |conn, _, message| {
        let room = conn.state.clone();
        conn.publish_to_others(&room, message);
    };
    let report = measure_with(publish, &["--members", "4", "--others-only"]).unwrap();
    assert_eq!(figure(&report, "lost"), 0.0);
    let deliveries = report.histograms["latency"].histogram.len() as f64;
    assert_eq!(deliveries, figure(&report, "messages") * 3.0);
}

#[test]
fn a_stall_of_the_server_shows_from_the_intended_time_of_what_it_held_up() {
    let publish: Publish = |conn, number, message| {
        if number == 60 {
            thread::sleep(Duration::from_millis(100));
        }
        let room = conn.state.clone();
        conn.publish(&room, message);
    };
    let report = measure_with(publish, &["--members", "2", "--rate", "200"]).unwrap();
    let latency = &report.histograms["latency"].histogram;
    // At 200 a second, twenty messages were due during the stall.
    assert!(latency.count_between(20_000_000, u64::MAX) >= 20);
}

#[test]
fn a_server_that_ends_a_connection_makes_the_figures_invalid() {
    let publish: Publish = |conn, number, message| {
        if number == 10 {
            conn.close(quelea::CloseCode::POLICY_VIOLATION, "");
        }
        let room = conn.state.clone();
        conn.publish(&room, message);
    };
    let report = measure_with(publish, &["--members", "3", "--rate", "50"]).unwrap();
    let because = report.invalid_because.join(" ");
    assert!(because.contains("1 members were gone"), "{because}");
    let error = measure_with(
        |conn, _, _| {
            conn.close(quelea::CloseCode::POLICY_VIOLATION, "");
        },
        &["--members", "1"],
    );
    assert!(error.unwrap_err().to_string().contains("1008"));
}

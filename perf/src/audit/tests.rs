//! The options, and all of it against servers on threads, good ones and bad ones.

use super::*;
use crate::testing::TestServer;
use clap::Parser;
use quelea::{CloseCode, Config, Conn, Handler, Message};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn parse(words: &[&str]) -> Result<Options, clap::Error> {
    let words = ["audit"].iter().chain(words);
    Arguments::try_parse_from(words).map(|arguments| arguments.options)
}

/// What a server does with its n-th message, n from 1, and with one that it held back.
type Answer = fn(&mut Conn<'_, ()>, u64, &mut Option<String>, &str);

struct Server {
    answer: Answer,
    messages: u64,
    held: Option<String>,
}

impl Handler for Server {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.subscribe("all");
        conn.send("welcome");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        self.messages += 1;
        (self.answer)(conn, self.messages, &mut self.held, text);
    }
}

const ECHO: Answer = |conn, _, _, text| {
    conn.send(text);
};
const BROADCAST: Answer = |conn, _, _, text| {
    conn.publish("all", text);
};

fn audit_of(answer: Answer, words: &[&str]) -> (Report, bool) {
    let server =
        TestServer::start(Config::default(), move |_| Server { answer, messages: 0, held: None });
    let url = format!("ws://{}/", server.address);
    let fixed = [&url, "--seconds", "0.4", "--settle", "0.1", "--rate", "500"];
    let words: Vec<_> = fixed.iter().chain(words).copied().collect();
    audit::<Poll>(&parse(&words).unwrap()).unwrap()
}

fn figure(report: &Report, name: &str) -> u64 {
    report.figures[name].value as u64
}

/// All that can be wrong, in the order in which it is told.
fn wrong(report: &Report) -> [u64; 6] {
    ["lost", "duplicated", "reordered", "corrupt", "misdelivered", "ended"]
        .map(|name| figure(report, name))
}

#[test]
fn what_cannot_be_audited_is_refused() {
    let url = "ws://127.0.0.1:1/";
    for words in [
        &["--rate", "0"][..],
        &["--size", "63"],
        &["--faulty", "2"],
        &["--faults", "x"],
        &["--message", "x"],
    ] {
        assert!(parse(&[&[url], words].concat()).is_err(), "{words:?}");
    }
    let error = |words: &[&str]| {
        audit::<Poll>(&parse(&[&[url], words].concat()).unwrap())
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let broadcast = ["--server-does", "broadcast"];
    assert!(error(&["--others-only"]).contains("nobody is left"));
    assert!(error(&[&broadcast[..], &["--publishers", "11"]].concat()).contains("--publishers"));
    let many = ["--connections", "9000", "--publishers", "9000"];
    assert!(error(&[&broadcast[..], &many].concat()).contains("81000000 streams"));
    assert!(error(&["--connections", "1000000"]).contains("ulimit"));
    assert!(error(&[]).starts_with("connect: "));
}

#[test]
fn a_good_echo_server_has_no_faults_however_long_messages_are() {
    let (report, is_clean) = audit_of(ECHO, &["--size", "64,1000,100000"]);
    assert!(is_clean && report.valid, "{:?}", report.figures);
    let sent = figure(&report, "sent");
    // A busy machine does not come to all of them before it is over.
    assert!((1..=201).contains(&sent), "{sent}");
    assert_eq!((figure(&report, "received"), figure(&report, "others")), (sent, 10));
    assert!(figure(&report, "generator_cpu_ns_per_message") > 0);
    assert!(!report.figures.contains_key("server_cpu_ns_per_message"));
    let pid = std::process::id().to_string();
    let (report, _) = audit_of(ECHO, &["--server-pid", &pid]);
    assert!(figure(&report, "server_cpu_ns_per_message") > 0);
    assert!(report.tables.is_empty());
}

#[test]
fn a_good_broadcast_server_has_no_faults() {
    let broadcast = ["--server-does", "broadcast", "--connections", "6", "--publishers", "3"];
    let (report, is_clean) = audit_of(BROADCAST, &broadcast);
    assert!(is_clean, "{:?}", report.figures);
    assert_eq!(figure(&report, "received"), figure(&report, "sent") * 6);
    let answer: Answer = |conn, _, _, text| {
        conn.publish_to_others("all", text);
    };
    let (report, is_clean) = audit_of(answer, &[&broadcast[..], &["--others-only"]].concat());
    assert!(is_clean, "{:?}", report.figures);
    assert_eq!(figure(&report, "received"), figure(&report, "sent") * 5);
}

#[test]
fn others_that_reset_and_stall_do_not_count_and_do_not_disturb() {
    let faults = ["--faults", "resets,stalls", "--faulty", "4", "--fault-every", "0.03"];
    let broadcast = ["--server-does", "broadcast"];
    for (answer, words) in [(ECHO, &[][..]), (BROADCAST, &broadcast)] {
        let faults = [&faults[..], &["--stall-max", "0.05"], words].concat();
        let (report, is_clean) = audit_of(answer, &faults);
        assert!(is_clean, "{:?}", report.figures);
        let counts = &report.counts["faults"].counts;
        assert!(counts["resets"] > 3 && counts["stalls"] > 3, "{counts:?}");
    }
}

#[test]
fn what_a_bad_server_does_is_told() {
    let lose: Answer = |conn, number, _, text| {
        if number % 10 != 0 {
            conn.send(text);
        }
    };
    let (report, is_clean) = audit_of(lose, &[]);
    let lost = figure(&report, "sent") / 10;
    assert_eq!((wrong(&report), is_clean), ([lost, 0, 0, 0, 0, 0], false));
    // All of one stream if they take turns, which a busy machine does not let them.
    assert!((1..=10).contains(&report.tables[0].rows.len()));

    let repeat: Answer = |conn, number, _, text| {
        conn.send(text);
        if number == 7 {
            conn.send(text);
        }
    };
    let (report, is_clean) = audit_of(repeat, &[]);
    assert_eq!((wrong(&report), is_clean), ([0, 1, 0, 0, 0, 0], false));

    let swap: Answer = |conn, number, held, text| match number {
        7 => *held = Some(text.to_owned()),
        _ => {
            conn.send(text);
            if let Some(text) = held.take() {
                conn.send(&*text);
            }
        }
    };
    let (report, is_clean) = audit_of(swap, &["--connections", "1"]);
    assert_eq!((wrong(&report), is_clean), ([0, 0, 1, 0, 0, 0], false));

    let change: Answer = |conn, number, _, text| match number {
        7 => {
            let (whole, last) = text.split_at(text.len() - 1);
            conn.send(&*format!("{whole}{}", if last == "c" { "d" } else { "c" }));
        }
        _ => drop(conn.send(text)),
    };
    let (report, is_clean) = audit_of(change, &[]);
    assert_eq!((wrong(&report), is_clean), ([1, 0, 0, 1, 0, 0], false));
}

#[test]
fn messages_to_the_wrong_one_and_connections_that_the_server_ends_are_told() {
    let (report, is_clean) = audit_of(BROADCAST, &["--connections", "3"]);
    assert_eq!(figure(&report, "misdelivered"), figure(&report, "sent") * 2);
    assert!(!is_clean);
    let end: Answer = |conn, number, _, text| {
        conn.send(text);
        if number == 20 {
            conn.close(CloseCode::POLICY_VIOLATION, "");
        }
    };
    let (report, is_clean) = audit_of(end, &[]);
    assert!(!is_clean && figure(&report, "ended") == 1);
}

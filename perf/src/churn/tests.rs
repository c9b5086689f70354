//! The options, and all of it against servers on threads.

use super::*;
use crate::testing::TestServer;
use clap::Parser;
use quelea::{Closed, Config, Conn, Handler, Message};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn parse(text: &str) -> Result<Options, clap::Error> {
    let words = ["churn"].into_iter().chain(text.split_whitespace());
    Arguments::try_parse_from(words).map(|arguments| arguments.options)
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let options = parse("ws://127.0.0.1:1/").unwrap();
    assert_eq!((options.in_progress, options.rate, options.how), (None, None, How::Clean));
    for text in ["--rate 0", "--in-progress 0", "--seconds 0", "--how x", "--size x"] {
        assert!(parse(&format!("ws://127.0.0.1:1/ {text}")).is_err(), "{text}");
    }
    assert!(parse("").is_err());
    let options = parse("ws://127.0.0.1:1/ --messages 2 --size 9000000").unwrap();
    assert!(measure::<Poll>(&options).unwrap_err().to_string().contains("--messages and --size"));
    let options = parse("ws://127.0.0.1:1/ --in-progress 100000000").unwrap();
    assert!(measure::<Poll>(&options).unwrap_err().to_string().contains("ulimit"));
}

/// Echoes, unless told not to, and counts how connections end.
struct Echo {
    is_silent: bool,
    ends: Ends,
}

/// By cause.
type Ends = Arc<Mutex<HashMap<String, u64>>>;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        if !self.is_silent {
            conn.send(message);
        }
    }

    fn on_close(&mut self, _conn: &mut Conn<'_, ()>, closed: &Closed<'_>) {
        let cause = format!("{:?}", closed.cause);
        *self.ends.lock().unwrap().entry(cause).or_default() += 1;
    }
}

/// Runs against a server; the report, and what the server saw.
fn churn(options: &str, is_silent: bool) -> (Report, HashMap<String, u64>) {
    let ends = Ends::default();
    let server = TestServer::start(Config::default(), {
        let ends = ends.clone();
        move |_| Echo { is_silent, ends: ends.clone() }
    });
    let (address, fixed) = (server.address, "--seconds 0.3 --warm-up 0");
    let options = parse(&format!("ws://{address}/ {fixed} {options}")).unwrap();
    let report = measure::<Poll>(&options).unwrap();
    drop(server);
    let ends = ends.lock().unwrap().clone();
    (report, ends)
}

fn sum(counts: &crate::report::Counts) -> u64 {
    counts.counts.values().sum()
}

#[test]
fn connections_open_and_close_again_and_again_and_the_server_sees_the_same() {
    let pid = std::process::id();
    let (report, ends) = churn(&format!("--in-progress 8 --server-pid {pid}"), false);
    let opened = report.figures["connections"].value as u64;
    assert!(opened > 20, "{opened}");
    assert_eq!(ends.keys().collect::<Vec<_>>(), ["PeerClosed"]);
    // What was in progress when the time was over came to its end after it.
    let closed = report.counts["closes"].counts["1000 by the generator"];
    assert!(closed <= opened && opened <= closed + 8, "{opened} {closed}");
    assert!((opened..=opened + 8).contains(&ends["PeerClosed"]));
    assert_eq!((sum(&report.counts["errors"]), sum(&report.counts["aborts"])), (0, 0));
    let upgrades = &report.histograms["upgrade"].histogram;
    assert_eq!((upgrades.len(), report.histograms["latency"].histogram.len()), (opened, opened));
    assert!(report.figures["connections_per_second"].value > 0.0);
    assert!(report.figures.contains_key("server_cpu_ns_per_handshake"));
    assert!(report.figures["generator_cpu_ns_per_handshake"].value > 0.0);
}

#[test]
fn connections_end_as_asked_for() {
    for (how, cause) in [("fin", "Disconnected"), ("reset", "Reset")] {
        let (report, ends) = churn(&format!("--in-progress 4 --how {how}"), false);
        assert!(report.counts["aborts"].counts["as asked for"] > 20);
        assert_eq!(sum(&report.counts["closes"]), 0);
        assert_eq!(ends.keys().collect::<Vec<_>>(), [cause], "{how}");
    }
}

#[test]
fn a_rate_is_kept_and_messages_are_waited_for() {
    let (report, ends) = churn("--rate 100 --messages 3 --size 2000", false);
    let opened = report.figures["connections"].value as u64;
    assert!((25..=33).contains(&opened), "{opened}");
    assert!(ends["PeerClosed"] >= opened);
    // The first was due before the time that is measured.
    let recorded = report.histograms["latency_uncorrected"].histogram.len();
    assert!((opened - 1..=opened).contains(&recorded), "{recorded}");
    assert_eq!(sum(&report.counts["errors"]), 0);
}

#[test]
fn a_server_that_does_not_answer_is_waited_for_no_longer_than_asked_for() {
    let (report, _) = churn("--in-progress 3 --messages 1 --patience 0.1", true);
    let aborts = &report.counts["aborts"].counts;
    assert!((3..=9).contains(&aborts["messages not answered"]), "{aborts:?}");
    let because = report.invalid_because.join("; ");
    assert!(because.contains("were not answered"), "{because}");
}

#[test]
fn a_server_that_refuses_some_or_ends_them_itself_makes_the_figures_invalid() {
    let config = Config { handshakes_per_second_max: Some(20), ..Config::default() };
    let refusing = TestServer::start(config, |_| Echo { is_silent: false, ends: Ends::default() });
    let closing = TestServer::start(Config::default(), |_| Closing);
    for server in [refusing, closing] {
        let url = format!("ws://{}/", server.address);
        let options = "--seconds 0.3 --warm-up 0 --messages 1 --how reset";
        let report = measure::<Poll>(&parse(&format!("{url} {options}")).unwrap()).unwrap();
        let because = report.invalid_because.join("; ");
        assert!(because.contains("did not open"), "{because}");
    }
}

/// Ends each connection.
struct Closing;

impl Handler for Closing {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.close(quelea::CloseCode::GOING_AWAY, "");
    }

    fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}
}

#[test]
fn connections_that_were_due_and_never_begun_make_the_figures_invalid() {
    let options = "--rate 200 --in-progress 2 --messages 1 --patience 0.2";
    let (report, _) = churn(options, true);
    let because = report.invalid_because.join("; ");
    assert!(because.contains("were due and never begun"), "{because}");
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = parse(&format!("ws://{free}/")).unwrap();
    let error = measure::<Poll>(&options).unwrap_err().to_string();
    assert!(error.starts_with("connect: "), "{error}");
}

#[test]
fn connections_that_compress_are_opened_used_and_counted() {
    use quelea::deflate::{Policy, Settings};
    let config = Config { deflate: Settings::new(Policy::Shared), ..Config::default() };
    let make = |_| Echo { is_silent: false, ends: Ends::default() };
    let server = TestServer::start(config, make);
    let options = "--seconds 0.3 --warm-up 0 --messages 2 --size 1000 --deflate shared";
    let options = parse(&format!("ws://{}/ {options}", server.address)).unwrap();
    let report = measure::<Poll>(&options).unwrap();
    let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let opened = report.figures["connections"].value as u64;
    assert!(opened > 10 && report.counts["deflate"].counts[agreed] >= opened, "{opened}");
    assert!(report.counts["errors"].counts.is_empty());
}

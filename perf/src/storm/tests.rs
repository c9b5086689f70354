//! The options, and all of it against servers on threads.

use super::*;
use crate::testing::TestServer;
use clap::Parser;
use quelea::{Accept, Config, Conn, Handler, Message, Response, Status, Upgrade};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn parse(words: &[&str]) -> Result<Options, clap::Error> {
    let words = ["storm"].iter().chain(words);
    Arguments::try_parse_from(words).map(|arguments| arguments.options)
}

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

/// Lets nobody in.
struct Nobody;

impl Handler for Nobody {
    type State = ();

    fn on_upgrade(&mut self, _upgrade: &Upgrade<'_>) -> Result<Accept<()>, Response> {
        Err(Response::text(Status::NOT_FOUND, "not here"))
    }

    fn on_message(&mut self, _conn: &mut Conn<'_, ()>, _message: Message<'_>) {}
}

/// Lets so many in, and no more, and says nothing.
struct Few {
    left: usize,
}

impl Handler for Few {
    type State = ();

    fn on_upgrade(&mut self, _upgrade: &Upgrade<'_>) -> Result<Accept<()>, Response> {
        if self.left == 0 {
            return Err(Response::text(Status::SERVICE_UNAVAILABLE, "full"));
        }
        self.left -= 1;
        Ok(Accept::new(()))
    }

    fn on_message(&mut self, _conn: &mut Conn<'_, ()>, _message: Message<'_>) {}
}

fn storm(server: &TestServer, words: &[&str]) -> Outcome<Report> {
    let url = format!("ws://{}/", server.address);
    let words: Vec<_> = [&url, "--before", "0.2"].iter().chain(words).copied().collect();
    measure::<Poll>(&parse(&words).unwrap())
}

fn figure(report: &Report, name: &str) -> f64 {
    report.figures[name].value
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let error = |words: &[&str]| measure::<Poll>(&parse(words).unwrap()).unwrap_err().to_string();
    let url = "ws://127.0.0.1:1/";
    assert!(error(&[url, "--how", "restart"]).contains("needs --server"));
    let words = ["--server", "false {address}", "--how", "restart", "--staying", "1"];
    assert!(error(&words).contains("nobody stays"));
    assert!(error(&[url, "--connections", "1000000"]).contains("ulimit"));
    assert!(error(&[url]).starts_with("connect: "));
    let server = TestServer::start(Config::default(), |_| Nobody);
    let error = storm(&server, &[]).unwrap_err().to_string();
    assert!(error.contains("404"), "a path that is not there is not tried again: {error}");
    for words in [["--connections", "0"], ["--timeout", "0"], ["--how", "x"]] {
        assert!(parse(&[&[url], &words[..]].concat()).is_err(), "{words:?}");
    }
}

#[test]
fn all_that_are_dropped_come_back_and_those_that_stay_are_echoed_all_the_time() {
    for how in ["reset", "fin"] {
        let server = TestServer::start(Config::default(), |_| Echo);
        let pid = std::process::id().to_string();
        let words = ["--connections", "200", "--how", how, "--staying", "4", "--server-pid", &pid];
        let report = storm(&server, &words).unwrap();
        assert_eq!((figure(&report, "connections"), figure(&report, "back")), (200.0, 200.0));
        let times =
            [50, 90, 99, 100].map(|share| figure(&report, &format!("back_{share}_seconds")));
        assert!(times[0] > 0.0 && times.is_sorted() && times[3] < 10.0, "{times:?}");
        assert_eq!(figure(&report, "attempts"), 200.0);
        let before = report.histograms["latency_before"].histogram.len();
        assert!((20..=60).contains(&before), "{before}");
        assert_eq!(report.series["back"].points.last().unwrap().1, 200.0);
        // A busy machine may be told; that somebody did not come back or was not echoed may not.
        let others: Vec<_> = report
            .invalid_because
            .iter()
            .filter(|because| !because.contains("generator"))
            .collect();
        assert!(others.is_empty(), "{others:?}");
    }
}

#[test]
fn a_server_that_admits_few_in_a_second_is_asked_again_when_it_says() {
    let config = Config { handshakes_per_second_max: Some(20), ..Config::default() };
    let server = TestServer::start(config, |_| Echo);
    let words = ["--connections", "30", "--staying", "0", "--back-off", "0.05"];
    let report = storm(&server, &words).unwrap();
    assert_eq!(figure(&report, "back"), 30.0);
    let refused = report.counts["refused"].counts["503 Service Unavailable"];
    assert_eq!(figure(&report, "attempts"), 30.0 + refused as f64);
    assert!(figure(&report, "back_100_seconds") >= 1.0, "the server said a second");
    assert!(figure(&report, "back_50_seconds") < figure(&report, "back_100_seconds"));
}

#[test]
fn echoes_that_are_missing_make_the_figures_invalid() {
    let server = TestServer::start(Config::default(), |_| Few { left: 100 });
    let report = storm(&server, &["--connections", "5", "--staying", "1"]).unwrap();
    let because = report.invalid_because.join("; ");
    assert!(because.contains("did not come back"), "{because}");
}

#[test]
fn who_is_not_back_in_time_is_told_of() {
    let server = TestServer::start(Config::default(), |_| Few { left: 12 });
    let words = ["--connections", "10", "--staying", "0", "--timeout", "1"];
    let report = storm(&server, &words).unwrap();
    let because = report.invalid_because.join("; ");
    assert!(because.contains("2 of 10 connections were back"), "{because}");
    assert!(figure(&report, "back_100_seconds").is_nan() && figure(&report, "back") == 2.0);
    assert!(report.counts["refused"].counts["503 Service Unavailable"] >= 8);
}

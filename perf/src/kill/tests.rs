use super::*;
use crate::testing::TestServer;
use clap::Parser;
use quelea::{Config, Conn, DriverKind, Handler, Message};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn measured(options: &str) -> Result<Report, Box<dyn Error>> {
    let words = ["kill"].into_iter().chain(options.split_whitespace());
    measure(&Arguments::try_parse_from(words)?.options)
}

/// Echoes, or sends back something else.
struct Echo {
    is_wrong: bool,
}

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        match (self.is_wrong, message) {
            (false, message) => conn.send(message),
            (true, _) => conn.send(&[0xff, 0xff, 0xff][..]),
        };
    }
}

#[test]
fn everything_is_done_and_a_right_server_bears_it_on_each_driver() {
    for driver in [DriverKind::Poll, DriverKind::Uring] {
        let config = Config { driver, ..Config::default() };
        let server = TestServer::start(config, |_| Echo { is_wrong: false });
        let options = format!("ws://{}/ --rate 300 --seconds 1 --seed 7", server.address);
        let report = measured(&options).unwrap();
        assert!(report.valid, "{:?} {:?}", report.invalid_because, report.counts["failures"]);
        assert_eq!(report.counts["ways"].counts.len(), Way::ALL.len());
        assert_eq!(report.counts["ends"].counts.len(), End::ALL.len());
        assert_eq!(report.counts["ways"].counts.values().sum::<u64>(), 300);
        assert!(report.figures["calm_echoes"].value > 10.0);
    }
}

#[test]
fn an_answer_that_is_no_echo_is_found() {
    let server = TestServer::start(Config::default(), |_| Echo { is_wrong: true });
    let options = format!("ws://{}/ --rate 100 --seconds 0.3 --seed 7", server.address);
    let report = measured(&options).unwrap();
    assert!(!report.valid);
    let reasons = report.invalid_because.join("\n");
    assert!(reasons.contains("a connection that keeps the rules failed"), "{reasons}");
    assert!(reasons.contains("had no echo"), "{reasons}");
}

#[test]
fn a_server_that_ends_connections_in_their_handshakes_is_found_whatever_they_were_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the process.
    thread::spawn(move || listener.incoming().for_each(drop));
    let target = format!("ws://{address}/").parse().unwrap();
    let plan = Plan {
        target: &target,
        seed: 7,
        rate: 1000.0,
        count: 100,
        start: clock::now(),
        next: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    let counts = kill(&plan);
    let open: u64 = Way::ALL
        .iter()
        .filter(|way| way.opens())
        .filter_map(|way| counts.ways.get(way.name()))
        .sum();
    assert!(open > 50, "{:?}", counts.ways);
    assert_eq!(counts.failures.values().sum::<u64>(), open, "{:?}", counts.failures);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(measured(&format!("ws://{free}/")).is_err());
    let error = measured("ws://127.0.0.1:1/ --in-progress 1001").map(drop).unwrap_err();
    assert!(error.to_string().contains("--in-progress"), "{error}");
}

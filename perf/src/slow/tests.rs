//! The options, and all of it against servers on threads.

use super::*;
use clap::Parser;
use quelea::{Config, Conn, Handle, Handler, Message};
use std::thread::{self, JoinHandle};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn parse(text: &str) -> Result<Options, clap::Error> {
    let words = ["slow"].into_iter().chain(text.split_whitespace());
    Arguments::try_parse_from(words).map(|arguments| arguments.options)
}

#[test]
fn options_have_defaults_and_what_cannot_be_measured_is_refused() {
    let options = parse("").unwrap();
    assert_eq!((options.subscribers, options.never_readers), (1000, 100));
    assert_eq!((options.size, options.rate, options.seconds), (1000, 200.0, 10.0));
    for text in [
        "--subscribers 0",
        "--never-readers 0",
        "--size 15",
        "--rate 0",
        "--rate inf",
        "--seconds 21",
        "--seconds nan",
        "--rounds 0",
        "--server x",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
}

/// What a broadcast server does with the n-th message, n from 1.
type Publish = fn(&mut Conn<'_, ()>, u64, Message<'_>);

struct Broadcast {
    publish: Publish,
    messages: u64,
}

impl Handler for Broadcast {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.subscribe("all");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        self.messages += 1;
        (self.publish)(conn, self.messages, message);
    }
}

fn publish_once(conn: &mut Conn<'_, ()>, _: u64, message: Message<'_>) {
    conn.publish("all", message);
}

/// A server on a thread, until this is dropped.
struct Running {
    target: Target,
    handle: Handle,
    thread: Option<JoinHandle<quelea::Result<()>>>,
}

impl Running {
    fn start(publish: Publish) -> Self {
        let config = Config { workers: Some(1), outbox_bytes_max: 2 << 20, ..Config::default() };
        let server = quelea::Server::new(move |_| Broadcast { publish, messages: 0 });
        let server = server.config(config).unwrap().listen("127.0.0.1:0").unwrap();
        let address = server.local_addresses().next().unwrap();
        let target = format!("ws://{address}/").parse().unwrap();
        let handle = server.handle();
        Self { target, handle, thread: Some(thread::spawn(move || server.run())) }
    }

    fn measure(&self, options: &str) -> Result<Summary, Box<dyn Error>> {
        measure(&parse(options).unwrap(), &self.target, std::process::id(), |_| Ok(()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const FEW: &str = "--subscribers 20 --never-readers 2 --rate 100 --rounds 1";

#[test]
fn those_that_read_get_all_of_it_though_two_never_do() {
    let server = Running::start(publish_once);
    let summary = server.measure(&format!("{FEW} --seconds 1 --fill 16777216")).unwrap();
    assert!(summary.faults().is_none(), "{summary:?}");
    let [[without, with]] = &*summary.rounds else { panic!("{summary:?}") };
    assert_eq!((without.never_readers, with.never_readers), (0, 2));
    for phase in [without, with] {
        assert_eq!(phase.latency.len(), 18 * 100, "{phase:?}");
        assert!(phase.latency.min() > 0, "{phase:?}");
        assert!(phase.generator > 0.0 && phase.server > 0.0, "{phase:?}");
    }
}

#[test]
fn a_message_that_the_server_loses_or_repeats_is_noticed() {
    let faults = |publish: Publish| {
        let options = format!("{FEW} --seconds 0.1 --fill 0");
        Running::start(publish).measure(&options).unwrap().faults()
    };
    let loses = faults(|conn, number, message| {
        if number != 5 {
            conn.publish("all", message);
        }
    });
    assert_eq!(loses, Faults { missing: 18, stray: 0 });
    let repeats = faults(|conn, number, message| {
        for _ in 0..if number == 5 { 2 } else { 1 } {
            conn.publish("all", message);
        }
    });
    assert_eq!(repeats, Faults { missing: 0, stray: 18 });
}

#[test]
fn nobody_to_read_is_an_error() {
    let options = parse("--subscribers 2 --never-readers 2").unwrap();
    let nowhere = "ws://127.0.0.1:1/".parse().unwrap();
    let error = measure(&options, &nowhere, std::process::id(), |_| Ok(())).err().unwrap();
    assert_eq!(error.to_string(), "of the subscribers, some have to read");
}

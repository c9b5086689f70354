//! In a steady state, messages cost no allocation: neither an echo nor a publish, on any number of
//! workers.

mod support;

use quelea::{Config, Conn, Handler, Message};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use support::{BINARY, Serving, frame};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

struct Broadcast;

impl Handler for Broadcast {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.subscribe("all");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.publish("all", message);
    }
}

const CLIENTS: usize = 20;
/// Long enough for a slow machine to be no server in a time of quiet, which gives memory back.
const PAYLOAD: [u8; 1000] = [7; 1000];

/// The allocations of the whole process while all clients in turn send a message and the
/// `receivers` read what comes of it, once all has been done before.
fn allocations<H: Handler + 'static>(
    workers: usize,
    make: fn() -> H,
    is_received_by_all: bool,
) -> stats_alloc::Stats {
    let config = Config { workers: Some(workers), ..Config::default() };
    let serving = Serving::start(config, &["127.0.0.1:0"], move |_| make());
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut raw = serving.connect();
            raw.upgrade("/");
            raw
        })
        .collect();
    let message = frame(BINARY, &PAYLOAD);
    let mut answer = [0; 1004];
    let mut rounds = |count: usize| {
        for sender in (0..CLIENTS).cycle().take(count) {
            std::io::Write::write_all(&mut clients[sender].stream, &message).unwrap();
            let receivers =
                if is_received_by_all { &mut clients[..] } else { &mut clients[sender..=sender] };
            for receiver in receivers {
                std::io::Read::read_exact(&mut receiver.stream, &mut answer).unwrap();
                assert_eq!((answer[..2].as_ref(), answer[1003]), (&[BINARY, 126][..], 7));
            }
        }
    };
    rounds(2_000);
    let region = Region::new(ALLOCATOR);
    rounds(1_000);
    let stats = region.change();
    drop(clients);
    stats
}

/// One test, so that no other one allocates meanwhile.
#[test]
fn a_steady_echo_and_a_steady_publish_allocate_nothing() {
    for workers in [1, 2] {
        let echo = allocations(workers, || Echo, false);
        assert_eq!((echo.allocations, echo.reallocations), (0, 0), "echo, {workers} workers");
        let publish = allocations(workers, || Broadcast, true);
        assert_eq!((publish.allocations, publish.reallocations), (0, 0), "publish, {workers}");
    }
}

//! What idle connections take.

use quelea::{Config, Conn, Handler, Message, sim::Simulation};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::{alloc::System, time::Duration};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

/// A few less than a power of two: vectors that double have little room to spare.
const CONNECTIONS: usize = 1_000_000;
const BATCH: usize = 10_000;

#[test]
fn a_million_idle_connections_take_at_most_96_bytes_each() {
    let config = Config {
        connections_max: CONNECTIONS,
        handshakes_pending_max: CONNECTIONS,
        ping_interval: Some(Duration::from_secs(30)),
        ..Config::default()
    };
    let mut sim = Simulation::new(1, config, |_worker| Echo).unwrap();
    let connect = |sim: &mut Simulation<Echo>| {
        sim.connect_crowd(BATCH);
        sim.run_for(Duration::from_millis(10));
    };
    // What the network needs for a batch under way it needs once.
    connect(&mut sim);
    sim.run_for(Duration::from_secs(60));
    let start = Region::new(ALLOCATOR);
    (1..CONNECTIONS / BATCH).for_each(|_| connect(&mut sim));
    sim.run_for(Duration::from_secs(60));
    assert_eq!(sim.crowd_open(), CONNECTIONS, "all are there, and have answered pings");
    let change = start.change();
    let bytes = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    let each = bytes as f64 / (CONNECTIONS - BATCH) as f64;
    println!("{each:.1} bytes a connection");
    assert!(each <= 96.0, "{each} bytes a connection");
    assert!(each >= 64.0, "{each} bytes a connection: is anything measured?");
}

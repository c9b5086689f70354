//! `quelea-perf sim`: what idle connections cost a server, more of them than a machine has descriptors
//! for: its workers are real, the network and the clock are not.

use crate::{cpu, fanout::parse_count, memory};
use clap::Args;
use quelea::{Config, Conn, Handler, Message, sim::Simulation};
use std::{error::Error, fmt, time::Duration};

#[derive(Args)]
pub(crate) struct Options {
    /// How many clients connect, each to answer pings and do nothing else.
    #[arg(long, default_value_t = 1_000_000, value_parser = parse_count)]
    connections: usize,
    /// How many workers serve them, each of which can have 16,777,216 slots.
    #[arg(long, default_value_t = 1, value_parser = parse_count)]
    workers: usize,
    /// The silence, in seconds, after which the server pings.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    ping_interval: u64,
    /// How long they are watched once all are there, in seconds on the simulated clock.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
}

/// What was measured.
pub(crate) struct Report {
    options: Options,
    bytes: u64,
    connecting: Duration,
    watching: Duration,
    pings: u64,
}

/// Clients that connect at once: each takes memory until it is open.
const BATCH: usize = 10_000;
/// How long a batch has, on the simulated clock.
const BATCH_TIME: Duration = Duration::from_millis(10);

struct Idle;

thread_local! {
    static ROUND_TRIPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Handler for Idle {
    type State = ();

    fn on_message(&mut self, _conn: &mut Conn<'_, ()>, _message: Message<'_>) {}

    fn on_round_trip(&mut self, _conn: &mut Conn<'_, ()>, _round_trip: Duration) {
        ROUND_TRIPS.set(ROUND_TRIPS.get() + 1);
    }
}

pub(crate) fn run(options: Options) -> Result<Report, Box<dyn Error>> {
    let config = Config {
        workers: Some(options.workers),
        connections_max: options.connections.max(1),
        handshakes_pending_max: options.connections.max(1),
        ping_interval: Some(Duration::from_secs(options.ping_interval)),
        ..Config::default()
    };
    let mut sim = Simulation::new(1, config, |_worker| Idle)?;
    sim.run_for(BATCH_TIME);
    let (bytes, start) = (memory::anonymous_bytes("self")?, cpu::time("self")?);
    let mut left = options.connections;
    while left > 0 {
        let batch = left.min(BATCH);
        sim.connect_crowd(batch);
        sim.run_for(BATCH_TIME);
        left -= batch;
    }
    if sim.crowd_open() != options.connections {
        return Err(format!("{} of {} are open", sim.crowd_open(), options.connections).into());
    }
    let connected = cpu::time("self")?;
    // The first round of pings is part of getting there.
    sim.run_for(Duration::from_secs(options.ping_interval));
    let (settled, before) = (cpu::time("self")?, ROUND_TRIPS.get());
    sim.run_for(Duration::from_secs(options.seconds));
    let watching = cpu::time("self")? - settled;
    if sim.crowd_open() != options.connections {
        return Err(format!("only {} of them have stayed", sim.crowd_open()).into());
    }
    Ok(Report {
        bytes: memory::anonymous_bytes("self")?.saturating_sub(bytes),
        connecting: connected - start,
        watching,
        pings: ROUND_TRIPS.get() - before,
        options,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options: Options { connections, workers, ping_interval, seconds }, .. } = self;
        writeln!(
            f,
            "{connections} connections on {workers} simulated workers, pinged each {ping_interval} s"
        )?;
        let each = self.bytes as f64 / *connections as f64;
        writeln!(f, "memory    {each:.1} bytes a connection, the simulated network included")?;
        let connecting = self.connecting.as_nanos() as f64 / *connections as f64 / 1000.0;
        writeln!(f, "handshake {connecting:.2} us of CPU time, both ends")?;
        let each_second = self.watching.as_secs_f64() / *seconds as f64;
        let pings = self.pings as f64 / *seconds as f64;
        write!(
            f,
            "idle      {each_second:.3} s of CPU time a second, both ends, for {pings:.0} pings answered"
        )
    }
}

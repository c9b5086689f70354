//! `quelea-perf sim`: what idle connections cost a server, more of them than a machine has descriptors
//! for: its workers are real, the network and the clock are not.

use crate::{
    clock::now,
    cpu,
    fanout::parse_count,
    memory,
    progress::Progress,
    report::{Output, Report, Unit},
};
use clap::Args;
use quelea::{Config, Conn, Handler, Message, sim::Simulation};
use serde::Serialize;
use std::{error::Error, process::ExitCode, time::Duration};

#[derive(Args, Serialize)]
#[command(after_help = "Example:\n  \
    quelea-perf sim --connections 10000000")]
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
    #[command(flatten)]
    #[serde(skip)]
    output: Output,
}

/// What was measured.
struct Measured {
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

pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    options.output.refuse_hgrm("sim")?;
    let measured = measure(options)?;
    options.output.finish(&measured.report(options))
}

fn measure(options: &Options) -> Result<Measured, Box<dyn Error>> {
    let config = Config {
        workers: Some(options.workers),
        connections_max: options.connections.max(1),
        handshakes_pending_max: options.connections.max(1),
        ping_interval: Some(Duration::from_secs(options.ping_interval)),
        ..Config::default()
    };
    let mut sim = Simulation::new(1, config, |_worker| Idle)?;
    sim.run_for(BATCH_TIME);
    let (bytes, start) = (memory::anonymous_bytes("self")?, cpu::of_this_process());
    let mut left = options.connections;
    let mut progress = Progress::new("connect", "connections", left as u64, now());
    while left > 0 {
        let batch = left.min(BATCH);
        sim.connect_crowd(batch);
        sim.run_for(BATCH_TIME);
        left -= batch;
        progress.set(now(), (options.connections - left) as u64);
    }
    drop(progress);
    if sim.crowd_open() != options.connections {
        return Err(format!("{} of {} are open", sim.crowd_open(), options.connections).into());
    }
    let connected = cpu::of_this_process();
    // The first round of pings is part of getting there.
    sim.run_for(Duration::from_secs(options.ping_interval));
    let (settled, before) = (cpu::of_this_process(), ROUND_TRIPS.get());
    let mut progress = Progress::new("watch", "simulated seconds", options.seconds, now());
    for second in 1..=options.seconds {
        sim.run_for(Duration::from_secs(1));
        progress.set(now(), second);
    }
    drop(progress);
    let watching = cpu::of_this_process() - settled;
    if sim.crowd_open() != options.connections {
        return Err(format!("only {} of them have stayed", sim.crowd_open()).into());
    }
    Ok(Measured {
        bytes: memory::anonymous_bytes("self")?.saturating_sub(bytes),
        connecting: connected - start,
        watching,
        pings: ROUND_TRIPS.get() - before,
    })
}

impl Measured {
    fn report(&self, options: &Options) -> Report {
        let (connections, seconds) = (options.connections as f64, options.seconds as f64);
        let mut report = Report::new("sim", options);
        let bytes = self.bytes as f64 / connections;
        let handshake = self.connecting.as_nanos() as f64 / connections;
        report
            .figure("connections", "connections", connections, Unit::Count)
            .figure("bytes_per_connection", "memory", bytes, Unit::BytesPerConnection)
            .figure("cpu_ns_per_handshake", "handshake", handshake, Unit::NanosecondsPerHandshake)
            .figure("cpu_share", "CPU", self.watching.as_secs_f64() / seconds, Unit::Share)
            .figure(
                "pings_per_second",
                "pings answered",
                self.pings as f64 / seconds,
                Unit::PerSecond,
            )
            .note("Memory and CPU time are of both ends and of the simulated network.");
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn each_connection_is_pinged_and_its_cost_is_told() {
        let words = "sim --connections 2000 --ping-interval 5 --seconds 10".split(' ');
        let options = Arguments::parse_from(words).options;
        let measured = measure(&options).unwrap();
        assert!((2000..=4000).contains(&measured.pings), "{}", measured.pings);
        let text = measured.report(&options).to_string();
        let labels: Vec<_> = text.lines().take(5).map(|line| line[..15].trim_end()).collect();
        assert_eq!(
            labels,
            ["connections", "memory", "handshake", "CPU", "pings answered"],
            "{text}"
        );
    }
}

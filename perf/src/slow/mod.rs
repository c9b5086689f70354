//! `quelea-perf slow`: what subscribers that never read cost those that do, and the server.

mod message;
mod readers;
mod report;
mod schedule;

use self::report::{Phase, Summary};
use crate::{
    client,
    clock::now,
    fanout::parse_count,
    load::Meter,
    memory::anonymous_bytes,
    progress::Progress,
    report::{Output, Report},
    server::{Server, ServerCommand},
    target::Target,
};
use clap::Args;
use message::{Faults, STAMP_BYTES};
use readers::Readers;
use schedule::Schedule;
use serde::Serialize;
use std::{
    error::Error,
    fs::File,
    io::{self, Read},
    net::TcpStream,
    process::ExitCode,
    thread::sleep,
    time::Duration,
};

#[derive(Args, Serialize)]
#[command(after_help = "Example:\n  \
    quelea-perf slow --server 'target/release/broadcast --listen {address}' --seconds 4")]
pub(crate) struct Options {
    /// How to start the server, {address} where its HOST:PORT belongs. It has to send each message
    /// to all, its sender included, and nothing else.
    #[arg(long, default_value = "target/release/broadcast --listen {address}")]
    server: ServerCommand,
    /// How many subscribers, those that never read included.
    #[arg(long, default_value_t = 1000, value_parser = parse_count)]
    subscribers: usize,
    /// How many of them never read; in every other phase, they are not there.
    #[arg(long, default_value_t = 100, value_parser = parse_count)]
    never_readers: usize,
    /// The payload of a message, in bytes.
    #[arg(long, default_value_t = 1000, value_parser = parse_size)]
    size: usize,
    /// How many messages a second one of the readers publishes, whatever became of those before.
    #[arg(long, default_value_t = 200.0, value_parser = parse_rate)]
    rate: f64,
    /// How long a phase is.
    #[arg(long, default_value_t = 10.0, value_parser = parse_seconds)]
    seconds: f64,
    /// How many bytes are published before each phase, so that those that never read are past their
    /// limit all through it; 0 to measure how they come there.
    #[arg(long, default_value_t = 16 << 20)]
    fill: usize,
    /// How often both phases are measured, in turns.
    #[arg(long, default_value_t = 3, value_parser = parse_count)]
    rounds: usize,
    /// The most that the server keeps for one of them, in bytes: what its memory is compared with.
    #[arg(long, default_value_t = 4 << 20, value_parser = parse_count)]
    outbox_bytes_max: usize,
    #[command(flatten)]
    #[serde(skip)]
    output: Output,
}

/// What is published at once to fill the server's queues, in bytes.
const FILL_MESSAGE: usize = 64 << 10;
/// How long the server has to see who left, and to give back memory.
const SETTLE: Duration = Duration::from_secs(1);
/// Those that never read answer no pings either: any longer, and a server may end them.
const SECONDS_MAX: f64 = 20.0;
const RATE_MAX: f64 = 1e6;

fn parse_seconds(text: &str) -> Result<f64, String> {
    parse_up_to(text, SECONDS_MAX)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    parse_up_to(text, RATE_MAX)
}

fn parse_up_to(text: &str, max: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && number <= max => Ok(number),
        _ => Err(format!("must be above 0 and at most {max}")),
    }
}

fn parse_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size >= STAMP_BYTES => Ok(size),
        _ => Err(format!("must be at least {STAMP_BYTES}: a number and a time")),
    }
}

/// Measures, and writes each line of the result as soon as it is there.
///
/// # Errors
/// Also if a reader did not get each message once and in order.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let server = Server::start(&options.server)?;
    let table = report::table();
    let widths = table.widths();
    options.output.line(table.head())?;
    let summary = measure(options, server.target(), server.pid(), |phase| {
        options.output.line(table.line(&phase.cells(), &widths))
    })?;
    options.output.line("")?;
    let mut report = Report::new("slow", options);
    summary.add_to(&mut report);
    let code = options.output.finish(&report)?;
    let faults = summary.faults();
    if faults.is_none() {
        Ok(code)
    } else {
        Err(format!(
            "of what readers were sent, {} is missing and {} stray",
            faults.missing, faults.stray
        )
        .into())
    }
}

fn measure(
    options: &Options,
    target: &Target,
    server_pid: u32,
    mut on_phase: impl FnMut(&Phase) -> io::Result<()>,
) -> Result<Summary, Box<dyn Error>> {
    let count = options.subscribers.checked_sub(options.never_readers).filter(|count| *count > 0);
    let count = count.ok_or("of the subscribers, some have to read")?;
    let mut readers = Readers::connect(target, count, options.size.max(FILL_MESSAGE))?;
    let mut rounds = Vec::with_capacity(options.rounds);
    for round in 1..=options.rounds {
        let mut measure = |count| {
            let phase = measure_phase(options, target, server_pid, &mut readers, round, count)?;
            on_phase(&phase)?;
            Ok::<_, Box<dyn Error>>(phase)
        };
        rounds.push([measure(0)?, measure(options.never_readers)?]);
    }
    let left_bytes = anonymous_bytes(&server_pid.to_string())?;
    Ok(Summary { rounds, bound_bytes: options.outbox_bytes_max, left_bytes })
}

fn measure_phase(
    options: &Options,
    target: &Target,
    server_pid: u32,
    readers: &mut Readers,
    round: usize,
    never_readers: usize,
) -> Result<Phase, Box<dyn Error>> {
    let silent = connect_never_readers(target, never_readers)?;
    let mut faults = Faults::default();
    for _ in 0..options.fill.div_ceil(FILL_MESSAGE) {
        faults += readers.run(Schedule::once(now()), FILL_MESSAGE, |_, _| ())?.faults;
        if !faults.is_none() {
            // Each would be waited for.
            break;
        }
    }
    let length = Duration::try_from_secs_f64(options.seconds)?;
    let (own, server) = (Meter::of_self()?, Meter::of_server(&[server_pid])?);
    let phase = format!("round {round}, {never_readers} never read");
    let mut progress = Progress::new(phase, "deliveries", length, now());
    let schedule = Schedule::new(now(), options.rate, length);
    let watch = |time, deliveries| progress.set(time, deliveries);
    let delivered = readers.run(schedule, options.size, watch)?;
    drop(progress);
    let (own, server) = (own.stop()?, server.stop()?);
    faults += delivered.faults;
    let server_bytes = anonymous_bytes(&server_pid.to_string())?;
    drop(silent);
    sleep(SETTLE);
    Ok(Phase {
        round,
        never_readers,
        latency: delivered.latency,
        faults,
        server_bytes,
        generator: own.of_core(),
        server: server.of_core(),
        server_thread: server.busiest_of_core(),
    })
}

/// Subscribers whose sockets nobody reads.
fn connect_never_readers(target: &Target, count: usize) -> Result<Vec<TcpStream>, Box<dyn Error>> {
    let mut random = File::open("/dev/urandom")?;
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut nonce = [0; 16];
        random.read_exact(&mut nonce)?;
        streams.push(client::connect(target, &nonce)?);
    }
    Ok(streams)
}

#[cfg(test)]
mod tests;

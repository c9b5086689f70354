//! `quelea-perf echo`: messages that a server sends back, in flight on each connection or at a rate.

mod in_flight;
mod json;
mod measured;
mod mode;
mod payload;
mod search;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use measured::Measured;
pub(crate) use mode::Loop;
pub(crate) use payload::Kind;
pub(crate) use worker::{Command, EchoWorker, Plan};

use crate::{
    fanout::parse_count,
    load::{
        Deflate, DriverKind, LoadDriver, Meter, Outcome, Used,
        processes::{Crew, Share, shares},
    },
    manner::Manner,
    report::{Cell, Report, Table, Unit},
    target::Destination,
};
use clap::Args;
use quelea::driver::Poll;
use search::{Bound, RATE_MAX, Search};
use serde::Serialize;
use std::{process::ExitCode, time::Duration};

#[derive(Args, Serialize)]
#[command(after_help = "Examples:\n  \
    Latency at a rate, with a page of plots; 4711 is the server's process:\n    \
    quelea-perf echo ws://127.0.0.1:9001/ --rate 20000 --server-pid 4711 --html echo.html\n  \
    What a message costs with sixteen in flight on each of 50 connections:\n    \
    quelea-perf echo ws://127.0.0.1:9001/ --depth 16 --server-pid 4711\n  \
    The highest rate at which 99 % of the messages are back within 5 ms:\n    \
    quelea-perf echo ws://127.0.0.1:9001/ --find-max 'p99<5ms'")]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    destination: Destination,
    /// How many connections.
    #[arg(long, default_value_t = 50, value_parser = parse_count)]
    connections: usize,
    /// Messages in flight on each connection: the next is sent when one comes back, so that a server
    /// that stalls is sent less (closed loop). With --rate it is the most that may be in flight, and
    /// what is due beyond that waits [default: 1; with --rate 1024, or
    /// fewer of more than 4096 connections].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    depth: Option<u32>,
    /// Messages a second in all, sent by the clock whatever became of those before (open loop):
    /// latency counts from when each was to be sent.
    #[arg(long, value_parser = parse_rate)]
    rate: Option<f64>,
    /// Searches the highest rate that holds this, such as 'p99<5ms', beginning at --rate. Each step
    /// takes --warm-up and --seconds.
    #[arg(long, value_name = "BOUND")]
    find_max: Option<Bound>,
    /// The payload of a message in bytes, or several, which take turns: 20,1024.
    #[arg(long, value_delimiter = ',', default_values_t = [20], value_parser = parse_size)]
    size: Vec<usize>,
    /// What messages are made of, or several, which take turns: text,binary.
    #[arg(long, visible_alias = "payload", value_delimiter = ',', default_values = ["text"])]
    kind: Vec<Kind>,
    /// In how many fragments each message is sent.
    #[arg(long, default_value_t = 1, value_parser = parse_fragments)]
    fragments: usize,
    /// Sends the payload alone to a TCP server that sends all bytes back, such as `raw-server`: no
    /// handshake and no frames.
    #[arg(long, conflicts_with_all = ["fragments", "offered"])]
    raw: bool,
    #[command(flatten)]
    #[serde(flatten)]
    deflate: Deflate,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 5.0, value_parser = parse_seconds)]
    seconds: f64,
    /// How long it runs before that, in seconds.
    #[arg(long, default_value_t = 1.0, value_parser = parse_warm_up)]
    warm_up: f64,
    /// The server's process id, or several: tells its CPU time a message.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// How many processes send, each on a core if there are as many [default: as many as the
    /// connections need, of which each takes a descriptor].
    #[arg(long, value_parser = parse_count)]
    processes: Option<usize>,
    /// How many connections of a process may be on their way to be open at once.
    #[arg(long, default_value_t = 100, value_parser = parse_count)]
    connecting_max: usize,
    #[command(flatten)]
    #[serde(flatten)]
    manner: Manner,
}

const SECONDS_MAX: f64 = 86_400.0;
/// What one message may be, and all kinds of it together.
const SIZE_MAX: usize = 64 << 20;
const SIZES_SUM_MAX: usize = 256 << 20;
const FRAGMENTS_MAX: usize = 100_000;
/// Where a search begins if nobody says.
const FIRST_RATE: f64 = 1000.0;
/// Enough to send on while a server stalls, and a bound on what that takes: of one connection, and of
/// all.
const OPEN_LOOP_DEPTH: usize = 1024;
const OPEN_LOOP_IN_FLIGHT: usize = 1 << 22;
/// A server that is this far behind the rate does not hold it.
const ACHIEVED_MIN: f64 = 0.98;
/// How often a step of a search is measured again.
const STEP_AGAIN: u32 = 2;

fn parse_number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(format!("must be a number from {least} to {most}")),
    }
}

pub(crate) fn parse_seconds(text: &str) -> Result<f64, String> {
    parse_number(text, 0.01, SECONDS_MAX)
}

pub(crate) fn parse_warm_up(text: &str) -> Result<f64, String> {
    parse_number(text, 0.0, SECONDS_MAX)
}

pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    parse_number(text, 0.001, RATE_MAX)
}

pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size <= SIZE_MAX => Ok(size),
        _ => Err(format!("must be a number of bytes from 0 to {SIZE_MAX}")),
    }
}

pub(crate) fn parse_fragments(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=FRAGMENTS_MAX) => Ok(count),
        _ => Err(format!("must be from 1 to {FRAGMENTS_MAX}")),
    }
}

/// How many messages each of so many connections may have in flight, if nobody says.
pub(crate) fn open_loop_depth(connections: usize) -> u32 {
    (OPEN_LOOP_IN_FLIGHT / connections.max(1)).clamp(1, OPEN_LOOP_DEPTH) as u32
}

pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    let report = match options.manner.driver {
        DriverKind::Poll => run_on::<Poll>(options)?,
        #[cfg(target_os = "linux")]
        DriverKind::Uring => run_on::<quelea::driver::Uring>(options)?,
    };
    options.manner.output.finish(&report)
}

fn run_on<D: LoadDriver>(options: &Options) -> Outcome<Report> {
    let plan = options.plan()?;
    let mut report = Report::new("echo", options);
    report.seed(plan.seed);
    let shares = shares(options.connections, options.processes)?;
    let mut run: Run<'_, D> = Run { options, crew: Crew::start(plan.share(&shares))? };
    run.connect(&shares)?;
    match &options.find_max {
        Some(bound) => run.search(bound, &mut report)?,
        None => {
            let looping = match options.rate {
                Some(per_second) => options.open_loop(per_second),
                None => Loop::Closed { depth: options.depth.unwrap_or(1) },
            };
            let (measured, server) = run.measure(looping)?;
            measured.report(server.as_ref(), &mut report);
            measured.judge(server.as_ref(), &mut report);
            if let Loop::Closed { .. } = looping {
                report.note("closed loop: a stall hides the messages that it held up; see --rate");
            }
        }
    }
    run.crew.call(|_| Command::Close)?;
    Ok(report)
}

impl Options {
    fn open_loop(&self, per_second: f64) -> Loop {
        let depth = self.depth.unwrap_or_else(|| open_loop_depth(self.connections));
        Loop::Open { per_second, depth, together: 1 }
    }

    fn plan(&self) -> Outcome<Plan> {
        let pairs = self.kind.iter().flat_map(|kind| self.size.iter().map(|size| (*kind, *size)));
        let sum: usize = pairs.map(|(kind, size)| kind.variants(size) * size).sum();
        if sum > SIZES_SUM_MAX {
            return Err(format!(
                "--size: all kinds and sizes are {sum} bytes together, at most {SIZES_SUM_MAX}"
            )
            .into());
        }
        if self.raw && self.size.contains(&0) {
            return Err("--size: nothing at all cannot be sent with --raw".into());
        }
        Ok(Plan {
            target: self.destination.target()?.clone(),
            driver: self.manner.driver,
            connecting_max: self.connecting_max,
            sizes: self.size.clone(),
            kinds: self.kind.clone(),
            fragments: self.fragments,
            exchange: None,
            raw: self.raw,
            deflate: self.deflate.clone(),
            seed: self.manner.seed(),
            first_source: 0,
            shown_of: 1,
        })
    }
}

/// Connections that are open.
struct Run<'o, D: LoadDriver> {
    options: &'o Options,
    crew: Crew<EchoWorker<D>>,
}

impl<D: LoadDriver> Run<'_, D> {
    fn connect(&mut self, shares: &[Share]) -> Outcome {
        self.crew.call(|index| Command::Connect(shares[index].connections))?;
        Ok(())
    }

    fn measure(&mut self, looping: Loop) -> Outcome<(Measured, Option<Used>)> {
        let processes = self.crew.len() as f64;
        let share = match looping {
            Loop::Open { per_second, depth, together } => {
                Loop::Open { per_second: per_second / processes, depth, together }
            }
            Loop::Closed { .. } => looping,
        };
        let warm_up = Duration::from_secs_f64(self.options.warm_up);
        let length = Duration::from_secs_f64(self.options.seconds);
        self.crew.call(|_| Command::Begin(share, warm_up))?;
        let pids = &*self.options.server_pid;
        let meter = (!pids.is_empty()).then(|| Meter::of_server(pids)).transpose()?;
        self.crew.call(|_| Command::Measure(length))?;
        let server = meter.map(|meter| meter.stop()).transpose()?;
        let measured = self.crew.call(|_| Command::End)?.into_iter().flatten().collect();
        Ok((Measured::sum(measured)?, server))
    }

    fn search(&mut self, bound: &Bound, report: &mut Report) -> Outcome {
        let columns = [
            ("asked", Some(Unit::PerSecond)),
            ("throughput", Some(Unit::PerSecond)),
            (bound.name(), Some(Unit::Nanoseconds)),
            ("holds", None),
        ];
        let mut table = Table::new("steps", &columns).curve("throughput", bound.name());
        let mut search = Search::new(self.options.rate.unwrap_or(FIRST_RATE));
        let mut best = None;
        let mut generator_fault = None;
        while let Some(per_second) = search.next() {
            let step = self.step(bound, per_second)?;
            let value = bound.value(step.measured.recorder.latency()) as f64;
            eprintln!(
                "{}: {} {}, {}",
                Unit::PerSecond.text(per_second),
                bound.name(),
                Unit::Nanoseconds.text(value),
                step.fault.as_deref().unwrap_or("holds"),
            );
            let cells = [per_second, step.measured.per_second(), value].map(Cell::Number);
            let holds = Cell::Text(step.fault.clone().unwrap_or_else(|| "yes".to_owned()));
            table.row(cells.into_iter().chain([holds]).collect());
            search.tell(per_second, step.fault.is_none());
            let is_lost = step.measured.server_fault().is_some();
            if step.fault.is_none() {
                best = Some(step);
            } else {
                generator_fault = step.is_generators.then_some(step.fault).flatten();
            }
            if is_lost {
                break;
            }
        }
        match (best, search.held()) {
            (Some(Step { measured, server, .. }), Some(rate)) => {
                report.figure("rate_max", &format!("highest with {bound}"), rate, Unit::PerSecond);
                measured.report(server.as_ref(), report);
                if let Some(fault) = measured.generator_fault(server.as_ref()) {
                    report
                        .note(format!("at that rate, {fault}: the server's own latency is lower"));
                }
            }
            _ => drop(report.invalid(format!("no rate was found that has {bound}"))),
        }
        if let Some(fault) = generator_fault {
            report.invalid(format!("what ended the search was not the server: {fault}"));
        }
        report.table(table);
        Ok(())
    }

    /// Measures at one rate. What is too slow because of the generator is measured again.
    fn step(&mut self, bound: &Bound, per_second: f64) -> Outcome<Step> {
        let mut again = STEP_AGAIN;
        loop {
            let (measured, server) = self.measure(self.options.open_loop(per_second))?;
            let fault = if let Some(fault) = measured.server_fault() {
                Some(fault)
            } else if measured.per_second() < per_second * ACHIEVED_MIN {
                Some("too few messages came back in time".to_owned())
            } else {
                // A generator that lags adds to the latency: what holds in spite of it holds.
                (!bound.holds(measured.recorder.latency())).then(|| "too slow".to_owned())
            };
            match (fault, measured.generator_fault(server.as_ref())) {
                (Some(_), Some(_)) if again > 0 => again -= 1,
                (Some(_), fault @ Some(_)) => {
                    return Ok(Step { measured, server, fault, is_generators: true });
                }
                (fault, _) => return Ok(Step { measured, server, fault, is_generators: false }),
            }
        }
    }
}

/// One step of a search.
struct Step {
    measured: Measured,
    server: Option<Used>,
    /// Why it does not hold.
    fault: Option<String>,
    is_generators: bool,
}

//! `quelea-perf kill`: connections that do anything and end anyhow, so many a second.

#[cfg(test)]
mod tests;
mod way;

use crate::{
    clock,
    echo::{parse_rate, parse_seconds},
    fanout::parse_count,
    progress::Progress,
    report::{Output, Report, Unit},
    target::{Destination, Target},
};
use clap::Args;
use fastrand::Rng;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, ErrorKind},
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};
use way::{End, Way, act, connect, echo, end, open};

#[derive(Args, Serialize)]
#[command(after_help = "Example: two minutes of it\n  \
                        quelea-perf kill ws://127.0.0.1:9001/ --seconds 120")]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    destination: Destination,
    /// Connections that begin in a second, by the clock.
    #[arg(long, default_value_t = 1000.0, value_parser = parse_rate)]
    rate: f64,
    /// How long.
    #[arg(long, default_value_t = 10.0, value_parser = parse_seconds)]
    seconds: f64,
    /// The most at a time: what is due beyond that waits.
    #[arg(long, default_value_t = 200, value_parser = parse_count)]
    in_progress: usize,
    /// Makes what the connections do the same as in another run.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    #[serde(skip)]
    output: Output,
}

/// Threads, one for each that is in progress: more would be held up by each other.
const IN_PROGRESS_MAX: usize = 1000;
/// Connections that keep all rules meanwhile, and how often each has a message echoed.
const CALM: usize = 4;
const CALM_INTERVAL: Duration = Duration::from_millis(20);
const CALM_BYTES_MAX: usize = 20_000;
/// One that begins later than this was held up.
const LATE: Duration = Duration::from_millis(100);

pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    options.output.refuse_hgrm("kill")?;
    let report = measure(options)?;
    options.output.finish(&report)
}

/// What came of them.
#[derive(Default)]
struct Counts {
    ways: BTreeMap<String, u64>,
    ends: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    /// Those that could not connect or open, or had something else echoed than they sent.
    failures: BTreeMap<String, u64>,
    late: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        let sums = [
            (&mut self.ways, other.ways),
            (&mut self.ends, other.ends),
            (&mut self.errors, other.errors),
            (&mut self.failures, other.failures),
        ];
        for (sum, counts) in sums {
            for (name, count) in counts {
                *sum.entry(name).or_default() += count;
            }
        }
        self.late += other.late;
    }
}

/// All that the threads share.
struct Plan<'p> {
    target: &'p Target,
    seed: u64,
    rate: f64,
    count: u64,
    start: Instant,
    next: AtomicU64,
    is_over: AtomicBool,
}

fn measure(options: &Options) -> Result<Report, Box<dyn Error>> {
    if options.in_progress > IN_PROGRESS_MAX {
        return Err(format!("--in-progress may be {IN_PROGRESS_MAX} at most").into());
    }
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut report = Report::new("kill", options);
    report.seed(seed);
    let plan = Plan {
        target: options.destination.target()?,
        seed,
        rate: options.rate,
        count: (options.rate * options.seconds).ceil() as u64,
        start: clock::now(),
        next: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    let mut calm = Vec::new();
    for number in 0..CALM {
        let mut rng = Rng::with_seed(!seed ^ number as u64);
        let mut stream = connect(plan.target, &mut rng)?;
        open(plan.target, &mut stream)?;
        calm.push((stream, rng));
    }
    let (counts, echoes) = thread::scope(|scope| {
        let echoes = scope.spawn(|| keep_calm(calm, &plan));
        let threads: Vec<_> =
            (0..options.in_progress).map(|_| scope.spawn(|| kill(&plan))).collect();
        let length = Duration::from_secs_f64(options.seconds);
        let mut progress = Progress::new("kill", "connections", length, clock::now());
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(Duration::from_millis(10));
            progress.set(clock::now(), plan.next.load(Ordering::Relaxed).min(plan.count));
        }
        let mut counts = Counts::default();
        for thread in threads {
            counts.add(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        plan.is_over.store(true, Ordering::Relaxed);
        let echoes = echoes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (counts, echoes)
    });
    let length = (clock::now() - plan.start).as_secs_f64();
    let begun = plan.count as f64;
    report.figure("connections", "connections", begun, Unit::Count);
    report.figure("connections_per_second", "connections", begun / length, Unit::PerSecond);
    match echoes {
        Ok(echoes) => {
            let label = "echoes of those that keep the rules";
            report.figure("calm_echoes", label, echoes as f64, Unit::Count);
        }
        Err(error) => {
            report.invalid(format!("a connection that keeps the rules failed: {error}"));
        }
    }
    report.counts("ways", "what they did", counts.ways);
    report.counts("ends", "how they ended", counts.ends);
    report.counts("errors", "ended by the server meanwhile", counts.errors);
    let failures: u64 = counts.failures.values().sum();
    report.counts("failures", "failures", counts.failures);
    if failures > 0 {
        report.invalid(format!("{failures} could not connect or open, or had no echo"));
    }
    if counts.late > 0 {
        report.note(format!(
            "{} connections began more than {} ms late: all that may be in progress were",
            counts.late,
            LATE.as_millis()
        ));
    }
    Ok(report)
}

/// One connection after the other, each when it is due.
fn kill(plan: &Plan<'_>) -> Counts {
    let mut counts = Counts::default();
    loop {
        let number = plan.next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.count {
            return counts;
        }
        let due = plan.start + Duration::from_secs_f64(number as f64 / plan.rate);
        thread::sleep(due.saturating_duration_since(clock::now()));
        counts.late += u64::from(clock::now() > due + LATE);
        // By its number, whichever thread it is on.
        let mut rng = Rng::with_seed(plan.seed.wrapping_add(number));
        let way = Way::ALL[rng.usize(..Way::ALL.len())];
        let how = End::ALL[rng.usize(..End::ALL.len())];
        *counts.ways.entry(way.name().to_owned()).or_default() += 1;
        *counts.ends.entry(how.name().to_owned()).or_default() += 1;
        let result =
            connect(plan.target, &mut rng).map_err(Fault::Failure).and_then(|mut stream| {
                // Nobody has broken a rule so far.
                if way.opens() {
                    open(plan.target, &mut stream).map_err(Fault::Failure)?;
                }
                let acted = act(way, plan.target, &mut stream, &mut rng);
                let ended = end(how, stream);
                match acted {
                    // It may not like what it got, but nobody has broken a rule here.
                    Err(error) if way == Way::Echo => Err(Fault::Failure(error)),
                    acted => acted.and(ended).map_err(Fault::from),
                }
            });
        match result {
            Ok(()) => {}
            Err(Fault::Ended(kind)) => *counts.errors.entry(kind).or_default() += 1,
            Err(Fault::Failure(error)) => {
                *counts.failures.entry(format!("{}: {error}", way.name())).or_default() += 1;
            }
        }
    }
}

enum Fault {
    /// The server ended the connection, which it may.
    Ended(String),
    Failure(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
            | ErrorKind::WouldBlock => Self::Ended(error.kind().to_string()),
            _ => Self::Failure(error),
        }
    }
}

/// Has messages echoed until it is over: how many.
fn keep_calm(mut streams: Vec<(std::net::TcpStream, Rng)>, plan: &Plan<'_>) -> io::Result<u64> {
    let mut echoes = 0;
    while !plan.is_over.load(Ordering::Relaxed) {
        for (stream, rng) in &mut streams {
            let payload = vec![rng.u8(..); rng.usize(..CALM_BYTES_MAX)];
            echo(stream, &payload)?;
            echoes += 1;
        }
        thread::sleep(CALM_INTERVAL);
    }
    Ok(echoes)
}

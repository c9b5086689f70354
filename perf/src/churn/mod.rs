//! `quelea-perf churn`: connections that open and end all the time.

mod mode;
#[cfg(test)]
mod tests;

use crate::{
    clock,
    echo::{parse_rate, parse_seconds, parse_size, parse_warm_up},
    fanout::parse_count,
    load::{
        Deflate, DriverKind, Engine, Labels, LoadDriver, Meter, Outcome, Settings, judge, processes,
    },
    manner::Manner,
    progress::Progress,
    report::{Report, Unit},
    target::Destination,
};
use clap::{Args, ValueEnum};
use mode::{Churn, Pace};
use quelea::driver::Poll;
use quelea_core::MessageKind;
use serde::Serialize;
use std::{process::ExitCode, time::Duration};

#[derive(Args, Serialize)]
#[command(after_help = "Example: what a connection costs the server of process 4711\n  \
                        quelea-perf churn ws://127.0.0.1:9001/ --seconds 10 --server-pid 4711")]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    destination: Destination,
    /// Connections that are to begin in a second, by the clock (open loop): the time that each takes
    /// counts from when it was to begin.
    #[arg(long, value_parser = parse_rate)]
    rate: Option<f64>,
    /// How many are opening, open or ending at any time: when one has ended, the next begins (closed
    /// loop). With --rate it is the most that may be, and what is due beyond that waits [default: 64,
    /// and 900 with --rate].
    #[arg(long, value_parser = parse_count)]
    in_progress: Option<usize>,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0, value_parser = parse_seconds)]
    seconds: f64,
    /// How long it runs before that.
    #[arg(long, default_value_t = 1.0, value_parser = parse_warm_up)]
    warm_up: f64,
    /// Messages that each connection sends before it ends. It waits for as many to come: the server
    /// has to answer each, as an echo server does.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    messages: u32,
    /// The payload of such a message, in bytes.
    #[arg(long, default_value_t = 20, value_parser = parse_size)]
    size: usize,
    /// How connections end.
    #[arg(long, value_enum, default_value_t = How::Clean)]
    how: How,
    /// How long the server has to accept, to answer a handshake, a message or a close frame, in
    /// seconds.
    #[arg(long, default_value_t = 10.0, value_parser = parse_seconds)]
    patience: f64,
    /// The server's process id, or several: tells its CPU time a connection.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    server_pid: Vec<u32>,
    #[command(flatten)]
    #[serde(flatten)]
    deflate: Deflate,
    #[command(flatten)]
    #[serde(flatten)]
    manner: Manner,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum How {
    /// With a closing handshake.
    Clean,
    /// The generator closes the TCP connection and sends no close frame.
    Fin,
    /// The generator resets the TCP connection.
    Reset,
}

/// How many are in progress if nobody says: in a closed loop, and at most with a rate. The usual limit
/// of descriptors is 1024.
const IN_PROGRESS: usize = 64;
const IN_PROGRESS_MAX: usize = 900;
/// What the messages of one connection may be together.
const SENT_BYTES_MAX: usize = 1 << 24;
/// How many source addresses the first one is drawn from: a run does not begin with ports that the
/// one before it has left in TIME_WAIT.
const FIRST_SOURCES: u64 = 60_000;
/// Of those that were to begin, this share may begin late by the generator's fault.
const LATE_SHARE_MAX: f64 = 0.01;
/// And this one may never begin.
const UNBEGUN_SHARE_MAX: f64 = 0.01;
/// So many may fail: what a server refuses costs it less than what it serves.
const FAILED_SHARE_MAX: f64 = 0.001;
const LABELS: Labels = Labels {
    intended: "time to open from the intended time",
    sent: "time to open from the actual start",
    closed: "time to open",
    counted: "connections opened",
};

pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    let report = match options.manner.driver {
        DriverKind::Poll => measure::<Poll>(options)?,
        #[cfg(target_os = "linux")]
        DriverKind::Uring => measure::<quelea::driver::Uring>(options)?,
    };
    options.manner.output.finish(&report)
}

fn measure<D: LoadDriver>(options: &Options) -> Outcome<Report> {
    let pace = match options.rate {
        Some(per_second) => {
            let in_progress_max = options.in_progress.unwrap_or(IN_PROGRESS_MAX);
            Pace::Open { per_second, in_progress_max }
        }
        None => Pace::Closed { in_progress: options.in_progress.unwrap_or(IN_PROGRESS) },
    };
    processes::check_one(pace.in_progress_max())?;
    if options.size.saturating_mul(options.messages as usize) > SENT_BYTES_MAX {
        let error = format!("at most {SENT_BYTES_MAX} bytes on each connection");
        return Err(format!("--messages and --size: {error}").into());
    }
    let seed = options.manner.seed();
    let mut report = Report::new("churn", options);
    report.seed(seed);
    let patience = Duration::try_from_secs_f64(options.patience)?;
    let settings = Settings {
        connecting_max: pace.in_progress_max(),
        patience,
        deflate: options.deflate.clone(),
        ping_every: None,
        first_source: 1 + seed % FIRST_SOURCES,
        abort_by_reset: options.how == How::Reset,
        ..Settings::new(options.destination.target()?.clone(), seed)
    };
    let mut engine = Engine::new(D::start()?, settings);
    let payload: Vec<u8> = (b'a'..=b'z').cycle().take(options.size).collect();
    let frame = engine.clients().prepare(MessageKind::Text, &payload, 1);
    let start = engine.now();
    let mut churn = Churn::new(options.how, pace, frame, options.messages, patience, start);

    let warm_up = Duration::try_from_secs_f64(options.warm_up)?;
    engine.run(&mut churn, start + warm_up, |_, _| false)?;
    let pids = &*options.server_pid;
    let server = (!pids.is_empty()).then(|| Meter::of_server(pids)).transpose()?;
    let own = Meter::of_self()?;
    let begun = engine.now();
    churn.measure(begun);
    engine.clients().reset_stats();
    let length = Duration::try_from_secs_f64(options.seconds)?;
    let mut progress = Progress::new("churn", "connections", length, clock::now());
    engine.run(&mut churn, begun + length, |churn, _| {
        progress.set(clock::now(), churn.counts.opened);
        false
    })?;
    let own = own.stop()?;
    let server = server.map(|meter| meter.stop()).transpose()?;
    drop(progress);
    let mut recorder = churn.recorder.clone();
    let counts = churn.counts.clone();
    let stats = engine.clients().stats().clone();
    let unbegun = churn.unbegun(engine.now());
    churn.stop();
    let end = engine.now() + patience + Duration::from_secs(1);
    engine.run(&mut churn, end, |churn, _| churn.in_progress() == 0)?;
    if options.rate.is_some() {
        // What a stall at the end held up counts as well.
        recorder = churn.recorder.clone();
    }
    // Those that were in progress had time to open, and to end.
    let failures = churn.counts.failures();

    let opened = counts.opened as f64;
    let per_second = opened / own.length.as_secs_f64();
    report.figure("connections", "connections opened", opened, Unit::Count);
    report.figure("connections_per_second", "connections", per_second, Unit::PerSecond);
    let mut cpu = |name, label, time: Duration| {
        let each = time.as_nanos() as f64 / opened;
        report.figure(name, label, each, Unit::NanosecondsPerHandshake);
    };
    if let Some(server) = &server {
        cpu("server_cpu_ns_per_handshake", "server CPU", server.cpu);
    }
    cpu("generator_cpu_ns_per_handshake", "generator CPU", own.cpu);
    recorder.report_as(&LABELS, own.length, &mut report);
    report.histogram("connect", "connect", &stats.connect);
    report.histogram("upgrade", "upgrade", &stats.upgrade);
    stats.report_deflate(&mut report);
    report.counts("closes", "closing handshakes", stats.closes);
    report.counts("aborts", "ended without one by the generator", counts.aborts());
    report.counts("errors", "errors", stats.errors);
    if options.rate.is_none() {
        report.note("closed loop: a stall of the server hides the connections that it held up");
    }
    report.note("CPU a handshake is that of a whole connection: its opening and its end");
    if let Some(fault) = judge(&[own], server.as_ref()) {
        report.invalid(fault);
    }
    let late = counts.late as f64 / counts.begun.max(1) as f64;
    if late > LATE_SHARE_MAX {
        report.invalid(format!(
            "the generator began {:.1} % of the connections more than 1 ms late: it lagged behind",
            late * 100.0
        ));
    }
    let begun = counts.begun as f64;
    if failures as f64 > FAILED_SHARE_MAX * begun {
        report.invalid(format!(
            "{failures} of {begun} connections did not open, were not answered, or were ended by the server"
        ));
    }
    if unbegun as f64 > UNBEGUN_SHARE_MAX * begun {
        report.invalid(format!(
            "the server did not keep up with the rate: {unbegun} connections were due and never begun, as it had as \
             many in progress as --in-progress allows, so times are longer than they seem"
        ));
    }
    if counts.opened == 0 {
        report.invalid("no connection opened while it was measured");
    }
    Ok(report)
}

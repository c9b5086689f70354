//! `quelea-perf echo`: messages that a server sends back, in flight on each connection or at a rate.

mod in_flight;
mod mode;
mod payload;

use crate::{
    cpu,
    load::{DriverKind, Engine, Outcome, Settings},
    report::{Output, Report, Unit},
    target::Target,
};
use clap::Args;
use mode::{Echo, Loop};
use payload::Kind;
use quelea::driver::{Driver, Poll};
use serde::Serialize;
use std::{process::ExitCode, time::Duration};

#[derive(Args, Serialize)]
pub(crate) struct Options {
    /// The server, such as ws://127.0.0.1:9001/.
    #[serde(skip)]
    target: Target,
    /// How many connections.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Messages in flight on each connection (closed loop): the next is sent when one comes back.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    depth: u32,
    /// Messages a second in all, sent by the clock whatever became of those before (open loop):
    /// latency counts from when each was to be sent.
    #[arg(long, conflicts_with = "depth")]
    rate: Option<f64>,
    /// The payload of a message in bytes, or several, which take turns.
    #[arg(long, value_delimiter = ',', default_values_t = [20])]
    size: Vec<usize>,
    /// What messages are made of, or several, which take turns.
    #[arg(long, value_delimiter = ',', default_values = ["text"])]
    kind: Vec<Kind>,
    /// In how many fragments each message is sent.
    #[arg(long, default_value_t = 1)]
    fragments: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long it runs before that.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// The server's process id: tells its CPU time a message.
    #[arg(long)]
    server_pid: Option<u32>,
    /// How to speak to the kernel.
    #[arg(long, value_enum, default_value_t = DriverKind::Poll)]
    driver: DriverKind,
    #[command(flatten)]
    #[serde(skip)]
    output: Output,
}

/// How long after the last second what is in flight may take.
const DRAIN: Duration = Duration::from_secs(10);

pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    let report = match options.driver {
        DriverKind::Poll => measure(options, Poll::precise()?)?,
    };
    options.output.finish(&report)
}

fn measure<D: Driver>(options: &Options, driver: D) -> Outcome<Report> {
    let seed = fastrand::u64(..);
    let mut report = Report::new("echo", options);
    report.seed(seed);
    let longest = options.size.iter().copied().max().unwrap_or(0);
    let settings =
        Settings { message_bytes_max: longest, ..Settings::new(options.target.clone(), seed) };
    let mut engine = Engine::new(driver, settings);
    let mut frames = Vec::new();
    for kind in &options.kind {
        for size in &options.size {
            let payload = kind.payload(*size);
            frames.push(engine.clients().prepare(kind.message(), &payload, options.fragments));
        }
    }
    let looping = match options.rate {
        Some(per_second) => Loop::Open { per_second },
        None => Loop::Closed { depth: options.depth },
    };
    let mut echo = Echo::new(frames, looping);
    engine.connect(&mut echo, options.connections)?;

    let start = engine.now();
    echo.start(engine.clients(), start)?;
    engine.run(&mut echo, start + Duration::try_from_secs_f64(options.warm_up)?, |_, _| false)?;
    engine.clients().restart_stats();
    let begun = engine.now();
    echo.measure(begun);
    let server = options.server_pid.map(|pid| pid.to_string());
    let server_time = || server.as_deref().map(cpu::time).transpose();
    let (own_before, server_before) = (cpu::time("self")?, server_time()?);
    let length = Duration::try_from_secs_f64(options.seconds)?;
    engine.run(&mut echo, begun + length, |_, _| false)?;
    let (own_after, server_after) = (cpu::time("self")?, server_time()?);
    let ended = engine.now();
    let messages = echo.recorder.messages();
    echo.stop();
    engine.run(&mut echo, ended + DRAIN, |echo, _| echo.in_flight == 0)?;

    let elapsed = Duration::from_nanos(ended.since(begun));
    let each = |time: Duration| time.as_nanos() as f64 / messages.max(1) as f64;
    report
        .figure("messages", "messages", messages as f64, Unit::Count)
        .figure(
            "messages_per_second",
            "messages",
            messages as f64 / elapsed.as_secs_f64(),
            Unit::PerSecond,
        )
        .figure(
            "generator_cpu_ns_per_message",
            "generator CPU",
            each(own_after.saturating_sub(own_before)),
            Unit::NanosecondsPerMessage,
        );
    if let Some((after, before)) = server_after.zip(server_before) {
        report.figure(
            "server_cpu_ns_per_message",
            "server CPU",
            each(after.saturating_sub(before)),
            Unit::NanosecondsPerMessage,
        );
    }
    echo.recorder.report(elapsed, &mut report);
    let stats = engine.clients().stats();
    report.histogram("connect", "connect", &stats.connect);
    report.histogram("upgrade", "upgrade", &stats.upgrade);
    report.histogram("heartbeat", "heartbeat", &stats.heartbeat);
    report.counts("closes", "closes", stats.closes.clone());
    report.counts("errors", "errors", stats.errors.clone());
    if let Loop::Closed { .. } = looping {
        report.note("closed loop: a stall of the server hides the messages it held up");
    }
    Ok(report)
}

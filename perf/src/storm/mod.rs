//! `quelea-perf storm`: all connections are dropped at once, and come back.

mod mode;
mod seats;
#[cfg(test)]
mod tests;

use crate::{
    clock,
    echo::{parse_rate, parse_seconds, parse_warm_up},
    fanout::parse_count,
    load::{DriverKind, Engine, LoadDriver, Meter, Outcome, Settings, Time, judge, processes},
    manner::Manner,
    progress::Progress,
    report::{Report, Series, Unit},
    subject::Subject,
};
use clap::{Args, ValueEnum};
use mode::{Plan, Storm};
use quelea::driver::Poll;
use seats::BackOff;
use serde::Serialize;
use std::{process::ExitCode, time::Duration};

#[derive(Args, Serialize)]
#[command(after_help = "Examples:\n  \
    5000 connections are reset at once, 20 others stay and see what that does to them:\n    \
    quelea-perf storm ws://127.0.0.1:9001/ --connections 5000 --staying 20\n  \
    The server is killed and started again:\n    \
    quelea-perf storm --server 'target/release/echo --listen {address}' --how restart")]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    subject: Subject,
    /// How many connections are dropped.
    #[arg(long, default_value_t = 1000, value_parser = parse_count)]
    connections: usize,
    /// How they are dropped. With `restart` the server of --server is killed and started again.
    #[arg(long, value_enum, default_value_t = How::Reset)]
    how: How,
    /// How many other connections stay, and have messages echoed all the time. The server has to send
    /// each back, but may send it to others too [default: 10, and none with --how restart].
    #[arg(long)]
    staying: Option<usize>,
    /// Messages a second of those that stay, in all, by the clock (open loop).
    #[arg(long, default_value_t = 200.0, value_parser = parse_rate)]
    rate: f64,
    /// How long all is calm before the storm, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    before: f64,
    /// How long all may take to be back, in seconds.
    #[arg(long, default_value_t = 60.0, value_parser = parse_seconds)]
    timeout: f64,
    /// How long the server has to accept a connection, and to answer its handshake, in seconds.
    #[arg(long, default_value_t = 10.0, value_parser = parse_seconds)]
    patience: f64,
    /// How many may be on their way to be open at once.
    #[arg(long, default_value_t = 1000, value_parser = parse_count)]
    connecting_max: usize,
    /// A client that was refused waits up to this long, in seconds, and twice as long after each
    /// further time, by chance in between; at least what the server says in Retry-After.
    #[arg(long, default_value_t = 0.1, value_parser = parse_seconds)]
    back_off: f64,
    /// Beyond this, in seconds, that wait does not grow.
    #[arg(long, default_value_t = 10.0, value_parser = parse_warm_up)]
    back_off_max: f64,
    #[command(flatten)]
    #[serde(flatten)]
    manner: Manner,
}

/// How connections are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum How {
    /// The generator resets each.
    Reset,
    /// The generator closes each, and sends no close frame.
    Fin,
    /// The server is killed.
    Restart,
}

/// Those that stay, if nobody says how many.
const STAYING: usize = 10;
/// How long the last echoes may take.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the closing handshakes may take at the end.
const CLOSE: Duration = Duration::from_secs(5);
/// Of what those that stay were to send, this share may be late by the generator's fault.
const LATE_SHARE_MAX: f64 = 0.01;
/// And so many may never be sent.
const UNSENT_SHARE_MAX: f64 = 0.01;

pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    let report = match options.manner.driver {
        DriverKind::Poll => measure::<Poll>(options)?,
        #[cfg(target_os = "linux")]
        DriverKind::Uring => measure::<quelea::driver::Uring>(options)?,
    };
    options.manner.output.finish(&report)
}

impl Options {
    fn staying(&self) -> Outcome<usize> {
        if self.how != How::Restart {
            return Ok(self.staying.unwrap_or(STAYING));
        }
        if !self.subject.is_started_here() {
            return Err("--how restart: needs --server, which says how to start it".into());
        }
        match self.staying {
            None | Some(0) => Ok(0),
            Some(_) => Err("--staying: when the server is restarted, nobody stays".into()),
        }
    }
}

fn measure<D: LoadDriver>(options: &Options) -> Outcome<Report> {
    let staying = options.staying()?;
    processes::check_one(options.connections.saturating_add(staying))?;
    let seed = options.manner.seed();
    let mut report = Report::new("storm", options);
    report.seed(seed);
    let mut server = options.subject.start()?;
    let settings = Settings {
        connecting_max: options.connecting_max,
        patience: Duration::from_secs_f64(options.patience),
        abort_by_reset: options.how == How::Reset,
        ping_every: None,
        ..Settings::new(server.target.clone(), seed)
    };
    let mut engine = Engine::new(D::start()?, settings);
    let back_off = BackOff {
        first: Duration::from_secs_f64(options.back_off),
        most: Duration::from_secs_f64(options.back_off_max),
    };
    let plan = Plan { connections: options.connections, staying, rate: options.rate, back_off };
    let mut storm = Storm::new(plan, seed as u32);
    let timeout = Duration::from_secs_f64(options.timeout);

    storm.connect(engine.clients());
    let total = (options.connections + staying) as u64;
    let mut progress = Progress::new("connect", "connections", total, clock::now());
    let end = engine.now() + timeout;
    let is_ready = engine.run(&mut storm, end, |storm, clients| {
        progress.set(clock::now(), clients.open() as u64);
        storm.is_whole()
    })?;
    drop(progress);
    if !is_ready {
        let open = engine.clients().open();
        return Err(format!("{open} of {total} connections opened within --timeout").into());
    }
    storm.start(engine.now());
    let end = engine.now() + Duration::from_secs_f64(options.before);
    engine.run(&mut storm, end, |_, _| false)?;

    engine.clients().reset_stats();
    let own = Meter::of_self()?;
    let begun = engine.now();
    storm.begin(begun);
    let meter = if options.how == How::Restart {
        server.restart()?;
        server.meter()?
    } else {
        let meter = server.meter()?;
        storm.drop_all();
        meter
    };
    let total = options.connections as u64;
    let mut progress = Progress::new("storm", "back", total, clock::now());
    let is_over = engine.run(&mut storm, begun + timeout, |storm, _| {
        progress.set(clock::now(), storm.seats.back() as u64);
        storm.is_back()
    })?;
    drop(progress);
    let own = own.stop()?;
    let used = meter.map(|meter| meter.stop()).transpose()?;
    let (stats, open) = (engine.clients().stats().clone(), storm.seats.open());
    storm.stop(engine.now());
    let end = engine.now() + DRAIN;
    engine.run(&mut storm, end, |storm, _| storm.in_flight() == 0)?;
    let missing = storm.in_flight();
    storm.close(engine.clients());
    let end = engine.now() + CLOSE;
    engine.run(&mut storm, end, |_, clients| clients.open() == 0)?;

    storm_figures(&storm, begun, &mut report);
    let back = storm.seats.back() as f64;
    if let Some(used) = &used {
        let each = used.cpu.as_nanos() as f64 / back;
        let (label, unit) = ("server CPU", Unit::NanosecondsPerHandshake);
        report.figure("server_cpu_ns_per_handshake", label, each, unit);
    }
    let each = own.cpu.as_nanos() as f64 / back;
    let (label, unit) = ("generator CPU", Unit::NanosecondsPerHandshake);
    report.figure("generator_cpu_ns_per_handshake", label, each, unit);
    report.histogram("connect", "connect", &stats.connect);
    report.histogram("upgrade", "upgrade", &stats.upgrade);
    report.counts("refused", "refused by status", storm.counts.refused.clone());
    report.counts("closes", "closes", stats.closes);
    report.counts("errors", "errors", stats.errors);
    report.note("CPU a handshake is that of the whole storm, for each that came back");
    if let Some(fault) = judge(&[own], used.as_ref()) {
        report.invalid(fault);
    }
    let late = storm.late_before.max(storm.counts.late_share());
    if late > LATE_SHARE_MAX {
        report.invalid(format!(
            "the generator lagged behind its schedule: before the storm or in it, it sent {:.1} % of the \
             messages of those that stayed more than 1 ms late",
            late * 100.0
        ));
    }
    if !is_over {
        let all = options.connections;
        report.invalid(format!("{open} of {all} connections were back within --timeout"));
    }
    if storm.counts.staying_ended > 0 {
        let count = storm.counts.staying_ended;
        report.invalid(format!("{count} of those that were to stay were gone before the end"));
    }
    let counts = &storm.counts;
    if counts.unsent as f64 > UNSENT_SHARE_MAX * counts.sent as f64 {
        report.invalid(format!(
            "the server did not keep up with the rate: {} messages of those that stayed were due and never sent",
            counts.unsent
        ));
    }
    if missing > 0 {
        report.invalid(format!("{missing} messages of those that stayed did not come back"));
    }
    Ok(report)
}

/// How it went, as time goes by.
fn storm_figures(storm: &Storm, begun: Time, report: &mut Report) {
    let seats = &storm.seats;
    let seconds = |time: Time| time.since(begun) as f64 / 1e9;
    report.figure("connections", "connections dropped", seats.len() as f64, Unit::Count);
    report.figure("back", "came back", seats.back() as f64, Unit::Count);
    for (name, label, share) in [
        ("back_50_seconds", "until 50 % were back", 0.5),
        ("back_90_seconds", "until 90 % were back", 0.9),
        ("back_99_seconds", "until 99 % were back", 0.99),
        ("back_100_seconds", "until all were back", 1.0),
    ] {
        let value = seats.time_until(share).map_or(f64::NAN, seconds);
        report.figure(name, label, value, Unit::Seconds);
    }
    let attempts = storm.counts.attempts as f64;
    report.figure("attempts", "attempts to connect", attempts, Unit::Count);
    let lost = storm.counts.lost_again as f64;
    report.figure("lost_again", "were back, and gone again", lost, Unit::Count);
    let times = seats.times().map(|time| time.since(begun));
    let mut histogram = crate::load::nanos_histogram();
    times.for_each(|nanos| histogram.saturating_record(nanos));
    report.histogram("back", "time until a client was back", &histogram);
    if storm.has_staying() {
        let label = "echo of those that stay, before";
        report.histogram("latency_before", label, &storm.before);
        report.histogram("latency_during", "the same during the storm", &storm.during);
    }
    let points = seats.points().map(|(time, count)| (seconds(time), count)).collect();
    report.series(Series::over_time("back", "connections that are back", Unit::Count, points));
}

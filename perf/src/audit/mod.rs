//! `quelea-perf audit`: whether each message comes once, in order and unchanged.

mod faults;
mod mode;
#[cfg(test)]
mod tests;

use crate::{
    clock,
    echo::{parse_rate, parse_seconds, parse_warm_up},
    fanout::parse_count,
    load::{DriverKind, Engine, LoadDriver, Meter, Outcome, Settings, Time, processes},
    manner::Manner,
    progress::Progress,
    report::{Cell, Report, Table, Unit},
    rooms::{join::Protocol, parse_payload_size},
    stamp::PAYLOAD_BYTES_MAX,
    subject::Subject,
};
use clap::{Args, ValueEnum};
use faults::{Fault, Plan as FaultPlan};
use mode::{Audit, Plan};
use quelea::driver::Poll;
use quelea_core::Limits;
use serde::Serialize;
use std::{process::ExitCode, time::Duration};

#[derive(Args, Serialize)]
#[command(
    after_help = "Ends with status 1 if anything was lost, came again, out of order, changed, or to \
    the wrong one.\n\nExamples:\n  \
    An echo server, while other clients reset and stall:\n    \
    quelea-perf audit ws://127.0.0.1:9001/ --faults resets,stalls\n  \
    A server that sends each message to all:\n    \
    quelea-perf audit --server 'target/release/broadcast --listen {address}' --server-does broadcast"
)]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    subject: Subject,
    /// What the server does with a message.
    #[arg(long, value_enum, default_value_t = Kind::Echo)]
    server_does: Kind,
    /// How many connections are audited.
    #[arg(long, default_value_t = 10, value_parser = parse_count)]
    connections: usize,
    /// How many of them publish, with --server-does broadcast.
    #[arg(long, default_value_t = 3, value_parser = parse_count)]
    publishers: usize,
    /// The server does not send a message to the one that it came from.
    #[arg(long)]
    others_only: bool,
    /// Messages a second of all that send.
    #[arg(long, default_value_t = 1000.0, value_parser = parse_rate)]
    rate: f64,
    /// The payload of a message in bytes, or several, which take turns.
    #[arg(long, value_delimiter = ',', default_values_t = [100], value_parser = parse_payload_size)]
    size: Vec<usize>,
    #[command(flatten)]
    #[serde(flatten)]
    protocol: Protocol,
    /// What other clients do meanwhile: they reset their connections and come back, or read nothing for
    /// a while. What these miss does not count.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// How many other clients do that.
    #[arg(long, default_value_t = 3, requires = "faults", value_parser = parse_count)]
    faulty: usize,
    /// Seconds between two faults of one of them, on the average.
    #[arg(long, default_value_t = 0.5, requires = "faults", value_parser = parse_seconds)]
    fault_every: f64,
    /// The longest stall, in seconds.
    #[arg(long, default_value_t = 1.0, requires = "faults", value_parser = parse_seconds)]
    stall_max: f64,
    /// How long messages are sent, in seconds.
    #[arg(long, default_value_t = 5.0, value_parser = parse_seconds)]
    seconds: f64,
    /// How long nothing is sent before, in seconds, so that all have joined.
    #[arg(long, default_value_t = 0.5, value_parser = parse_warm_up)]
    settle: f64,
    #[command(flatten)]
    #[serde(flatten)]
    manner: Manner,
}

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// It sends each back.
    Echo,
    /// It sends each to all.
    Broadcast,
}

/// How many streams of messages are followed: one for each that sends and each that receives.
const STREAMS_MAX: usize = 10_000_000;
/// How long the last messages may take, and how long none may come until they are taken for lost.
const DRAIN: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the closing handshakes may take at the end.
const CLOSE: Duration = Duration::from_secs(5);
/// Streams that are told of in the result.
const ROWS_MAX: usize = 20;

pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    let (report, is_clean) = match options.manner.driver {
        DriverKind::Poll => audit::<Poll>(options)?,
        #[cfg(target_os = "linux")]
        DriverKind::Uring => audit::<quelea::driver::Uring>(options)?,
    };
    let code = options.manner.output.finish(&report)?;
    Ok(if is_clean { code } else { ExitCode::FAILURE })
}

impl Options {
    fn plan(&self) -> Outcome<Plan<'_>> {
        let (kind, connections) = (self.server_does, self.connections);
        let publishers = match kind {
            Kind::Echo => connections,
            Kind::Broadcast if self.publishers <= connections => self.publishers,
            Kind::Broadcast => return Err("--publishers: more than --connections".into()),
        };
        let streams = match kind {
            Kind::Echo => connections,
            Kind::Broadcast => connections.saturating_mul(publishers),
        };
        if streams > STREAMS_MAX {
            let error = format!("{streams} streams of messages, at most {STREAMS_MAX}");
            return Err(format!("--connections and --publishers: {error}").into());
        }
        if self.others_only && (kind == Kind::Echo || connections == 1) {
            return Err("--others-only: nobody is left to send a message to".into());
        }
        let faulty = if self.faults.is_empty() { 0 } else { self.faulty };
        processes::check_one(connections.saturating_add(faulty))?;
        let faults = FaultPlan {
            kinds: self.faults.clone(),
            clients: faulty,
            every: Duration::from_secs_f64(self.fault_every),
            stall_max: Duration::from_secs_f64(self.stall_max),
        };
        Ok(Plan {
            kind,
            connections,
            publishers,
            others_only: self.others_only,
            rate: self.rate,
            sizes: self.size.clone(),
            protocol: &self.protocol,
            faults,
        })
    }
}

/// The result, and whether nothing was wrong.
fn audit<D: LoadDriver>(options: &Options) -> Outcome<(Report, bool)> {
    let plan = options.plan()?;
    let seed = options.manner.seed();
    let mut report = Report::new("audit", options);
    report.seed(seed);
    let server = options.subject.start()?;
    let settings = Settings {
        subprotocol: options.protocol.subprotocol.clone(),
        message_bytes_max: Limits::default().message_bytes_max.max(2 * PAYLOAD_BYTES_MAX),
        abort_by_reset: options.faults.contains(&Fault::Resets),
        ..Settings::new(server.target.clone(), seed)
    };
    let mut engine = Engine::new(D::start()?, settings);
    let mut audit = Audit::new(plan, seed as u32);
    audit.connect(engine.clients());
    engine.run(&mut audit, Time::NEVER, |_, clients| clients.connecting() == 0)?;
    let end = engine.now() + Duration::from_secs_f64(options.settle);
    engine.run(&mut audit, end, |_, _| false)?;

    let (own, meter) = (Meter::of_self()?, server.meter()?);
    let begun = engine.now();
    audit.start(begun);
    let length = Duration::from_secs_f64(options.seconds);
    let mut progress = Progress::new("audit", "received", length, clock::now());
    engine.run(&mut audit, begun + length, |audit, _| {
        progress.set(clock::now(), audit.counts.received);
        false
    })?;
    drop(progress);
    let (own, used) = (own.stop()?, meter.map(|meter| meter.stop()).transpose()?);
    let received = audit.counts.received as f64;
    audit.stop(engine.now());
    let end = engine.now() + DRAIN;
    engine.run(&mut audit, end, |audit, clients| audit.is_complete(clients.now(), PATIENCE))?;
    audit.close(engine.clients());
    let end = engine.now() + CLOSE;
    engine.run(&mut audit, end, |_, clients| clients.open() == 0)?;

    let faults = audit.faults();
    let counts = &audit.counts;
    let mut is_clean = true;
    for (name, label, count, is_fault) in [
        ("sent", "sent", counts.sent, false),
        ("received", "received", counts.received, false),
        ("lost", "lost", faults.lost, true),
        ("duplicated", "came again", faults.duplicated, true),
        ("reordered", "came after a later one", faults.reordered, true),
        ("corrupt", "came changed", counts.corrupt, true),
        ("misdelivered", "came to the wrong one", counts.misdelivered, true),
        ("ended", "connections ended by the server", counts.ended, true),
        ("others", "messages of the server's own", counts.others, false),
        ("not_sent", "not sent: the server took no more", counts.not_sent, false),
    ] {
        report.figure(name, label, count as f64, Unit::Count);
        is_clean &= !is_fault || count == 0;
    }
    let mut cpu = |name, label, time: Duration| {
        let each = time.as_nanos() as f64 / received;
        report.figure(name, label, each, Unit::NanosecondsPerMessage);
    };
    if let Some(used) = &used {
        cpu("server_cpu_ns_per_message", "server CPU", used.cpu);
    }
    cpu("generator_cpu_ns_per_message", "generator CPU", own.cpu);
    report.counts("faults", "what others did meanwhile", audit.faulty.counts());
    let stats = engine.clients().stats();
    report.counts("closes", "closes", stats.closes.clone());
    report.counts("errors", "errors", stats.errors.clone());
    let columns = [
        ("to", Some(Unit::Count)),
        ("from", Some(Unit::Count)),
        ("lost", Some(Unit::Count)),
        ("again", Some(Unit::Count)),
        ("after a later one", Some(Unit::Count)),
    ];
    let mut table = Table::new("streams with faults: the first", &columns);
    for (to, from, faults) in
        audit.streams().filter(|(_, _, faults)| !faults.is_none()).take(ROWS_MAX)
    {
        let faults = [faults.lost, faults.duplicated, faults.reordered].map(Cell::from);
        table.row([Cell::from(to), Cell::from(from)].into_iter().chain(faults).collect());
    }
    if !table.rows.is_empty() {
        report.table(table);
    }
    if counts.sent == 0 {
        report.invalid("nothing was sent");
    }
    Ok((report, is_clean))
}

//! `quelea-perf rooms`: messages to all members of a room, on any server that has rooms or is one.

pub(crate) mod join;
mod mode;
#[cfg(test)]
mod tests;

use crate::{
    clock,
    echo::{parse_rate, parse_seconds, parse_warm_up},
    fanout::parse_count,
    load::{
        DriverKind, Engine, Labels, LoadDriver, Meter, Outcome, Settings, Time, judge, processes,
    },
    manner::Manner,
    progress::Progress,
    report::{Report, Unit},
    stamp::{PAYLOAD_BYTES_MAX, STAMP_BYTES},
    subject::Subject,
};
use clap::Args;
use join::Protocol;
use mode::{Plan, Rooms};
use quelea::driver::Poll;
use quelea_core::Limits;
use serde::Serialize;
use std::{process::ExitCode, time::Duration};

#[derive(Args, Serialize)]
#[command(after_help = "Examples:\n  \
    A server that sends each message to all is one room:\n    \
    quelea-perf rooms --server 'target/release/broadcast --listen {address}' --members 100 --rate 50\n  \
    One whose clients choose a room by the path, and speak JSON:\n    \
    quelea-perf rooms ws://127.0.0.1:9001/ --rooms 20 --members 10 \\\n      \
    --join '/rooms/{room}?name={member}' --subprotocol chat.quelea.v1 \\\n      \
    --message '{\"type\":\"message\",\"text\":\"{payload}\"}'")]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    subject: Subject,
    /// How many rooms. More than one needs --join.
    #[arg(long, default_value_t = 1, value_parser = parse_count)]
    rooms: usize,
    /// How many members each room has. The first of them publishes.
    #[arg(long, default_value_t = 10, value_parser = parse_count)]
    members: usize,
    /// Messages a second in each room, by the clock (open loop): latency counts from when each was to
    /// be sent.
    #[arg(long, default_value_t = 10.0, value_parser = parse_rate)]
    rate: f64,
    /// The part of a message that is {payload}, in bytes. It holds a number, times and a checksum.
    #[arg(long, default_value_t = 100, value_parser = parse_payload_size)]
    size: usize,
    #[command(flatten)]
    #[serde(flatten)]
    protocol: Protocol,
    /// The server does not send a message to the one that it came from.
    #[arg(long)]
    others_only: bool,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 5.0, value_parser = parse_seconds)]
    seconds: f64,
    /// How long it runs before that, in seconds: by then all have to be in their rooms.
    #[arg(long, default_value_t = 1.0, value_parser = parse_warm_up)]
    warm_up: f64,
    #[command(flatten)]
    #[serde(flatten)]
    manner: Manner,
}

pub(crate) fn parse_payload_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if (STAMP_BYTES..=PAYLOAD_BYTES_MAX).contains(&size) => Ok(size),
        _ => Err(format!("must be a number of bytes from {STAMP_BYTES} to {PAYLOAD_BYTES_MAX}")),
    }
}

/// How long the last messages may take, and how long none may come until they are taken for lost.
const DRAIN: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the closing handshakes may take at the end.
const CLOSE: Duration = Duration::from_secs(5);
/// Of what was to be sent, this share may be late by the generator's fault.
const LATE_SHARE_MAX: f64 = 0.01;
/// And so many may never be sent.
const UNSENT_SHARE_MAX: f64 = 0.01;
const LABELS: Labels = Labels {
    intended: "to each, from the intended time",
    sent: "to each, from the time of sending",
    closed: "to each",
    counted: "deliveries",
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
    if options.rooms > 1 && !options.protocol.has_rooms() {
        return Err("--rooms: more than one room needs --join, which tells the server of it".into());
    }
    if options.others_only && options.members == 1 {
        return Err("--others-only: a room of one member has no others".into());
    }
    let connections = options.rooms.saturating_mul(options.members);
    processes::check_one(connections)?;
    let seed = options.manner.seed();
    let mut report = Report::new("rooms", options);
    report.seed(seed);
    let server = options.subject.start()?;
    let settings = Settings {
        subprotocol: options.protocol.subprotocol.clone(),
        message_bytes_max: Limits::default().message_bytes_max.max(2 * PAYLOAD_BYTES_MAX),
        ..Settings::new(server.target.clone(), seed)
    };
    let mut engine = Engine::new(D::start()?, settings);
    let plan = Plan {
        rooms: options.rooms,
        members: options.members,
        rate: options.rate,
        size: options.size,
        others_only: options.others_only,
        protocol: &options.protocol,
    };
    let mut rooms = Rooms::new(plan, seed as u32);
    engine.clients().connect(connections);
    let mut progress = Progress::new("connect", "members", connections as u64, clock::now());
    engine.run(&mut rooms, Time::NEVER, |_, clients| {
        progress.set(clock::now(), clients.open() as u64);
        clients.connecting() == 0
    })?;
    drop(progress);

    rooms.start(engine.now());
    let end = engine.now() + Duration::from_secs_f64(options.warm_up);
    engine.run(&mut rooms, end, |_, _| false)?;
    let meter = server.meter()?;
    let own = Meter::of_self()?;
    engine.clients().restart_stats();
    let begun = engine.now();
    rooms.measure(begun);
    let length = Duration::from_secs_f64(options.seconds);
    let mut progress = Progress::new("rooms", "deliveries", length, clock::now());
    engine.run(&mut rooms, begun + length, |rooms, _| {
        progress.set(clock::now(), rooms.recorder.messages());
        false
    })?;
    drop(progress);
    let own = own.stop()?;
    let used = meter.map(|meter| meter.stop()).transpose()?;
    let (deliveries, messages) = (rooms.recorder.messages(), rooms.messages());
    rooms.stop(engine.now());
    let end = engine.now() + DRAIN;
    engine.run(&mut rooms, end, |rooms, clients| rooms.is_complete(clients.now(), PATIENCE))?;
    let faults = rooms.faults(engine.clients());
    let stats = engine.clients().stats().clone();
    let end = engine.now() + CLOSE;
    rooms.close(engine.clients());
    engine.run(&mut rooms, end, |_, clients| clients.open() == 0)?;

    let seconds = own.length.as_secs_f64();
    let (messages, deliveries) = (messages as f64, deliveries as f64);
    report
        .figure("messages", "messages published", messages, Unit::Count)
        .figure("messages_per_second", "messages", messages / seconds, Unit::PerSecond)
        .figure("deliveries", "deliveries", deliveries, Unit::Count)
        .figure("deliveries_per_second", "throughput", deliveries / seconds, Unit::PerSecond);
    let each = Unit::NanosecondsPerDelivery;
    if let Some(used) = &used {
        let nanos = used.cpu.as_nanos() as f64 / deliveries;
        let rate = deliveries / used.cpu.as_secs_f64();
        report
            .figure("server_cpu_ns_per_delivery", "server CPU", nanos, each)
            .figure("deliveries_per_server_cpu_second", "per server CPU", rate, Unit::PerCpuSecond)
            .figure("server_user_share", "server CPU in user mode", used.user_share(), Unit::Share);
    }
    let nanos = own.cpu.as_nanos() as f64 / deliveries;
    report.figure("generator_cpu_ns_per_delivery", "generator CPU", nanos, each);
    for (name, label, count) in [
        ("lost", "never came to a member", faults.lost),
        ("duplicated", "came to a member again", faults.duplicated),
        ("reordered", "came to a member after a later one", faults.reordered),
        ("corrupt", "came changed", rooms.counts.corrupt),
        ("misdelivered", "came to a member of another room", rooms.counts.misdelivered),
    ] {
        report.figure(name, label, count as f64, Unit::Count);
    }
    rooms.recorder.report_as(&LABELS, own.length, &mut report);
    report.histogram("latency_last", "to the last, from the intended time", &rooms.last);
    stats.report(&mut report);
    if let Some(fault) = judge(&[own], used.as_ref()) {
        report.invalid(fault);
    }
    let late = rooms.counts.late as f64 / rooms.counts.sent.max(1) as f64;
    if late > LATE_SHARE_MAX {
        report.invalid(format!(
            "the generator lagged behind its schedule: it sent {:.1} % of the messages more than 1 ms \
             late",
            late * 100.0
        ));
    }
    if rooms.counts.ended > 0 {
        report.invalid(format!("{} members were gone before the end", rooms.counts.ended));
    }
    let counts = &rooms.counts;
    if counts.unsent as f64 > UNSENT_SHARE_MAX * messages {
        report.invalid(format!(
            "the server did not keep up with the rate: {} messages were due and never sent, so latencies are \
             longer than they seem",
            counts.unsent
        ));
    }
    let wrong = faults.sum() + counts.corrupt + counts.misdelivered;
    if wrong > 0 {
        report.invalid(format!(
            "{wrong} deliveries were lost, came again, in another order, changed or to another room"
        ));
    }
    if deliveries == 0.0 {
        report.invalid("no message came to anyone: is this how its clients join and speak?");
    }
    Ok(report)
}

//! `quelea-perf fanout`: what one delivery of a publish costs the server, next to a bare loop of
//! sends.

pub(crate) mod bare;
mod inflating;
mod message;
pub(crate) mod report;
mod subscribers;

use crate::{
    clock::now,
    echo::Kind,
    load::{Deflate, Meter, Used, judge},
    progress::Progress,
    report::{Output, Report},
    server::{Server, ServerCommand},
};
use clap::Args;
use message::{Burst, Content};
use report::{Cost, Row};
use serde::Serialize;
use std::{collections::BTreeMap, error::Error, process::ExitCode, time::Duration};
use subscribers::{Agreed, Load, Subscribers};

#[derive(Args, Serialize)]
#[command(after_help = "Example:\n  \
    quelea-perf fanout --subscribers 1000 --server 'target/release/broadcast --listen {address}'")]
pub(crate) struct Options {
    /// How to start the server, {address} where its HOST:PORT belongs. It has to send each message
    /// to all, its sender included, and nothing else.
    #[arg(long, default_value = "target/release/broadcast --listen {address}")]
    server: ServerCommand,
    /// What to compare it with, started likewise [default: this program's `bare`].
    #[arg(long)]
    floor: Option<ServerCommand>,
    /// Measures the server alone.
    #[arg(long, conflicts_with = "floor")]
    no_floor: bool,
    /// How many connections, one line of the result for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [30, 200, 2000, 15_000])]
    #[arg(value_parser = parse_count)]
    subscribers: Vec<usize>,
    /// The payload of a message, in bytes.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// What it is made of.
    #[arg(long, visible_alias = "payload", default_value = "text")]
    kind: Kind,
    /// Offered to the server alone: the floor sends what is published as it is.
    #[command(flatten)]
    #[serde(flatten)]
    deflate: Deflate,
    /// How many messages are published in one write, one line of the result for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100], value_parser = parse_count)]
    burst: Vec<usize>,
    /// How often each server is measured, in turns. On a noisy machine many short rounds tell the
    /// ratio better than a few long ones.
    #[arg(long, default_value_t = 5, value_parser = parse_count)]
    rounds: usize,
    /// How long a round is.
    #[arg(long, default_value_t = 2.0, value_parser = parse_seconds)]
    seconds: f64,
    /// All of `--clients` publish, not one of `--subscribers`, each message in a write of its own.
    #[arg(long, conflicts_with_all = ["subscribers", "burst"])]
    all_to_all: bool,
    /// How many connections, all of which publish.
    #[arg(long, default_value_t = 200, requires = "all_to_all", value_parser = parse_count)]
    clients: usize,
    /// How many of its messages each has in flight.
    #[arg(long, default_value_t = 1, requires = "all_to_all", value_parser = parse_count)]
    depth: usize,
    #[command(flatten)]
    #[serde(skip)]
    output: Output,
}

pub(crate) fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

/// Subscribers are silent for a round, and for one of the other server: any longer, and a server may
/// ping them, which is no delivery.
const SECONDS_MAX: f64 = 10.0;

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(seconds),
        _ => Err(format!("must be above 0 and at most {SECONDS_MAX}")),
    }
}

/// Beyond that many, only one server at a time has connections: this process is not to need more
/// than 19,500 descriptors.
const BOTH_MAX: usize = 9000;
/// Of what is published: the same in each run, so that servers are compared by the same messages.
const SEED: u64 = 1;
/// A round is measured after a tenth of it that is not.
const WARM_UP: f64 = 0.1;
/// The first one after so much: a server may compile while it runs, and its buffers grow.
const FIRST_WARM_UP: Duration = Duration::from_millis(500);

/// Measures, and writes each line of the result as soon as it is there.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    options.output.refuse_hgrm("fanout")?;
    let floor = match &options.floor {
        _ if options.no_floor => None,
        None => Some(ServerCommand::bare()?),
        floor => floor.clone(),
    };
    let (load, connections, bursts) = if options.all_to_all {
        let load = Load::AllToAll { depth: options.depth as u64 };
        (load, &[options.clients][..], &[1][..])
    } else {
        (Load::OneToAll, &*options.subscribers, &*options.burst)
    };
    let mut table = report::table(load).written();
    let widths = table.widths();
    options.output.line(table.head())?;
    let mut rows = Vec::new();
    for &count in connections {
        for &burst in bursts {
            let row = measure(options, floor.as_ref(), load, count, burst)?;
            options.output.line(table.line(&row.cells(), &widths))?;
            table.row(row.cells());
            rows.push(row);
        }
    }
    let mut report = Report::new("fanout", options);
    report.table(table);
    for fault in rows.iter().filter_map(Row::fault) {
        report.invalid(fault);
    }
    if let [row] = &*rows {
        row.figures(&mut report);
    }
    options.output.finish(&report)
}

fn measure(
    options: &Options,
    floor: Option<&ServerCommand>,
    load: Load,
    count: usize,
    burst: usize,
) -> Result<Row, Box<dyn Error>> {
    let content = Content::new(options.kind, options.size, SEED);
    let round = Duration::try_from_secs_f64(options.seconds)?;
    let plain = Deflate::default();
    let mut floor = floor.map(|floor| Side::start(floor, &plain)).transpose()?;
    let mut server = Side::start(&options.server, &options.deflate)?;
    let keep = count <= BOTH_MAX || floor.is_none();
    let phase = format!("{count} subscribers");
    let mut progress = Progress::new(phase, "rounds", options.rounds as u64, now());
    for round_number in 0..options.rounds {
        progress.set(now(), round_number as u64);
        for side in floor.iter_mut().chain([&mut server]) {
            side.measure(load, count, burst, &content, round)?;
            if !keep {
                side.connected = None;
            }
        }
    }
    let floor = floor.map_or_else(Vec::new, |floor| floor.costs);
    let agreed = server.agreed;
    Ok(Row { load, subscribers: count, burst, server: server.costs, floor, agreed })
}

/// One of the two that are compared.
struct Side<'o> {
    connected: Option<(Subscribers, Burst)>,
    deflate: &'o Deflate,
    /// What compression was agreed on, by how many.
    agreed: BTreeMap<String, u64>,
    server: Server,
    costs: Vec<Cost>,
}

impl<'o> Side<'o> {
    fn start(command: &ServerCommand, deflate: &'o Deflate) -> Result<Self, Box<dyn Error>> {
        let (server, agreed) = (Server::start(command)?, BTreeMap::new());
        Ok(Self { connected: None, deflate, agreed, server, costs: Vec::new() })
    }

    fn measure(
        &mut self,
        load: Load,
        count: usize,
        burst: usize,
        content: &Content,
        round: Duration,
    ) -> Result<(), Box<dyn Error>> {
        let (warm_up, (subscribers, burst)) = match &mut self.connected {
            Some(connected) => (round.mul_f64(WARM_UP), connected),
            none => {
                let target = self.server.target();
                let subscribers = Subscribers::connect(target, count, self.deflate, content)?;
                self.agreed = subscribers.agreed().map(Agreed::counts).unwrap_or_default();
                let burst = Burst::new(burst, content, subscribers.agreed())?;
                (round.mul_f64(WARM_UP).max(FIRST_WARM_UP), none.insert((subscribers, burst)))
            }
        };
        subscribers.show_life()?;
        subscribers.run(load, burst, now() + warm_up)?;
        let (before, bytes_before) = (self.server.account()?, subscribers.received_bytes());
        let (own, begun) = (Meter::of_self()?, now());
        let deliveries = subscribers.run(load, burst, begun + round)?;
        let (own, length) = (own.stop()?, now() - begun);
        let used = Used::new(length, self.server.account()?.since(&before));
        let fault = judge(&[own], Some(&used));
        let bytes = subscribers.received_bytes() - bytes_before;
        self.costs.push(Cost { deliveries, cpu: used.cpu, bytes, fault });
        Ok(())
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

    fn parse(text: &str) -> Result<Options, clap::Error> {
        let words = ["fanout"].into_iter().chain(text.split_whitespace());
        Arguments::try_parse_from(words).map(|arguments| arguments.options)
    }

    #[test]
    fn numbers_come_in_lists_and_have_defaults() {
        let options = parse("").unwrap();
        assert_eq!(options.subscribers, [30, 200, 2000, 15_000]);
        assert_eq!((&*options.burst, options.size, options.rounds), (&[1, 100][..], 100, 5));
        let options = parse("--subscribers 5,7 --burst 3 --seconds 0.5").unwrap();
        assert_eq!((&*options.subscribers, &*options.burst), (&[5, 7][..], &[3][..]));
        let options = parse("--all-to-all --depth 4").unwrap();
        assert_eq!((options.all_to_all, options.clients, options.depth), (true, 200, 4));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for text in [
            "--subscribers 0",
            "--subscribers 5,",
            "--burst 0",
            "--rounds 0",
            "--seconds 0",
            "--seconds 11",
            "--seconds nan",
            "--depth 2",
            "--all-to-all --burst 2",
            "--all-to-all --clients 0",
            "--no-floor --floor {address}",
            "--server x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

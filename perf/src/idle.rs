//! `quelea-perf idle`: what a connection that does nothing costs the server and the kernel.

use crate::{
    cpu::family,
    echo::{
        Command, EchoWorker, Kind, Loop, Measured, Plan, open_loop_depth, parse_fragments,
        parse_seconds, parse_size,
    },
    fanout::parse_count,
    kernel::{self, Source},
    load::{
        Deflate, DriverKind, LoadDriver, Meter, Outcome,
        processes::{Crew, shares},
    },
    memory::anonymous_bytes,
    report::{Output, Report, Series, Unit},
    target::Destination,
};
use clap::Args;
use quelea::driver::Poll;
use serde::Serialize;
use std::{collections::BTreeSet, process::ExitCode, time::Duration};

#[derive(Args, Serialize)]
#[command(after_help = "Examples, where 4711 is the server's process:\n  \
    quelea-perf idle ws://127.0.0.1:9001/ --connections 15000 --server-pid 4711\n  \
    Ten minutes, with a message a minute on each connection:\n    \
    quelea-perf idle ws://127.0.0.1:9001/ --connections 15000 --server-pid 4711 --hold 600")]
pub(crate) struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    destination: Destination,
    /// How many connections to measure. Beyond what the descriptors of one process allow, several
    /// processes have them.
    #[arg(long, default_value_t = 15_000, value_parser = parse_count)]
    connections: usize,
    /// Connections made before them, so that what a server needs once is not counted.
    #[arg(long, default_value_t = 1000)]
    before: usize,
    /// How long the server has to give back what it needs no longer, before memory is measured.
    #[arg(long, default_value_t = 3.0, value_parser = parse_seconds)]
    seconds: f64,
    /// The server's process id, or those of several.
    #[arg(long, value_name = "PID", value_delimiter = ',', required = true)]
    server_pid: Vec<u32>,
    /// How many of the connections then send a message each, all at once, and read it back: memory
    /// is measured again when they are idle again. The server has to be one that echoes.
    #[arg(long, default_value_t = 0)]
    messages: usize,
    /// The payload of such a message, in bytes.
    #[arg(long, default_value_t = 100_000, value_parser = parse_size)]
    message_bytes: usize,
    /// In how many fragments it is sent: the next one when all connections have sent theirs.
    #[arg(long, default_value_t = 10, value_parser = parse_fragments)]
    fragments: usize,
    /// Holds the connections for so long after that, in seconds: each sends a message now and then,
    /// the server has to echo it, and none may be lost.
    #[arg(long, value_parser = parse_seconds)]
    hold: Option<f64>,
    /// How often each of them sends one then, in seconds.
    #[arg(long, default_value_t = 60.0, value_parser = parse_seconds, requires = "hold")]
    message_every: f64,
    /// Of how long a time each process sends at once what is due, in seconds: with many processes on few
    /// cores, to wake for each message costs more than the message.
    #[arg(long, value_parser = parse_seconds, requires = "hold")]
    message_bunch: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    deflate: Deflate,
    /// How many processes connect [default: as many as the connections need].
    #[arg(long, value_parser = parse_count)]
    processes: Option<usize>,
    /// How many connections of a process may be on their way to be open at once.
    #[arg(long, default_value_t = 100, value_parser = parse_count)]
    connecting_max: usize,
    /// How to speak to the kernel.
    #[arg(long, value_enum, default_value_t = DriverKind::Poll)]
    driver: DriverKind,
    #[command(flatten)]
    #[serde(skip)]
    output: Output,
}

/// Memory is measured so often while connections are made.
const STEPS: usize = 8;
/// How much of the time to give memory back there is before those but the last.
const REST_SHARE: f64 = 0.2;
/// What is sent while they are held.
const HELD_MESSAGE_BYTES: usize = 20;

pub(crate) fn run(options: &Options) -> Outcome<ExitCode> {
    if options.hold.is_none() {
        options.output.refuse_hgrm("idle without --hold")?;
    }
    let report = match options.driver {
        DriverKind::Poll => run_on::<Poll>(options)?,
        #[cfg(target_os = "linux")]
        DriverKind::Uring => run_on::<quelea::driver::Uring>(options)?,
    };
    options.output.finish(&report)
}

fn run_on<D: LoadDriver>(options: &Options) -> Outcome<Report> {
    if options.messages > options.before + options.connections {
        return Err("--messages: more than there are connections".into());
    }
    let mut report = Report::new("idle", options);
    let seed = fastrand::u64(..);
    report.seed(seed);
    let shares = shares(options.before + options.connections, options.processes)?;
    let mut run: Run<'_, D> =
        Run { options, crew: Crew::start(options.plan(seed)?.share(&shares))?, open: 0 };
    let before = run.connect(options.before)?;
    let mut points = vec![(0.0, before)];
    let mut connecting = Duration::ZERO;
    for step in 1..=STEPS {
        let start = crate::clock::now();
        let more = options.connections * step / STEPS;
        run.open_to(options.before + more)?;
        connecting += crate::clock::now() - start;
        let rest = if step < STEPS { REST_SHARE } else { 1.0 };
        points.push((more as f64, run.settle(rest)?));
    }
    let after = points.last().map_or(before, |(_, memory)| *memory);
    tell_memory(options, &points, &before, &after, &mut report);
    let rate = options.connections as f64 / connecting.as_secs_f64();
    report.figure("connections_per_second", "connected", rate, Unit::PerSecond);
    if options.messages > 0 {
        run.exchange()?;
        let kept = run.settle(1.0)?.user.saturating_sub(after.user) as f64;
        let each = kept / options.messages as f64;
        let label = "kept after a message";
        report.figure("user_bytes_kept_per_message", label, each, Unit::BytesPerConnection);
    }
    run.tell_deflate(&mut report)?;
    if let Some(seconds) = options.hold {
        run.hold(Duration::from_secs_f64(seconds), &mut report)?;
    }
    run.crew.call(|_| Command::Close)?;
    Ok(report)
}

/// What the server and the kernel have.
#[derive(Clone, Copy)]
struct Memory {
    user: u64,
    kernel: u64,
    source: Source,
}

fn tell_memory(
    options: &Options,
    points: &[(f64, Memory)],
    before: &Memory,
    after: &Memory,
    report: &mut Report,
) {
    let each = |after: u64, before: u64, ends: usize| {
        (after as f64 - before as f64) / (options.connections * ends) as f64
    };
    let unit = Unit::BytesPerConnection;
    let user = each(after.user, before.user, 1);
    // Both ends of a connection are on this machine.
    let kernel = each(after.kernel, before.kernel, 2);
    report
        .figure("connections", "connections", options.connections as f64, Unit::Count)
        .figure("user_bytes_per_connection", "the server's memory", user, unit)
        .figure("kernel_bytes_per_connection", "the kernel's memory", kernel, unit)
        .figure("server_user_bytes", "all of the server's", after.user as f64, Unit::Bytes);
    let series = |name: &str, label: &str, value: fn(&Memory) -> u64| {
        let points = points.iter().map(|(count, memory)| (*count, value(memory) as f64)).collect();
        Series::over_count(name, label, Unit::Bytes, "connections", points)
    };
    report.series(series("user_memory", "the server's memory grows by", |memory| memory.user));
    report.series(series("kernel_memory", "the kernel's memory grows by", |memory| {
        memory.kernel / 2
    }));
    report.note(match after.source {
        Source::Sockets => {
            "kernel memory is that of one end of a connection: half of what all sockets of this \
             machine, their descriptors and their buffers grew by"
        }
        Source::All => {
            "kernel memory is half of what all of the kernel's grew by, so what other programs did \
             is in it; run as root to count sockets alone"
        }
    });
}

impl Options {
    fn plan(&self, seed: u64) -> Outcome<Plan> {
        Ok(Plan {
            target: self.destination.target()?.clone(),
            driver: self.driver,
            connecting_max: self.connecting_max,
            sizes: vec![HELD_MESSAGE_BYTES],
            kinds: vec![Kind::Binary],
            fragments: 1,
            exchange: (self.messages > 0).then_some((self.message_bytes, self.fragments)),
            raw: false,
            deflate: self.deflate.clone(),
            seed,
            first_source: 0,
            shown_of: 1,
        })
    }
}

struct Run<'o, D: LoadDriver> {
    options: &'o Options,
    crew: Crew<EchoWorker<D>>,
    open: usize,
}

impl<D: LoadDriver> Run<'_, D> {
    fn connect(&mut self, count: usize) -> Outcome<Memory> {
        self.open_to(self.open + count)?;
        self.settle(1.0)
    }

    /// Connects until so many are open in all.
    fn open_to(&mut self, open: usize) -> Outcome {
        let (processes, before) = (self.crew.len(), self.open);
        let of = |all: usize, index: usize| share_of(all, processes, index);
        self.crew.call(|index| Command::Connect(of(open, index) - of(before, index)))?;
        self.open = open;
        Ok(())
    }

    /// Measures when the server had time to give back what it does not need, or a part of it.
    fn settle(&mut self, part: f64) -> Outcome<Memory> {
        self.crew.wait(Duration::from_secs_f64(self.options.seconds * part))?;
        // Or memory would be divided by more than there are.
        self.crew
            .call(|_| Command::Check)
            .map_err(|error| format!("before memory was measured, {error}"))?;
        let mut user = 0;
        for pid in &self.options.server_pid {
            user += anonymous_bytes(&pid.to_string())
                .map_err(|error| format!("the memory of process {pid}: {error}"))?;
        }
        let pids = &self.options.server_pid;
        let families: BTreeSet<_> = pids.iter().flat_map(|pid| family(*pid)).collect();
        for pid in families.iter().filter(|pid| !pids.contains(pid)) {
            // What the server started may have ended by now.
            user += anonymous_bytes(&pid.to_string()).unwrap_or(0);
        }
        let (kernel, source) = kernel::connection_bytes()?;
        Ok(Memory { user, kernel, source })
    }

    fn exchange(&mut self) -> Outcome {
        let (processes, messages) = (self.crew.len(), self.options.messages);
        self.crew.call(|index| Command::Exchange(share_of(messages, processes, index)))?;
        Ok(())
    }

    /// Tells what compression was agreed on: that is counted, though no message is.
    fn tell_deflate(&mut self, report: &mut Report) -> Outcome {
        self.crew.call(|_| Command::Measure(Duration::ZERO))?;
        let measured = self.crew.call(|_| Command::End)?.into_iter().flatten().collect();
        Measured::sum(measured)?.report_deflate(report);
        Ok(())
    }

    fn hold(&mut self, length: Duration, report: &mut Report) -> Outcome {
        let (processes, all) = (self.crew.len(), self.open);
        let every = self.options.message_every;
        let per_second = |index| share_of(all, processes, index) as f64 / every;
        self.crew.call(|index| {
            let per_second = per_second(index);
            let together = (per_second * self.options.message_bunch.unwrap_or(0.0)) as u64;
            let looping = Loop::Open { per_second, depth: open_loop_depth(all), together };
            Command::Begin(looping, Duration::ZERO)
        })?;
        let meter = Meter::of_server(&self.options.server_pid)?;
        self.crew.call(|_| Command::Measure(length))?;
        let server = meter.stop()?;
        let measured = self.crew.call(|_| Command::End)?.into_iter().flatten().collect();
        let measured = Measured::sum(measured)?;
        let held = all as f64 - measured.lost as f64;
        report.figure("connections_held", "held to the end", held, Unit::Count);
        measured.report(Some(&server), report);
        measured.judge(Some(&server), report);
        Ok(())
    }
}

/// How many of all are those of one process.
fn share_of(all: usize, processes: usize, index: usize) -> usize {
    all / processes + usize::from(index < all % processes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use quelea::{Config, Conn, Handler, Message, Server};
    use std::thread;

    struct Echo;

    impl Handler for Echo {
        type State = ();

        fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
            conn.send(message);
        }
    }

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    fn parse(text: &str) -> Result<Options, clap::Error> {
        let words = ["idle"].into_iter().chain(text.split_whitespace());
        Arguments::try_parse_from(words).map(|arguments| arguments.options)
    }

    #[test]
    fn connections_are_held_and_their_memory_is_told() {
        let config = Config { workers: Some(1), ..Config::default() };
        let server = Server::new(|_| Echo).config(config).unwrap();
        let server = server.listen("127.0.0.1:0").unwrap();
        let address = server.local_addresses().next().unwrap().to_string();
        let handle = server.handle();
        let thread = thread::spawn(move || server.run());
        let pid = std::process::id();
        let options = parse(&format!(
            "ws://{address}/ --server-pid {pid} --connections 100 --before 10 --seconds 0.02 \
             --messages 5 --message-bytes 70000 --fragments 3 --hold 0.3 --message-every 0.1 \
             --message-bunch 0.02"
        ));
        let report = run_on::<Poll>(&options.unwrap()).unwrap();
        let value = |name: &str| report.figures[name].value;
        assert_eq!(value("connections"), 100.0);
        assert_eq!(value("connections_held"), 110.0);
        assert!(value("kernel_bytes_per_connection").is_finite());
        assert!(value("user_bytes_kept_per_message") >= 0.0);
        assert!(value("messages") > 100.0, "{}", value("messages"));
        assert_eq!(report.series["user_memory"].points.len(), STEPS + 1);
        let options = format!("ws://{address}/ --server-pid {pid} --connections 5 --before 0");
        let options = parse(&format!("{options} --messages 6")).unwrap();
        let error = run_on::<Poll>(&options).unwrap_err().to_string();
        assert!(error.contains("more than there are connections"), "{error}");
        handle.stop();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn what_compression_was_agreed_on_is_told_though_nothing_is_sent() {
        use quelea::deflate::{Policy, Settings};
        let config = Config { deflate: Settings::new(Policy::Shared), ..Config::default() };
        let server = crate::testing::TestServer::start(config, |_| Echo);
        let (address, pid) = (server.address, std::process::id());
        for messages in [0, 2] {
            let options = format!(
                "ws://{address}/ --server-pid {pid} --connections 4 --before 1 --seconds 0.02 \
                 --deflate takeover --messages {messages}"
            );
            let report = run_on::<Poll>(&parse(&options).unwrap()).unwrap();
            let agreed =
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
            assert_eq!(report.counts["deflate"].counts[agreed], 5);
        }
    }

    #[test]
    fn a_server_that_does_not_hold_its_connections_is_not_measured() {
        struct Closes(usize);
        impl Handler for Closes {
            type State = ();
            fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
                self.0 += 1;
                // One of them stays: with none, a run ends anyway.
                if self.0 > 1 {
                    conn.close(quelea::CloseCode::POLICY_VIOLATION, "");
                }
            }
            fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}
        }
        let server = crate::testing::TestServer::start(Config::default(), |_| Closes(0));
        let (address, pid) = (server.address, std::process::id());
        let options =
            format!("ws://{address}/ --server-pid {pid} --connections 20 --before 1 --seconds 0.1");
        let error = run_on::<Poll>(&parse(&options).unwrap()).unwrap_err().to_string();
        assert!(error.contains("before memory was measured") && error.contains("ended"), "{error}");
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for text in [
            "",
            "ws://127.0.0.1:1/",
            "ws://127.0.0.1:1/ --server-pid x",
            "ws://127.0.0.1:1/ --server-pid 1 --connections 0",
            "ws://127.0.0.1:1/ --server-pid 1 --hold 0",
            "ws://127.0.0.1:1/ --server-pid 1 --message-every 5",
            "ws://127.0.0.1:1/ --server-pid 1 --message-bunch 0.1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let shares: Vec<_> = (0..3).map(|index| share_of(11, 3, index)).collect();
        assert_eq!(shares, [4, 4, 3]);
    }
}

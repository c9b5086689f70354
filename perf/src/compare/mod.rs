//! `quelea-perf compare`: what the same work costs one server and another.
//!
//! Each cell of the result is measured by this program's other modes, as child processes, on each server in
//! turn, round after round: whatever else the machine does hits all of them.

mod contestant;
mod measurement;
mod results;
mod round;

use crate::{
    echo::Kind,
    fanout::parse_count,
    load::{Deflate, Offered},
    report::{Output, Report},
    server::ServerCommand,
};
use clap::{Args, ValueEnum};
use contestant::Contestant;
use measurement::Measurement;
use results::Results;
use serde::Serialize;
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
};

#[derive(Args, Serialize)]
#[command(after_help = "Example: messages of 20 bytes, one and sixteen in flight\n  \
    quelea-perf compare --only echo --sizes 20 \\\n    \
    --server 'quelea=target/release/echo --listen {address} --workers 1' \\\n    \
    --server 'other=./echo --port {port}'")]
pub(crate) struct Options {
    /// A server to measure, as NAME=COMMAND with {port} or {address} in it, once for each. The first one is
    /// compared with the best of the others. It has to echo.
    #[arg(long = "server", value_name = "NAME=COMMAND", required = true)]
    servers: Vec<Named>,
    /// A server that sends each message to all, its sender included, likewise, for `fanout`. One with the
    /// name of a server that echoes is the same in the result.
    #[arg(long = "publish-server", value_name = "NAME=COMMAND")]
    publish_servers: Vec<Named>,
    /// A file with more servers that echo, a line of NAME=COMMAND for each.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    servers_from: Option<PathBuf>,
    /// The same of servers that send each message to all.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    publish_servers_from: Option<PathBuf>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = What::ALL)]
    only: Vec<What>,
    /// The payloads of echo messages, in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [20, 1024, 16_384, 262_144])]
    #[arg(value_parser = parse_count)]
    sizes: Vec<usize>,
    /// What messages are made of [default: utf8 for echo, text for fanout].
    #[arg(long, visible_alias = "payload")]
    kind: Option<Kind>,
    /// Offers compression, as `echo --deflate` does: a server that declines is left out.
    #[arg(long, value_name = "OFFER", default_value_t)]
    deflate: Offered,
    /// Messages in flight on each connection.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16], value_parser = parse_count)]
    depths: Vec<usize>,
    /// How many connections echo.
    #[arg(long, default_value_t = 50, value_parser = parse_count)]
    connections: usize,
    /// How many connections are idle.
    #[arg(long, default_value_t = 5000, value_parser = parse_count)]
    idle_connections: usize,
    /// How many subscribers get each message of `fanout`: from one publisher, and from all of them.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 1000], value_parser = parse_count)]
    subscribers: Vec<usize>,
    /// The payload of a message of `fanout`, in bytes.
    #[arg(long, default_value_t = 100, value_parser = parse_count)]
    publish_size: usize,
    /// Where the load comes from.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Placement::ALL)]
    placements: Vec<Placement>,
    /// The core of the servers, and the other one.
    #[arg(long, value_delimiter = ',', num_args = 2, default_values_t = [0, 1])]
    cores: Vec<usize>,
    /// How often each cell is measured of each server, in turns.
    #[arg(long, default_value_t = 5, value_parser = parse_count)]
    rounds: usize,
    /// How long a round is, in seconds.
    #[arg(long, default_value_t = 1.0, value_parser = parse_seconds)]
    seconds: f64,
    #[command(flatten)]
    #[serde(skip)]
    output: Output,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// Messages for each second of the server's CPU time.
    Echo,
    /// Handshakes likewise, each on a new connection.
    Handshakes,
    /// Bytes for each connection that does nothing.
    Idle,
    /// Bytes kept for each of 1,000 connections after one message of 60 KB.
    Kept,
    /// Deliveries for each second of the server's CPU time.
    Fanout,
}

impl What {
    const ALL: [Self; 5] = [Self::Echo, Self::Handshakes, Self::Idle, Self::Kept, Self::Fanout];
}

/// Where the load comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Placement {
    /// The server's own core: each waits for the other, and batches are large.
    Same,
    /// Another core.
    Cross,
}

impl Placement {
    const ALL: [Self; 2] = [Self::Same, Self::Cross];
}

/// A server and how to start it.
#[derive(Clone, Debug, Serialize)]
#[serde(into = "String")]
struct Named {
    name: String,
    command: ServerCommand,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("expected NAME=COMMAND")?;
        if name.is_empty() {
            return Err("a server needs a name: NAME=COMMAND".into());
        }
        Ok(Self { name: name.to_owned(), command: command.parse()? })
    }
}

impl From<Named> for String {
    fn from(Named { name, command }: Named) -> Self {
        format!("{name}={command}")
    }
}

/// The longest round: more would be hours.
const SECONDS_MAX: f64 = 60.0;

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => Ok(seconds),
        _ => Err(format!("must be above 0 and at most {SECONDS_MAX}")),
    }
}

/// The servers of a file; empty lines and those that begin with # are left out.
fn read_servers(path: &Path) -> Result<Vec<Named>, String> {
    let error = |line, error| format!("{}{line}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|io| error(String::new(), io.to_string()))?;
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| line.parse().map_err(|cause| error(format!(":{number}"), cause)))
        .collect()
}

impl Options {
    /// Adds the servers of the files.
    fn read_files(&mut self) -> Result<(), String> {
        for (path, servers) in [
            (&self.servers_from, &mut self.servers),
            (&self.publish_servers_from, &mut self.publish_servers),
        ] {
            if let Some(path) = path {
                servers.extend(read_servers(path)?);
            }
        }
        Ok(())
    }

    fn contestants(&self) -> Result<Vec<Contestant>, String> {
        let mut contestants: Vec<Contestant> = Vec::new();
        for Named { name, command } in &self.servers {
            if contestants.iter().any(|one| one.name == *name) {
                return Err(format!("two servers have the name {name}"));
            }
            let (name, echo) = (name.clone(), command.clone());
            contestants.push(Contestant { name, echo, publish: None });
        }
        for Named { name, command } in &self.publish_servers {
            let publish = match contestants.iter_mut().find(|one| one.name == *name) {
                Some(one) => &mut one.publish,
                None => return Err(format!("{name} publishes, but no --server has that name")),
            };
            if publish.replace(command.clone()).is_some() {
                return Err(format!("two servers that publish have the name {name}"));
            }
        }
        Ok(contestants)
    }
}

/// Measures all, and tells.
pub(crate) fn run(mut options: Options) -> Result<ExitCode, Box<dyn Error>> {
    options.output.refuse_hgrm("compare")?;
    options.read_files()?;
    let mut report = Report::new("compare", &options);
    let mut contestants = options.contestants()?;
    let deflate = Deflate { offered: options.deflate, deflate_optional: false };
    for remark in
        contestant::leave_out(&mut contestants, &deflate, options.only.contains(&What::Fanout))?
    {
        report.note(remark);
    }
    let measurements = Measurement::all(&options);
    let mut results = Results::new(&contestants, &measurements);
    round::measure_all(&options, &contestants, &measurements, &mut results);
    results.report(&mut report);
    options.output.finish(&report)
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

    pub(super) fn parse(text: &str) -> Result<Options, clap::Error> {
        let words = ["compare"].into_iter().chain(text.split('|'));
        Arguments::try_parse_from(words).map(|arguments| arguments.options)
    }

    #[test]
    fn servers_are_named_commands_and_one_that_publishes_belongs_to_one_that_echoes() {
        let options =
            parse("--server|a=x {port}|--server|b=y {address}|--publish-server|b=z {port}");
        let contestants = options.unwrap().contestants().unwrap();
        let names: Vec<_> = contestants.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(contestants[0].publish.is_none() && contestants[1].publish.is_some());
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for text in ["--seconds|1", "--server|x {port}", "--server|=x {port}", "--server|a=x"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in [
            "--server|a=x {port}|--server|a=y {port}",
            "--server|a=x {port}|--publish-server|b=x {port}",
            "--server|a=x {port}|--publish-server|a=x {port}|--publish-server|a=x {port}",
        ] {
            assert!(parse(text).unwrap().contestants().is_err(), "{text}");
        }
        for text in ["--rounds|0", "--seconds|0", "--seconds|nan", "--sizes|0", "--cores|1"] {
            assert!(parse(&format!("--server|a=x {{port}}|{text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_of_servers_has_a_line_for_each_and_an_error_names_the_line() {
        let path = std::env::temp_dir().join(format!("quelea-compare-{}", std::process::id()));
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read_servers(&path)
        };
        let servers = read("# peers\n\nb=y --port {port}\nc=z {address}\n").unwrap();
        let names: Vec<_> = servers.iter().map(|server| &*server.name).collect();
        assert_eq!(names, ["b", "c"]);
        let error = read("b=y {port}\nc\n").err().unwrap();
        assert!(error.contains(":2: expected NAME=COMMAND"), "{error}");
        fs::remove_file(&path).unwrap();
        assert!(read_servers(&path).is_err());
    }
}

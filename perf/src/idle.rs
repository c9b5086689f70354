//! `quelea-perf idle`: what a connection that does nothing costs the server.

use crate::{client::Client, target::Target};
use clap::Args;
use std::{
    error::Error,
    fmt,
    fs::{self, File},
    io::{self, Read},
    thread::sleep,
    time::Duration,
};

#[derive(Args)]
pub(crate) struct Options {
    /// The server, such as ws://127.0.0.1:9001/.
    target: Target,
    /// How many connections to measure; bounded by the descriptors a process may have.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Connections made before them, so that what a server needs once is not counted.
    #[arg(long, default_value_t = 1000)]
    before: usize,
    /// How long the server has, after the last one, to give back what it needs no longer.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The server's process id.
    #[arg(long)]
    server_pid: u32,
}

/// What was measured.
pub(crate) struct Report {
    connections: usize,
    before_bytes: u64,
    after_bytes: u64,
}

pub(crate) fn run(options: &Options) -> Result<Report, Box<dyn Error>> {
    let mut random = File::open("/dev/urandom")?;
    let settle = Duration::try_from_secs_f64(options.seconds)?;
    let mut clients = Vec::new();
    let mut connect = |count: usize| -> Result<u64, Box<dyn Error>> {
        for _ in 0..count {
            let mut nonce = [0; 16];
            random.read_exact(&mut nonce)?;
            clients.push(Client::connect(&options.target, &nonce)?);
        }
        sleep(settle);
        Ok(anonymous_bytes(options.server_pid)?)
    };
    let before_bytes = connect(options.before)?;
    let after_bytes = connect(options.connections)?;
    Ok(Report { connections: options.connections, before_bytes, after_bytes })
}

/// Resident memory of a process that no file backs: its heap and stacks.
pub(crate) fn anonymous_bytes(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kibibytes = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:")?.split_whitespace().next()?.parse().ok());
    let kibibytes: u64 =
        kibibytes.ok_or_else(|| io::Error::other("unexpected form of /proc/PID/smaps_rollup"))?;
    Ok(kibibytes * 1024)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grown = self.after_bytes.saturating_sub(self.before_bytes);
        writeln!(f, "connections     {}", self.connections)?;
        writeln!(f, "server before   {} KiB", self.before_bytes / 1024)?;
        writeln!(f, "server after    {} KiB", self.after_bytes / 1024)?;
        write!(f, "a connection    {:.1} bytes", grown as f64 / self.connections.max(1) as f64)
    }
}

//! A load tool for any WebSocket server, on the client role of `quelea-core`.

mod attack;
mod client;
mod clock;
mod compare;
mod cpu;
mod echo;
mod fanout;
mod idle;
#[allow(dead_code, reason = "the modes move to it one after the other")]
mod load;
mod memory;
mod progress;
#[allow(dead_code, unused_imports, reason = "the modes move to it one after the other")]
mod report;
mod server;
mod sim;
mod slow;
mod target;
mod verify;

use clap::{Parser, Subcommand};
use std::{error::Error, process::ExitCode};

/// A load tool for any WebSocket server.
#[derive(Parser)]
#[command(name = "quelea-perf")]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Keeps messages in flight on each connection of an echo server, as fast as it answers.
    Echo(echo::Options),
    /// Holds connections that do nothing, and tells what each costs the server in memory.
    Idle(idle::Options),
    /// Starts a server that sends each message to all, and tells its CPU time a delivery, next to
    /// that of a bare loop of sends.
    Fanout(fanout::Options),
    /// Serves as the floor for `fanout`: sends each message to every socket in a bare loop.
    Bare(fanout::bare::Options),
    /// Starts a server that sends each message to all, and tells what subscribers that never read
    /// cost those that do, and how much memory they take.
    Slow(slow::Options),
    /// Attacks a server that echoes, as hostile and broken peers do, and tells what came of it, a row
    /// an attack: handshakes, frames, floods.
    Attack(attack::Options),
    /// Compares servers: the same work on each of them in turn, and what it costs each.
    Compare(compare::Options),
    /// Holds idle connections, millions if wanted, on a simulated network, and tells what they cost.
    Sim(sim::Options),
    /// Checks that an echo server is right, before it is measured: text, binary, empty and large
    /// messages, fragments, pings, and how it closes.
    Verify(verify::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().mode) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("quelea-perf: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells how the program is to end: a result that is not valid has a status of its own.
fn run(mode: Mode) -> Result<ExitCode, Box<dyn Error>> {
    match mode {
        Mode::Echo(options) => return echo::run(&options),
        Mode::Idle(options) => println!("{}", idle::run(&options)?),
        Mode::Fanout(options) => return fanout::run(&options),
        Mode::Bare(options) => fanout::bare::run(&options)?,
        Mode::Attack(options) => return attack::run(&options),
        Mode::Slow(options) => return slow::run(&options),
        Mode::Compare(options) => return compare::run(options),
        Mode::Sim(options) => return sim::run(&options),
        Mode::Verify(options) => println!("{}", verify::run(&options)?),
    }
    Ok(ExitCode::SUCCESS)
}

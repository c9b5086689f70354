//! A load tool for any WebSocket server, on the client role of `quelea-core`.

mod client;
mod cpu;
mod echo;
mod idle;
mod target;

use clap::{Parser, Subcommand};

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
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Arguments::parse().mode {
        Mode::Echo(options) => println!("{}", echo::run(&options)?),
        Mode::Idle(options) => println!("{}", idle::run(&options)?),
    }
    Ok(())
}

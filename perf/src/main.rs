//! A load tool for any WebSocket server, on the client role of `quelea-core`.

mod attack;
mod audit;
mod churn;
mod client;
mod clock;
mod compare;
mod cpu;
mod echo;
mod fanout;
mod idle;
mod kernel;
mod kill;
mod load;
mod manner;
mod memory;
mod progress;
mod raw;

mod report;
mod rooms;
mod sequence;
mod server;
mod sim;
mod slow;
mod stamp;
mod storm;
mod subject;
mod target;
#[cfg(test)]
mod testing;
mod verify;

use clap::{Parser, Subcommand};
use echo::EchoWorker;
use load::processes::{Orders, Worker};
use quelea::driver::Poll;
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
    /// Sends messages to an echo server, at a rate or as fast as it answers, and tells how long they
    /// took and what they cost both sides.
    Echo(echo::Options),
    /// Holds connections that do nothing, and tells what each costs the server in memory.
    Idle(idle::Options),
    /// Opens and ends connections all the time, and tells what one costs the server.
    Churn(churn::Options),
    /// Starts a server that sends each message to all, and tells its CPU time a delivery, next to
    /// that of a bare loop of sends.
    Fanout(fanout::Options),
    /// Serves as the floor for `fanout`: sends each message to every socket in a bare loop.
    Bare(fanout::bare::Options),
    /// Publishes at a rate in rooms, and tells when each member has each message, and what that costs
    /// the server.
    Rooms(rooms::Options),
    /// Starts a server that sends each message to all, and tells what subscribers that never read
    /// cost those that do, and how much memory they take.
    Slow(slow::Options),
    /// Numbers messages, and tells whether each came once, in order and unchanged to whom it was for.
    Audit(audit::Options),
    /// Drops all connections at once, and tells how long it takes until all are back, and how those
    /// fare that stay.
    Storm(storm::Options),
    /// Serves as the ceiling for `echo --raw`: TCP that sends back what it gets, and nothing else, on
    /// the driver of the server.
    RawServer(raw::Options),
    /// One of several processes of a run.
    #[command(hide = true)]
    Process,
    /// Compares servers: the same work on each of them in turn, and what it costs each.
    Compare(compare::Options),
    /// Attacks a server that echoes, as hostile and broken peers do, and tells what came of it, a row
    /// an attack: handshakes, frames, floods.
    Attack(attack::Options),
    /// Opens connections all the time that do anything and end anyhow: half-open, reset, in the middle of a
    /// frame, with answers unread.
    Kill(kill::Options),
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
        Mode::Idle(options) => return idle::run(&options),
        Mode::Churn(options) => return churn::run(&options),
        Mode::Fanout(options) => return fanout::run(&options),
        Mode::Bare(options) => fanout::bare::run(&options)?,
        Mode::Attack(options) => return attack::run(&options),
        Mode::Kill(options) => return kill::run(&options),
        Mode::Rooms(options) => return rooms::run(&options),
        Mode::Slow(options) => return slow::run(&options),
        Mode::Audit(options) => return audit::run(&options),
        Mode::Storm(options) => return storm::run(&options),
        Mode::RawServer(options) => raw::run(&options)?,
        Mode::Process => follow(Orders::read()?)?,
        Mode::Compare(options) => return compare::run(options),
        Mode::Sim(options) => return sim::run(&options),
        Mode::Verify(options) => println!("{}", verify::run(&options)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Is one of several processes.
fn follow(orders: Orders) -> Result<(), Box<dyn Error>> {
    match orders.kind() {
        EchoWorker::<Poll>::KIND => orders.follow::<EchoWorker<Poll>>(),
        #[cfg(target_os = "linux")]
        EchoWorker::<quelea::driver::Uring>::KIND => {
            orders.follow::<EchoWorker<quelea::driver::Uring>>()
        }
        kind => Err(format!("there is no worker of the kind {kind}").into()),
    }
}

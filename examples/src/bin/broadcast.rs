//! Sends every message to everyone.
//!
//! `cargo run --release --bin broadcast -- --listen 127.0.0.1:9001`

use clap::Parser;
use quelea::{Config, Conn, Handler, Message, Server};
use quelea_examples::{compression, logging, server};

/// A WebSocket server that sends every message to all that are connected, its sender included.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    server: server::Options,
    #[command(flatten)]
    compression: compression::Options,
}

struct Broadcast;

impl Handler for Broadcast {
    type State = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.subscribe("all");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.publish("all", message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    logging::start();
    let deflate = arguments.compression.settings();
    let config = Config { deflate, ..arguments.server.config() };
    let server = Server::new(|_worker| Broadcast).config(config)?;
    let server = server.drain_on_signals(arguments.server.drain())?;
    let server = server.listen(&*arguments.server.listen)?;
    let _metrics = arguments.server.start_metrics(server.handle())?;
    Ok(server.run()?)
}

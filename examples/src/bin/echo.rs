//! Sends every message back.
//!
//! `cargo run --release --bin echo -- --listen 127.0.0.1:9001`

use clap::{Parser, ValueEnum};
use quelea::{Config, Conn, Handler, Message, OriginPolicy, Server};
use quelea_examples::{logging, server};

/// A WebSocket server that sends every message back.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    server: server::Options,
    /// The longest message, in bytes; a longer one closes its connection with 1009.
    #[arg(long, default_value_t = Config::default().message_bytes_max, value_name = "BYTES")]
    max_message: usize,
    /// Which web pages may connect.
    #[arg(long, default_value = "same")]
    origin: Origin,
}

#[derive(Clone, Copy, ValueEnum)]
enum Origin {
    /// Pages of this server's own host.
    Same,
    /// Pages of any host.
    Any,
}

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    logging::start();
    let defaults = Config::default();
    let config = Config {
        workers: arguments.server.workers,
        message_bytes_max: arguments.max_message,
        // Reading pauses at half of it, so that no echo is dropped while its sender is slow.
        outbox_bytes_max: defaults.outbox_bytes_max.max(4 * arguments.max_message),
        mailbox_bytes_max: defaults.mailbox_bytes_max.max(arguments.max_message),
        origins: match arguments.origin {
            Origin::Same => OriginPolicy::SameHost,
            Origin::Any => OriginPolicy::Any,
        },
        ..defaults
    };
    Ok(Server::new(|_worker| Echo).config(config)?.listen(&*arguments.server.listen)?.run()?)
}

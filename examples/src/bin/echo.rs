//! Sends every message back.
//!
//! `cargo run --release --bin echo -- --listen 127.0.0.1:9001`

use clap::{Parser, ValueEnum};
use quelea::{Config, Conn, Handler, Message, OriginPolicy, Server};
use quelea_examples::{
    compression, logging,
    server::{self, seconds},
};
use std::time::Duration;

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
    /// How long a client may be silent before it is pinged [default: 30].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    ping_interval: Option<Duration>,
    /// How long a pinged client may stay silent [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pong_timeout: Option<Duration>,
    /// How long a client may send no message [default: no limit].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    idle_timeout: Option<Duration>,
    /// How long a client may take for its request [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    handshake_timeout: Option<Duration>,
    /// The most messages a second from one client, pings and pongs included [default: no limit].
    #[arg(long, value_name = "COUNT")]
    messages_per_second: Option<u32>,
    #[command(flatten)]
    compression: compression::Options,
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
        deflate: arguments.compression.settings(),
        message_bytes_max: arguments.max_message,
        // Reading pauses at half of it, so that no echo is dropped while its sender is slow.
        outbox_bytes_max: defaults.outbox_bytes_max.max(4 * arguments.max_message),
        mailbox_bytes_max: defaults.mailbox_bytes_max.max(arguments.max_message),
        origins: match arguments.origin {
            Origin::Same => OriginPolicy::SameHost,
            Origin::Any => OriginPolicy::Any,
        },
        ping_interval: arguments.ping_interval.or(defaults.ping_interval),
        pong_timeout: arguments.pong_timeout.unwrap_or(defaults.pong_timeout),
        idle_timeout: arguments.idle_timeout.or(defaults.idle_timeout),
        handshake_timeout: arguments.handshake_timeout.unwrap_or(defaults.handshake_timeout),
        messages_per_second_max: arguments.messages_per_second.or(defaults.messages_per_second_max),
        ..arguments.server.config()
    };
    let server = Server::new(|_worker| Echo).config(config)?;
    let server = server.drain_on_signals(arguments.server.drain())?;
    let server = server.listen(&*arguments.server.listen)?;
    let _metrics = arguments.server.start_metrics(server.handle())?;
    Ok(server.run()?)
}

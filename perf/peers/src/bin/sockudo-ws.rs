//! sockudo-ws, tuned as its README says. TCP_NODELAY; mimalloc, "recommended for production"; answers are
//! fed and never flushed by hand, as `next` flushes before it waits for more; the clock is set up before
//! the runtime starts. Pings and the limit of idle time are off, as in its own measurements: the others
//! have none. UTF-8 is checked, though it can be told not to.

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use mimalloc::MiMalloc;
use quelea_perf_peers::{Arguments, Outcome, batch, room::Room, runtime, serve};
use sockudo_ws::{Config, Message, Role, WebSocketStream, handshake::server_handshake, init_clock};
use std::sync::Arc;
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> Outcome {
    let arguments = Arguments::parse();
    let room = arguments.publish.then(Room::new);
    init_clock();
    let config = Config::builder().auto_ping(false).idle_timeout(0).build();
    // A timer bounds how long a close handshake may take.
    let runtime = runtime(&arguments).enable_time().build()?;
    serve(&arguments, &runtime, |stream| connection(stream, config.clone(), room.clone()))
}

async fn connection(
    mut stream: TcpStream,
    config: Config,
    room: Option<Arc<Room<Message>>>,
) -> Outcome {
    stream.set_nodelay(true)?;
    let leftover = server_handshake(&mut stream).await?.leftover;
    let mut ws = WebSocketStream::from_raw_with_leftover(stream, Role::Server, config, leftover);
    let is_data = |message: &Message| message.is_text() || message.is_binary();
    if let Some(room) = room {
        return Ok(batch::publish(ws, room, is_data).await?);
    }
    while let Some(message) = ws.next().await {
        let message = message?;
        if is_data(&message) {
            ws.feed(message).await?;
        }
    }
    Ok(())
}

//! tokio-tungstenite, tuned. TCP_NODELAY. The buffers stay at 128 KiB each, which the documentation of
//! `WebSocketConfig` calls right for a high load, and in which it wants messages to gather: they are fed,
//! and flushed when no more are ready. The size limits are its own.

use clap::Parser;
use quelea_perf_peers::{Arguments, Outcome, batch, room::Room, runtime, serve};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    accept_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

const BUFFER_BYTES: usize = 128 << 10;

fn main() -> Outcome {
    let arguments = Arguments::parse();
    let room = arguments.publish.then(Room::new);
    serve(&arguments, &runtime(&arguments).build()?, |stream| connection(stream, room.clone()))
}

async fn connection(stream: TcpStream, room: Option<Arc<Room<Message>>>) -> Outcome {
    stream.set_nodelay(true)?;
    let config =
        WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    let ws = accept_async_with_config(stream, Some(config)).await?;
    let is_data = |message: &Message| message.is_text() || message.is_binary();
    match room {
        Some(room) => batch::publish(ws, room, is_data).await?,
        None => batch::echo(ws, is_data).await?,
    }
    Ok(())
}

//! tokio-tungstenite, tuned. TCP_NODELAY. Messages are fed, and flushed when no more are ready: the
//! documentation of `WebSocketConfig` wants them to gather in the write buffer, of 128 KiB. The read buffer
//! is smaller than its 128 KiB: each read clears all of it first, which costs a third more CPU for short
//! messages than the 4 to 8 KiB that its changelog names for many connections; 16 KiB are as good there,
//! and better for long ones. The size limits are its own.

use clap::Parser;
use quelea_perf_peers::{Arguments, Outcome, batch, room::Room, runtime, serve};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    accept_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

const READ_BUFFER_BYTES: usize = 16 << 10;
const WRITE_BUFFER_BYTES: usize = 128 << 10;

fn main() -> Outcome {
    let arguments = Arguments::parse();
    let room = arguments.publish.then(Room::new);
    serve(&arguments, &runtime(&arguments).build()?, |stream| connection(stream, room.clone()))
}

async fn connection(stream: TcpStream, room: Option<Arc<Room<Message>>>) -> Outcome {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES);
    let ws = accept_async_with_config(stream, Some(config)).await?;
    let is_data = |message: &Message| message.is_text() || message.is_binary();
    match room {
        Some(room) => batch::publish(ws, room, is_data).await?,
        None => batch::echo(ws, is_data).await?,
    }
    Ok(())
}

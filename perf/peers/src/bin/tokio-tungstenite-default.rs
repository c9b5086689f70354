//! tokio-tungstenite as its `examples/echo-server.rs` has it: what its users start from. `forward` flushes
//! when no message is ready, so answers are batched here too; Nagle's algorithm stays on, as there.

use clap::Parser;
use futures_util::{StreamExt, TryStreamExt, future};
use quelea_perf_peers::{Arguments, Outcome, batch, room::Room, runtime, serve};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_tungstenite::{accept_async, tungstenite::Message};

fn main() -> Outcome {
    let arguments = Arguments::parse();
    let room = arguments.publish.then(Room::new);
    serve(&arguments, &runtime(&arguments).build()?, |stream| connection(stream, room.clone()))
}

async fn connection(stream: TcpStream, room: Option<Arc<Room<Message>>>) -> Outcome {
    let ws = accept_async(stream).await?;
    if let Some(room) = room {
        return Ok(batch::publish(ws, room, is_data).await?);
    }
    let (write, read) = ws.split();
    Ok(read.try_filter(|message| future::ready(is_data(message))).forward(write).await?)
}

fn is_data(message: &Message) -> bool {
    message.is_text() || message.is_binary()
}

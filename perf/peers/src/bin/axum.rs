//! axum, tuned. TCP_NODELAY by `tap_io`, as its documentation has it. Its WebSocket is that of
//! tokio-tungstenite, an older version than the one that is measured by itself, and so is the tuning: see
//! there.

use axum::{
    Router,
    extract::{
        WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    routing::any,
    serve::ListenerExt,
};
use clap::Parser;
use quelea_perf_peers::{Arguments, Outcome, batch, listen, room::Room, runtime};
use std::sync::Arc;
use tokio::net::TcpListener;

const READ_BUFFER_BYTES: usize = 16 << 10;
const WRITE_BUFFER_BYTES: usize = 128 << 10;

fn main() -> Outcome {
    let arguments = Arguments::parse();
    let room = arguments.publish.then(Room::new);
    // A timer is what axum waits with after it failed to accept a connection.
    runtime(&arguments).enable_time().build()?.block_on(async {
        let router = Router::new().fallback(any(|upgrade: WebSocketUpgrade| async move {
            upgrade
                .read_buffer_size(READ_BUFFER_BYTES)
                .write_buffer_size(WRITE_BUFFER_BYTES)
                .on_upgrade(move |ws| connection(ws, room))
        }));
        let listener = TcpListener::from_std(listen(&arguments)?)?;
        let listener = listener.tap_io(|stream| {
            // A connection that is gone already.
            let _ = stream.set_nodelay(true);
        });
        Ok(axum::serve(listener, router).await?)
    })
}

async fn connection(ws: WebSocket, room: Option<Arc<Room<Message>>>) {
    let is_data = |message: &Message| matches!(message, Message::Text(_) | Message::Binary(_));
    let ended = match room {
        Some(room) => batch::publish(ws, room, is_data).await,
        None => batch::echo(ws, is_data).await,
    };
    // How a connection ends is nobody's concern.
    drop(ended);
}

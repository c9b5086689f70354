//! sockudo-ws, tuned as its README says. TCP_NODELAY; mimalloc, "recommended for production"; answers are
//! fed and never flushed by hand, as `next` flushes before it waits for more; the clock is set up before
//! the runtime starts. Pings and the limit of idle time are off, as in its own measurements: the others
//! have none. UTF-8 is checked, though it can be told not to. `--deflate` is its `Compression::Shared` or `Dedicated`;
//! its own handshake over TCP agrees on no compression, so that is what its integration with axum does by the same
//! functions.

use bytes::{Bytes, BytesMut};
use clap::Parser;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use mimalloc::MiMalloc;
use quelea_perf_peers::{Deflate, DeflateArguments, Outcome, batch, room::Room, runtime, serve};
use sockudo_ws::{
    CompressedWebSocketStream, Compression, Config, Message, Role, WebSocketStream,
    deflate::{DeflateConfig, negotiate_server_deflate},
    handshake::{build_response, generate_accept_key, parse_request, server_handshake},
    init_clock,
};
use std::{error::Error, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The longest request.
const HEAD_BYTES_MAX: usize = 16 << 10;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> Outcome {
    let DeflateArguments { arguments, deflate } = DeflateArguments::parse();
    let compression = match deflate {
        None => Compression::Disabled,
        Some(Deflate::Shared) => Compression::Shared,
        Some(Deflate::Takeover) => Compression::Dedicated,
    };
    let room = arguments.publish.then(Room::new);
    init_clock();
    let config =
        Config::builder().auto_ping(false).idle_timeout(0).compression(compression).build();
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
    let Some(policy) = config.compression.to_deflate_config() else {
        let leftover = server_handshake(&mut stream).await?.leftover;
        let ws = WebSocketStream::from_raw_with_leftover(stream, Role::Server, config, leftover);
        return answer(ws, room).await;
    };
    let (agreed, leftover) = handshake(&mut stream, &policy).await?;
    match agreed {
        Some(agreed) => {
            let ws =
                CompressedWebSocketStream::server_with_leftover(stream, config, agreed, leftover);
            answer(ws, room).await
        }
        None => {
            let ws =
                WebSocketStream::from_raw_with_leftover(stream, Role::Server, config, leftover);
            answer(ws, room).await
        }
    }
}

/// What was agreed on, and what came behind the request.
async fn handshake(
    stream: &mut TcpStream,
    policy: &DeflateConfig,
) -> Result<(Option<DeflateConfig>, Option<Bytes>), Box<dyn Error + Send + Sync>> {
    let mut head = BytesMut::with_capacity(4096);
    loop {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Err("there is no whole request".into());
        }
        let Some((request, len)) = parse_request(&head)? else { continue };
        let agreed = request.extensions.and_then(|offers| negotiate_server_deflate(offers, policy));
        let extensions = agreed.as_ref().map(|agreed| agreed.to_response_header());
        let key = generate_accept_key(request.key);
        stream.write_all(&build_response(&key, None, extensions.as_deref())).await?;
        let leftover = (len < head.len()).then(|| head.split_off(len).freeze());
        return Ok((agreed.map(|agreed| agreed.config), leftover));
    }
}

async fn answer<S, E>(mut ws: S, room: Option<Arc<Room<Message>>>) -> Outcome
where
    S: Stream<Item = Result<Message, E>> + Sink<Message, Error = E> + Unpin,
    E: Error + Send + Sync + 'static,
{
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

//! yawc, as the benchmark in its README has it tuned: a read buffer of 128 KiB, a write boundary of 64 KiB,
//! batches of at most 32 ready messages, then a flush. TCP_NODELAY, and SIMD to check UTF-8, which is off
//! by default and which RFC 6455 wants (section 8.1). The handshake is hyper's, as in its examples. `--deflate` is
//! its preset for low latency (level 1); without takeover as in its README, and from its pool.

use clap::Parser;
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use quelea_perf_peers::{
    Deflate, DeflateArguments, Outcome, batch, http, room::Room, runtime, serve,
};
use std::sync::Arc;
use tokio::net::TcpStream;
use yawc::{DeflatePool, Frame, OpCode, Options, UpgradeFut, WebSocket, WebSocketError};

fn main() -> Outcome {
    let DeflateArguments { arguments, deflate } = DeflateArguments::parse();
    let room = arguments.publish.then(Room::new);
    let options = Options::default()
        .with_utf8()
        .with_read_buffer_capacity(128 << 10)
        .with_backpressure_boundary(64 << 10);
    let options = match deflate {
        None => options,
        Some(Deflate::Takeover) => options.with_low_latency_compression(),
        Some(Deflate::Shared) => options
            .with_low_latency_compression()
            .server_no_context_takeover()
            .client_no_context_takeover()
            .with_deflate_pool(DeflatePool::new(arguments.threads.get())),
    };
    serve(&arguments, &runtime(&arguments).build()?, |stream| {
        accept(stream, options.clone(), room.clone())
    })
}

async fn accept(stream: TcpStream, options: Options, room: Option<Arc<Room<Frame>>>) -> Outcome {
    stream.set_nodelay(true)?;
    let upgrade = |mut request| {
        let (response, upgrade) = WebSocket::upgrade_with_options(&mut request, options.clone())?;
        tokio::spawn(connection(upgrade, room.clone()));
        Ok::<_, WebSocketError>(response)
    };
    Ok(http(TokioIo::new(stream), upgrade).await?)
}

async fn connection(upgrade: UpgradeFut, room: Option<Arc<Room<Frame>>>) -> Outcome {
    let ws = upgrade.await?.map(Ok);
    let is_data = |frame: &Frame| matches!(frame.opcode(), OpCode::Text | OpCode::Binary);
    match room {
        Some(room) => batch::publish(ws, room, is_data).await?,
        None => batch::echo(ws, is_data).await?,
    }
    Ok(())
}

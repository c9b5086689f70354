//! fastwebsockets, as its README and `examples/echo_server.rs` have it: a task without tokio's budget,
//! vectored writes, closes and pongs by the crate, fragments collected. TCP_NODELAY. It writes each frame
//! at once and cannot be asked whether another is there, so answers are not batched.
//!
//! With `--publish` it is split, as in `examples/echo_server_split.rs`, and the half that writes has a
//! buffer, for which the crate has `flush`: what waits for a connection is flushed together.

use bytes::Bytes;
use clap::Parser;
use fastwebsockets::{
    FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, WebSocket, WebSocketError,
    WebSocketWrite,
    upgrade::{UpgradeFut, upgrade},
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use quelea_perf_peers::{Arguments, BATCH_MAX, Outcome, http, room::Room, runtime, serve};
use std::{future::ready, pin::pin, sync::Arc};
use tokio::{
    io::{BufWriter, WriteHalf},
    net::TcpStream,
    sync::mpsc::{self, Receiver},
    task::unconstrained,
};

type Io = TokioIo<Upgraded>;

/// A frame that many connections are to send.
#[derive(Clone)]
struct Shared {
    opcode: OpCode,
    payload: Bytes,
}

/// Pongs and closes that a connection owes its client at any one time.
const CONTROL_MAX: usize = 16;

fn main() -> Outcome {
    let arguments = Arguments::parse();
    let room = arguments.publish.then(Room::new);
    serve(&arguments, &runtime(&arguments).build()?, |stream| accept(stream, room.clone()))
}

async fn accept(stream: TcpStream, room: Option<Arc<Room<Shared>>>) -> Outcome {
    stream.set_nodelay(true)?;
    let upgrade = |mut request| {
        let (response, upgrade) = upgrade(&mut request)?;
        tokio::spawn(unconstrained(connection(upgrade, room.clone())));
        Ok::<_, WebSocketError>(response)
    };
    Ok(http(TokioIo::new(stream), upgrade).await?)
}

async fn connection(upgrade: UpgradeFut, room: Option<Arc<Room<Shared>>>) -> Outcome {
    let mut ws = upgrade.await?;
    ws.set_writev(true);
    ws.set_auto_close(true);
    ws.set_auto_pong(true);
    match room {
        Some(room) => publish(ws, &room).await?,
        None => echo(ws).await?,
    }
    Ok(())
}

async fn echo(ws: WebSocket<Io>) -> Result<(), WebSocketError> {
    let mut ws = FragmentCollector::new(ws);
    loop {
        let frame = ws.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => ws.write_frame(frame).await?,
            _ => {}
        }
    }
}

async fn publish(ws: WebSocket<Io>, room: &Arc<Room<Shared>>) -> Result<(), WebSocketError> {
    let (_member, inbox) = room.join();
    let (control, controls) = mpsc::channel(CONTROL_MAX);
    let (reader, writer) = ws.split(|io| {
        let (read, write) = tokio::io::split(io);
        (read, BufWriter::new(write))
    });
    let mut reader = FragmentCollectorRead::new(reader);
    let read = async move {
        // One that sends pings and does not read the pongs is let go.
        let mut answer = |frame: Frame<'_>| ready(control.try_send(owned(frame)));
        loop {
            let frame = reader.read_frame(&mut answer).await?;
            match frame.opcode {
                OpCode::Close => return Ok(()),
                OpCode::Text | OpCode::Binary => room.publish(&owned(frame)),
                _ => {}
            }
        }
    };
    let mut write = pin!(write(writer, inbox, controls));
    tokio::select! {
        // It has fallen behind, or the connection broke.
        written = &mut write => written,
        // What the reader had for the writer is still to be written: it ends when that is.
        read = read => read.and(write.await),
    }
}

fn owned(frame: Frame<'_>) -> Shared {
    Shared { opcode: frame.opcode, payload: Bytes::from(Vec::from(frame.payload)) }
}

async fn write(
    mut writer: WebSocketWrite<BufWriter<WriteHalf<Io>>>,
    mut inbox: Receiver<Shared>,
    mut controls: Receiver<Shared>,
) -> Result<(), WebSocketError> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            biased;
            queued = controls.recv() => match queued {
                Some(queued) => batch.push(queued),
                None => return Ok(()),
            },
            count = inbox.recv_many(&mut batch, BATCH_MAX) => if count == 0 {
                return Ok(());
            },
        }
        for Shared { opcode, payload } in batch.drain(..) {
            let frame = Frame::new(true, opcode, None, Payload::Borrowed(&payload));
            writer.write_frame(frame).await?;
        }
        writer.flush().await?;
    }
}

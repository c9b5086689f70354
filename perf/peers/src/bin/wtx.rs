//! wtx, as its `wtx-examples/web-socket/web-socket-server.rs` has it, without TLS: buffers reused for all
//! messages of a connection, payloads sent from where they were read (`Adaptive`), and the feature
//! `optimization`. TCP_NODELAY. It writes each frame at once, header and payload in one vectored
//! write, and cannot be asked whether another is there, so answers are not batched.
//!
//! There is no `--publish`: a frame to send wants its payload for itself alone (`LeaseMut`).

use clap::{CommandFactory, Parser, error::ErrorKind};
use quelea_perf_peers::{Arguments, Outcome, runtime, serve};
use tokio::net::TcpStream;
use wtx::{
    collection::Vector,
    web_socket::{OpCode, WebSocketAcceptor, WebSocketPayloadOrigin},
};

fn main() -> Outcome {
    let arguments = Arguments::parse();
    if arguments.publish {
        let why = "wtx cannot send a payload that connections share: leave --publish out";
        Arguments::command().error(ErrorKind::ArgumentConflict, why).exit();
    }
    serve(&arguments, &runtime(&arguments).build()?, connection)
}

async fn connection(stream: TcpStream) -> wtx::Result<()> {
    stream.set_nodelay(true)?;
    let mut ws = WebSocketAcceptor::default().accept(stream).await?;
    let (mut common, mut reader, mut writer) = ws.split_mut();
    let mut buffer = Vector::new();
    loop {
        let origin = WebSocketPayloadOrigin::Adaptive;
        let mut frame = reader.read_frame(&mut buffer, &mut common, origin).await?;
        match frame.op_code() {
            OpCode::Binary | OpCode::Text => writer.write_frame(&mut common, &mut frame).await?,
            OpCode::Close => return Ok(()),
            _ => {}
        }
    }
}

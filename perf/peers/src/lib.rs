//! What the servers of others share: their arguments, the listener, the runtime, and the loops that
//! suit more than one of them.

pub mod batch;
pub mod room;

use clap::{Parser, ValueEnum};
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    rt::{Read, Write},
    server::conn::http1,
    service::service_fn,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    error::Error,
    io::{self, ErrorKind},
    net::{self, SocketAddr},
    num::NonZeroUsize,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

/// What is asked of each of the servers.
#[derive(Clone, Parser)]
pub struct Arguments {
    /// The address to listen on, such as 127.0.0.1:9001; port 0 takes a free one.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Sends each message to all connections, its sender included, instead of back.
    #[arg(long)]
    pub publish: bool,
    /// How many threads serve. One by default, so that one core is compared with one core.
    #[arg(long, default_value = "1")]
    pub threads: NonZeroUsize,
}

/// What is asked of a server that can compress (permessage-deflate).
#[derive(Clone, Parser)]
pub struct DeflateArguments {
    /// What is asked of all.
    #[command(flatten)]
    pub arguments: Arguments,
    /// Compresses, for clients that offer it: each message by itself, or with those before it.
    #[arg(long, value_enum)]
    pub deflate: Option<Deflate>,
}

/// How to compress.
#[derive(Clone, Copy, ValueEnum)]
pub enum Deflate {
    /// Each message by itself.
    Shared,
    /// With those before it.
    Takeover,
}

/// What a server may end with.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Messages are taken in batches of at most so many before they are flushed, as in the measurements of
/// yawc: what is ready is answered by one write, and nobody waits for long.
pub const BATCH_MAX: usize = 32;

/// Connections that wait to be accepted: as many as the kernel allows by default.
const BACKLOG: i32 = 4096;

/// Binds the address, and tells it: from then on connections are taken.
pub fn listen(arguments: &Arguments) -> io::Result<net::TcpListener> {
    let address = arguments.listen;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Or a server could not be started again on a port until the connections of the last one are gone.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = net::TcpListener::from(socket);
    println!("listening on {}", listener.local_addr()?);
    Ok(listener)
}

/// Tokio's runtime without a timer, as most do not need one: `current_thread` with one thread.
pub fn runtime(arguments: &Arguments) -> Builder {
    let mut builder = match arguments.threads.get() {
        1 => Builder::new_current_thread(),
        threads => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    builder.enable_io();
    builder
}

/// Accepts connections, each for a task of its own, until that fails. How a connection ends is nobody's
/// concern: a client may leave as it likes.
pub fn serve<F>(
    arguments: &Arguments,
    runtime: &Runtime,
    connection: impl Fn(TcpStream) -> F,
) -> Outcome
where
    F: Future + Send + 'static,
{
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen(arguments)?)?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = connection(stream);
                    tokio::spawn(async move { drop(connection.await) });
                }
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(format!("cannot accept a connection: {error}").into()),
            }
        }
    })
}

/// Serves one HTTP/1.1 connection that may be upgraded: for the crates that leave the handshake to hyper.
pub async fn http<B, E>(
    stream: impl Read + Write + Unpin + Send + 'static,
    upgrade: impl Fn(Request<Incoming>) -> Result<Response<B>, E>,
) -> hyper::Result<()>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let service = service_fn(|request| std::future::ready(upgrade(request)));
    http1::Builder::new().serve_connection(stream, service).with_upgrades().await
}

//! An axum application that hands its WebSockets over: axum has the port and answers what is HTTP, the
//! workers of Quelea serve what was upgraded, and send every message back.
//!
//! `cargo run --release --bin axum -- --listen 127.0.0.1:9001`

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, Version, header},
    response::{AppendHeaders, IntoResponse, Response},
    routing::get,
};
use clap::Parser;
use hyper::upgrade::OnUpgrade;
use hyper_util::{rt::TokioIo, server::conn::auto};
use quelea::{Adoption, Config, Conn, Handle, Handler, Message, OriginPolicy, Server, Status};
use quelea_core::{handshake, http};
use quelea_examples::{logging, server::Driver};
use std::{error::Error, sync::mpsc, thread, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// An axum server whose WebSockets are served by Quelea, which sends every message back.
#[derive(Parser)]
struct Arguments {
    /// Where to listen: HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: String,
    /// How many workers for WebSockets, each a thread [default: one for each core].
    #[arg(long, value_name = "COUNT")]
    workers: Option<usize>,
    /// How the workers speak to the kernel.
    #[arg(long, default_value = "auto")]
    driver: Driver,
}

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

type AnyError = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let arguments = Arguments::parse();
    logging::start();
    let (start, started) = mpsc::channel();
    let server = Server::new(move |_worker| {
        let _ = start.send(());
        Echo
    })
    .config(Config {
        workers: arguments.workers,
        driver: arguments.driver.into(),
        ..Config::default()
    })?
    .without_listener();
    let handle = server.handle();
    let (end, ended) = oneshot::channel::<()>();
    let workers = thread::spawn(move || {
        // Dropped at the end, also of a panic.
        let _end = end;
        server.run()
    });
    // Before they run they adopt nothing. If they never do, `ended` says so.
    let _ = started.recv();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(&arguments.listen, handle.clone(), ended));
    handle.stop();
    workers.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    served
}

/// How long axum has for the requests that it has begun, after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// Serves HTTP until Ctrl-C or SIGTERM, or until the workers end.
async fn serve(
    address: &str,
    handle: Handle,
    workers_ended: oneshot::Receiver<()>,
) -> Result<(), AnyError> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    let app = Router::new()
        .route("/", get(page_or_websocket))
        .route("/health", get(|| async { "ok\n" }))
        .with_state(handle.clone());
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = oneshot::channel::<()>();
    let until_stopped = async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
            _ = workers_ended => {}
        }
        // WebSockets are closed with 1001 while axum finishes its requests.
        handle.stop();
        let _ = stop.send(());
    };
    // A client that never comes to the end of its request is not to keep the process.
    let grace_is_over = async move {
        let _ = stopped.await;
        tokio::time::sleep(GRACE).await;
    };
    let served = axum::serve(listener, app).with_graceful_shutdown(until_stopped);
    tokio::select! {
        served = served.into_future() => served?,
        () = grace_is_over => tracing::warn!("ended before all requests were done"),
    }
    Ok(())
}

async fn page_or_websocket(
    State(handle): State<Handle>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let Some(key) = accept_key(&request)? else {
        return Ok("Connect here with ws://, and every message comes back.\n".into_response());
    };
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let adoption = Adoption::new(target);
    let upgrade = hyper::upgrade::on(&mut request);
    // It is there once the answer is sent.
    tokio::spawn(async move {
        if let Err(error) = hand_over(upgrade, adoption, &handle).await {
            tracing::warn!(%error, "a WebSocket was not handed over, and is closed");
        }
    });
    let fields: [(_, &[u8]); 3] = [
        (header::UPGRADE, b"websocket"),
        (header::CONNECTION, b"Upgrade"),
        (header::SEC_WEBSOCKET_ACCEPT, &key),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, fields).into_response())
}

/// The key that accepts a request for a WebSocket; `None` for a plain request.
fn accept_key(request: &Request) -> Result<Option<[u8; 28]>, Refusal> {
    let (method, target) = (request.method().as_str(), request.uri().to_string());
    let is_http_1_1 = request.version() == Version::HTTP_11;
    let fields = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut room = http::Fields::new();
    let request = http::Request::from_parts(method, &target, is_http_1_1, fields, &mut room)?;
    if !handshake::wants_upgrade(&request) {
        return Ok(None);
    }
    let upgrade = handshake::Upgrade::check(&request, &OriginPolicy::SameHost)?;
    Ok(Some(upgrade.accept_key()))
}

/// From hyper to the workers: the stream, and what was read of it beyond the request.
async fn hand_over(
    upgrade: OnUpgrade,
    adoption: Adoption,
    handle: &Handle,
) -> Result<(), AnyError> {
    let parts = auto::upgrade::downcast::<TokioIo<TcpStream>>(upgrade.await?)
        .map_err(|_| "it is no TCP stream of tokio's")?;
    let stream = parts.io.into_inner().into_std()?;
    Ok(handle.adopt_websocket(stream, parts.read_buf, adoption)?)
}

/// The answer to a request that breaks a rule.
struct Refusal {
    status: Status,
    fields: &'static [(&'static str, &'static str)],
    why: String,
}

impl From<http::HeadError> for Refusal {
    fn from(error: http::HeadError) -> Self {
        Self { status: error.status(), fields: &[], why: error.to_string() }
    }
}

impl From<handshake::Refusal> for Refusal {
    fn from(refusal: handshake::Refusal) -> Self {
        Self { status: refusal.status(), fields: refusal.fields(), why: refusal.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status.0).unwrap_or(StatusCode::BAD_REQUEST);
        let fields = AppendHeaders(self.fields.iter().copied());
        (status, fields, self.why + "\n").into_response()
    }
}

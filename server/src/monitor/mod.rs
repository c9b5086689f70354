//! A listener for those who watch a server: metrics for Prometheus, and health for who restarts and
//! routes.

mod exposition;

use crate::{
    address::ListenAddress,
    app::Server,
    config::{Config, DriverKind},
    context::Conn,
    error::{Error, Result},
    handle::Handle,
    handler::Handler,
    http::{Request, Response},
    metrics::Metrics,
    upgrade::{Accept, Upgrade},
};
use quelea_core::{Message, http::Status};
use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long a request waits for the workers. Those who watch wait for a second, mostly.
const PATIENCE: Duration = Duration::from_millis(500);
/// How old what a request is answered with may be. So those that come at once cost the workers, and wait
/// for one that is stuck, as much as one does.
const AGE_MAX: Duration = Duration::from_millis(100);
/// How long a worker may not answer before the server is not healthy.
const UNANSWERED_MAX: Duration = Duration::from_secs(2);
/// A few who watch, and keep their connections.
const CONNECTIONS_MAX: usize = 64;
/// As many are let in when the process has no more descriptors: that is when it has to be watched.
const RESERVED: usize = 4;

/// Answers Prometheus and health checks about a server, on a listener and a thread of its own, until it is
/// dropped.
///
/// | path | answer |
/// |---|---|
/// | `/metrics` | all metrics of docs/metrics.md, in the text format of OpenMetrics 1.0 |
/// | `/health/live` | 200; 503 once a worker has not answered for two seconds, with its number |
/// | `/health/ready` | 200 while all workers serve; 503 before that, and from [`Handle::drain`] or [`Handle::stop`] on |
///
/// A request waits for half a second at most, also while all workers are busy or stuck, and is answered with
/// what they said at most a tenth of a second before. A few descriptors are kept for those who ask, for when
/// the process has no others. There is no authentication: listen where only those who
/// watch can connect.
///
/// ```no_run
/// # use quelea::{Conn, Handler, Message};
/// use quelea::{MetricsServer, Server};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     type State = ();
/// #     fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}
/// # }
///
/// let server = Server::new(|_worker| Echo).listen("0.0.0.0:9001")?;
/// let _metrics = MetricsServer::start("127.0.0.1:9100", server.handle())?;
/// server.run()?;
/// # Ok::<(), quelea::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct MetricsServer {
    addresses: Vec<ListenAddress>,
    handle: Handle,
    thread: Option<JoinHandle<Result<()>>>,
}

impl MetricsServer {
    /// Answers about the server of a handle from now on, which need not run yet.
    ///
    /// # Errors
    /// [`Error::Address`] if the address cannot be read, [`Error::Listen`] if it cannot be had,
    /// [`Error::Io`] if there can be no other thread.
    pub fn start<A>(address: A, watched: Handle) -> Result<Self>
    where
        A: TryInto<ListenAddress>,
        Error: From<A::Error>,
    {
        let config = Config {
            workers: Some(1),
            // A ring has buffers and a table that a few who watch do not need.
            driver: DriverKind::Poll,
            connections_max: CONNECTIONS_MAX,
            handshakes_pending_max: CONNECTIONS_MAX,
            close_timeout: Duration::from_secs(1),
            ..Config::default()
        };
        let span = tracing::info_span!("metrics");
        let make = move |_| Monitor { watched: watched.clone(), latest: None };
        let server = span.in_scope(|| {
            Server::new(make).config(config)?.reserve_descriptors(RESERVED).listen(address)
        })?;
        let addresses = server.local_addresses().cloned().collect();
        let handle = server.handle();
        let run = move || span.in_scope(|| server.run());
        let thread = thread::Builder::new().name("quelea-metrics".to_owned()).spawn(run)?;
        Ok(Self { addresses, handle, thread: Some(thread) })
    }

    /// The addresses it listens on, with the ports that were given for port 0.
    pub fn local_addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.addresses.iter()
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(Err(error)) = self.thread.take().and_then(|thread| thread.join().ok()) {
            tracing::error!(%error, "the metrics server failed");
        }
    }
}

struct Monitor {
    watched: Handle,
    /// What the workers said last, and when.
    latest: Option<(Instant, Metrics)>,
}

impl Monitor {
    /// What the workers say, or said just now.
    fn latest(&mut self) -> &Metrics {
        let latest = self.latest.take().filter(|(at, _)| now().duration_since(*at) < AGE_MAX);
        let ask = || {
            let metrics = self.watched.metrics(PATIENCE);
            (now(), metrics)
        };
        &self.latest.insert(latest.unwrap_or_else(ask)).1
    }

    fn metrics(&mut self) -> Response {
        match exposition::encode(self.latest().clone()) {
            Ok(text) => Response::new(Status::OK).content(exposition::CONTENT_TYPE, text),
            Err(_) => Response::new(Status::INTERNAL_SERVER_ERROR),
        }
    }

    fn live(&mut self) -> Response {
        let stuck = self.latest().workers.iter().enumerate().filter_map(|(index, worker)| {
            let time = worker.unanswered.filter(|time| *time >= UNANSWERED_MAX)?;
            Some(format!("worker {index} has not answered for {:.1} s\n", time.as_secs_f64()))
        });
        let stuck: String = stuck.collect();
        if stuck.is_empty() {
            Response::text(Status::OK, "live\n")
        } else {
            Response::text(Status::SERVICE_UNAVAILABLE, stuck)
        }
    }

    fn ready(&self) -> Response {
        if self.watched.is_ready() {
            Response::text(Status::OK, "ready\n")
        } else if self.watched.is_draining() {
            Response::text(Status::SERVICE_UNAVAILABLE, "the server ends\n")
        } else {
            Response::text(Status::SERVICE_UNAVAILABLE, "the server starts\n")
        }
    }
}

impl Handler for Monitor {
    type State = ();

    fn on_upgrade(&mut self, _: &Upgrade<'_>) -> Result<Accept<()>, Response> {
        Err(Response::text(Status::NOT_FOUND, "there is no WebSocket here\n"))
    }

    fn on_request(&mut self, request: &Request<'_>) -> Response {
        match request.path() {
            "/metrics" => self.metrics(),
            "/health/live" => self.live(),
            "/health/ready" => self.ready(),
            _ => Response::text(
                Status::NOT_FOUND,
                "there are /metrics, /health/live and /health/ready\n",
            ),
        }
    }

    /// Nobody is let in who could send one.
    fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}
}

#[expect(clippy::disallowed_methods, reason = "the clock of who watches: no worker reads it")]
fn now() -> Instant {
    Instant::now()
}

//! What those who watch a server are told, whatever it is busy with.
#![expect(clippy::disallowed_methods, reason = "a test measures time")]

mod support;

use quelea::{Config, Conn, Handler, ListenAddress, Message, MetricsServer, Server};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use support::*;

/// Echoes, and is stuck as long as the test likes.
struct Sticky(Arc<AtomicBool>);

impl Handler for Sticky {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        if message == Message::Text("stick") {
            self.0.store(true, Ordering::SeqCst);
            while self.0.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        conn.send(message);
    }
}

struct Site {
    // Before the server: it is not to wait for one that is stuck.
    unstick: Unstick,
    serving: Serving,
    monitor: MetricsServer,
}

/// A test that fails leaves nobody stuck.
struct Unstick(Arc<AtomicBool>);

impl Drop for Unstick {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn address_of(monitor: &MetricsServer) -> SocketAddr {
    match monitor.local_addresses().next() {
        Some(ListenAddress::Tcp(addresses)) => addresses[0],
        other => panic!("{other:?}"),
    }
}

impl Site {
    fn start() -> Self {
        let is_stuck = Arc::<AtomicBool>::default();
        let own = Arc::clone(&is_stuck);
        let config = Config { workers: Some(workers()), ..Config::default() };
        let serving = Serving::start(config, &["127.0.0.1:0"], move |_| Sticky(Arc::clone(&own)));
        let monitor = MetricsServer::start("127.0.0.1:0", serving.handle.clone()).unwrap();
        Self { unstick: Unstick(is_stuck), serving, monitor }
    }

    fn open(&self) -> Raw {
        let mut raw = self.serving.connect();
        raw.upgrade("/");
        raw
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        get(address_of(&self.monitor), path)
    }

    /// Waits until the answer has a status; the answer.
    fn until(&self, path: &str, status: u16) -> String {
        let start = Instant::now();
        loop {
            let (got, _, body) = self.get(path);
            if got == status {
                return body;
            }
            assert!(start.elapsed() < PATIENCE, "{got} {body}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The status, head and body of an answer.
fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    let mut raw = Raw::new(TcpStream::connect(address).unwrap());
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: monitor\r\n\r\n").as_bytes());
    let (head, body) = raw.read_response();
    (head[9..12].parse().unwrap(), head, body)
}

/// All series of a text in the format of OpenMetrics, and the names of the metrics with their help.
fn parse(text: &str) -> (BTreeMap<&str, f64>, BTreeMap<&str, &str>) {
    let (mut series, mut helps) = (BTreeMap::new(), BTreeMap::new());
    assert!(text.ends_with("\n# EOF\n"));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert_eq!(helps.insert(name, help), None, "twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(series.insert(name, value.parse().unwrap()), None, "{name} twice");
        }
    }
    (series, helps)
}

#[test]
fn metrics_are_what_the_handle_tells_with_all_labels_from_the_start() {
    let site = Site::start();
    site.until("/health/ready", 200);
    let mut raw = site.open();
    for _ in 0..5 {
        raw.send(&frame(TEXT, b"hello"));
        raw.read_frame();
    }
    let (status, head, text) = site.get("/metrics");
    assert_eq!(status, 200);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(&format!("\r\nContent-Type: {content_type}\r\n")), "{head}");
    let (series, _) = parse(&text);
    let sum = |name: &str| {
        let of_name = series.range(name..).take_while(|(key, _)| key.starts_with(name));
        of_name.map(|(_, value)| value).sum::<f64>()
    };
    assert_eq!(sum("quelea_messages_received_total"), 5.0);
    assert_eq!(series["quelea_messages_received_bytes_total"], 25.0);
    assert_eq!(series["quelea_messages_sent_total"], 5.0);
    assert_eq!(series["quelea_connections_opened_total"], 1.0);
    assert_eq!(series["quelea_connections_refused_total{reason=\"full\"}"], 0.0);
    assert_eq!(series["quelea_limits_reached_total{limit=\"outbox_bytes_max\"}"], 0.0);
    assert_eq!(series["quelea_connections_closed_by_code_total{code=\"4000-4999\"}"], 0.0);
    assert_eq!(series["quelea_round_trip_seconds_bucket{le=\"+Inf\"}"], 0.0);
    let open: Vec<_> = (0..workers())
        .map(|worker| {
            assert_eq!(
                series[&*format!("quelea_worker_unanswered_seconds{{worker=\"{worker}\"}}")],
                0.0
            );
            series[&*format!("quelea_connections{{worker=\"{worker}\",state=\"open\"}}")]
        })
        .collect();
    assert_eq!(open.iter().sum::<f64>(), 1.0);
    let metrics = site.serving.handle.metrics(PATIENCE);
    assert_eq!(series["quelea_sent_bytes_total"], metrics.total().bytes_sent as f64);
}

#[test]
fn every_metric_stands_in_the_docs_with_what_it_means() {
    let site = Site::start();
    let text = site.get("/metrics").2;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (_, helps) = parse(&text);
    let rows: BTreeMap<_, _> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `quelea_"))
        .map(|line| {
            let cells: Vec<_> = line.trim_end_matches(" |").split(" | ").collect();
            let [name, _labels, help] = cells[..] else { panic!("{line}") };
            (format!("quelea_{}", name.trim_end_matches('`')), help)
        })
        .collect();
    let exported: BTreeMap<_, _> = helps
        .iter()
        .map(|(name, help)| {
            let is_counter = text.contains(&format!("# TYPE {name} counter\n"));
            (format!("{name}{}", if is_counter { "_total" } else { "" }), *help)
        })
        .collect();
    assert!(rows == exported, "expected:\n{exported:#?}");
}

#[test]
fn a_stuck_worker_ends_health_but_not_the_answers_and_both_go_on_when_it_does() {
    let site = Site::start();
    site.until("/health/ready", 200);
    assert_eq!(site.get("/health/live").0, 200);
    let mut raw = site.open();
    raw.send(&frame(TEXT, b"stick"));
    while !site.unstick.0.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let body = site.until("/health/live", 503);
    assert!(body.starts_with("worker ") && body.contains(" has not answered for "), "{body}");
    let start = Instant::now();
    let text = site.get("/metrics").2;
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    let is_late = |(name, value): (&&str, &f64)| name.contains("unanswered") && *value >= 2.0;
    assert_eq!(parse(&text).0.iter().filter(|entry| is_late(*entry)).count(), 1);
    assert_eq!(site.get("/health/ready").0, 200, "the others serve");
    site.unstick.0.store(false, Ordering::SeqCst);
    raw.read_frame();
    site.until("/health/live", 200);
}

#[test]
fn a_server_is_ready_from_when_it_serves_until_it_is_told_to_stop() {
    let config = Config { driver: driver(), ..Config::default() };
    let server = Server::new(|_| Sticky(Arc::default())).config(config).unwrap();
    let server = server.listen("127.0.0.1:0").unwrap();
    let monitor = MetricsServer::start("127.0.0.1:0", server.handle()).unwrap();
    let address = address_of(&monitor);
    let (status, _, body) = get(address, "/health/ready");
    assert_eq!((status, &*body), (503, "the server starts\n"));
    assert_eq!(get(address, "/health/live").0, 200);
    assert!(get(address, "/metrics").2.contains("quelea_connections_opened_total 0\n"));
    let handle = server.handle();
    let thread = std::thread::spawn(move || server.run());
    while get(address, "/health/ready").0 != 200 {
        std::thread::sleep(Duration::from_millis(1));
    }
    handle.stop();
    let (status, _, body) = get(address, "/health/ready");
    assert_eq!((status, &*body), (503, "the server ends\n"));
    thread.join().unwrap().unwrap();
    assert_eq!(get(address, "/health/live").0, 200, "its workers ended, none is stuck");
    drop(monitor);
    assert!(TcpStream::connect(address).is_err(), "it ends with its owner");
}

#[test]
fn nothing_else_is_there_and_nothing_of_it_is_on_the_servers_own_listener() {
    let site = Site::start();
    let monitor = address_of(&site.monitor);
    for path in ["/", "/health", "/metrics/", "/health/live/x"] {
        assert_eq!(site.get(path).0, 404, "{path}");
    }
    let mut raw = Raw::new(TcpStream::connect(monitor).unwrap());
    raw.send(format!("GET /metrics HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
    assert!(raw.read_response().0.starts_with("HTTP/1.1 404 "));
    for path in ["/metrics", "/health/live", "/health/ready"] {
        assert_eq!(get(site.serving.tcp_address(), path).0, 426, "{path}");
    }
}

#[test]
fn a_flood_of_requests_waits_for_a_stuck_worker_as_long_as_one_and_so_does_the_end() {
    let site = Site::start();
    site.until("/health/ready", 200);
    let mut raw = site.open();
    raw.send(&frame(TEXT, b"stick"));
    while !site.unstick.0.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut flood = Raw::new(TcpStream::connect(address_of(&site.monitor)).unwrap());
    flood.send(&b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20));
    let start = Instant::now();
    flood.read_response();
    assert_eq!(site.get("/health/ready").0, 200);
    drop(site.monitor);
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

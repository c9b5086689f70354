//! What is logged: each connection's beginning and end for who looks for it, and no more than a line in ten
//! seconds of what a flood could repeat.

mod support;

use quelea::{Accept, Config, Conn, Handler, Message, Response, Upgrade};
use std::{fmt, sync::Mutex};
use support::{metrics::once, *};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps each line: its level and its fields.
struct Keep;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl Subscriber for Keep {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("quelea")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        LINES.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Accepts what cannot be accepted so.
struct Silent;

impl Handler for Silent {
    type State = ();

    fn on_upgrade(&mut self, upgrade: &Upgrade<'_>) -> Result<Accept<()>, Response> {
        match upgrade.path() {
            "/bad" => Ok(Accept::default().header("X", "a\r\nb")),
            _ => Ok(Accept::default()),
        }
    }

    fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}
}

fn count(what: &[&str]) -> usize {
    let lines = LINES.lock().unwrap();
    lines.iter().filter(|line| what.iter().all(|part| line.contains(part))).count()
}

/// One test: the lines are those of the process.
#[test]
fn a_flood_is_a_line_for_each_limit_and_each_connection_has_its_own_for_who_debugs() {
    tracing::subscriber::set_global_default(Keep).unwrap();
    let config = Config { connections_max: 1, workers: Some(1), ..Config::default() };
    let site = Serving::start(config, &["127.0.0.1:0"], |_| Silent);
    let mut open = site.connect();
    open.upgrade("/");
    for _ in 0..20 {
        // Those that ask are told, and those that do not just leave.
        drop(site.connect());
        let mut raw = site.connect();
        raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(raw.read_head().starts_with("HTTP/1.1 503 "));
    }
    open.send(&frame(CLOSE, &close(1000, "")));
    assert_eq!(open.read_close().0, 1000);
    drop(open);
    once(&site.handle, |metrics| metrics.connections.total() == 0);
    for _ in 0..20 {
        let mut raw = site.connect();
        raw.send(format!("GET /bad HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
        assert!(raw.read_head().starts_with("HTTP/1.1 500 "));
        assert!(raw.is_at_end());
        drop(raw);
        once(&site.handle, |metrics| metrics.connections.total() == 0);
    }
    assert_eq!(count(&["WARN", "a limit was reached"]), 1);
    assert_eq!(count(&["WARN", "limit=\"connections_max\"", "conn=0.1.1", "left_out=0"]), 1);
    assert_eq!(count(&["ERROR", "the handler's answer cannot be sent", "conn=0."]), 1);
    assert_eq!(count(&["WARN"]) + count(&["ERROR"]), 2);
    assert_eq!(count(&["DEBUG", "accepted", "conn="]), 61);
    assert_eq!(count(&["DEBUG", "gone", "conn="]), 61);
    assert_eq!(count(&["DEBUG", "closed", "conn=0.0.1", "code=1000"]), 1);
}

//! A server that says what it costs: the CPU time of its worker, the memory and the descriptors of
//! the process.
#![allow(dead_code, reason = "each test file uses its part")]

use crate::support::{Raw, Serving, TEXT, frame};
use quelea::{Accept, Config, Conn, ConnId, Handler, Message, Request, Response, Status, Upgrade};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use std::{
    io::{Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) const PAGE_BYTES: usize = 4 << 20;

/// Obeys a few commands, echoes other texts, and says nothing to binary messages.
pub(crate) struct Gauge {
    ids: Arc<Mutex<Vec<ConnId>>>,
}

impl Handler for Gauge {
    type State = ();

    fn on_upgrade(&mut self, upgrade: &Upgrade<'_>) -> Result<Accept<()>, Response> {
        match upgrade.path() {
            "/refused" => Err(Response::new(Status::UNAUTHORIZED)),
            _ => Ok(Accept::default()),
        }
    }

    fn on_request(&mut self, request: &Request<'_>) -> Response {
        match request.path() {
            "/page" => Response::new(Status::OK).content("text/plain", vec![b'x'; PAGE_BYTES]),
            _ => Response::upgrade_required(),
        }
    }

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        self.ids.lock().unwrap().push(conn.id());
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let Message::Text(text) = message else { return };
        let number = |text: &str| text.parse::<usize>().expect("a number");
        if text == "cpu" {
            conn.send(&cpu_of_this_thread().as_nanos().to_string());
        } else if let Some(topic) = text.strip_prefix("subscribe ") {
            conn.subscribe(topic);
            conn.send(text);
        } else if let Some((topic, len)) =
            text.strip_prefix("publish ").and_then(|rest| rest.split_once(' '))
        {
            conn.publish(topic, &vec![7; number(len)]);
            conn.send(text);
        } else if let Some(time) = text.strip_prefix("sleep ") {
            std::thread::sleep(Duration::from_millis(number(time) as u64));
            conn.send(text);
        } else if let Some(time) = text.strip_prefix("timer ") {
            assert!(conn.set_timer(0, Duration::from_millis(number(time) as u64)));
            conn.send(text);
        } else if let Some(len) = text.strip_prefix("send ") {
            conn.send(&vec![7; number(len)]);
        } else {
            conn.send(text);
        }
    }

    fn on_timer(&mut self, conn: &mut Conn<'_, ()>, _: u8) {
        // Whoever has the slot by now: it is heard of.
        conn.publish("timers", "timer");
    }
}

/// A server of gauges with one worker.
pub(crate) struct Site {
    pub(crate) serving: Serving,
    pub(crate) ids: Arc<Mutex<Vec<ConnId>>>,
}

impl Site {
    pub(crate) fn start(config: Config) -> Self {
        let config = Config { workers: Some(1), ..config };
        let ids: Arc<Mutex<Vec<ConnId>>> = Arc::default();
        let shared = Arc::clone(&ids);
        let make = move |_| Gauge { ids: Arc::clone(&shared) };
        Self { serving: Serving::start(config, &["127.0.0.1:0"], make), ids }
    }

    pub(crate) fn open(&self) -> Raw {
        let mut raw = self.serving.connect();
        raw.upgrade("/");
        raw
    }
}

/// Asks, and reads the answer.
pub(crate) fn ask<S: Read + Write>(raw: &mut Raw<S>, text: &str) -> String {
    raw.send(&frame(TEXT, text.as_bytes()));
    let (first, payload) = raw.read_frame();
    assert_eq!(first, TEXT);
    String::from_utf8(payload).unwrap()
}

/// The CPU time that the worker of a connection has used so far.
pub(crate) fn cpu_of_worker(raw: &mut Raw) -> Duration {
    Duration::from_nanos(ask(raw, "cpu").parse().unwrap())
}

pub(crate) fn cpu_of_this_thread() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// The least CPU time of a few runs: what disturbs one only adds to it.
pub(crate) fn cpu_of(mut run: impl FnMut()) -> Duration {
    let times = std::iter::repeat_with(|| {
        let before = cpu_of_this_thread();
        run();
        cpu_of_this_thread() - before
    });
    times.take(3).min().unwrap()
}

/// Holds that eight times as much costs no more than three times what is linear: what is quadratic
/// costs 64 times as much.
pub(crate) fn is_linear(name: &str, mut run: impl FnMut(usize), size: usize) {
    let (one, eight) = (cpu_of(|| run(size)), cpu_of(|| run(8 * size)));
    assert!(eight < 3 * 8 * one, "{name}: {one:?} for {size}, {eight:?} for 8 times as much");
}

/// How many descriptors the process has.
pub(crate) fn descriptors() -> usize {
    // One of them is that of the directory.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// Lets this process have all descriptors that it may have.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

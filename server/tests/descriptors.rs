//! A process that has no more descriptors: nobody is let in, nobody is lost, and nothing spins. The
//! limit is one of the process, so this test has a process of its own.
//!
//! With `DriverKind::Uring` connections have places in a table that is as large as the limit was when the
//! server started.

#[path = "support/gauge.rs"]
mod gauge;
mod support;

use gauge::{Site, ask, cpu_of_worker, descriptors, raise_descriptors};
use quelea::{Config, DriverKind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::{fs::File, thread::sleep, time::Duration};
use support::*;

fn set_limit(descriptors: usize) {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors as u64), ..limit }).unwrap();
}

#[test]
fn without_descriptors_nobody_is_let_in_nothing_spins_and_it_goes_on_by_itself() {
    let config = Config { handshake_timeout: Duration::from_secs(60), ..Config::default() };
    let has_table = driver() == DriverKind::Uring;
    if has_table {
        set_limit(15);
    }
    let site = Site::start(config);
    if has_table {
        raise_descriptors();
    }
    let mut calm: Vec<_> = (0..5).map(|_| site.open()).collect();
    // The clients have theirs before there are none.
    let waiting: Vec<_> =
        (0..30).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let mut hoard: Vec<_> = Vec::new();
    if !has_table {
        set_limit(descriptors() + 64);
        hoard.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
        // Room for ten of them.
        hoard.truncate(hoard.len() - 10);
    }
    let mut waiting: Vec<_> = waiting
        .into_iter()
        .map(|socket| {
            socket.connect(&site.serving.tcp_address().into()).unwrap();
            let mut raw = Raw::new(socket.into());
            raw.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
            raw
        })
        .collect();
    let mut rest = waiting.split_off(10);
    for raw in &mut waiting {
        assert!(raw.read_head().starts_with("HTTP/1.1 101 "), "in the order they came");
    }
    for _ in 0..2 {
        let before = cpu_of_worker(&mut calm[0]);
        for _ in 0..20 {
            for raw in &mut calm {
                assert_eq!(ask(raw, "?"), "?");
            }
            sleep(Duration::from_millis(50));
        }
        let spent = cpu_of_worker(&mut calm[0]) - before;
        // Who asks the kernel again and again takes all of the second.
        assert!(spent < Duration::from_millis(200), "{spent:?} in a second");
        assert_eq!(site.serving.handle.counts().connections, 15);
        for raw in &rest {
            raw.stream.set_nonblocking(true).unwrap();
            let peeked = raw.stream.peek(&mut [0]);
            assert!(peeked.is_err(), "it waits to be accepted: {peeked:?}");
            raw.stream.set_nonblocking(false).unwrap();
        }
    }
    // Those that leave make room for as many, their own ends included.
    drop(waiting);
    for raw in &mut rest[..10] {
        assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    }
    drop(hoard);
    let others = rest.split_off(10);
    if has_table {
        drop(std::mem::replace(&mut rest, others));
    } else {
        rest.extend(others);
    }
    let last = rest.len() - 10;
    for raw in &mut rest[last..] {
        assert!(raw.read_head().starts_with("HTTP/1.1 101 "));
    }
    for raw in calm.iter_mut().chain(&mut rest) {
        assert_eq!(ask(raw, "?"), "?");
    }
}

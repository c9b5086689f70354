//! The places of connections: who comes after one that is gone, and crowds that want more than there
//! are.

use crate::{gauge::*, support::*};
use quelea::{CloseCode, Config, ConnId, SendStatus};
use std::{
    io::{ErrorKind, Read},
    thread::sleep,
    time::{Duration, Instant},
};

/// The number of the slot, which is between the dots.
fn slot(id: ConnId) -> String {
    id.to_string().split('.').nth(1).unwrap().to_owned()
}

#[test]
fn who_has_the_slot_of_one_that_is_gone_gets_nothing_of_it() {
    // As many messages as this may come at once: those of the one before do not count.
    let config = Config { messages_per_second_max: Some(20), ..Config::default() };
    let site = Site::start(config);
    let mut calm = site.open();
    assert_eq!(ask(&mut calm, "subscribe timers"), "subscribe timers");
    let last_id = || *site.ids.lock().unwrap().last().unwrap();
    let handle = &site.serving.handle;
    let leave = |raw: Raw, is_reset: bool, calm: &mut Raw| {
        if is_reset {
            socket2::SockRef::from(&raw.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(raw);
        while handle.counts().connections > 1 {
            sleep(Duration::from_millis(1));
        }
        // Its slot is free a tick after it is not counted any more.
        for _ in 0..2 {
            assert_eq!(ask(calm, "?"), "?");
        }
    };
    for is_reset in [false, true, false] {
        let mut first = site.open();
        let stale = last_id();
        assert_eq!(ask(&mut first, "subscribe news"), "subscribe news");
        for _ in 0..16 {
            assert_eq!(ask(&mut first, "?"), "?");
        }
        assert_eq!(ask(&mut first, "timer 500"), "timer 500");
        // It leaves a message that is not complete, and one that it does not read.
        first.send(&[frame(TEXT, b"send 8000000"), frame(0x01, b"half ")].concat());
        leave(first, is_reset, &mut calm);
        let mut second = site.open();
        let id = last_id();
        assert_eq!(slot(id), slot(stale), "the slot was not used again: this tests nothing");
        assert_ne!(id, stale);
        // On its way to a worker, which finds nobody.
        assert_eq!(handle.send(stale, "stale"), SendStatus::Queued);
        assert_eq!(handle.close(stale, CloseCode(4000), "stale"), SendStatus::Queued);
        assert_eq!(handle.publish("news", "stale"), SendStatus::Queued);
        assert_eq!(handle.send(id, "fresh"), SendStatus::Queued);
        assert_eq!(second.read_frame(), (TEXT, b"fresh".to_vec()));
        for _ in 0..18 {
            assert_eq!(ask(&mut second, "?"), "?");
        }
        leave(second, is_reset, &mut calm);
    }
    sleep(Duration::from_millis(700));
    assert_eq!(ask(&mut calm, "no timer came"), "no timer came");
}

#[test]
fn a_storm_of_handshakes_is_let_in_at_its_rate_and_those_that_are_open_go_on() {
    raise_descriptors();
    let rate = 50;
    let site = Site::start(Config { handshakes_per_second_max: Some(rate), ..Config::default() });
    let mut calm: Vec<_> = (0..10).map(|_| site.open()).collect();
    let start = Instant::now();
    let request = format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n");
    let mut storm: Vec<_> = (0..1500)
        .map(|number| {
            let mut raw = site.serving.connect();
            raw.send(request.as_bytes());
            if number % 50 == 0 {
                assert_eq!(ask(&mut calm[number / 50 % 10], "?"), "?");
            }
            raw
        })
        .collect();
    let (mut let_in, mut refused) = (0, 0);
    for raw in &mut storm {
        let head = raw.read_head();
        if head.starts_with("HTTP/1.1 101 ") {
            let_in += 1;
        } else {
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            assert!(head.contains("\r\nRetry-After: 1\r\n"), "{head}");
            refused += 1;
        }
    }
    let most = f64::from(rate) * (start.elapsed().as_secs_f64() + 1.0);
    assert!(f64::from(let_in) <= most, "{let_in} of at most {most}");
    assert!(let_in > 0 && refused > 0, "{let_in} {refused}");
    for raw in &mut calm {
        assert_eq!(ask(raw, "?"), "?");
    }
}

#[test]
fn a_silent_crowd_beyond_the_limit_is_gone_in_a_moment_and_those_that_are_open_go_on() {
    raise_descriptors();
    let room = 10;
    let site = Site::start(Config { connections_max: room, ..Config::default() });
    let mut calm: Vec<_> = (0..room).map(|_| site.open()).collect();
    // More than those that may wait to be told why: the others are just closed.
    let mut crowd: Vec<_> = (0..1500)
        .map(|number| {
            let raw = site.serving.connect();
            if number % 50 == 0 {
                assert_eq!(ask(&mut calm[number / 50 % room], "?"), "?");
            }
            raw
        })
        .collect();
    let mut told = 0;
    for raw in &mut crowd {
        let mut answer = Vec::new();
        match raw.stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        told += usize::from(!answer.is_empty());
    }
    assert_eq!(told, 0, "who has not asked is not answered");
    for raw in &mut calm {
        assert_eq!(ask(raw, "?"), "?");
    }
    drop(calm);
    let start = Instant::now();
    loop {
        let mut raw = site.serving.connect();
        raw.send(format!("GET / HTTP/1.1\r\n{HANDSHAKE}\r\n").as_bytes());
        if raw.read_head().starts_with("HTTP/1.1 101 ") {
            return;
        }
        assert!(start.elapsed() < PATIENCE);
    }
}

use super::Poll;
use crate::{
    driver::{
        Completion, Driver,
        contract::{World, contract},
        loopback::{
            Kind, Tcp, Unix, a_flood_does_not_starve_the_others,
            finishing_accepts_those_that_wait_and_refuses_who_comes_later, unix_contract,
        },
    },
    parts::slots::SlotId,
};
use socket2::{Domain, Socket, Type};
use std::{io::Write, os::unix::net::UnixStream, time::Duration};

struct OfPoll;

impl Kind for OfPoll {
    type Driver = Poll;

    const SENDS_NOW: bool = true;

    fn driver() -> Poll {
        Poll::new().unwrap()
    }
}

mod ipv4 {
    super::contract!(super::Tcp<super::OfPoll, false>);
}

mod ipv6 {
    super::contract!(super::Tcp<super::OfPoll, true>);
}

mod unix {
    super::unix_contract!(super::Unix<super::OfPoll>);
}

#[test]
fn out_of_descriptors_accept_waits_without_spinning_and_then_goes_on() {
    use std::process::Command;
    // The limit is one of the process: a child of this test has it alone.
    const CHILD: &str = "QUELEA_TEST_WITHOUT_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = std::thread::current().name().unwrap().to_owned();
        let child = Command::new("sh")
            .args(["-c", "ulimit -n 40 && exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(CHILD, "1")
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && out.contains("1 passed"), "{out}");
        return;
    }
    let mut world = Tcp::<OfPoll, false>::new();
    let mut hoard = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.connect(&world.address.into()).unwrap();
        peers.push(socket);
    }
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    let (mut failures, mut waits) = (0, 0);
    let start = world.driver.now();
    while world.driver.now() < start + Duration::from_millis(450) {
        let until = world.driver.now() + Duration::from_millis(450);
        world.driver.wait([].into_iter(), Some(until)).unwrap();
        waits += 1;
        while let Some(completion) = world.driver.next() {
            assert!(matches!(completion, Completion::AcceptFailed { .. }));
            failures += 1;
        }
    }
    assert!((2..=6).contains(&failures), "{failures} failures");
    assert!(waits <= 8, "{waits} waits");
    hoard.clear();
    let mut accepted = 0;
    while accepted < 4 {
        world.driver.wait([].into_iter(), None).unwrap();
        while let Some(Completion::Accepted { .. }) = world.driver.next() {
            accepted += 1;
        }
    }
}

#[test]
fn a_wait_that_found_as_much_as_it_can_take_says_so() {
    let mut driver = Poll::new().unwrap();
    let mut peers = Vec::new();
    for index in 0..super::EVENTS_MAX as u32 + 10 {
        let (own, mut peer) = UnixStream::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        let id = SlotId::new(index, 1);
        driver.open(id, own.into()).unwrap();
        // What is paused makes no completion, and an event all the same.
        driver.pause_receive(id);
        peer.write_all(b"!").unwrap();
        peers.push(peer);
    }
    let mut wait = || {
        let until = driver.now() + Duration::from_millis(20);
        driver.wait([].into_iter(), Some(until)).unwrap();
        assert!(driver.next().is_none());
        driver.is_behind()
    };
    assert_eq!([wait(), wait()], [true, false]);
}

#[test]
fn a_listener_that_finishes_accepts_those_that_wait_and_refuses_who_comes_later() {
    finishing_accepts_those_that_wait_and_refuses_who_comes_later::<OfPoll>();
}

#[test]
fn a_peer_that_sends_faster_than_it_is_read_does_not_starve_the_others() {
    a_flood_does_not_starve_the_others::<OfPoll>();
}

#[test]
fn a_stream_that_somebody_else_makes_blocking_never_blocks_the_worker() {
    let mut driver = Poll::new().unwrap();
    let (stream, mut peer) = UnixStream::pair().unwrap();
    let other_owner = stream.try_clone().unwrap();
    let id = SlotId::new(0, 1);
    let socket = driver.adopt(stream.into()).unwrap();
    driver.open(id, socket).unwrap();
    other_owner.set_nonblocking(false).unwrap();
    peer.set_nonblocking(true).unwrap();
    // A test that fails ends, too: then the peer makes room, and sends.
    let mut late_peer = peer.try_clone().unwrap();
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watched = is_over.clone();
    let rescue = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        while !watched.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = std::io::Read::read(&mut late_peer, &mut [0; 1 << 16]);
            let _ = late_peer.write(b"!");
        }
    });
    let start = driver.now();
    let bytes = vec![0; 4_000_000];
    driver.wait([(id, &bytes[..])].into_iter(), Some(start)).unwrap();
    assert!(driver.next_short().is_some_and(|(_, sent)| sent < bytes.len()));
    // As much as is received at once: it asks for more.
    let mut received = 0;
    let mut sent = 0;
    while received < super::RECEIVE_BUFFER_BYTES {
        sent += peer.write(&vec![0; super::RECEIVE_BUFFER_BYTES - sent]).unwrap_or(0);
        driver.wait([].into_iter(), Some(start)).unwrap();
        driver.sockets.connection(id).unwrap().flags.set(super::Flags::READABLE, true);
        driver.sockets.queue_receive(id);
        while let Some(completion) = driver.next() {
            if let Completion::Received { bytes, .. } = completion {
                received += bytes.len();
            }
        }
    }
    let waited = driver.read_clock() - start;
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    rescue.join().unwrap();
    assert!(waited < Duration::from_secs(1), "{waited:?}");
}

#[cfg(feature = "driver")]
#[test]
fn a_precise_wait_ends_at_its_deadline_and_not_a_millisecond_later() {
    let mut driver = Poll::precise().unwrap();
    let wait = |driver: &mut Poll, length: Duration| {
        let until = driver.read_clock() + length;
        while driver.now() < until {
            driver.wait([].into_iter(), Some(until)).unwrap();
            assert!(driver.next().is_none());
        }
        driver.now() - until
    };
    // One that was set for later does not hold up the next one.
    driver.wait([].into_iter(), Some(driver.read_clock())).unwrap();
    for length in [300, 150, 1200, 300].map(Duration::from_micros) {
        // A busy machine may be late, but not each time.
        let late = (0..50).map(|_| wait(&mut driver, length)).min().unwrap();
        assert!(late < Duration::from_micros(400), "{length:?}: {late:?}");
    }
}

use super::{
    Uring,
    buffers::Shape,
    connection::Flags,
    operation::{Operation, Standing, Subject},
    ring::TaskRun,
};
use crate::address::PeerAddress;
use crate::driver::{
    Completion, Driver, Listener,
    contract::contract,
    loopback::{self, Kind, Unix, unix_contract},
};
use crate::parts::slots::SlotId;
use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    time::Duration,
};

/// A driver in one of the ways that it falls back to on older kernels.
fn driver(way: usize) -> Uring {
    let shape = if way < 2 { Shape::INCREMENTAL } else { Shape::WHOLE };
    let task_run = TaskRun::ALL[way % 3];
    let driver = Uring::build(task_run, shape, 1 << 10).unwrap();
    assert_eq!((driver.features().task_run, driver.features().buffers), (task_run, shape));
    driver
}

/// With the driver in one of its ways.
struct OfUring<const WAY: usize>;

impl<const WAY: usize> Kind for OfUring<WAY> {
    type Driver = Uring;

    const SENDS_NOW: bool = true;

    fn driver() -> Uring {
        driver(WAY)
    }
}

type Tcp<const V6: bool, const WAY: usize = 0> = loopback::Tcp<OfUring<WAY>, V6>;

mod ipv4 {
    super::contract!(super::Tcp<false>);
}

mod ipv6 {
    super::contract!(super::Tcp<true>);
}

mod without_deferred_work {
    super::contract!(super::Tcp<false, 1>);
}

mod without_any_flag_and_with_whole_buffers {
    super::contract!(super::Tcp<false, 2>);
}

mod deferred_work_with_whole_buffers {
    super::contract!(super::Tcp<false, 3>);
}

mod unix {
    super::unix_contract!(super::Unix<super::OfUring<0>>);
}

#[test]
fn without_a_place_in_its_table_accept_waits_without_spinning_and_then_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut driver = Uring::new(2).unwrap();
    driver.listen(Listener::Tcp(listener)).unwrap();
    let peers: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut sockets = Vec::new();
    let (mut failures, mut waits) = (0, 0);
    let start = driver.now();
    while driver.now() < start + Duration::from_millis(450) {
        let until = driver.now() + Duration::from_millis(450);
        driver.wait([].into_iter(), Some(until)).unwrap();
        waits += 1;
        while let Some(completion) = driver.next() {
            match completion {
                Completion::Accepted { socket, .. } => sockets.push(socket),
                Completion::AcceptFailed { .. } => failures += 1,
                _ => panic!("something else came"),
            }
        }
    }
    assert_eq!(sockets.len(), 2);
    assert!((2..=6).contains(&failures), "{failures} failures");
    assert!(waits <= 16, "{waits} waits");
    // Those that are dropped unopened make room, and so do those that are closed.
    let id = SlotId::new(0, 1);
    driver.open(id, sockets.pop().unwrap()).unwrap();
    drop(sockets);
    driver.close(id);
    let mut accepted = Vec::new();
    let start = driver.now();
    while accepted.len() < 2 {
        driver.wait([].into_iter(), Some(start + Duration::from_secs(10))).unwrap();
        while let Some(completion) = driver.next() {
            match completion {
                Completion::Accepted { socket, peer } => accepted.push((socket, peer)),
                Completion::AcceptFailed { .. } | Completion::Closed { .. } => {}
                _ => panic!("something else came"),
            }
        }
    }
    let expected = [&peers[2], &peers[3]].map(|peer| peer.local_addr().unwrap());
    let found = [0, 1].map(|index| accepted[index].1);
    assert_eq!(found, expected.map(PeerAddress::Tcp));
}

#[test]
fn a_listener_that_finishes_accepts_those_that_wait_and_refuses_who_comes_later() {
    loopback::finishing_accepts_those_that_wait_and_refuses_who_comes_later::<OfUring<0>>();
}

#[test]
fn a_peer_that_sends_faster_than_it_is_read_does_not_starve_the_others() {
    loopback::a_flood_does_not_starve_the_others::<OfUring<0>>();
    loopback::a_flood_does_not_starve_the_others::<OfUring<2>>();
}

#[test]
fn a_fin_never_reaches_who_has_the_place_of_one_that_was_closed_behind_it() {
    const COUNT: u32 = 64;
    let mut driver = driver(0);
    for generation in 1..30 {
        let (ids, mut peers) = open_pairs(&mut driver, COUNT, generation);
        // What does this in the kernel is busy with so many.
        ids.iter().for_each(|id| driver.shutdown(*id));
        close_all(&mut driver, &ids);
        // They get the places of the others.
        let (next_ids, mut next_peers) = open_pairs(&mut driver, COUNT, generation);
        for peer in &mut peers {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        }
        for peer in &mut next_peers {
            peer.set_nonblocking(true).unwrap();
            let received = peer.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(received, Err(ErrorKind::WouldBlock), "in round {generation}");
        }
        close_all(&mut driver, &next_ids);
    }
}

fn open_pairs(driver: &mut Uring, count: u32, generation: u32) -> (Vec<SlotId>, Vec<UnixStream>) {
    let pairs = (0..count).map(|index| {
        let (own, peer) = UnixStream::pair().unwrap();
        let id = SlotId::new(index, generation);
        let socket = driver.adopt(own.into()).unwrap();
        driver.open(id, socket).unwrap();
        (id, peer)
    });
    let pairs = pairs.unzip();
    let now = driver.now();
    driver.wait([].into_iter(), Some(now)).unwrap();
    pairs
}

fn close_all(driver: &mut Uring, ids: &[SlotId]) {
    ids.iter().for_each(|id| driver.close(*id));
    let until = driver.now() + Duration::from_secs(10);
    let mut left = ids.len();
    while left > 0 {
        assert!(driver.now() < until, "{left} were not closed");
        driver.wait([].into_iter(), Some(until)).unwrap();
        while let Some(completion) = driver.next() {
            left -= usize::from(matches!(completion, Completion::Closed { .. }));
        }
    }
}

#[test]
fn sends_that_panic_half_way_are_never_submitted() {
    let mut driver = driver(0);
    let (own, mut peer) = UnixStream::pair().unwrap();
    let socket = driver.adopt(own.into()).unwrap();
    let id = SlotId::new(0, 1);
    driver.open(id, socket).unwrap();
    let now = Some(driver.now());
    driver.wait([].into_iter(), now).unwrap();
    let bytes = b"of who is gone".to_vec();
    let sends = [Some(&bytes[..]), None].into_iter();
    let sends = sends.map(|bytes| (id, bytes.expect("as told")));
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| driver.wait(sends, now)));
    assert!(panicked.is_err());
    drop(bytes);
    assert!(driver.wait([].into_iter(), now).is_err());
    drop(driver);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "nothing was sent");
}

/// A connection to nobody but the test, and its peer.
fn adopt(driver: &mut Uring, id: SlotId) -> UnixStream {
    let (peer, stream) = UnixStream::pair().unwrap();
    let socket = driver.adopt(stream.into()).unwrap();
    driver.open(id, socket).unwrap();
    peer
}

#[test]
fn a_short_send_is_told_by_its_wait_though_the_completion_queue_overflows() {
    let mut driver = driver(0);
    let (first, second) = (SlotId::new(0, 1), SlotId::new(1, 1));
    let _peers = [first, second].map(|id| adopt(&mut driver, id));
    driver.wait([].into_iter(), Some(driver.now())).unwrap();
    // Each of them fails, which is told.
    let nothing = Operation::close((1 << 10) - 1, Subject::Nothing);
    (0..20_000).for_each(|_| driver.sockets.ring.push(&nothing));
    let bytes = vec![0; 4_000_000];
    driver.wait([(first, &bytes[..])].into_iter(), Some(driver.now())).unwrap();
    let (id, sent) = driver.next_short().unwrap();
    assert_eq!((id, driver.next_short()), (first, None));
    assert!(sent < bytes.len());
    assert_eq!(driver.bytes_sent(), sent as u64);
    // Nobody takes it for one of the next wait.
    while driver.next().is_some() {}
    driver.wait([(second, &b"small"[..])].into_iter(), Some(driver.now())).unwrap();
    assert_eq!(driver.next_short(), None);
}

#[test]
fn who_found_no_buffer_receives_though_those_before_it_have_nothing_to_receive() {
    for way in [0, 2] {
        let mut driver = driver(way);
        // One more than there are buffers wait for one, as if all had been full.
        let count = u32::from(driver.buffers.shape().count);
        let ids: Vec<_> = (0..=count).map(|index| SlotId::new(index, 1)).collect();
        let mut peers: Vec<_> = ids.iter().map(|id| adopt(&mut driver, *id)).collect();
        for id in &ids {
            driver.sockets.unsettled.retain(|other| other != id);
            let flags = &mut driver.connection(*id).unwrap().flags;
            flags.set(Flags::UNSETTLED, false);
            flags.set(Flags::STARVED, true);
            driver.starved.push_back(*id);
        }
        peers.last_mut().unwrap().write_all(b"here").unwrap();
        let start = driver.now();
        let mut received = Vec::new();
        while received.is_empty() && driver.now() < start + Duration::from_secs(2) {
            driver.wait([].into_iter(), Some(start + Duration::from_secs(2))).unwrap();
            while let Some(completion) = driver.next() {
                if let Completion::Received { bytes, .. } = completion {
                    received.extend_from_slice(bytes);
                }
            }
        }
        assert_eq!(received, b"here");
        assert!(driver.now() < start + Duration::from_secs(1));
    }
}

#[test]
fn what_the_kernel_does_not_find_by_its_name_ends_and_all_else_goes_on() {
    let mut driver = driver(0);
    let (lost, other) = (SlotId::new(0, 1), SlotId::new(1, 1));
    let mut peers = [lost, other].map(|id| adopt(&mut driver, id));
    driver.wait([].into_iter(), Some(driver.now())).unwrap();
    // Its file is closed, and receiving goes on.
    let connection = driver.connection(lost).unwrap();
    connection.flags.set(Flags::CLOSING, true);
    let file = connection.file;
    driver.sockets.ring.push(&Operation::close(file, Subject::Close(lost)));
    // As if the kernel had not found its receiving by its name.
    driver.complete_cancel(Standing::Receive, lost, -libc::ENOENT);
    let (mut received, mut is_closed) = (Vec::<u8>::new(), false);
    let start = driver.now();
    while received.is_empty() || !is_closed {
        assert!(driver.now() < start + Duration::from_secs(5), "{received:?} {is_closed}");
        driver.wait([].into_iter(), Some(driver.now() + Duration::from_millis(20))).unwrap();
        while let Some(completion) = driver.next() {
            match completion {
                Completion::Received { id, bytes, .. } if id == other => {
                    received.extend_from_slice(bytes);
                }
                Completion::Closed { id } if id == lost => {
                    is_closed = true;
                    peers[1].write_all(b"still here").unwrap();
                }
                Completion::Woken => {}
                _ => panic!("something else came"),
            }
        }
    }
    assert_eq!(received, b"still here");
    // From now on it is found by its file.
    driver.close(other);
    driver.wait([].into_iter(), Some(driver.now() + Duration::from_secs(5))).unwrap();
    let mut closed = 0;
    while let Some(completion) = driver.next() {
        closed += usize::from(matches!(completion, Completion::Closed { id } if id == other));
    }
    assert_eq!(closed, 1);
}

#[test]
fn a_close_behind_the_end_of_receiving_is_not_taken_for_a_name_that_the_kernel_does_not_find() {
    for is_paused in [false, true] {
        let mut driver = driver(0);
        let id = SlotId::new(0, 1);
        let mut peer = adopt(&mut driver, id);
        driver.wait([].into_iter(), Some(driver.now())).unwrap();
        if is_paused {
            driver.pause_receive(id);
        } else {
            // A send was short: room is watched for from now on.
            driver.connection(id).unwrap().flags.set(Flags::BLOCKED, true);
            driver.sockets.unsettle(id);
        }
        driver.wait([].into_iter(), Some(driver.now())).unwrap();
        while driver.next().is_some() {}
        driver.resume_receive(id);
        driver.wait([].into_iter(), Some(driver.now())).unwrap();
        while driver.next().is_some() {}
        // Its end is there, but not looked at when it is closed.
        peer.write_all(b"the last").unwrap();
        peer.shutdown(std::net::Shutdown::Both).unwrap();
        driver.wait([].into_iter(), Some(driver.now() + Duration::from_secs(5))).unwrap();
        driver.close(id);
        let mut is_closed = false;
        while !is_closed {
            while let Some(completion) = driver.next() {
                is_closed |= matches!(completion, Completion::Closed { .. });
            }
            driver.wait([].into_iter(), Some(driver.now() + Duration::from_millis(5))).unwrap();
        }
        assert!(!driver.sockets.ring.misses_names, "paused: {is_paused}");
    }
}

#[test]
fn who_found_no_buffer_and_got_nothing_comes_before_those_that_took_them() {
    let mut driver = driver(0);
    let ids = [0, 1, 2, 3].map(|index| SlotId::new(index, 1));
    let _peers = ids.map(|id| adopt(&mut driver, id));
    for fed in [ids[0], ids[2]] {
        driver.connection(fed).unwrap().flags.set(Flags::FED, true);
    }
    for id in ids {
        assert!(driver.complete_empty_receive(id, -libc::ENOBUFS).is_none());
    }
    assert_eq!(driver.starved, [ids[3], ids[1], ids[0], ids[2]]);
}

#[test]
fn one_that_failed_behind_its_end_is_told_that_it_may_send() {
    let mut driver = driver(0);
    let id = SlotId::new(0, 1);
    let _peer = adopt(&mut driver, id);
    driver.wait([].into_iter(), Some(driver.now())).unwrap();
    let flags = &mut driver.connection(id).unwrap().flags;
    flags.set(Flags::ENDED | Flags::FAILED | Flags::BLOCKED, true);
    driver.sockets.unsettle(id);
    let mut is_told = false;
    let until = driver.now() + Duration::from_secs(5);
    while !is_told {
        assert!(driver.now() < until);
        driver.wait([].into_iter(), Some(until)).unwrap();
        while let Some(completion) = driver.next() {
            is_told |= matches!(completion, Completion::Writable { id: told } if told == id);
        }
    }
}

#[test]
fn a_driver_that_ends_on_a_thread_that_can_not_stop_it_closes_its_listeners() {
    let path = std::env::temp_dir().join(format!("quelea-ended-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let mut driver = driver(0);
    driver.listen(Listener::Unix(listener)).unwrap();
    // Nothing is under way, so that the ring keeps no listener either.
    driver.acceptors[0].stop(&mut driver.sockets.ring);
    driver.wait([].into_iter(), Some(driver.now())).unwrap();
    std::thread::spawn(move || drop(driver)).join().unwrap();
    let refused = UnixStream::connect(&path);
    std::fs::remove_file(&path).unwrap();
    assert!(refused.is_err());
}

#[test]
fn a_socket_of_another_driver_is_refused_and_closed_and_nobody_else_is_touched() {
    let (mut first, mut second) = (driver(0), driver(0));
    let (stream, mut peer) = UnixStream::pair().unwrap();
    let foreign = first.adopt(stream.into()).unwrap();
    // It has the place that the other one's socket has in its own table.
    let id = SlotId::new(0, 1);
    let mut own_peer = adopt(&mut second, id);
    let refused = second.open(SlotId::new(1, 1), foreign).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{refused}");
    first.wait([].into_iter(), Some(first.now())).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "its own driver closes it");
    let now = second.now();
    second.wait([(id, &b"still here"[..])].into_iter(), Some(now)).unwrap();
    let mut received = [0; 10];
    own_peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"still here");
}

#[test]
fn a_driver_for_nobody_is_refused_by_what_to_ask_for_instead() {
    let error = Uring::new(0).err().unwrap().to_string();
    assert!(error.contains("at least 1") && !error.contains("Linux 6.0"), "{error}");
}

#[test]
fn a_stream_that_somebody_else_makes_nonblocking_neither_spins_nor_loses_anything() {
    for is_nonblocking in [true, false] {
        let mut driver = driver(0);
        let (stream, mut peer) = UnixStream::pair().unwrap();
        let other_owner = stream.try_clone().unwrap();
        let id = SlotId::new(0, 1);
        let socket = driver.adopt(stream.into()).unwrap();
        driver.open(id, socket).unwrap();
        other_owner.set_nonblocking(is_nonblocking).unwrap();
        let (start, mut waits) = (driver.now(), 0);
        while driver.now() < start + Duration::from_millis(200) {
            driver.wait([].into_iter(), Some(start + Duration::from_millis(200))).unwrap();
            waits += 1;
            assert!(driver.next().is_none());
        }
        assert!(waits < 10, "{waits} waits");
        let mut received = Vec::new();
        for part in [b"one", b"two"] {
            peer.write_all(part).unwrap();
            let until = driver.now() + Duration::from_millis(100);
            while driver.now() < until {
                driver.wait([].into_iter(), Some(until)).unwrap();
                while let Some(Completion::Received { bytes, .. }) = driver.next() {
                    received.extend_from_slice(bytes);
                }
            }
        }
        assert_eq!(received, b"onetwo");
    }
}

/// Those that are accepted until `until` have come, each dropped at once unless they are kept.
fn accept(driver: &mut Uring, count: usize) -> Vec<super::DirectSocket> {
    let mut sockets = Vec::new();
    let start = driver.now();
    while sockets.len() < count {
        assert!(driver.now() < start + Duration::from_secs(5), "{} accepted", sockets.len());
        driver.wait([].into_iter(), Some(start + Duration::from_secs(6))).unwrap();
        while let Some(completion) = driver.next() {
            if let Completion::Accepted { socket, .. } = completion {
                sockets.push(socket);
            }
        }
    }
    sockets
}

#[test]
fn a_listener_that_was_busy_leaves_its_places_to_one_that_needs_them() {
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let mut driver = Uring::new(80).unwrap();
    for listener in listeners {
        driver.listen(Listener::Tcp(listener)).unwrap();
    }
    let connect = |listener: usize, count: usize| -> Vec<_> {
        (0..count).map(|_| TcpStream::connect(addresses[listener]).unwrap()).collect()
    };
    for _ in 0..3 {
        let peers = connect(0, 64);
        drop(accept(&mut driver, 64));
        drop(peers);
    }
    let _peers = connect(1, 70);
    assert_eq!(accept(&mut driver, 70).len(), 70);
}

#[test]
fn a_tick_enters_the_kernel_once_for_all_that_it_sends_and_once_for_some_twenty_that_it_receives() {
    const COUNT: u32 = 100;
    let mut driver = driver(0);
    let (ids, mut peers) = open_pairs(&mut driver, COUNT, 1);
    for peer in &mut peers {
        peer.write_all(b"ask").unwrap();
    }
    let before = driver.sockets.ring.calls;
    let (mut received, mut waits) = (0, 0);
    while received < COUNT {
        driver.wait([].into_iter(), Some(driver.now() + Duration::from_secs(1))).unwrap();
        waits += 1;
        while let Some(completion) = driver.next() {
            received += u32::from(matches!(completion, Completion::Received { .. }));
        }
    }
    let calls = driver.sockets.ring.calls - before;
    assert!(waits <= 2 && calls <= 10, "{calls} calls, {waits} waits");
    let before = driver.sockets.ring.calls;
    let now = Some(driver.now());
    driver.wait(ids.iter().map(|id| (*id, &b"answer"[..])), now).unwrap();
    assert_eq!(driver.sockets.ring.calls - before, 1);
    for peer in &mut peers {
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }
}

//! What every driver has to do: one suite, run against each of them.

use super::{Completion, Driver, Holdings, ListenerId};
use crate::parts::slots::SlotId;
use std::{
    io::IoSlice,
    time::{Duration, Instant},
};

/// A driver that listens, and a way to reach it.
pub(super) trait World {
    type Driver: Driver;
    type Peer: Peer;

    /// Whether the driver sends before a wait, or leaves it to that.
    const SENDS_NOW: bool;

    fn new() -> Self;
    fn driver(&mut self) -> &mut Self::Driver;
    fn listener(&self) -> ListenerId;
    fn connect(&mut self) -> Self::Peer;
}

/// The other end of a connection.
pub(super) trait Peer {
    fn write(&mut self, bytes: &[u8]);
    /// Reads exactly so many bytes, or fails the test.
    fn read(&mut self, len: usize) -> Vec<u8>;
    /// Whether the next read finds the end of the stream.
    fn is_at_end(&mut self) -> bool;
    /// Sends a FIN; reading goes on.
    fn finish(&mut self);
    /// Ends with a RST.
    fn reset(self);
}

/// A completion that owns what it has.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Received(SlotId, Vec<u8>),
    Ended(SlotId, bool),
    Writable(SlotId),
    Closed(SlotId),
    Woken,
}

/// Runs ticks as a worker would.
struct Bench<W: World> {
    world: W,
    opened: u32,
    seen: Vec<Seen>,
    shorts: Vec<(SlotId, usize)>,
    /// What to send at once to who sends something next, and how much of it was taken.
    answer: Option<Vec<u8>>,
    taken: Option<usize>,
}

const PATIENCE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(50);

impl<W: World> Bench<W> {
    fn new() -> Self {
        Self {
            world: W::new(),
            opened: 0,
            seen: Vec::new(),
            shorts: Vec::new(),
            answer: None,
            taken: None,
        }
    }

    fn tick(&mut self, sends: &[(SlotId, &[u8])], patience: Duration) {
        let driver = self.world.driver();
        let until = driver.now() + patience;
        driver.wait(sends.iter().copied(), Some(until)).unwrap();
        while let Some(short) = driver.next_short() {
            self.shorts.push(short);
        }
        let mut sockets = Vec::new();
        while let Some(completion) = driver.next() {
            self.seen.push(match completion {
                Completion::Accepted { socket, .. } => {
                    sockets.push(socket);
                    continue;
                }
                Completion::AcceptFailed { error } => panic!("accept failed: {error}"),
                Completion::Received { id, bytes, direct } => {
                    if let Some(answer) = self.answer.take() {
                        let (first, second) = answer.split_at(answer.len() / 3);
                        let slices = [IoSlice::new(first), IoSlice::new(second)];
                        self.taken = direct.send_now(id, &slices);
                    }
                    Seen::Received(id, bytes.to_vec())
                }
                Completion::ReceiveEnded { id, error } => Seen::Ended(id, error.is_some()),
                Completion::Writable { id } => Seen::Writable(id),
                Completion::Closed { id } => Seen::Closed(id),
                Completion::Woken => Seen::Woken,
            });
        }
        for socket in sockets {
            let id = SlotId::new(self.opened, 1);
            self.opened += 1;
            driver.open(id, socket).unwrap();
        }
    }

    fn send(&mut self, id: SlotId, bytes: &[u8]) {
        self.tick(&[(id, bytes)], Duration::ZERO);
    }

    /// Ticks until `done`, or fails the test.
    #[expect(clippy::disallowed_methods, reason = "bounds the test by the real clock")]
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "{what} did not happen; seen: {:?}", self.seen);
            self.tick(&[], Duration::from_secs(1));
        }
    }

    fn connect(&mut self) -> (SlotId, W::Peer) {
        let peer = self.world.connect();
        let opened = self.opened;
        self.until("accept", |bench| bench.opened > opened);
        (SlotId::new(opened, 1), peer)
    }

    fn bytes_of(&self, of: SlotId) -> Vec<u8> {
        let received = self.seen.iter().filter_map(|seen| match seen {
            Seen::Received(id, bytes) if *id == of => Some(&bytes[..]),
            _ => None,
        });
        received.collect::<Vec<_>>().concat()
    }

    fn received_len(&self) -> usize {
        let lens = self.seen.iter().map(|seen| match seen {
            Seen::Received(_, bytes) => bytes.len(),
            _ => 0,
        });
        lens.sum()
    }

    fn count(&self, wanted: &Seen) -> usize {
        self.seen.iter().filter(|seen| *seen == wanted).count()
    }
}

pub(super) fn bytes_arrive_in_order_both_ways<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, mut peer) = bench.connect();
    peer.write(b"hello ");
    peer.write(b"driver");
    bench.until("receive", |bench| bench.bytes_of(id) == b"hello driver");
    bench.send(id, b"hello ");
    bench.send(id, b"peer");
    assert_eq!(peer.read(10), b"hello peer");
    assert_eq!(bench.shorts, []);
}

pub(super) fn connections_that_wait_are_all_accepted<W: World>() {
    let mut bench = Bench::<W>::new();
    let peers: Vec<_> = (0..100).map(|_| bench.world.connect()).collect();
    bench.until("accept", |bench| bench.opened == 100);
    drop(peers);
}

pub(super) fn a_large_input_arrives_whole_though_it_takes_many_receives<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, mut peer) = bench.connect();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
    for chunk in sent.chunks(60_000) {
        peer.write(chunk);
        bench.tick(&[], Duration::ZERO);
    }
    bench.until("receive", |bench| bench.received_len() == sent.len());
    assert!(bench.bytes_of(id) == sent);
}

pub(super) fn a_short_send_tells_how_much_was_taken_and_when_there_is_room<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, mut peer) = bench.connect();
    let bytes: Vec<u8> = (0..40_000_000u32).map(|n| (n / 11) as u8).collect();
    bench.send(id, &bytes);
    let (short, mut sent) = bench.shorts.pop().unwrap();
    assert_eq!(short, id);
    assert!(sent < bytes.len());
    let mut received = Vec::new();
    while sent < bytes.len() {
        received.extend(peer.read(sent - received.len()));
        bench.until("room", |bench| bench.seen.contains(&Seen::Writable(id)));
        bench.seen.retain(|seen| *seen != Seen::Writable(id));
        bench.send(id, &bytes[sent..]);
        sent = bench.shorts.pop().map_or(bytes.len(), |(_, more)| sent + more);
    }
    received.extend(peer.read(sent - received.len()));
    assert!(received == bytes);
    assert_eq!(bench.world.driver().bytes_sent(), bytes.len() as u64);
    assert!(bench.world.driver().read_clock() >= bench.world.driver().now());
}

pub(super) fn what_is_sent_at_once_comes_in_order_and_before_what_is_sent_later<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, mut peer) = bench.connect();
    let answer: Vec<u8> = (0..40_000_000u32).map(|n| (n / 13) as u8).collect();
    peer.write(b"ask");
    bench.answer = Some(b"a, b, ".to_vec());
    bench.until("receive", |bench| bench.bytes_of(id) == b"ask");
    bench.send(id, b"c");
    assert_eq!(bench.taken.is_some(), W::SENDS_NOW);
    match bench.taken {
        Some(taken) => {
            assert_eq!(taken, 6);
            assert_eq!(peer.read(7), b"a, b, c");
        }
        // A driver may leave it to the next wait: then it has sent nothing.
        None => assert_eq!(peer.read(1), b"c"),
    }
    bench.answer = Some(answer.clone());
    peer.write(b" again");
    bench.until("receive", |bench| bench.bytes_of(id) == b"ask again");
    let Some(mut sent) = bench.taken else { return };
    assert!(sent > 0 && sent < answer.len());
    let mut received = Vec::new();
    while sent < answer.len() {
        received.extend(peer.read(sent - received.len()));
        bench.until("room", |bench| bench.seen.contains(&Seen::Writable(id)));
        bench.seen.retain(|seen| *seen != Seen::Writable(id));
        bench.send(id, &answer[sent..]);
        sent = bench.shorts.pop().map_or(answer.len(), |(_, more)| sent + more);
    }
    received.extend(peer.read(sent - received.len()));
    assert!(received == answer);
    assert_eq!(bench.world.driver().bytes_sent(), answer.len() as u64 + 7);
}

pub(super) fn what_is_sent_at_once_to_a_peer_that_reset_ends_receiving_with_an_error<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, mut peer) = bench.connect();
    peer.write(b"ask");
    peer.reset();
    bench.answer = Some(b"answer".to_vec());
    bench.until("end", |bench| bench.seen.iter().any(|seen| matches!(seen, Seen::Ended(..))));
    assert_eq!(bench.count(&Seen::Ended(id, true)), 1);
}

pub(super) fn a_fin_ends_receiving_once_and_sending_goes_on<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, mut peer) = bench.connect();
    peer.write(b"last");
    peer.finish();
    bench.until("end", |bench| bench.seen.contains(&Seen::Ended(id, false)));
    assert_eq!(bench.bytes_of(id), b"last");
    bench.send(id, b"answer");
    assert_eq!(peer.read(6), b"answer");
    bench.tick(&[], MOMENT);
    assert_eq!(bench.count(&Seen::Ended(id, false)), 1);
}

pub(super) fn a_reset_ends_receiving_with_an_error<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, peer) = bench.connect();
    peer.reset();
    bench.until("end", |bench| bench.seen.contains(&Seen::Ended(id, true)));
}

pub(super) fn a_reset_that_a_send_ran_into_ends_receiving_with_an_error<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, mut peer) = bench.connect();
    peer.write(b"ask");
    peer.reset();
    bench.until("receive", |bench| bench.bytes_of(id) == b"ask");
    bench.send(id, b"answer");
    bench.until("end", |bench| bench.seen.iter().any(|seen| matches!(seen, Seen::Ended(..))));
    assert_eq!(bench.count(&Seen::Ended(id, true)), 1);
}

pub(super) fn a_shutdown_reaches_the_peer_after_all_bytes_and_receiving_goes_on<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, mut peer) = bench.connect();
    bench.send(id, b"bye");
    bench.world.driver().shutdown(id);
    assert_eq!(peer.read(3), b"bye");
    assert!(peer.is_at_end());
    peer.write(b"still here");
    bench.until("receive", |bench| bench.bytes_of(id) == b"still here");
}

pub(super) fn a_close_completes_once_and_nothing_comes_after_it<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, mut peer) = bench.connect();
    peer.write(b"never seen");
    bench.world.driver().close(id);
    bench.world.driver().close(id);
    bench.until("close", |bench| bench.seen.contains(&Seen::Closed(id)));
    bench.tick(&[(id, b"never sent")], MOMENT);
    bench.world.driver().pause_receive(id);
    bench.world.driver().resume_receive(id);
    bench.world.driver().shutdown(id);
    bench.tick(&[], MOMENT);
    assert_eq!(bench.seen, [Seen::Closed(id)]);
    assert!(peer.is_at_end());
}

pub(super) fn a_slot_that_is_used_again_sees_nothing_of_its_past<W: World>() {
    let mut bench = Bench::<W>::new();
    let (first, mut peer) = bench.connect();
    peer.write(b"of the first");
    bench.world.driver().close(first);
    bench.until("close", |bench| bench.seen.contains(&Seen::Closed(first)));
    let mut second_peer = bench.world.connect();
    let second = SlotId::new(first.index() as u32, first.generation() + 1);
    let socket = 'accepted: loop {
        let driver = bench.world.driver();
        driver.wait([].into_iter(), None).unwrap();
        while let Some(completion) = driver.next() {
            if let Completion::Accepted { socket, .. } = completion {
                break 'accepted socket;
            }
        }
    };
    bench.world.driver().open(second, socket).unwrap();
    second_peer.write(b"of the second");
    bench.until("receive", |bench| bench.bytes_of(second) == b"of the second");
    bench.send(first, b"to nobody");
    bench.send(second, b"to the second");
    assert_eq!(second_peer.read(13), b"to the second");
    assert_eq!(bench.bytes_of(first), b"");
}

pub(super) fn a_pause_holds_bytes_back_and_loses_none<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, mut peer) = bench.connect();
    bench.world.driver().pause_receive(id);
    peer.write(b"held");
    bench.tick(&[], MOMENT);
    bench.tick(&[], MOMENT);
    assert_eq!(bench.bytes_of(id), b"");
    bench.world.driver().resume_receive(id);
    bench.until("receive", |bench| bench.bytes_of(id) == b"held");
}

pub(super) fn a_connection_that_fails_says_so_though_it_is_paused<W: World>() {
    let mut bench = Bench::<W>::new();
    let (id, peer) = bench.connect();
    bench.world.driver().pause_receive(id);
    peer.reset();
    bench.until("end", |bench| bench.seen.contains(&Seen::Ended(id, true)));
}

pub(super) fn what_it_has_is_as_before_once_all_are_closed<W: World>() {
    let mut bench = Bench::<W>::new();
    let before = bench.world.driver().holdings();
    let connected: Vec<_> = (0..3).map(|_| bench.connect()).collect();
    assert_eq!(bench.world.driver().holdings().sockets, 3);
    let mut peers = Vec::new();
    for (index, (id, mut peer)) in connected.into_iter().enumerate() {
        peer.write(b"held, or lent, or in the kernel");
        if index == 0 {
            bench.world.driver().pause_receive(id);
        }
        bench.tick(&[(id, b"an answer")], MOMENT);
        bench.world.driver().close(id);
        peers.push((id, peer));
    }
    let closed =
        |bench: &Bench<W>| peers.iter().all(|(id, _)| bench.seen.contains(&Seen::Closed(*id)));
    bench.until("close", closed);
    assert_eq!(bench.world.driver().holdings(), before);
    assert_eq!(before, Holdings::default());
}

pub(super) fn once_it_accepts_no_more_connections_are_left_waiting<W: World>() {
    let mut bench = Bench::<W>::new();
    let listener = bench.world.listener();
    let _first = bench.world.connect();
    bench.until("accept", |bench| bench.opened == 1);
    bench.world.driver().stop_accept(listener);
    let _second = bench.world.connect();
    bench.tick(&[], MOMENT);
    bench.tick(&[], MOMENT);
    assert_eq!(bench.opened, 1);
}

pub(super) fn a_connection_that_always_has_bytes_does_not_starve_the_others<W: World>() {
    let mut bench = Bench::<W>::new();
    let (busy, mut busy_peer) = bench.connect();
    let (quiet, mut quiet_peer) = bench.connect();
    let bytes = [0; 100_000];
    quiet_peer.write(b"short");
    for _ in 0..10 {
        busy_peer.write(&bytes);
        bench.tick(&[], Duration::from_secs(1));
    }
    assert_eq!(bench.bytes_of(quiet), b"short");
    assert!(!bench.bytes_of(busy).is_empty());
}

pub(super) fn a_wait_ends_at_its_deadline_and_moves_the_clock<W: World>() {
    let mut bench = Bench::<W>::new();
    let before = bench.world.driver().now();
    let until = before + MOMENT;
    bench.world.driver().wait([].into_iter(), Some(until)).unwrap();
    assert!(bench.world.driver().now() >= until);
    assert!(bench.world.driver().next().is_none());
}

pub(super) fn a_wake_from_another_thread_ends_a_wait<W: World>() {
    let mut bench = Bench::<W>::new();
    let waker = bench.world.driver().waker();
    let thread = std::thread::spawn(move || {
        waker.wake().unwrap();
        waker.wake().unwrap();
    });
    bench.until("wake", |bench| bench.seen.contains(&Seen::Woken));
    thread.join().unwrap();
}

/// The suite, as one test a behaviour.
macro_rules! contract {
    ($world:ty) => {
        contract!($world:
            bytes_arrive_in_order_both_ways,
            connections_that_wait_are_all_accepted,
            a_large_input_arrives_whole_though_it_takes_many_receives,
            a_short_send_tells_how_much_was_taken_and_when_there_is_room,
            what_is_sent_at_once_comes_in_order_and_before_what_is_sent_later,
            what_is_sent_at_once_to_a_peer_that_reset_ends_receiving_with_an_error,
            a_fin_ends_receiving_once_and_sending_goes_on,
            a_reset_ends_receiving_with_an_error,
            a_reset_that_a_send_ran_into_ends_receiving_with_an_error,
            a_shutdown_reaches_the_peer_after_all_bytes_and_receiving_goes_on,
            a_close_completes_once_and_nothing_comes_after_it,
            a_slot_that_is_used_again_sees_nothing_of_its_past,
            a_pause_holds_bytes_back_and_loses_none,
            a_connection_that_fails_says_so_though_it_is_paused,
            what_it_has_is_as_before_once_all_are_closed,
            once_it_accepts_no_more_connections_are_left_waiting,
            a_connection_that_always_has_bytes_does_not_starve_the_others,
            a_wait_ends_at_its_deadline_and_moves_the_clock,
            a_wake_from_another_thread_ends_a_wait,
        );
    };
    ($world:ty: $($name:ident,)+) => {
        $(#[test] fn $name() { $crate::driver::contract::$name::<$world>(); })+
    };
}
pub(super) use contract;

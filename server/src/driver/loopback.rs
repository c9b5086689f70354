//! The contract's world of real sockets, for the drivers of the kernel.

use super::{
    Completion, Driver, Listener, ListenerId,
    contract::{Peer, World},
};
use crate::parts::slots::SlotId;
use socket2::Socket;
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Makes drivers of one kind.
pub(super) trait Kind {
    type Driver: Driver<Listener = Listener>;

    const SENDS_NOW: bool;

    fn driver() -> Self::Driver;
}

pub(super) struct Tcp<K: Kind, const V6: bool> {
    pub(super) driver: K::Driver,
    listener: ListenerId,
    pub(super) address: SocketAddr,
}

impl<K: Kind, const V6: bool> World for Tcp<K, V6> {
    type Driver = K::Driver;
    type Peer = Socket;

    const SENDS_NOW: bool = K::SENDS_NOW;

    fn new() -> Self {
        let listener = TcpListener::bind(if V6 { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
        let address = listener.local_addr().unwrap();
        let mut driver = K::driver();
        let listener = driver.listen(Listener::Tcp(listener)).unwrap();
        Self { driver, listener, address }
    }

    fn driver(&mut self) -> &mut K::Driver {
        &mut self.driver
    }

    fn listener(&self) -> ListenerId {
        self.listener
    }

    fn connect(&mut self) -> Socket {
        peer(TcpStream::connect(self.address).unwrap().into())
    }
}

pub(super) struct Unix<K: Kind> {
    driver: K::Driver,
    listener: ListenerId,
    path: PathBuf,
}

impl<K: Kind> World for Unix<K> {
    type Driver = K::Driver;
    type Peer = Socket;

    const SENDS_NOW: bool = K::SENDS_NOW;

    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quelea-driver-{}-{number}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let mut driver = K::driver();
        let listener = driver.listen(Listener::Unix(listener)).unwrap();
        Self { driver, listener, path }
    }

    fn driver(&mut self) -> &mut K::Driver {
        &mut self.driver
    }

    fn listener(&self) -> ListenerId {
        self.listener
    }

    fn connect(&mut self) -> Socket {
        peer(UnixStream::connect(&self.path).unwrap().into())
    }
}

impl<K: Kind> Drop for Unix<K> {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

fn peer(socket: Socket) -> Socket {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

impl Peer for Socket {
    fn write(&mut self, bytes: &[u8]) {
        self.write_all(bytes).unwrap();
    }

    fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn is_at_end(&mut self) -> bool {
        // Closed with unread bytes, a reset is the end as well.
        Read::read(self, &mut [0]).map_or_else(
            |error| error.kind() == std::io::ErrorKind::ConnectionReset,
            |len| len == 0,
        )
    }

    fn finish(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        self.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// What the contract says of [`Driver::finish_accept`]; only a real listener refuses who comes later.
pub(super) fn finishing_accepts_those_that_wait_and_refuses_who_comes_later<K: Kind>() {
    let mut world = Tcp::<K, false>::new();
    // More than a turn; the driver has not looked at the listener yet.
    let _waiting: Vec<_> = (0..70).map(|_| world.connect()).collect();
    let listener = world.listener();
    world.driver.finish_accept(listener);
    let mut accepted = 0;
    loop {
        let until = world.driver.now() + Duration::from_millis(20);
        world.driver.wait([].into_iter(), Some(until)).unwrap();
        let before = accepted;
        while let Some(completion) = world.driver.next() {
            assert!(matches!(completion, Completion::Accepted { .. }));
            accepted += 1;
        }
        if accepted == before {
            break;
        }
    }
    assert_eq!(accepted, 70);
    assert!(TcpStream::connect(world.address).is_err());
    // What is done already may be asked for again.
    world.driver.finish_accept(listener);
    world.driver.stop_accept(listener);
    assert!(world.driver.next().is_none());
}

/// Of a peer whose bytes never end, some are told in each wait, and then the others'.
pub(super) fn a_flood_does_not_starve_the_others<K: Kind>() {
    let mut driver = K::driver();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    driver.listen(Listener::Tcp(listener)).unwrap();
    let mut busy = TcpStream::connect(address).unwrap();
    let mut quiet = TcpStream::connect(address).unwrap();
    let mut opened = 0;
    while opened < 2 {
        driver.wait([].into_iter(), None).unwrap();
        let mut sockets = Vec::new();
        while let Some(completion) = driver.next() {
            if let Completion::Accepted { socket, .. } = completion {
                sockets.push(socket);
            }
        }
        for socket in sockets {
            driver.open(SlotId::new(opened, 1), socket).unwrap();
            opened += 1;
        }
    }
    let flood = std::thread::spawn(move || {
        let bytes = vec![0; 1 << 20];
        // Until the driver ends.
        while busy.write_all(&bytes).is_ok() {}
    });
    let mut of_busy = 0;
    // How much of the busy one comes before the quiet one's, once that was sent.
    let mut ahead = None;
    loop {
        driver.wait([].into_iter(), None).unwrap();
        let mut is_over = false;
        while let Some(completion) = driver.next() {
            let Completion::Received { bytes, .. } = completion else { continue };
            if bytes.starts_with(b"s") {
                is_over = true;
                break;
            }
            of_busy += bytes.len();
            if let Some(ahead) = &mut ahead {
                *ahead += bytes.len();
                assert!(*ahead < 16 << 20, "the quiet one waits");
            } else if of_busy > 4 << 20 {
                quiet.write_all(b"short").unwrap();
                ahead = Some(0);
            }
        }
        if is_over {
            break;
        }
    }
    drop(driver);
    flood.join().unwrap();
}

/// The suite over Unix sockets. They have no RST: their end is a FIN, however it comes.
macro_rules! unix_contract {
    ($world:ty) => {
        $crate::driver::contract::contract!($world:
            bytes_arrive_in_order_both_ways,
            connections_that_wait_are_all_accepted,
            a_large_input_arrives_whole_though_it_takes_many_receives,
            a_short_send_tells_how_much_was_taken_and_when_there_is_room,
            what_is_sent_at_once_comes_in_order_and_before_what_is_sent_later,
            a_fin_ends_receiving_once_and_sending_goes_on,
            a_shutdown_reaches_the_peer_after_all_bytes_and_receiving_goes_on,
            a_close_completes_once_and_nothing_comes_after_it,
            a_slot_that_is_used_again_sees_nothing_of_its_past,
            a_pause_holds_bytes_back_and_loses_none,
            what_it_has_is_as_before_once_all_are_closed,
            once_it_accepts_no_more_connections_are_left_waiting,
            a_connection_that_always_has_bytes_does_not_starve_the_others,
            a_wait_ends_at_its_deadline_and_moves_the_clock,
            a_wake_from_another_thread_ends_a_wait,
        );
    };
}
pub(super) use unix_contract;

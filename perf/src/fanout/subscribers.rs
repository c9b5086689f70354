//! Many connections that are drained on one thread: bytes are counted, not parsed, so that they are
//! soon ready for more.

use super::message::{Burst, Counts};
use crate::{client, clock::now, target::Target};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::SockRef;
use std::{
    error::Error,
    fs::File,
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

const EVENTS_MAX: usize = 1024;
const BUFFER_BYTES: usize = 256 << 10;
/// How long a server may send nothing while something is missing.
const PATIENCE: Duration = Duration::from_secs(10);
/// A pong that nobody asked for (RFC 6455, section 5.5.3), masked with zeros.
const PONG: &[u8] = &[0x8A, 0x80, 0, 0, 0, 0];

/// Connections to one server.
pub(super) struct Subscribers {
    poll: Poll,
    events: Events,
    sockets: Vec<TcpStream>,
    buffer: Vec<u8>,
}

/// What is published.
#[derive(Clone, Copy)]
pub(super) enum Load {
    /// The first publishes a burst to all; the next one when all have it.
    OneToAll,
    /// Each publishes; the next one when it has received so much that, with as much from each, fewer
    /// than `depth` of its own bursts are missing.
    AllToAll { depth: u64 },
}

impl Subscribers {
    pub(super) fn connect(target: &Target, count: usize) -> Result<Self, Box<dyn Error>> {
        let mut random = File::open("/dev/urandom")?;
        let poll = Poll::new()?;
        let mut sockets = Vec::with_capacity(count);
        for index in 0..count {
            let mut nonce = [0; 16];
            random.read_exact(&mut nonce)?;
            let socket = client::connect(target, &nonce)
                .map_err(|error| format!("connection {index} of {count}: {error}"))?;
            // Its port is free again at once, for the next of thousands.
            SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            poll.registry().register(&mut socket, Token(index), Interest::READABLE)?;
            sockets.push(socket);
        }
        let events = Events::with_capacity(EVENTS_MAX);
        Ok(Self { poll, events, sockets, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Says that they are alive, so that no server pings those that only listen.
    pub(super) fn show_life(&mut self) -> Result<(), Box<dyn Error>> {
        self.sockets.iter_mut().try_for_each(|socket| write_whole(socket, PONG))
    }

    /// Publishes until a time, and waits until all is delivered; returns how many deliveries that
    /// were: one for each message and socket.
    pub(super) fn run(
        &mut self,
        load: Load,
        burst: &Burst,
        end: Instant,
    ) -> Result<u64, Box<dyn Error>> {
        let bursts = match load {
            Load::OneToAll => self.one_to_all(burst, end)?,
            Load::AllToAll { depth } => self.all_to_all(burst, depth, end)?,
        };
        Ok(bursts * burst.messages * self.sockets.len() as u64)
    }

    fn one_to_all(&mut self, burst: &Burst, end: Instant) -> Result<u64, Box<dyn Error>> {
        let mut counts = Counts::new(self.sockets.len());
        let mut bursts = 0;
        loop {
            let publisher = self.sockets.first_mut().ok_or("no subscribers")?;
            write_whole(publisher, &burst.published)?;
            bursts += 1;
            counts.expect(burst.delivered_bytes);
            while !counts.is_complete() {
                self.drain(|index, bytes, _| {
                    counts.add(index, bytes)?;
                    Ok(())
                })?;
            }
            if now() >= end {
                return Ok(bursts);
            }
        }
    }

    fn all_to_all(
        &mut self,
        burst: &Burst,
        depth: u64,
        end: Instant,
    ) -> Result<u64, Box<dyn Error>> {
        let mut counts = Counts::new(self.sockets.len());
        let mut published = vec![0; self.sockets.len()];
        let from_each = burst.delivered_bytes * self.sockets.len() as u64;
        let mut publish = |index: usize, socket: &mut TcpStream, counts: &mut Counts, due| {
            while published[index] < due {
                write_whole(socket, &burst.published)?;
                published[index] += 1;
                counts.expect(burst.delivered_bytes);
            }
            Ok::<_, Box<dyn Error>>(())
        };
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            publish(index, socket, &mut counts, depth)?;
        }
        let mut is_over = false;
        while !(is_over && counts.is_complete()) {
            self.drain(|index, bytes, socket| {
                let received = counts.add(index, bytes)?;
                let due = if is_over { 0 } else { received / from_each + depth };
                publish(index, socket, &mut counts, due)
            })?;
            is_over = now() >= end;
        }
        Ok(published.iter().sum())
    }

    /// Waits until something comes, and reads all that is there.
    fn drain(
        &mut self,
        mut on_received: impl FnMut(usize, u64, &mut TcpStream) -> Result<(), Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        let Self { poll, events, sockets, buffer } = self;
        match poll.poll(events, Some(PATIENCE)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        if events.is_empty() {
            return Err("the server has not delivered all, and sends nothing more".into());
        }
        for event in &*events {
            let index = event.token().0;
            loop {
                let len = match sockets[index].read(buffer) {
                    Ok(0) => return Err("the server closed a connection".into()),
                    Ok(len) => len,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error.into()),
                };
                on_received(index, len as u64, &mut sockets[index])?;
                // What comes after a short read raises a new edge.
                if len < buffer.len() {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn write_whole(socket: &mut TcpStream, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    match socket.write(bytes) {
        Ok(len) if len == bytes.len() => return Ok(()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }
    Err("what is written at once does not fit the buffers of a socket".into())
}

#[cfg(test)]
mod tests {
    use super::{super::bare::Bare, *};
    use std::thread;

    fn server() -> Target {
        let mut bare = Bare::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bare.address();
        // It ends with the process.
        thread::spawn(move || bare.serve().unwrap());
        format!("ws://{address}/").parse().unwrap()
    }

    #[test]
    fn a_delivery_is_one_message_to_one_socket() {
        let target = server();
        let mut subscribers = Subscribers::connect(&target, 5).unwrap();
        // A round that is over at once publishes one burst.
        for (messages, size) in [(1, 100), (100, 100), (3, 70_000)] {
            let burst = Burst::new(messages, size).unwrap();
            let deliveries = subscribers.run(Load::OneToAll, &burst, now()).unwrap();
            assert_eq!(deliveries, messages as u64 * 5);
        }
    }

    #[test]
    fn each_publishes_to_all_as_deep_as_told() {
        let target = server();
        let mut subscribers = Subscribers::connect(&target, 5).unwrap();
        subscribers.show_life().unwrap();
        let burst = Burst::new(1, 20).unwrap();
        let load = Load::AllToAll { depth: 3 };
        let deliveries = subscribers.run(load, &burst, now()).unwrap();
        assert!(deliveries >= 3 * 5 * 5 && deliveries.is_multiple_of(5), "{deliveries}");
        let end = now() + Duration::from_millis(50);
        assert!(subscribers.run(load, &burst, end).unwrap() > deliveries);
    }

    #[test]
    fn a_message_from_elsewhere_is_noticed() {
        let target = server();
        let mut subscribers = Subscribers::connect(&target, 2).unwrap();
        let mut other = Subscribers::connect(&target, 1).unwrap();
        write_whole(&mut other.sockets[0], &Burst::new(1, 21).unwrap().published).unwrap();
        other.drain(|_, _, _| Ok(())).unwrap();
        let burst = Burst::new(1, 20).unwrap();
        assert!(subscribers.run(Load::OneToAll, &burst, now()).is_err());
    }

    #[test]
    fn those_that_are_gone_are_sent_nothing_and_their_places_are_taken() {
        let target = server();
        drop(Subscribers::connect(&target, 3).unwrap());
        let mut subscribers = Subscribers::connect(&target, 5).unwrap();
        let burst = Burst::new(1, 20).unwrap();
        assert_eq!(subscribers.run(Load::OneToAll, &burst, now()).unwrap(), 5);
    }
}

//! Many connections that are drained on one thread: bytes are counted, not parsed, so that they are
//! soon ready for more.

use super::{
    inflating::Inflating,
    message::{Burst, Content, Counts},
};
use crate::{client, clock::now, load::Deflate, target::Target};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use quelea_core::deflate::{Parameters, WindowBits};
use socket2::SockRef;
use std::{
    collections::BTreeMap,
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
    /// What they agreed on, if compression was offered.
    agreed: Option<Agreed>,
    inflating: Option<Inflating>,
    received_bytes: u64,
}

/// What each of some connections agreed on.
pub(super) struct Agreed(Vec<Option<Parameters>>);

impl Agreed {
    /// What may be sent to the server by any of them: `None` if that has to be plain.
    pub(super) fn parameters(&self) -> Option<Parameters> {
        let window = |agreed: &Option<Parameters>| {
            agreed.map(|agreed| agreed.client_max_window_bits.unwrap_or(WindowBits::MAX))
        };
        let windows: Option<Vec<_>> = self.0.iter().map(window).collect();
        let client_max_window_bits = windows?.into_iter().min();
        Some(Parameters { client_max_window_bits, ..Parameters::default() })
    }

    /// How many agreed on what.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for agreed in &self.0 {
            let agreed = agreed.map_or_else(|| "declined".to_owned(), |agreed| agreed.to_string());
            *counts.entry(agreed).or_default() += 1;
        }
        counts
    }
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
    pub(super) fn connect(
        target: &Target,
        count: usize,
        deflate: &Deflate,
        content: &Content,
    ) -> Result<Self, Box<dyn Error>> {
        let mut random = File::open("/dev/urandom")?;
        let poll = Poll::new()?;
        let mut sockets = Vec::with_capacity(count);
        let mut agreed = Vec::with_capacity(count);
        for index in 0..count {
            let mut nonce = [0; 16];
            random.read_exact(&mut nonce)?;
            let (socket, parameters) = client::connect_offering(target, &nonce, deflate)
                .map_err(|error| format!("connection {index} of {count}: {error}"))?;
            agreed.push(parameters);
            // Its port is free again at once, for the next of thousands.
            SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            poll.registry().register(&mut socket, Token(index), Interest::READABLE)?;
            sockets.push(socket);
        }
        let events = Events::with_capacity(EVENTS_MAX);
        let agreed = (!deflate.offered.offers().is_empty()).then_some(Agreed(agreed));
        let inflating = agreed.as_ref().map(|Agreed(agreed)| {
            Inflating::new(agreed, content.kind, content.payloads.iter().cloned().collect())
        });
        let buffer = vec![0; BUFFER_BYTES];
        Ok(Self { poll, events, sockets, buffer, agreed, inflating, received_bytes: 0 })
    }

    pub(super) const fn agreed(&self) -> Option<&Agreed> {
        self.agreed.as_ref()
    }

    /// Bytes that came since they are connected.
    pub(super) const fn received_bytes(&self) -> u64 {
        self.received_bytes
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
            let published = &burst.published[bursts as usize % burst.published.len()];
            write_whole(publisher, published)?;
            bursts += 1;
            counts.expect(burst.delivered);
            while !counts.is_complete() {
                self.drain(|index, count, _| {
                    counts.add(index, count)?;
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
        let from_each = burst.delivered * self.sockets.len() as u64;
        let mut publish = |index: usize, socket: &mut TcpStream, counts: &mut Counts, due| {
            while published[index] < due {
                let turn = (index as u64 + published[index]) as usize % burst.published.len();
                write_whole(socket, &burst.published[turn])?;
                published[index] += 1;
                counts.expect(burst.delivered);
            }
            Ok::<_, Box<dyn Error>>(())
        };
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            publish(index, socket, &mut counts, depth)?;
        }
        let mut is_over = false;
        while !(is_over && counts.is_complete()) {
            self.drain(|index, count, socket| {
                let received = counts.add(index, count)?;
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
        let Self { poll, events, sockets, buffer, inflating, received_bytes, .. } = self;
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
                *received_bytes += len as u64;
                let count = match inflating {
                    Some(inflating) => inflating.count(index, &mut buffer[..len])?,
                    None => len as u64,
                };
                on_received(index, count, &mut sockets[index])?;
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
    use crate::{echo::Kind, testing::TestServer};
    use quelea::{
        Config, Conn, Handler, Message,
        deflate::{Policy, Settings},
    };
    use std::thread;

    fn text(size: usize) -> Content {
        Content::new(Kind::Text, size, 1)
    }

    fn connect(target: &Target, count: usize) -> Result<Subscribers, Box<dyn Error>> {
        Subscribers::connect(target, count, &Deflate::default(), &text(0))
    }

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
        let mut subscribers = connect(&target, 5).unwrap();
        // A round that is over at once publishes one burst.
        for (messages, size) in [(1, 100), (100, 100), (3, 70_000)] {
            let burst = Burst::new(messages, &text(size), None).unwrap();
            let deliveries = subscribers.run(Load::OneToAll, &burst, now()).unwrap();
            assert_eq!(deliveries, messages as u64 * 5);
        }
    }

    #[test]
    fn each_publishes_to_all_as_deep_as_told() {
        let target = server();
        let mut subscribers = connect(&target, 5).unwrap();
        subscribers.show_life().unwrap();
        let burst = Burst::new(1, &text(20), None).unwrap();
        let load = Load::AllToAll { depth: 3 };
        let deliveries = subscribers.run(load, &burst, now()).unwrap();
        assert!(deliveries >= 3 * 5 * 5 && deliveries.is_multiple_of(5), "{deliveries}");
        let end = now() + Duration::from_millis(50);
        assert!(subscribers.run(load, &burst, end).unwrap() > deliveries);
    }

    #[test]
    fn a_message_from_elsewhere_is_noticed() {
        let target = server();
        let mut subscribers = connect(&target, 2).unwrap();
        let mut other = connect(&target, 1).unwrap();
        write_whole(&mut other.sockets[0], &Burst::new(1, &text(21), None).unwrap().published[0])
            .unwrap();
        other.drain(|_, _, _| Ok(())).unwrap();
        let burst = Burst::new(1, &text(20), None).unwrap();
        assert!(subscribers.run(Load::OneToAll, &burst, now()).is_err());
    }

    #[test]
    fn those_that_are_gone_are_sent_nothing_and_their_places_are_taken() {
        let target = server();
        drop(connect(&target, 3).unwrap());
        let mut subscribers = connect(&target, 5).unwrap();
        let burst = Burst::new(1, &text(20), None).unwrap();
        assert_eq!(subscribers.run(Load::OneToAll, &burst, now()).unwrap(), 5);
    }

    struct Broadcast;

    impl Handler for Broadcast {
        type State = ();

        fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
            conn.subscribe("all");
        }

        fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
            conn.publish("all", message);
        }
    }

    #[test]
    fn compressed_deliveries_are_inflated_and_counted_whatever_was_agreed_on() {
        let takeover = |window_bits| {
            let window_bits = WindowBits::new(window_bits).unwrap();
            Policy::Takeover { window_bits, budget_bytes: 16 << 20 }
        };
        for (policy, expected) in [
            (
                Policy::Shared,
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            ),
            (takeover(15), "permessage-deflate"),
            (
                takeover(10),
                "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10",
            ),
        ] {
            let config = Config { deflate: Settings::new(policy), ..Config::default() };
            let server = TestServer::start(config, |_| Broadcast);
            let target = format!("ws://{}/", server.address).parse().unwrap();
            let offered = "takeover".parse().unwrap();
            let deflate = Deflate { offered, deflate_optional: false };
            let content = Content::new(Kind::Json, 1024, 1);
            let mut subscribers = Subscribers::connect(&target, 5, &deflate, &content).unwrap();
            let agreed = subscribers.agreed().unwrap();
            assert_eq!(agreed.counts(), BTreeMap::from([(expected.to_owned(), 5)]));
            let burst = Burst::new(3, &content, subscribers.agreed()).unwrap();
            assert!(burst.published.iter().all(|write| write.len() < 3 * 800));
            let end = now() + Duration::from_millis(30);
            let deliveries = subscribers.run(Load::OneToAll, &burst, end).unwrap();
            assert!(deliveries >= 30, "{deliveries}");
            assert!(subscribers.received_bytes() < deliveries * 800);
            let load = Load::AllToAll { depth: 2 };
            let deliveries = subscribers.run(load, &burst, now()).unwrap();
            assert!(deliveries >= 3 * 2 * 5 * 5, "{deliveries}");
        }
        let server = TestServer::start(Config::default(), |_| Broadcast);
        let target = format!("ws://{}/", server.address).parse().unwrap();
        let offered = "shared".parse().unwrap();
        let mut deflate = Deflate { offered, deflate_optional: false };
        let error = Subscribers::connect(&target, 1, &deflate, &text(200)).map(drop).unwrap_err();
        assert!(error.to_string().contains("declined permessage-deflate"), "{error}");
        deflate.deflate_optional = true;
        let mut subscribers = Subscribers::connect(&target, 2, &deflate, &text(200)).unwrap();
        let burst = Burst::new(1, &text(200), subscribers.agreed()).unwrap();
        assert_eq!(burst.published[0].len(), 208, "it is plain");
        assert_eq!(subscribers.run(Load::OneToAll, &burst, now()).unwrap(), 2);
    }
}

//! Connections that read all they are sent, on one thread. The first of them publishes.

use super::{
    message::{Faults, STAMP_BYTES, Sequence, Stamp},
    schedule::Schedule,
};
use crate::{client, clock::now, target::Target};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use quelea_core::{Connection, Context, Event, Limits, Message, Received, Role};
use std::{
    error::Error,
    fs::File,
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

const EVENTS_MAX: usize = 1024;
const BUFFER_BYTES: usize = 256 << 10;
/// How long a server may send nothing while something is missing.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Readers {
    poll: Poll,
    readers: Vec<Reader>,
    context: Context,
    buffer: Vec<u8>,
    payload: Vec<u8>,
    /// What the times in payloads count from.
    origin: Instant,
    published: u64,
}

/// One of them.
struct Reader {
    stream: TcpStream,
    connection: Connection,
    sequence: Sequence,
    /// What the socket has not taken yet: messages of the one that publishes, and pongs.
    out: Vec<u8>,
}

/// What came of the messages of one phase.
pub(super) struct Delivered {
    /// From when each message was due until it was read, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) faults: Faults,
}

impl Readers {
    /// Connects them; no message will be longer than `size_max` bytes.
    pub(super) fn connect(
        target: &Target,
        count: usize,
        size_max: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let mut random = File::open("/dev/urandom")?;
        let mut seed = [0; 32];
        random.read_exact(&mut seed)?;
        let limits = Limits { message_bytes_max: size_max, ..Limits::default() };
        let poll = Poll::new()?;
        let mut readers = Vec::with_capacity(count);
        for index in 0..count {
            let mut nonce = [0; 16];
            random.read_exact(&mut nonce)?;
            let stream = client::connect(target, &nonce)
                .map_err(|error| format!("connection {index} of {count}: {error}"))?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(index), interest)?;
            readers.push(Reader {
                stream,
                connection: Connection::new(Role::Client),
                sequence: Sequence::default(),
                out: Vec::new(),
            });
        }
        Ok(Self {
            poll,
            readers,
            context: Context::new(limits, seed),
            buffer: vec![0; BUFFER_BYTES],
            payload: (b'a'..=b'z').cycle().take(size_max).collect(),
            origin: now(),
            published: 0,
        })
    }

    /// Publishes messages of `size` bytes when they are due, and reads until each reader has the
    /// last of them, or the server sends nothing more. `watch` is told the time and how many
    /// deliveries there were.
    pub(super) fn run(
        &mut self,
        mut schedule: Schedule,
        size: usize,
        mut watch: impl FnMut(Instant, u64),
    ) -> Result<Delivered, Box<dyn Error>> {
        // Up to a minute, to three digits.
        let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut time = now();
        let mut heard = time;
        loop {
            watch(time, latency.len());
            self.publish(&mut schedule, size, time)?;
            let wait = match schedule.next() {
                Some(due) => due.saturating_duration_since(time),
                None if self.is_complete() => break,
                None if time >= heard + PATIENCE => break,
                None => (heard + PATIENCE).duration_since(time),
            };
            // A poll rounds up to milliseconds, by which messages would be late.
            let wait = Duration::from_millis(wait.as_millis() as u64);
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => result?,
            }
            time = now();
            for event in &events {
                if let Some(read) = self.receive(event.token().0, &mut latency)? {
                    (time, heard) = (read, read);
                    self.publish(&mut schedule, size, time)?;
                }
            }
        }
        let mut faults = Faults::default();
        for reader in &mut self.readers {
            faults += reader.sequence.settle(self.published);
        }
        Ok(Delivered { latency, faults })
    }

    fn is_complete(&self) -> bool {
        self.readers.iter().all(|reader| reader.sequence.is_complete(self.published))
    }

    /// Sends what is due.
    fn publish(
        &mut self,
        schedule: &mut Schedule,
        size: usize,
        time: Instant,
    ) -> Result<(), Box<dyn Error>> {
        while let Some(due) = schedule.take(time) {
            let publisher = self.readers.first_mut().ok_or("no readers")?;
            let payload = &mut self.payload[..size.max(STAMP_BYTES)];
            let due = due.saturating_duration_since(self.origin);
            Stamp { number: self.published, due }.write(payload);
            let message = Message::Binary(payload);
            publisher.connection.send(message, &mut self.context, &mut publisher.out)?;
            self.published += 1;
            publisher.flush()?;
        }
        Ok(())
    }

    /// Reads all that is there for one; returns when the last of it was read, if anything was.
    fn receive(
        &mut self,
        index: usize,
        latency: &mut Histogram<u64>,
    ) -> Result<Option<Instant>, Box<dyn Error>> {
        let Self { readers, context, buffer, origin, published, .. } = self;
        let Reader { stream, connection, sequence, out } = &mut readers[index];
        let mut last = None;
        loop {
            let len = match stream.read(buffer) {
                Ok(0) => return Err("the server closed the connection of a reader".into()),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let time = now();
            last = Some(time);
            let elapsed = time - *origin;
            let mut received = Received::new(&mut buffer[..len]);
            while let Some(event) = connection.poll_event(&mut received, context, out)? {
                match event {
                    Event::Message(message) => {
                        let stamp = Stamp::read(message.as_bytes())
                            .filter(|stamp| stamp.number < *published)
                            .ok_or("the server sent what was not published")?;
                        sequence.take(stamp.number);
                        let waited = elapsed.saturating_sub(stamp.due).as_nanos();
                        latency.saturating_record(u64::try_from(waited).unwrap_or(u64::MAX));
                    }
                    Event::Close(close) => {
                        return Err(
                            format!("the server closed: {} {}", close.code, close.reason).into()
                        );
                    }
                    Event::Ping(_) | Event::Pong(_) => {}
                }
            }
            // What comes after a short read raises a new edge.
            if len < buffer.len() {
                break;
            }
        }
        readers[index].flush()?;
        Ok(last)
    }
}

impl Reader {
    /// Writes what waits, as far as the socket takes it: a server that reads slowly delays no
    /// message that is due later.
    fn flush(&mut self) -> Result<(), Box<dyn Error>> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.stream.write(&self.out[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.out.drain(..sent);
        Ok(())
    }
}

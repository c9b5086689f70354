//! `quelea-perf echo`: messages in flight on every connection, as fast as the server answers.

use crate::{
    client::{Client, Payload},
    clock::now,
    cpu,
    target::Target,
};
use clap::Args;
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};
use quelea_core::{Context, Limits, MessageKind};
use std::{
    error::Error,
    fmt,
    fs::File,
    io::Read,
    time::{Duration, Instant},
};

#[derive(Args)]
pub(crate) struct Options {
    /// The server, such as ws://127.0.0.1:9001/.
    target: Target,
    /// How many connections.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Messages in flight on each connection.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// The payload of a message, in bytes.
    #[arg(long, default_value_t = 20)]
    size: usize,
    /// Sends binary messages, not text.
    #[arg(long)]
    binary: bool,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// The server's process id: tells its CPU time a message.
    #[arg(long)]
    server_pid: Option<u32>,
}

/// What was measured.
pub(crate) struct Report {
    messages: u64,
    time: Duration,
    own_cpu: Duration,
    server_cpu: Option<Duration>,
    latency: Histogram<u64>,
}

/// Answers are read into this; a second of warm-up is not measured.
const BUFFER_BYTES: usize = 256 << 10;
const WARM_UP: Duration = Duration::from_secs(1);

pub(crate) fn run(options: &Options) -> Result<Report, Box<dyn Error>> {
    let mut run = Run::start(options)?;
    run.until(now() + WARM_UP)?;
    run.count = 0;
    run.latency.reset();
    let server = options.server_pid.map(|pid| pid.to_string());
    let server_time = || server.as_deref().map(cpu::time).transpose();
    let (start, own_before, server_before) = (now(), cpu::time("self")?, server_time()?);
    run.until(start + Duration::try_from_secs_f64(options.seconds)?)?;
    let (own_after, server_after) = (cpu::time("self")?, server_time()?);
    Ok(Report {
        messages: run.count,
        time: now() - start,
        own_cpu: own_after.saturating_sub(own_before),
        server_cpu: server_after
            .zip(server_before)
            .map(|(after, before)| after.saturating_sub(before)),
        latency: run.latency,
    })
}

struct Run<'o> {
    options: &'o Options,
    payload: Vec<u8>,
    context: Context,
    poll: Poll,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    latency: Histogram<u64>,
    count: u64,
}

impl<'o> Run<'o> {
    fn start(options: &'o Options) -> Result<Self, Box<dyn Error>> {
        let mut random = File::open("/dev/urandom")?;
        let mut seed = [0; 32];
        random.read_exact(&mut seed)?;
        let limits = Limits { message_bytes_max: options.size, ..Limits::default() };
        let mut run = Self {
            options,
            payload: (0..options.size).map(|index| b'a' + (index % 26) as u8).collect(),
            context: Context::new(limits, seed),
            poll: Poll::new()?,
            clients: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            // Up to a minute, to three digits.
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
            count: 0,
        };
        for index in 0..options.connections {
            let mut nonce = [0; 16];
            random.read_exact(&mut nonce)?;
            let mut client = Client::connect(&options.target, &nonce)?;
            client.register(run.poll.registry(), Token(index))?;
            run.clients.push(client);
        }
        Ok(run)
    }

    fn until(&mut self, end: Instant) -> Result<(), Box<dyn Error>> {
        let kind = if self.options.binary { MessageKind::Binary } else { MessageKind::Text };
        let Self { payload, context, poll, clients, buffer, latency, count, options } = self;
        let payload = Payload { kind, bytes: payload };
        let mut events = Events::with_capacity(1024);
        let mut time = now();
        for client in &mut *clients {
            while client.in_flight() < options.depth {
                client.send(payload, context, time)?;
            }
            client.flush()?;
        }
        while time < end {
            poll.poll(&mut events, Some(end - time))?;
            time = now();
            for event in &events {
                let client = &mut clients[event.token().0];
                client.receive(payload, context, buffer, |sent_at| {
                    *count += 1;
                    let nanoseconds = (time - sent_at).as_nanos();
                    latency.saturating_record(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
                })?;
                while client.in_flight() < options.depth {
                    client.send(payload, context, time)?;
                }
                client.flush()?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.messages.max(1) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e9 / count;
        let microseconds = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        writeln!(f, "messages        {}", self.messages)?;
        writeln!(f, "messages/s      {:.0}", count / self.time.as_secs_f64())?;
        writeln!(f, "generator CPU   {:.0} ns a message", each(self.own_cpu))?;
        if let Some(cpu) = self.server_cpu {
            writeln!(f, "server CPU      {:.0} ns a message", each(cpu))?;
        }
        write!(
            f,
            "round trip      p50 {:.1} us, p99 {:.1} us, max {:.1} us (closed loop: a stall hides the \
             messages it held up)",
            microseconds(0.5),
            microseconds(0.99),
            microseconds(1.0),
        )
    }
}

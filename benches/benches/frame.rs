//! Frames: received by a server (header, unmasking, UTF-8) and sent by one, in messages a second.
//!
//! Unmasking is in place, so each row copies the same bytes once: Quelea's into its input, the peers'
//! through their public interface into a buffer of their own, as when they receive from a socket.
//! Connections and buffers are made before the clock runs, in every row.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quelea_benches::{PAYLOADS, batch, masked_frames};
use quelea_core::{Connection, Context, Event, Limits, Message, Received, Role};
use std::{
    hint::black_box,
    io::{self, Read, Write},
    pin::Pin,
    task::{self, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};
use tungstenite::protocol::{
    WebSocket,
    frame::Frame,
    frame::coding::{Data, OpCode},
};

/// The same bytes to read again and again, and nowhere to write.
struct Endless<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Endless<'_> {
    /// What comes next, as far as there is room for it.
    fn take(&mut self, room: usize) -> &[u8] {
        let rest = &self.bytes[self.at..];
        let taken = &rest[..room.min(rest.len())];
        self.at = (self.at + taken.len()) % self.bytes.len();
        taken
    }
}

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.take(buffer.len());
        buffer[..taken.len()].copy_from_slice(taken);
        Ok(taken.len())
    }
}

impl AsyncRead for Endless<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Not into `initialize_unfilled`, which would write the memory twice.
        let room = buffer.remaining();
        buffer.put_slice(self.get_mut().take(room));
        Poll::Ready(Ok(()))
    }
}

impl Write for Endless<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/decode");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for payload in PAYLOADS {
        let count = batch(payload);
        let bytes = masked_frames(payload, count);
        group.throughput(Throughput::Elements(count as u64));
        let mut context = Context::new(Limits::default(), [0; 32]);
        let (mut input, mut out) = (Vec::new(), Vec::new());
        let mut connection = Connection::new(Role::Server);
        group.bench_function(BenchmarkId::new("quelea", payload), |bencher| {
            bencher.iter(|| {
                input.clear();
                input.extend_from_slice(&bytes);
                let mut received = Received::new(&mut input);
                let mut messages = 0;
                while let Ok(Some(event)) =
                    connection.poll_event(&mut received, &mut context, &mut out)
                {
                    if let Event::Message(message) = event {
                        black_box(message);
                        messages += 1;
                    }
                }
                assert_eq!(messages, count);
            });
        });
        group.bench_function(BenchmarkId::new("tungstenite", payload), |bencher| {
            let input = Endless { bytes: &bytes, at: 0 };
            let role = tungstenite::protocol::Role::Server;
            let mut socket = WebSocket::from_raw_socket(input, role, None);
            bencher.iter(|| {
                for _ in 0..count {
                    black_box(socket.read().expect("a message"));
                }
            });
        });
        group.bench_function(BenchmarkId::new("fastwebsockets", payload), |bencher| {
            let stream = tokio::io::join(Endless { bytes: &bytes, at: 0 }, tokio::io::sink());
            let role = fastwebsockets::Role::Server;
            let socket = fastwebsockets::WebSocket::after_handshake(stream, role);
            let mut socket = fastwebsockets::FragmentCollector::new(socket);
            bencher.iter(|| {
                runtime.block_on(async {
                    for _ in 0..count {
                        // It has checked that the text is UTF-8.
                        black_box(socket.read_frame().await.expect("a message"));
                    }
                });
            });
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/encode");
    for payload in PAYLOADS {
        let count = batch(payload);
        // One source for all rows: how it lies to `out` decides how fast it is copied.
        let shared = tungstenite::Bytes::from("x".repeat(payload));
        let text = std::str::from_utf8(&shared).expect("ASCII");
        let mut out = Vec::with_capacity(128 << 10);
        group.throughput(Throughput::Elements(count as u64));
        let mut context = Context::new(Limits::default(), [0; 32]);
        let mut connection = Connection::new(Role::Server);
        group.bench_function(BenchmarkId::new("quelea", payload), |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..count {
                    let sent =
                        connection.send(Message::Text(black_box(text)), &mut context, &mut out);
                    assert!(sent.is_ok());
                }
                black_box(&out);
            });
        });
        group.bench_function(BenchmarkId::new("tungstenite", payload), |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..count {
                    let frame = Frame::message(shared.clone(), OpCode::Data(Data::Text), true);
                    frame.format(&mut out).expect("memory takes it");
                }
                black_box(&out);
            });
        });
        // Its `write` only fills a buffer of one frame, which would be a copy more.
        let mut head = [0; 16];
        group.bench_function(BenchmarkId::new("fastwebsockets", payload), |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..count {
                    let payload = fastwebsockets::Payload::Borrowed(black_box(text.as_bytes()));
                    let mut frame = fastwebsockets::Frame::text(payload);
                    let len = frame.fmt_head(&mut head);
                    out.extend_from_slice(&head[..len]);
                    out.extend_from_slice(&frame.payload);
                }
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = quelea_benches::criterion(); targets = decode, encode }
criterion_main!(benches);

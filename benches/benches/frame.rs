//! Frames: received by a server (header, unmasking, UTF-8) and sent by one, in messages a second.
//!
//! Unmasking is in place, so each row begins with a copy of the same bytes. The peers read from and
//! write to memory through their public interface, which for them means a copy into a buffer of their
//! own: that is how they receive from a socket as well.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quelea_benches::{PAYLOADS, batch, masked_frames};
use quelea_core::{Connection, Context, Event, Limits, Message, Received, Role};
use std::{
    hint::black_box,
    io::{self, Cursor, Read, Write},
};
use tungstenite::protocol::{
    WebSocket,
    frame::Frame,
    frame::coding::{Data, OpCode},
};

/// Bytes to read, and nowhere to write.
struct Input(Cursor<Vec<u8>>);

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Input {
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
        group.bench_function(BenchmarkId::new("quelea", payload), |bencher| {
            bencher.iter(|| {
                input.clear();
                input.extend_from_slice(&bytes);
                let mut connection = Connection::new(Role::Server);
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
            bencher.iter(|| {
                let input = Input(Cursor::new(bytes.clone()));
                let role = tungstenite::protocol::Role::Server;
                let mut socket = WebSocket::from_raw_socket(input, role, None);
                for _ in 0..count {
                    black_box(socket.read().expect("a message"));
                }
            });
        });
        group.bench_function(BenchmarkId::new("fastwebsockets", payload), |bencher| {
            bencher.iter(|| {
                let stream = tokio::io::join(Cursor::new(bytes.clone()), tokio::io::sink());
                let role = fastwebsockets::Role::Server;
                let socket = fastwebsockets::WebSocket::after_handshake(stream, role);
                let mut socket = fastwebsockets::FragmentCollector::new(socket);
                runtime.block_on(async {
                    for _ in 0..count {
                        let frame = socket.read_frame().await.expect("a message");
                        assert!(frame.is_utf8());
                        black_box(frame);
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
        let text = "x".repeat(payload);
        let mut out = Vec::with_capacity(128 << 10);
        group.throughput(Throughput::Elements(count as u64));
        let mut context = Context::new(Limits::default(), [0; 32]);
        let mut connection = Connection::new(Role::Server);
        group.bench_function(BenchmarkId::new("quelea", payload), |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..count {
                    let sent =
                        connection.send(Message::Text(black_box(&text)), &mut context, &mut out);
                    assert!(sent.is_ok());
                }
                black_box(&out);
            });
        });
        let shared = tungstenite::Bytes::from(text.clone());
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
        let mut one = Vec::new();
        group.bench_function(BenchmarkId::new("fastwebsockets", payload), |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..count {
                    let payload = fastwebsockets::Payload::Borrowed(black_box(text.as_bytes()));
                    let bytes = fastwebsockets::Frame::text(payload).write(&mut one);
                    out.extend_from_slice(bytes);
                }
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = quelea_benches::criterion(); targets = decode, encode }
criterion_main!(benches);

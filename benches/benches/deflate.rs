//! Compression of JSON: sent by a server, received by one, in messages a second; and what stays of the bytes.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quelea_core::{
    Connection, Context, Event, Limits, Message, Received, Role,
    deflate::{Parameters, Policy, Settings, WindowBits},
};
use std::hint::black_box;

const PAYLOADS: [usize; 2] = [1 << 10, 16 << 10];

/// As many messages as are needed for windows to be full, none like the other.
fn messages(bytes: usize) -> Vec<String> {
    let mut state = 1u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    let mut message = || {
        let mut json = String::from("[");
        while json.len() < bytes {
            let (id, user, price) = (next(), next() % 1000, next() % 100_000);
            let tag = ["alpha", "beta", "gamma", "delta"][(next() % 4) as usize];
            json += &format!(r#"{{"id":{id},"user":"user{user}","price":{price},"tag":"{tag}"}},"#);
        }
        json.truncate(bytes);
        json
    };
    (0..64).map(|_| message()).collect()
}

/// A name, how it compresses, and what was agreed on with each of its peers.
fn rows() -> [(&'static str, Policy, Parameters, usize); 4] {
    let alone = Parameters {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        ..Parameters::default()
    };
    let small = Parameters {
        server_max_window_bits: WindowBits::new(12),
        client_max_window_bits: WindowBits::new(12),
        ..Parameters::default()
    };
    let takeover = |bits| Policy::Takeover { window_bits: bits, budget_bytes: 64 << 20 };
    let twelve = WindowBits::new(12).unwrap_or(WindowBits::MAX);
    [
        ("shared", Policy::Shared, alone, 1),
        ("takeover 12", takeover(twelve), small, 1),
        // More than have a compressor of their own.
        ("takeover 12, 1000 in turn", takeover(twelve), small, 1000),
        ("takeover 15", takeover(WindowBits::MAX), Parameters::default(), 1),
    ]
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deflate/encode");
    for payload in PAYLOADS {
        let messages = messages(payload);
        for (name, policy, parameters, count) in rows() {
            let mut context =
                Context::new(Limits::default(), [0; 32]).with_deflate(Settings::new(policy));
            let mut connections: Vec<_> = (0..count)
                .map(|_| Connection::with_deflate(Role::Server, &parameters, &context))
                .collect();
            let (mut out, mut turn, mut sent) = (Vec::new(), 0, 0);
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new(name, payload), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    let connection = &mut connections[turn % count];
                    let message = Message::Text(black_box(&messages[turn / count % 64]));
                    assert!(connection.send(message, &mut context, &mut out).is_ok());
                    turn += 1;
                    sent += out.len();
                });
            });
            println!("{name}, {payload} B: {} B on the wire", sent / turn.max(1));
        }
    }
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deflate/decode");
    for payload in PAYLOADS {
        let messages = messages(payload);
        for (name, policy, parameters, count) in rows() {
            if count > 1 {
                continue;
            }
            let settings = Settings::new(policy);
            let mut context = Context::new(Limits::default(), [0; 32]).with_deflate(settings);
            // Each refers to those before it: so all are received in turn, again and again.
            let mut client = Connection::with_deflate(Role::Client, &parameters, &context);
            let mut frames = Vec::new();
            for message in messages.iter().chain(&messages) {
                let mut frame = Vec::new();
                let sent = client.send(Message::Text(message), &mut context, &mut frame);
                assert!(sent.is_ok());
                frames.push(frame);
            }
            let mut server = Connection::with_deflate(Role::Server, &parameters, &context);
            let (mut input, mut out, mut turn) = (Vec::new(), Vec::new(), 0);
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new(name, payload), |bencher| {
                bencher.iter(|| {
                    if turn == frames.len() {
                        turn = 0;
                        server = Connection::with_deflate(Role::Server, &parameters, &context);
                    }
                    input.clear();
                    input.extend_from_slice(&frames[turn]);
                    turn += 1;
                    let mut received = Received::new(&mut input);
                    let event = server.poll_event(&mut received, &mut context, &mut out);
                    assert!(matches!(event, Ok(Some(Event::Message(_)))));
                    black_box(&event);
                    // The buffer of the message goes back.
                    assert_eq!(server.poll_event(&mut received, &mut context, &mut out), Ok(None));
                });
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = quelea_benches::criterion(); targets = encode, decode }
criterion_main!(benches);

//! The server's side of the opening handshake, in handshakes a second.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quelea_core::{
    handshake::{OriginPolicy, Upgrade},
    http::{Fields, HeadLimits, HeadScanner, Request},
};
use std::{
    hint::black_box,
    io::{self, Cursor, Read, Write},
};

/// What Chromium sends.
const HEAD: &str = "GET /rooms/lobby?name=Ada HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\
    Connection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 \
    Safari/537.36\r\nUpgrade: websocket\r\nOrigin: http://127.0.0.1:9001\r\n\
    Sec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n\
    Accept-Language: en-US,en;q=0.9\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

struct Stream {
    input: Cursor<&'static [u8]>,
    output: Vec<u8>,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.output.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn handshakes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake/server");
    group.throughput(Throughput::Elements(1));
    let (limits, origins, mut out) = (HeadLimits::default(), OriginPolicy::SameHost, Vec::new());
    group.bench_function("quelea", |bencher| {
        bencher.iter(|| {
            out.clear();
            let head = black_box(HEAD.as_bytes());
            let len = HeadScanner::default().scan(head, &limits).expect("valid").expect("whole");
            let mut fields = Fields::new();
            let request = Request::parse(&head[..len], &mut fields).expect("valid");
            let upgrade = Upgrade::check(&request, &origins).expect("valid");
            upgrade.write_response(None, [], &mut out).expect("valid");
            black_box(&out);
        });
    });
    // With its WebSocket and buffers, which it makes at the end of the handshake.
    group.bench_function("tungstenite", |bencher| {
        bencher.iter(|| {
            let input = Cursor::new(black_box(HEAD.as_bytes()));
            tungstenite::accept(Stream { input, output: Vec::new() }).expect("valid")
        });
    });
    group.finish();
}

criterion_group! { name = benches; config = quelea_benches::criterion(); targets = handshakes }
criterion_main!(benches);

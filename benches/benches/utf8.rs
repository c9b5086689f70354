//! UTF-8 validation, in bytes a second.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quelea_core::utf8::{self, Stream};
use std::hint::black_box;

fn validation(criterion: &mut Criterion) {
    for (name, sample) in
        [("ascii", "the flock turns as one "), ("mixed", "Schwärme, стаи, 群れ 🐦 ")]
    {
        let mut group = criterion.benchmark_group(format!("utf8/{name}"));
        for len in [20, 1 << 10, 64 << 10, 256 << 10] {
            let mut text = sample.repeat(len / sample.len() + 1);
            let cut = (0..=len).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(cut);
            let bytes = text.as_bytes();
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function(BenchmarkId::new("quelea/whole", len), |bencher| {
                bencher.iter(|| utf8::validate(black_box(bytes)).is_ok());
            });
            group.bench_function(BenchmarkId::new("std/whole", len), |bencher| {
                bencher.iter(|| std::str::from_utf8(black_box(bytes)).is_ok());
            });
            let mut out = String::with_capacity(len);
            group.bench_function(BenchmarkId::new("quelea/4 KiB chunks, copied", len), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    let mut stream = Stream::default();
                    let mut chunks = black_box(bytes).chunks(4096);
                    chunks.all(|chunk| stream.push(chunk, &mut out).is_ok())
                });
            });
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = quelea_benches::criterion(); targets = validation }
criterion_main!(benches);

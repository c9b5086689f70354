//! Masking, in bytes a second.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quelea_core::mask;
use std::hint::black_box;

fn masks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    let key = [0x12, 0x34, 0x56, 0x78];
    for len in [20, 128, 256, 512, 1 << 10, 64 << 10, 1 << 20] {
        let mut payload = vec![7; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("quelea", len), |bencher| {
            bencher.iter(|| mask::apply(black_box(&mut payload), black_box(key)));
        });
        for implementation in mask::implementations() {
            let name = format!("quelea/{}", implementation.name());
            group.bench_function(BenchmarkId::new(name, len), |bencher| {
                bencher.iter(|| implementation.apply(black_box(&mut payload), black_box(key)));
            });
        }
        group.bench_function(BenchmarkId::new("fastwebsockets", len), |bencher| {
            bencher.iter(|| fastwebsockets::unmask(black_box(&mut payload), black_box(key)));
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = quelea_benches::criterion(); targets = masks }
criterion_main!(benches);

//! Masking, in bytes a second.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quelea_core::mask;
use std::hint::black_box;

fn masks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    let key = [0x12, 0x34, 0x56, 0x78];
    for len in [20, 127, 128, 256, 512, 1000, 1 << 10, 64 << 10, 1 << 20] {
        let mut buffer = vec![7; len + 64];
        // A cache line: nothing that is masked straddles two. Then nearly everything does, which is
        // the usual case: a payload begins wherever its header ends.
        let aligned = buffer.as_ptr().align_offset(64);
        group.throughput(Throughput::Bytes(len as u64));
        for (start, suffix) in [(aligned, ""), (aligned + 1, "/off by one")] {
            let payload = &mut buffer[start..start + len];
            group.bench_function(BenchmarkId::new(format!("quelea{suffix}"), len), |bencher| {
                bencher.iter(|| mask::apply(black_box(&mut *payload), black_box(key)));
            });
            for implementation in mask::implementations() {
                let name = format!("quelea/{}{suffix}", implementation.name());
                group.bench_function(BenchmarkId::new(name, len), |bencher| {
                    bencher.iter(|| implementation.apply(black_box(&mut *payload), black_box(key)));
                });
            }
            let name = format!("fastwebsockets{suffix}");
            group.bench_function(BenchmarkId::new(name, len), |bencher| {
                bencher.iter(|| fastwebsockets::unmask(black_box(&mut *payload), black_box(key)));
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = quelea_benches::criterion(); targets = masks }
criterion_main!(benches);

//! SSE2, AVX2 and AVX-512.

use super::{Implementation, scalar};
use std::{
    arch::{is_x86_feature_detected, x86_64::*},
    array,
};

/// Payloads from here on are masked with AVX-512, if there is any.
const AVX512_FROM: usize = 512;

#[inline]
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    if payload.len() >= AVX512_FROM && is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has AVX-512F.
        unsafe { avx512(payload, key) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2.
        unsafe { avx2(payload, key) }
    } else {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { sse2(payload, key) }
    }
}

pub(super) fn implementations() -> impl Iterator<Item = Implementation> {
    type Apply = fn(&mut [u8], [u8; 4]);
    // SAFETY: SSE2 is part of x86-64.
    let sse2: Apply = |payload, key| unsafe { sse2(payload, key) };
    // SAFETY: listed only if the CPU has AVX2.
    let avx2: Apply = |payload, key| unsafe { avx2(payload, key) };
    // SAFETY: listed only if the CPU has AVX-512F.
    let avx512: Apply = |payload, key| unsafe { avx512(payload, key) };
    let all = [
        (true, "sse2", sse2),
        (is_x86_feature_detected!("avx2"), "avx2", avx2),
        (is_x86_feature_detected!("avx512f"), "avx512", avx512),
    ];
    all.into_iter()
        .filter(|(is_there, ..)| *is_there)
        .map(|(_, name, apply)| Implementation { name, apply })
}

/// Masks four vectors a round, then one, then what is shorter.
macro_rules! kernel {
    ($name:ident, $feature:literal, $bytes:literal, $set:ident, $load:ident, $xor:ident, $store:ident) => {
        #[target_feature(enable = $feature)]
        fn $name(payload: &mut [u8], key: [u8; 4]) {
            let keys = $set(i32::from_ne_bytes(key));
            let (rounds, rest) = payload.as_chunks_mut::<{ 4 * $bytes }>();
            for round in rounds {
                let start = round.as_mut_ptr();
                let at: [_; 4] = array::from_fn(|index| start.wrapping_add($bytes * index));
                // SAFETY: the four vectors are `round`, and need no alignment.
                unsafe {
                    let vectors = at.map(|at| $xor($load(at.cast()), keys));
                    $store(at[0].cast(), vectors[0]);
                    $store(at[1].cast(), vectors[1]);
                    $store(at[2].cast(), vectors[2]);
                    $store(at[3].cast(), vectors[3]);
                }
            }
            let (vectors, rest) = rest.as_chunks_mut::<$bytes>();
            for vector in vectors {
                let at = vector.as_mut_ptr();
                // SAFETY: the vector is `vector`, and needs no alignment.
                unsafe { $store(at.cast(), $xor($load(at.cast()), keys)) }
            }
            scalar::apply(rest, key);
        }
    };
}

kernel!(sse2, "sse2", 16, _mm_set1_epi32, _mm_loadu_si128, _mm_xor_si128, _mm_storeu_si128);
kernel!(
    avx2,
    "avx2",
    32,
    _mm256_set1_epi32,
    _mm256_loadu_si256,
    _mm256_xor_si256,
    _mm256_storeu_si256
);
kernel!(
    avx512,
    "avx512f",
    64,
    _mm512_set1_epi32,
    _mm512_loadu_si512,
    _mm512_xor_si512,
    _mm512_storeu_si512
);

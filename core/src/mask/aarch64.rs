//! NEON, which every 64-bit ARM has.

use super::{Implementation, scalar};
use std::arch::aarch64::{vdupq_n_u32, veorq_u8, vld1q_u8, vreinterpretq_u8_u32, vst1q_u8};

pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    // SAFETY: NEON is part of the target.
    unsafe { neon(payload, key) }
}

pub(super) fn implementations() -> impl Iterator<Item = Implementation> {
    [Implementation { name: "neon", apply }].into_iter()
}

#[target_feature(enable = "neon")]
fn neon(payload: &mut [u8], key: [u8; 4]) {
    let keys = vreinterpretq_u8_u32(vdupq_n_u32(u32::from_ne_bytes(key)));
    let (vectors, rest) = payload.as_chunks_mut::<16>();
    for vector in vectors {
        let at = vector.as_mut_ptr();
        // SAFETY: the vector is `vector`, and needs no alignment.
        unsafe { vst1q_u8(at, veorq_u8(vld1q_u8(at), keys)) }
    }
    scalar::apply(rest, key);
}

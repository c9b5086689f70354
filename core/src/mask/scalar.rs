//! Eight bytes at a time, on any CPU; also what the kernels leave over.

#[inline(always)]
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) {
    let half = u32::from_ne_bytes(key);
    let whole = u64::from(half) << 32 | u64::from(half);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ whole).to_ne_bytes();
    }
    let (words, rest) = rest.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ half).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

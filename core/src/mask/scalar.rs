//! Eight bytes at a time, on any CPU; also what the kernels leave over.

/// Masks `payload`; returns all bits that any of its bytes has then.
#[inline(always)]
pub(super) fn apply(payload: &mut [u8], key: [u8; 4]) -> u64 {
    let half = u64::from(u32::from_le_bytes(key));
    let whole = half << 32 | half;
    let len = payload.len();
    let Some(last) = payload.last_chunk() else { return apply_bytes(payload, key) };
    // What the whole words leave over ends the payload: it is masked with the bytes before it, as they came.
    let last = u64::from_le_bytes(*last) ^ whole.rotate_right((len % 8 * 8) as u32);
    let mut seen = last;
    for word in payload.as_chunks_mut().0 {
        let masked = u64::from_le_bytes(*word) ^ whole;
        seen |= masked;
        *word = masked.to_le_bytes();
    }
    if let Some(end) = payload.last_chunk_mut() {
        *end = last.to_le_bytes();
    }
    seen
}

#[inline]
fn apply_bytes(payload: &mut [u8], key: [u8; 4]) -> u64 {
    let mut seen = 0;
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[index % 4];
        seen |= *byte;
    }
    u64::from(seen)
}

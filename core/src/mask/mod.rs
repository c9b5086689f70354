//! Payload masking (RFC 6455, section 5.3).
/// Masks or unmasks `payload` in place: byte `i` is XORed with `key[i % 4]`.
pub fn apply(payload: &mut [u8], key: [u8; 4]) {
    for (i, b) in payload.iter_mut().enumerate() {
        *b ^= key[i & 3];
    }
}
/// The key as the next byte of the payload sees it, after `bytes` of them.
pub fn rotate(mut key: [u8; 4], bytes: usize) -> [u8; 4] {
    key.rotate_left(bytes & 3);
    key
}

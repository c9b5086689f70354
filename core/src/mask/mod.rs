//! Payload masking (RFC 6455, section 5.3): in place, as wide as the CPU allows.
//!
//! Short payloads take a few scalar instructions; for long ones the best kernel is picked by what
//! the CPU reports, which costs a relaxed load.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86_64;

/// Payloads below this many bytes are masked by the scalar code, which is inlined: a kernel would
/// not win its call back.
const SHORT: usize = 128;

/// Masks or unmasks `payload` in place: byte `i` is XORed with `key[i % 4]`.
///
/// ```
/// use quelea_core::mask;
/// let mut payload = *b"Hello";
/// mask::apply(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
/// ```
#[inline]
pub fn apply(payload: &mut [u8], key: [u8; 4]) {
    if payload.len() < SHORT {
        apply_short(payload, key);
    } else {
        apply_long(payload, key);
    }
}

/// The same for what is short, in one pass with what tells ASCII: returns all bits that any byte has then.
#[inline]
pub(crate) fn apply_short(payload: &mut [u8], key: [u8; 4]) -> u64 {
    scalar::apply(payload, key)
}

#[inline(never)]
fn apply_long(payload: &mut [u8], key: [u8; 4]) {
    #[cfg(target_arch = "x86_64")]
    x86_64::apply(payload, key);
    #[cfg(target_arch = "aarch64")]
    aarch64::apply(payload, key);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    scalar::apply(payload, key);
}

/// The key as the next byte of the payload sees it, after `bytes` of them.
#[inline]
pub const fn rotate(key: [u8; 4], bytes: usize) -> [u8; 4] {
    u32::from_le_bytes(key).rotate_right(8 * (bytes % 4) as u32).to_le_bytes()
}

/// One way to mask that this CPU has: for benches and tests.
#[derive(Clone, Copy, Debug)]
pub struct Implementation {
    name: &'static str,
    apply: fn(&mut [u8], [u8; 4]),
}

impl Implementation {
    /// The instruction set, such as `avx2`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Does what [`apply`] does.
    pub fn apply(&self, payload: &mut [u8], key: [u8; 4]) {
        (self.apply)(payload, key);
    }
}

/// All implementations that this CPU can run, the plainest first.
pub fn implementations() -> Vec<Implementation> {
    let scalar: fn(&mut [u8], [u8; 4]) = |payload, key| _ = scalar::apply(payload, key);
    let mut all = vec![Implementation { name: "scalar", apply: scalar }];
    #[cfg(target_arch = "x86_64")]
    all.extend(x86_64::implementations());
    #[cfg(target_arch = "aarch64")]
    all.extend(aarch64::implementations());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn oracle(payload: &mut [u8], key: [u8; 4]) {
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[index % 4];
        }
    }

    #[test]
    fn every_length_and_alignment_is_masked_like_the_oracle() {
        let bytes: Vec<u8> = (0..1200u32).map(|n| (n * 31 / 7) as u8).collect();
        let key = [0x12, 0xfe, 0x00, 0x9a];
        let lens = (0..300).chain([511, 512, 513, 777, 1024, 1100]);
        for (start, len) in lens.flat_map(|len| (0..64).map(move |start| (start, len))) {
            let mut expected = bytes.clone();
            oracle(&mut expected[start..start + len], key);
            let apply_all = implementations();
            for implementation in &apply_all {
                let mut masked = bytes.clone();
                implementation.apply(&mut masked[start..start + len], key);
                assert!(masked == expected, "{} {start} {len}", implementation.name());
            }
            let mut masked = bytes.clone();
            apply(&mut masked[start..start + len], key);
            assert!(masked == expected, "apply {start} {len}");
        }
    }

    #[test]
    fn large_payloads_are_masked_like_the_oracle() {
        let key = [0x12, 0xfe, 0x00, 0x9a];
        for len in [4096, 65_535, (1 << 20) + 63] {
            let bytes: Vec<u8> = (0..len).map(|n: u32| (n * 31 / 7) as u8).collect();
            for start in [0, 1, 31] {
                let mut expected = bytes.clone();
                oracle(&mut expected[start..], key);
                for implementation in implementations() {
                    let mut masked = bytes.clone();
                    implementation.apply(&mut masked[start..], key);
                    assert!(masked == expected, "{} {start} {len}", implementation.name());
                }
            }
        }
    }

    #[test]
    fn the_plain_and_the_baseline_implementation_are_listed() {
        let names: Vec<_> = implementations().iter().map(Implementation::name).collect();
        assert!(names.contains(&"scalar"));
        #[cfg(target_arch = "x86_64")]
        assert!(names.contains(&"sse2"));
        #[cfg(target_arch = "aarch64")]
        assert!(names.contains(&"neon"));
    }

    proptest! {
        #[test]
        fn masking_in_pieces_with_a_rotated_key_is_masking_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..20_000),
            key: [u8; 4],
            cut in any::<prop::sample::Index>(),
        ) {
            let mut expected = bytes.clone();
            oracle(&mut expected, key);
            let cut = cut.index(bytes.len() + 1);
            let mut masked = bytes;
            let (first, second) = masked.split_at_mut(cut);
            apply(first, key);
            apply(second, rotate(key, cut));
            prop_assert_eq!(masked, expected);
        }
    }
}

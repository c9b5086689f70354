//! The frame that most traffic consists of: a short message of a client, in one piece.

use super::header::{FIN, LENGTH_16, MASK};
use crate::opcode::Opcode;

const TEXT: u8 = FIN | Opcode::Text as u8;
const BINARY: u8 = FIN | Opcode::Binary as u8;
/// Two bytes and the masking key.
const HEADER_BYTES: usize = 6;

/// Takes a text or binary message off the start of `input`: whether it is text, its key, and the payload as
/// it came. `None` for what is anything else, not whole, or longer than 125 or `bytes_max` bytes: then it
/// is for [`Header::decode`](super::Header::decode), and nothing is taken.
#[inline]
pub(crate) fn take_message<'i>(
    input: &mut &'i mut [u8],
    bytes_max: usize,
) -> Option<(bool, [u8; 4], &'i mut [u8])> {
    let [first @ (TEXT | BINARY), second, k0, k1, k2, k3, ..] = **input else { return None };
    // Without the mask bit it is more than any length.
    let len = usize::from(second.wrapping_sub(MASK));
    if len >= usize::from(LENGTH_16) || len > bytes_max {
        return None;
    }
    let frame = input.split_off_mut(..HEADER_BYTES + len)?;
    Some((first == TEXT, [k0, k1, k2, k3], &mut frame[HEADER_BYTES..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Expect, Header};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_it_takes_is_what_the_header_says_and_what_it_leaves_is_no_short_message(
            mut bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                (
                    prop::sample::select(vec![0x81u8, 0x82, 0x01, 0x80, 0x89, 0xc1]),
                    any::<u8>(),
                    prop::collection::vec(any::<u8>(), 0..200),
                )
                    .prop_map(|(first, second, rest)| [vec![first, second], rest].concat()),
            ],
            bytes_max in prop_oneof![Just(usize::MAX), 0usize..130],
        ) {
            let before = bytes.clone();
            let expect = Expect { masked: true, continuation: false, reserved_allowed: 0 };
            let decoded = Header::decode(&before, expect);
            let mut rest = &mut bytes[..];
            let taken = take_message(&mut rest, bytes_max);
            let short = decoded.ok().flatten().filter(|(header, len)| {
                header.fin
                    && !header.opcode.is_control()
                    && header.payload_len <= 125
                    && header.payload_len as usize <= bytes_max
                    && len + header.payload_len as usize <= before.len()
            });
            match (taken, short) {
                (None, None) => prop_assert_eq!(&*rest, &before[..]),
                (Some((is_text, key, payload)), Some((header, len))) => {
                    prop_assert_eq!(is_text, header.opcode == Opcode::Text);
                    prop_assert_eq!(Some(key), header.mask);
                    let end = len + header.payload_len as usize;
                    prop_assert_eq!(&*payload, &before[len..end]);
                    prop_assert_eq!(&*rest, &before[end..]);
                }
                (taken, short) => prop_assert!(false, "{:?} {:?}", taken, short),
            }
        }
    }
}

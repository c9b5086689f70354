//! The header of a frame.

use crate::{Role, error::Violation, opcode::Opcode};

/// The longest header: two bytes, a 64-bit length and a masking key.
pub const HEADER_BYTES_MAX: usize = 14;

pub(super) const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
pub(super) const MASK: u8 = 0x80;
pub(super) const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
const CONTROL_BYTES_MAX: u8 = 125;

/// A decoded frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether this is the last fragment of its message.
    pub fin: bool,
    /// The three reserved bits as they stand in the first byte (0x40 is RSV1).
    pub reserved: u8,
    /// What the frame carries.
    pub opcode: Opcode,
    /// The masking key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload in bytes: at most 2^63 - 1.
    pub payload_len: u64,
}

/// What the next header has to be, from all that came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Whether the peer masks: true when the peer is a client.
    pub masked: bool,
    /// Whether a message is under way, so that data has to be a continuation.
    pub continuation: bool,
    /// Reserved bits that an extension gives a meaning on the first frame of a message, as they stand in the
    /// first byte. On other frames none has one (RFC 7692, section 6).
    pub reserved_allowed: u8,
}

impl Expect {
    /// What the peer of `role` has to send, with or without a message under way, when no
    /// extension is in use.
    #[inline]
    pub const fn from_peer_of(role: Role, continuation: bool) -> Self {
        Self { masked: matches!(role, Role::Server), continuation, reserved_allowed: 0 }
    }
}

impl Header {
    /// Decodes the header at the start of `bytes`: the header and its length in bytes, or `None`
    /// when more bytes are needed.
    ///
    /// A wrong header is refused at the first byte that shows it, so a prefix can be an error.
    ///
    /// # Errors
    /// Every violation of RFC 6455, sections 5.1, 5.2, 5.4 and 5.5, that a header can hold.
    ///
    /// ```
    /// use quelea_core::{Opcode, frame::{Expect, Header}};
    /// let expect = Expect { masked: false, continuation: false, reserved_allowed: 0 };
    /// let (header, len) = Header::decode(b"\x81\x05Hello", expect).unwrap().unwrap();
    /// assert_eq!((header.opcode, header.payload_len, len), (Opcode::Text, 5, 2));
    /// ```
    #[inline]
    pub fn decode(bytes: &[u8], expect: Expect) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let opcode = check_first(first, expect)?;
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let masked = second & MASK != 0;
        if masked != expect.masked {
            return Err(if masked { Violation::MaskUnexpected } else { Violation::MaskMissing });
        }
        let short = second & !MASK;
        if opcode.is_control() {
            if short > CONTROL_BYTES_MAX {
                return Err(Violation::ControlTooLong);
            }
            if opcode == Opcode::Close && short == 1 {
                return Err(Violation::ClosePayload);
            }
        }
        let (payload_len, length_end) = if short < LENGTH_16 {
            (u64::from(short), 2)
        } else {
            match extended_length(short, &bytes[2..])? {
                Some((length, size)) => (length, 2 + size),
                None => return Ok(None),
            }
        };
        let (mask, end) = if masked {
            match bytes.get(length_end..length_end + 4) {
                Some(key) => (Some([key[0], key[1], key[2], key[3]]), length_end + 4),
                None => return Ok(None),
            }
        } else {
            (None, length_end)
        };
        let header =
            Self { fin: first & FIN != 0, reserved: first & RESERVED, opcode, mask, payload_len };
        Ok(Some((header, end)))
    }

    #[inline]
    pub(super) const fn first_byte(&self) -> u8 {
        let fin = if self.fin { FIN } else { 0 };
        fin | (self.reserved & RESERVED) | self.opcode as u8
    }

    /// Writes the header into `bytes` and returns its length. The payload's length takes its
    /// shortest form.
    #[inline]
    pub fn encode(&self, bytes: &mut [u8; HEADER_BYTES_MAX]) -> usize {
        let mask = if self.mask.is_some() { MASK } else { 0 };
        bytes[0] = self.first_byte();
        let mut len = match self.payload_len {
            0..=125 => {
                bytes[1] = mask | self.payload_len as u8;
                2
            }
            126..=0xFFFF => {
                bytes[1] = mask | LENGTH_16;
                bytes[2..4].copy_from_slice(&(self.payload_len as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = mask | LENGTH_64;
                bytes[2..10].copy_from_slice(&self.payload_len.to_be_bytes());
                10
            }
        };
        if let Some(key) = self.mask {
            bytes[len..len + 4].copy_from_slice(&key);
            len += 4;
        }
        len
    }
}

#[inline]
fn check_first(first: u8, expect: Expect) -> Result<Opcode, Violation> {
    if first & RESERVED != 0 {
        let begins = matches!(first & 0x0F, 0x1 | 0x2);
        if !begins || first & RESERVED & !expect.reserved_allowed != 0 {
            return Err(Violation::ReservedBits);
        }
    }
    let opcode = Opcode::from_bits(first & 0x0F).ok_or(Violation::ReservedOpcode)?;
    if opcode.is_control() {
        if first & FIN == 0 {
            return Err(Violation::FragmentedControl);
        }
    } else if (opcode == Opcode::Continuation) != expect.continuation {
        return Err(if expect.continuation {
            Violation::ContinuationExpected
        } else {
            Violation::ContinuationUnexpected
        });
    }
    Ok(opcode)
}

/// The 16 or 64-bit length at the start of `bytes`, and its size.
#[inline]
fn extended_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    if short == LENGTH_16 {
        let Some(field) = bytes.first_chunk::<2>() else { return Ok(None) };
        let length = u64::from(u16::from_be_bytes(*field));
        if length < u64::from(LENGTH_16) {
            return Err(Violation::LengthNotMinimal);
        }
        return Ok(Some((length, 2)));
    }
    if bytes.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Err(Violation::LengthTopBit);
    }
    // Six leading zero bytes mean that 16 bits would have done.
    if bytes.first_chunk::<6>() == Some(&[0; 6]) {
        return Err(Violation::LengthNotMinimal);
    }
    Ok(bytes.first_chunk::<8>().map(|field| (u64::from_be_bytes(*field), 8)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FROM_CLIENT: Expect = Expect { masked: true, continuation: false, reserved_allowed: 0 };
    const FROM_SERVER: Expect = Expect { masked: false, continuation: false, reserved_allowed: 0 };

    #[test]
    fn section_5_7_examples_decode() {
        let single = Header::decode(b"\x81\x05Hello", FROM_SERVER).unwrap().unwrap();
        assert_eq!((single.0.fin, single.0.opcode, single.0.payload_len), (true, Opcode::Text, 5));
        let masked = Header::decode(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", FROM_CLIENT);
        assert_eq!(masked.unwrap().unwrap().0.mask, Some([0x37, 0xfa, 0x21, 0x3d]));
        let long = Header::decode(b"\x82\x7e\x01\x00", FROM_SERVER).unwrap().unwrap();
        assert_eq!((long.0.payload_len, long.1), (256, 4));
        let huge = Header::decode(b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", FROM_SERVER);
        assert_eq!(huge.unwrap().unwrap().0.payload_len, 65536);
    }

    #[test]
    fn each_violation_shows_at_the_first_byte_that_holds_it() {
        let rows: [(&[u8], Expect, Violation); 16] = [
            (b"\xC1", FROM_CLIENT, Violation::ReservedBits),
            (b"\xA1", FROM_CLIENT, Violation::ReservedBits),
            (b"\x91", FROM_CLIENT, Violation::ReservedBits),
            (b"\x83", FROM_CLIENT, Violation::ReservedOpcode),
            (b"\x8B", FROM_CLIENT, Violation::ReservedOpcode),
            (b"\x09", FROM_CLIENT, Violation::FragmentedControl),
            (b"\x80", FROM_CLIENT, Violation::ContinuationUnexpected),
            (
                b"\x81",
                Expect { continuation: true, ..FROM_CLIENT },
                Violation::ContinuationExpected,
            ),
            (b"\x81\x05", FROM_CLIENT, Violation::MaskMissing),
            (b"\x81\x85", FROM_SERVER, Violation::MaskUnexpected),
            (b"\x89\xFE", FROM_CLIENT, Violation::ControlTooLong),
            (b"\x88\xFF", FROM_CLIENT, Violation::ControlTooLong),
            (b"\x88\x81", FROM_CLIENT, Violation::ClosePayload),
            (b"\x82\xFE\x00\x7D", FROM_CLIENT, Violation::LengthNotMinimal),
            (b"\x82\xFF\x80", FROM_CLIENT, Violation::LengthTopBit),
            (b"\x82\xFF\x00\x00\x00\x00\x00\x00", FROM_CLIENT, Violation::LengthNotMinimal),
        ];
        for (bytes, expect, violation) in rows {
            assert_eq!(Header::decode(bytes, expect), Err(violation), "{bytes:02x?}");
            let before = &bytes[..bytes.len() - 1];
            assert_eq!(Header::decode(before, expect), Ok(None), "{before:02x?}");
        }
    }

    prop_compose! {
        fn headers()(
            fin: bool, reserved in 0u8..8, opcode in 0usize..6, mask: Option<[u8; 4]>,
            length in prop_oneof![0u64..126, 126u64..65536, 65536u64..1 << 63],
        ) -> Header {
            let opcode = [Opcode::Text, Opcode::Binary, Opcode::Continuation, Opcode::Close,
                Opcode::Ping, Opcode::Pong][opcode];
            let (fin, payload_len) = if opcode.is_control() {
                let length = length % 126;
                (true, if opcode == Opcode::Close && length == 1 { 2 } else { length })
            } else {
                (fin, length)
            };
            let begins = matches!(opcode, Opcode::Text | Opcode::Binary);
            let reserved = if begins { reserved << 4 } else { 0 };
            Header { fin, reserved, opcode, mask, payload_len }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself_and_every_prefix_waits(header in headers()) {
            let mut bytes = [0; HEADER_BYTES_MAX];
            let len = header.encode(&mut bytes);
            let expect = Expect {
                masked: header.mask.is_some(),
                continuation: header.opcode == Opcode::Continuation,
                reserved_allowed: RESERVED,
            };
            prop_assert_eq!(Header::decode(&bytes[..len], expect), Ok(Some((header, len))));
            for cut in 0..len {
                prop_assert_eq!(Header::decode(&bytes[..cut], expect), Ok(None));
            }
        }

        #[test]
        fn an_error_never_goes_away_with_more_bytes(
            bytes: [u8; HEADER_BYTES_MAX], masked: bool, continuation: bool, allowed in 0u8..8,
        ) {
            let expect = Expect { masked, continuation, reserved_allowed: allowed << 4 };
            let verdicts: Vec<_> =
                (0..=bytes.len()).map(|cut| Header::decode(&bytes[..cut], expect)).collect();
            let last = verdicts.last().unwrap();
            let first_decided = verdicts.iter().find(|v| **v != Ok(None));
            if let Some(decided) = first_decided {
                prop_assert_eq!(decided, last);
            }
        }
    }
}

//! Frames (RFC 6455, section 5.2): headers decoded where they lie, frames appended to a buffer.

mod header;
mod short;

pub use header::{Expect, HEADER_BYTES_MAX, Header};
pub(crate) use short::take_message;

use crate::mask;

/// RSV1 as it stands in the first byte: the message is compressed (RFC 7692, section 6).
#[cfg(feature = "deflate")]
pub(crate) const RSV1: u8 = 0x40;

/// Appends a frame to `out`: the header, then the payload, masked when the header has a key.
///
/// `header.payload_len` is taken from `payload`.
///
/// ```
/// use quelea_core::{Opcode, frame::{self, Header}};
/// let mut out = Vec::new();
/// let header =
///     Header { fin: true, reserved: 0, opcode: Opcode::Text, mask: None, payload_len: 0 };
/// frame::append(&mut out, header, b"Hello");
/// assert_eq!(out, b"\x81\x05Hello");
/// ```
#[inline]
pub fn append(out: &mut Vec<u8>, header: Header, payload: &[u8]) {
    if header.mask.is_none() && payload.len() < usize::from(header::LENGTH_16) {
        // Nearly every frame of a server: what the compiler knows the length of is stored, not copied.
        out.extend_from_slice(&[header.first_byte(), payload.len() as u8]);
        return out.extend_from_slice(payload);
    }
    let mut bytes = [0; HEADER_BYTES_MAX];
    let len = Header { payload_len: payload.len() as u64, ..header }.encode(&mut bytes);
    out.reserve(len + payload.len());
    out.extend_from_slice(&bytes[..len]);
    out.extend_from_slice(payload);
    if let Some(key) = header.mask {
        let start = out.len() - payload.len();
        mask::apply(&mut out[start..], key);
    }
}

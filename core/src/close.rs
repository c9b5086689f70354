//! Close codes and the payload of a close frame (RFC 6455, sections 5.5.1 and 7.4).

use crate::error::Violation;
use std::fmt;

/// Why a connection ends: a number of RFC 6455, section 7.4, or the IANA registry.
///
/// ```
/// use quelea_core::CloseCode;
/// assert!(CloseCode::NORMAL.is_allowed_on_wire());
/// assert!(CloseCode(4001).is_allowed_on_wire());
/// assert!(!CloseCode::ABNORMAL.is_allowed_on_wire());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: a server goes down, or a browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of message that this endpoint does not take, such as binary.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: the close frame had no code. Never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a close frame. Never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: a payload that does not fit its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a rule of the application was broken, and no other code fits.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message longer than this endpoint takes.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the client misses an extension. Only clients send it.
    pub const EXTENSION_REQUIRED: Self = Self(1010);
    /// 1011: the server failed in an unexpected way.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts; reconnect after a random wait.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the server is overloaded; try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got an invalid response from upstream.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015: the TLS handshake failed. Never on the wire.
    pub const TLS_HANDSHAKE: Self = Self(1015);

    /// Whether a close frame may carry it, either way: 1000-1003, 1007-1014 and 3000-4999.
    /// 1004, 1005, 1006 and 1015 are reserved (section 7.4.1); the others are not registered.
    pub const fn is_allowed_on_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The content of a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// The code, or [`CloseCode::NO_STATUS`] for a frame without a payload.
    pub code: CloseCode,
    /// Text for logs, often empty; without a code there is none.
    pub reason: &'a str,
}

/// The longest reason a close frame has room for, in bytes: 125 less the code.
pub const REASON_BYTES_MAX: usize = 123;

impl<'a> CloseFrame<'a> {
    /// Reads the payload of a received close frame (section 5.5.1).
    ///
    /// # Errors
    /// [`Violation::ClosePayload`] for a single byte, [`Violation::CloseCodeInvalid`] for a code
    /// that may not be on the wire, [`Violation::CloseReasonNotUtf8`] for a reason that is no text.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Violation> {
        match payload {
            [] => Ok(Self { code: CloseCode::NO_STATUS, reason: "" }),
            [_] => Err(Violation::ClosePayload),
            [high, low, reason @ ..] => {
                let code = CloseCode(u16::from_be_bytes([*high, *low]));
                if !code.is_allowed_on_wire() {
                    return Err(Violation::CloseCodeInvalid);
                }
                let reason =
                    std::str::from_utf8(reason).map_err(|_| Violation::CloseReasonNotUtf8)?;
                Ok(Self { code, reason })
            }
        }
    }

    /// Writes the payload into `payload` and returns its length. [`CloseCode::NO_STATUS`] gives an
    /// empty one; a reason beyond [`REASON_BYTES_MAX`] is cut between two characters.
    pub(crate) fn encode(&self, payload: &mut [u8; 125]) -> usize {
        if self.code == CloseCode::NO_STATUS {
            return 0;
        }
        let mut end = self.reason.len().min(REASON_BYTES_MAX);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        payload[..2].copy_from_slice(&self.code.0.to_be_bytes());
        payload[2..2 + end].copy_from_slice(&self.reason.as_bytes()[..end]);
        2 + end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_1004_1005_1006_1015_and_unregistered_ones_never_go_on_the_wire() {
        let allowed: Vec<u16> =
            (0..=u16::MAX).filter(|&c| CloseCode(c).is_allowed_on_wire()).collect();
        let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
        assert_eq!(allowed, expected);
    }

    #[test]
    fn an_empty_payload_is_no_status_and_one_byte_is_a_violation() {
        assert_eq!(CloseFrame::decode(&[]).unwrap().code, CloseCode::NO_STATUS);
        assert_eq!(CloseFrame::decode(&[3]), Err(Violation::ClosePayload));
    }

    #[test]
    fn a_reason_must_be_utf8() {
        assert_eq!(
            CloseFrame::decode(b"\x03\xe8bye").unwrap(),
            CloseFrame { code: CloseCode::NORMAL, reason: "bye" }
        );
        assert_eq!(CloseFrame::decode(b"\x03\xe8\xff"), Err(Violation::CloseReasonNotUtf8));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut payload = [0; 125];
        let reason = "é".repeat(100);
        let len = CloseFrame { code: CloseCode(3000), reason: &reason }.encode(&mut payload);
        let decoded = CloseFrame::decode(&payload[..len]).unwrap();
        assert_eq!(decoded.code, CloseCode(3000));
        assert_eq!(decoded.reason, "é".repeat(61));
    }
}

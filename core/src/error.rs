//! What a peer can do wrong, and the close code that tells it so.

use crate::close::CloseCode;
use std::fmt;

/// A peer broke RFC 6455 or passed a limit; the connection has failed.
///
/// Each variant has the close code that is sent ([`Violation::close_code`]) and a short reason
/// that travels in the close frame ([`Violation::reason`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// A reserved bit is set and no extension gives it a meaning (section 5.2).
    ReservedBits,
    /// An opcode of 3-7 or B-F (section 5.2).
    ReservedOpcode,
    /// A close, ping or pong without FIN (section 5.5).
    FragmentedControl,
    /// A close, ping or pong of more than 125 bytes (section 5.5).
    ControlTooLong,
    /// A client's frame without a mask (section 5.1).
    MaskMissing,
    /// A server's frame with a mask (section 5.1).
    MaskUnexpected,
    /// A 64-bit length with its top bit set (section 5.2).
    LengthTopBit,
    /// A length in more bytes than it needs (section 5.2).
    LengthNotMinimal,
    /// A continuation while no message is under way (section 5.4).
    ContinuationUnexpected,
    /// A new message while the last one lacks its final fragment (section 5.4).
    ContinuationExpected,
    /// A close payload of one byte (section 5.5.1).
    ClosePayload,
    /// A close code that must not be on the wire (section 7.4).
    CloseCodeInvalid,
    /// A close reason that is not UTF-8 (section 5.5.1).
    CloseReasonNotUtf8,
    /// A text message that is not UTF-8 (section 8.1).
    TextNotUtf8,
    /// A message longer than [`Limits::message_bytes_max`](crate::Limits::message_bytes_max).
    MessageTooBig,
    /// More fragments than [`Limits::fragments_max`](crate::Limits::fragments_max).
    TooManyFragments,
    /// A compressed message that cannot be decompressed (RFC 7692, section 7.2.2).
    DeflateInvalid,
}

impl Violation {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::ReservedBits,
        Self::ReservedOpcode,
        Self::FragmentedControl,
        Self::ControlTooLong,
        Self::MaskMissing,
        Self::MaskUnexpected,
        Self::LengthTopBit,
        Self::LengthNotMinimal,
        Self::ContinuationUnexpected,
        Self::ContinuationExpected,
        Self::ClosePayload,
        Self::CloseCodeInvalid,
        Self::CloseReasonNotUtf8,
        Self::TextNotUtf8,
        Self::MessageTooBig,
        Self::TooManyFragments,
        Self::DeflateInvalid,
    ];

    /// Its name in lower case, for logs and as the label of a metric: `reserved_bits`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode => "reserved_opcode",
            Self::FragmentedControl => "fragmented_control",
            Self::ControlTooLong => "control_too_long",
            Self::MaskMissing => "mask_missing",
            Self::MaskUnexpected => "mask_unexpected",
            Self::LengthTopBit => "length_top_bit",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::ContinuationUnexpected => "continuation_unexpected",
            Self::ContinuationExpected => "continuation_expected",
            Self::ClosePayload => "close_payload",
            Self::CloseCodeInvalid => "close_code_invalid",
            Self::CloseReasonNotUtf8 => "close_reason_not_utf8",
            Self::TextNotUtf8 => "text_not_utf8",
            Self::MessageTooBig => "message_too_big",
            Self::TooManyFragments => "too_many_fragments",
            Self::DeflateInvalid => "deflate_invalid",
        }
    }

    /// The code of the close frame that reports it (section 7.4.1).
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::CloseReasonNotUtf8 | Self::TextNotUtf8 | Self::DeflateInvalid => {
                CloseCode::INVALID_PAYLOAD
            }
            Self::MessageTooBig | Self::TooManyFragments => CloseCode::MESSAGE_TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// The reason that travels in the close frame: at most 123 bytes.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bit set without an extension",
            Self::ReservedOpcode => "reserved opcode",
            Self::FragmentedControl => "fragmented control frame",
            Self::ControlTooLong => "control frame longer than 125 bytes",
            Self::MaskMissing => "client frame without a mask",
            Self::MaskUnexpected => "server frame with a mask",
            Self::LengthTopBit => "payload length has its top bit set",
            Self::LengthNotMinimal => "payload length not in its shortest form",
            Self::ContinuationUnexpected => "continuation without a message",
            Self::ContinuationExpected => "new message inside a fragmented one",
            Self::ClosePayload => "close payload of one byte",
            Self::CloseCodeInvalid => "close code not allowed on the wire",
            Self::CloseReasonNotUtf8 => "close reason is not UTF-8",
            Self::TextNotUtf8 => "text is not UTF-8",
            Self::MessageTooBig => "message too big",
            Self::TooManyFragments => "too many fragments",
            Self::DeflateInvalid => "compressed message is not deflate",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Violation {}

//! What can be wrong with a head.

use super::Status;
use std::fmt;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeadError {
    /// A start line or field line that is not of RFC 9112: bad bytes, bare CR or LF, folded lines.
    Malformed,
    /// Longer than [`HeadLimits::bytes_max`](super::HeadLimits::bytes_max).
    TooLong,
    /// More fields than [`HeadLimits::fields_max`](super::HeadLimits::fields_max).
    TooManyFields,
    /// HTTP, but not version 1.0 or 1.1.
    Version,
    /// No `Host` in a request of HTTP/1.1, more than one, or one that is no host (RFC 9112,
    /// section 3.2).
    Host,
    /// `Content-Length` that is no number or contradicts itself or `Transfer-Encoding`, or a
    /// `Transfer-Encoding` in HTTP/1.0 (RFC 9112, sections 6.1 and 6.3): two readers could
    /// disagree where the message ends.
    Framing,
}

impl HeadError {
    /// The status to answer with.
    pub const fn status(self) -> Status {
        match self {
            Self::Malformed | Self::Host | Self::Framing => Status::BAD_REQUEST,
            Self::TooLong | Self::TooManyFields => Status::HEADER_FIELDS_TOO_LARGE,
            Self::Version => Status::VERSION_NOT_SUPPORTED,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a valid HTTP/1.1 head",
            Self::TooLong => "the head is too long",
            Self::TooManyFields => "too many header fields",
            Self::Version => "only HTTP/1.0 and HTTP/1.1 are spoken here",
            Self::Host => "exactly one valid Host header is needed",
            Self::Framing => "the length of the body is invalid, repeated or contradicted",
        })
    }
}

impl std::error::Error for HeadError {}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Version => Self::Version,
            _ => Self::Malformed,
        }
    }
}

//! Why a connection is refused before it is a WebSocket, and what it is told.

use crate::{
    admission::Refusal,
    http::Response,
    metrics::{Limit, RefusalReason},
};
use quelea_core::{
    handshake,
    http::{HeadError, Status},
};

/// What a client that is not let in is told to wait.
const RETRY_AFTER_SECONDS: &str = "1";

/// See the [module](self).
pub(super) struct Refused {
    pub(super) reason: RefusalReason,
    pub(super) response: Response,
}

impl From<HeadError> for Refused {
    fn from(error: HeadError) -> Self {
        let reason = match error {
            HeadError::TooLong => RefusalReason::HeadTooLong,
            HeadError::TooManyFields => RefusalReason::TooManyFields,
            HeadError::Version => RefusalReason::HttpVersion,
            HeadError::Host => RefusalReason::Host,
            HeadError::Framing => RefusalReason::Framing,
            _ => RefusalReason::Malformed,
        };
        Self { reason, response: error.into() }
    }
}

impl From<handshake::Refusal> for Refused {
    fn from(refusal: handshake::Refusal) -> Self {
        let reason = match refusal {
            handshake::Refusal::Method => RefusalReason::Method,
            handshake::Refusal::HttpVersion => RefusalReason::HttpVersion,
            handshake::Refusal::Upgrade => RefusalReason::Upgrade,
            handshake::Refusal::Connection => RefusalReason::Connection,
            handshake::Refusal::Body => RefusalReason::Body,
            handshake::Refusal::Version => RefusalReason::Version,
            handshake::Refusal::Key => RefusalReason::Key,
            handshake::Refusal::Extensions => RefusalReason::Extensions,
            handshake::Refusal::Subprotocols => RefusalReason::Subprotocols,
            handshake::Refusal::Origin => RefusalReason::Origin,
            _ => RefusalReason::Malformed,
        };
        Self { reason, response: refusal.into() }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let (status, text) = match refusal {
            Refusal::Full => (Status::SERVICE_UNAVAILABLE, "the server is full\n"),
            Refusal::Pending => (Status::SERVICE_UNAVAILABLE, "too many are not open yet\n"),
            Refusal::Rate => (Status::SERVICE_UNAVAILABLE, "too many open in this second\n"),
            Refusal::Draining => (Status::SERVICE_UNAVAILABLE, "the server stops\n"),
            Refusal::Address => (Status::TOO_MANY_REQUESTS, "too many from this address\n"),
        };
        let response = Response::text(status, text).header("Retry-After", RETRY_AFTER_SECONDS);
        Self { reason: refusal.into(), response }
    }
}

impl From<Refusal> for RefusalReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::Full,
            Refusal::Pending => Self::Pending,
            Refusal::Address => Self::Address,
            Refusal::Rate => Self::Rate,
            Refusal::Draining => Self::Draining,
        }
    }
}

impl Refusal {
    /// The limit that was reached, if it was one.
    pub(super) const fn limit(self) -> Option<Limit> {
        match self {
            Self::Full => Some(Limit::ConnectionsMax),
            Self::Pending => Some(Limit::HandshakesPendingMax),
            Self::Address => Some(Limit::ConnectionsPerAddressMax),
            Self::Rate => Some(Limit::HandshakesPerSecondMax),
            Self::Draining => None,
        }
    }
}

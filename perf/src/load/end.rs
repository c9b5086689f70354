//! How a connection ends.

use quelea_core::{CloseCode, Violation, handshake::ClientHandshakeError, http::Status};
use std::{fmt, io, time::Duration};

/// Why a client is gone.
#[derive(Debug)]
pub(crate) enum End {
    /// It never connected.
    Connect(io::Error),
    /// The server had not accepted the connection in time.
    ConnectTimeout,
    /// The answer to the handshake has another status than 101.
    Refused { status: Status, retry_after: Option<Duration> },
    /// The answer to the handshake is not the right one.
    Upgrade(ClientHandshakeError),
    /// The answer to the handshake declines the compression that was offered.
    DeflateDeclined,
    /// The answer to the handshake is no HTTP, or too long.
    UpgradeHead(String),
    /// The server ended the connection and had not answered the handshake.
    UpgradeLost(Option<io::Error>),
    /// The handshake was not answered in time.
    UpgradeTimeout,
    /// With a close frame.
    Closed { code: CloseCode, reason: String, by_server: bool },
    /// The server did not do its part of a closing handshake in time.
    CloseTimeout,
    /// The server ended the connection, and sent no close frame.
    Lost,
    /// The connection failed.
    Failed(io::Error),
    /// The server broke the protocol.
    Violation(Violation),
    /// The mode ended it, without a closing handshake.
    Aborted,
}

impl End {
    /// Whether the connection was open once.
    pub(crate) const fn was_open(&self) -> bool {
        matches!(
            self,
            Self::Closed { .. }
                | Self::CloseTimeout
                | Self::Lost
                | Self::Failed(_)
                | Self::Violation(_)
                | Self::Aborted
        )
    }

    /// What it is counted as: the same for all that ended alike.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Closed { code, by_server: true, .. } => format!("{code} by the server"),
            Self::Closed { code, by_server: false, .. } => format!("{code} by the generator"),
            Self::Connect(error) => format!("connect: {}", error.kind()),
            Self::Failed(error) => format!("failed: {}", error.kind()),
            Self::UpgradeHead(_) => "upgrade: the answer is no HTTP response".into(),
            Self::UpgradeLost(_) => "upgrade: ended before the answer".into(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => {
                write!(f, "connect: {error}")?;
                match error.raw_os_error() {
                    Some(libc::EMFILE) => f.write_str(": raise `ulimit -n`, or use more processes"),
                    Some(libc::EADDRNOTAVAIL) => f.write_str(": no port is left to connect from"),
                    _ => Ok(()),
                }
            }
            Self::ConnectTimeout => f.write_str("connect: not accepted in time"),
            Self::Refused { status, .. } => {
                write!(f, "upgrade: {}", ClientHandshakeError::Status(*status))
            }
            Self::Upgrade(error) => write!(f, "upgrade: {error}"),
            Self::UpgradeHead(error) => {
                write!(f, "upgrade: the answer is no HTTP response: {error}")
            }
            Self::DeflateDeclined => f.write_str(
                "upgrade: the server declined permessage-deflate; --deflate-optional goes on without it",
            ),
            Self::UpgradeLost(None) => {
                f.write_str("upgrade: the server ended the connection before it answered")
            }
            Self::UpgradeLost(Some(error)) => write!(f, "upgrade: {error}"),
            Self::UpgradeTimeout => f.write_str("upgrade: not answered in time"),
            Self::Closed { code, reason, by_server } => {
                let by = if *by_server { "the server" } else { "the generator" };
                write!(f, "closed by {by}: {code}")?;
                if reason.is_empty() { Ok(()) } else { write!(f, " {reason}") }
            }
            Self::CloseTimeout => f.write_str("close: not answered in time"),
            Self::Lost => f.write_str("the server ended the connection without a close frame"),
            Self::Failed(error) => write!(f, "the connection failed: {error}"),
            Self::Violation(violation) => write!(f, "the server broke the protocol: {violation}"),
            Self::Aborted => f.write_str("ended by the generator"),
        }
    }
}

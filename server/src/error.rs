//! What can stop a server from starting or running.

use std::{fmt, io};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a server did not start, or had to stop. Nothing a peer does ends in one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An address that cannot be read.
    Address {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An address that cannot be listened on: taken, or not of this machine.
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A value of [`Config`](crate::Config) or [`Drain`](crate::Drain) that cannot work.
    Config {
        /// The name of the field.
        field: &'static str,
        /// What to change.
        reason: String,
    },
    /// [`Server::run`](crate::Server::run) without an address to listen on, or a word that it
    /// [needs none](crate::Server::without_listener).
    NoListener,
    /// The system's I/O failed as a whole, not that of one connection.
    Io(io::Error),
}

impl Error {
    pub(crate) fn address(address: &str, reason: impl Into<String>) -> Self {
        Self::Address { address: address.to_owned(), reason: reason.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address, reason } => write!(f, "address `{address}`: {reason}"),
            Self::Listen { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Config { field, reason } => write!(f, "config `{field}`: {reason}"),
            Self::NoListener => f.write_str("nothing to run: call `listen` first"),
            Self::Io(error) => write!(f, "the system's I/O failed: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { source, .. } => Some(source),
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

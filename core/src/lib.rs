//! Sans-IO WebSocket (RFC 6455) for both roles: frames, masking, UTF-8, handshakes, connections, and with the
//! feature `deflate`, which is on by default, compression (RFC 7692).
//!
//! No socket, no clock, no thread. Bytes come in by `&mut [u8]` (unmasked in place, payloads
//! borrowed from it) and go out into a `Vec<u8>` the caller owns, so the same code runs under any
//! I/O: [`connection::Connection`] is where to start, [`handshake`] is what comes before it.
#![deny(missing_docs, unsafe_code)]

pub mod close;
pub mod connection;
#[cfg(feature = "deflate")]
pub mod deflate;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod http;
#[allow(unsafe_code)] // SIMD intrinsics.
pub mod mask;
pub mod message;
pub mod opcode;
#[allow(unsafe_code)] // Short ASCII is text without a second look at it.
pub mod utf8;

pub use close::{CloseCode, CloseFrame};
pub use connection::{Connection, Context, Event, Received};
pub use error::Violation;
pub use message::{Limits, Message, MessageKind};
pub use opcode::Opcode;

/// Which end of the connection this is: it decides who masks (RFC 6455, section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes masked frames, sends unmasked ones.
    Server,
    /// Takes unmasked frames, masks what it sends.
    Client,
}

//! The opening handshake (RFC 6455, section 4), both sides of it.
//!
//! Extensions that a client offers are ignored, as the RFC allows; a server that accepts one that was
//! not offered is refused.

mod client;
mod key;
mod origin;
mod server;

pub use client::{ClientHandshakeError, ClientRequest};
pub use key::accept_key;
pub use origin::{InvalidOrigin, Origin, OriginPolicy};
pub use server::{Refusal, Upgrade, wants_upgrade};

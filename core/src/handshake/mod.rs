//! The opening handshake (RFC 6455, section 4), both sides of it.
//!
//! Of the extensions that a client offers, a server may accept [permessage-deflate](crate::deflate); the others are
//! ignored, as the RFC allows. A server that accepts one that was not offered is refused.

mod client;
#[cfg_attr(
    not(feature = "deflate"),
    allow(dead_code, reason = "without it only the grammar counts")
)]
pub(crate) mod extensions;
mod key;
mod origin;
mod server;

pub use client::{ClientHandshakeError, ClientRequest};
pub use key::accept_key;
pub use origin::{InvalidOrigin, Origin, OriginPolicy};
pub use server::{Refusal, Upgrade, wants_upgrade};

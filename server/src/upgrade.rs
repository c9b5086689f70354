//! The opening handshake, as a handler sees it.

use crate::{address::PeerAddress, http::Request};
use quelea_core::handshake;
use std::borrow::Cow;

/// A client's request for a WebSocket (RFC 6455, section 4.2.1), found valid.
#[derive(Debug)]
pub struct Upgrade<'a> {
    upgrade: &'a handshake::Upgrade<'a>,
    peer: PeerAddress,
}

impl<'a> Upgrade<'a> {
    pub(crate) const fn new(upgrade: &'a handshake::Upgrade<'a>, peer: PeerAddress) -> Self {
        Self { upgrade, peer }
    }

    /// The request: path, query, headers.
    pub const fn request(&self) -> &'a Request<'a> {
        self.upgrade.request()
    }

    /// The path, as it was sent: `/rooms/7`.
    pub fn path(&self) -> &'a str {
        self.request().path()
    }

    /// What follows the `?`, as it was sent.
    pub fn query(&self) -> Option<&'a str> {
        self.request().query()
    }

    /// Where the connection comes from.
    pub const fn peer(&self) -> PeerAddress {
        self.peer
    }

    /// The subprotocols that the client offers, the best first (section 1.9).
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.upgrade.subprotocols()
    }
}

/// The acceptance of an upgrade, with the connection's state.
///
/// ```
/// use quelea::Accept;
/// let accept = Accept::new(7_u32).subprotocol("chat.example.v1");
/// # let _ = accept;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Accept<S> {
    pub(crate) state: S,
    pub(crate) subprotocol: Option<Cow<'static, str>>,
    pub(crate) headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl<S> Accept<S> {
    /// Accepts, with no subprotocol.
    pub const fn new(state: S) -> Self {
        Self { state, subprotocol: None, headers: Vec::new() }
    }

    /// Chooses a subprotocol. One that was not offered makes the answer a 500, and is logged: the
    /// client would have to fail the connection.
    pub fn subprotocol(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.subprotocol = Some(name.into());
        self
    }

    /// Adds a header field to the 101 response, such as `Set-Cookie`. One that is not allowed
    /// there makes the answer a 500, and is logged.
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

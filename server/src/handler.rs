//! What a user writes.

use crate::{
    adopt::Adopted,
    context::Conn,
    http::{Request, Response},
    metrics::CloseCause,
    upgrade::{Accept, Upgrade},
};
use quelea_core::{CloseCode, Message, Violation};
use std::time::Duration;

/// A server's behaviour: one value a worker, called for every connection of that worker.
///
/// A worker is one thread, so a callback is never called twice at once on one value, and need not
/// lock anything; while it runs, no other connection of its worker is served, so it must not
/// block.
///
/// For one connection the order is: [`on_upgrade`](Handler::on_upgrade), or
/// [`on_adopt`](Handler::on_adopt) for one that was upgraded elsewhere; [`on_open`](Handler::on_open), any number of the others, [`on_close`](Handler::on_close) exactly
/// once.
///
/// ```
/// use quelea::{Conn, Handler, Message};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type State = ();
///
///     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
///         conn.send(message);
///     }
/// }
/// ```
#[allow(unused_variables)]
pub trait Handler {
    /// What the handler keeps for each connection, made by [`on_upgrade`](Handler::on_upgrade) or
    /// [`on_adopt`](Handler::on_adopt), and dropped after [`on_close`](Handler::on_close). The default value stands in for connections
    /// that are not open.
    type State: Default;

    /// A client asks for a WebSocket (RFC 6455, section 4.2.2): accept it with the connection's
    /// state, perhaps with one of the offered subprotocols, or refuse it with a response.
    ///
    /// The request is a valid one, from an allowed [origin](crate::Config::origins). Unless
    /// overridden, all are accepted.
    ///
    /// # Errors
    /// The response to refuse with, such as 401, 403 or 404.
    fn on_upgrade(&mut self, upgrade: &Upgrade<'_>) -> Result<Accept<Self::State>, Response> {
        Ok(Accept::default())
    }

    /// The server took over a WebSocket that was upgraded elsewhere
    /// ([`Handle::adopt_websocket`](crate::Handle::adopt_websocket)): makes the connection's state,
    /// from what the application told of it. It cannot be refused any more, only closed once it is
    /// open. Unless overridden, the state is the default one.
    ///
    /// ```
    /// use quelea::{Adopted, Conn, Handler, Message};
    ///
    /// struct Greeter;
    ///
    /// impl Handler for Greeter {
    ///     /// The user's name, which the application knows from a cookie.
    ///     type State = String;
    ///
    ///     fn on_adopt(&mut self, adopted: Adopted) -> String {
    ///         adopted.into_data().unwrap_or_default()
    ///     }
    ///
    ///     fn on_message(&mut self, conn: &mut Conn<'_, String>, _: Message<'_>) {
    ///         let greeting = format!("hello {}", conn.state);
    ///         conn.send(&greeting);
    ///     }
    /// }
    /// ```
    fn on_adopt(&mut self, adopted: Adopted) -> Self::State {
        Self::State::default()
    }

    /// A GET or HEAD request that asks for no WebSocket. Unless overridden, the answer is 426.
    fn on_request(&mut self, request: &Request<'_>) -> Response {
        Response::upgrade_required()
    }

    /// The connection is open: the first moment to send.
    fn on_open(&mut self, conn: &mut Conn<'_, Self::State>) {}

    /// A whole message came. Text is known to be UTF-8; nothing is copied to get here, unless it
    /// came in pieces.
    fn on_message(&mut self, conn: &mut Conn<'_, Self::State>, message: Message<'_>);

    /// A ping came (RFC 6455, section 5.5.2); it is answered already.
    fn on_ping(&mut self, conn: &mut Conn<'_, Self::State>, payload: &[u8]) {}

    /// A pong came (RFC 6455, section 5.5.3), asked for or not; but not those that answer the pings
    /// of [`Config::ping_interval`](crate::Config::ping_interval), see
    /// [`on_round_trip`](Handler::on_round_trip).
    fn on_pong(&mut self, conn: &mut Conn<'_, Self::State>, payload: &[u8]) {}

    /// A ping of [`Config::ping_interval`](crate::Config::ping_interval) was answered after so
    /// long: the way there and back, and what both ends were busy with meanwhile. It is what the
    /// peer's answer says: a peer that wants to can make it too short. An answer that came later than
    /// a peer has time for, because this server stood still meanwhile, is not told.
    fn on_round_trip(&mut self, conn: &mut Conn<'_, Self::State>, round_trip: Duration) {}

    /// The peer was [backlogged](crate::SendStatus::Backlogged), and no more than
    /// [`Config::low_water_bytes`](crate::Config::low_water_bytes) are left: a good time to send
    /// more.
    fn on_drain(&mut self, conn: &mut Conn<'_, Self::State>) {}

    /// A timer of [`Conn::set_timer`] is due.
    fn on_timer(&mut self, conn: &mut Conn<'_, Self::State>, key: u8) {}

    /// The connection is gone: nothing more can be sent to it or will come from it.
    fn on_close(&mut self, conn: &mut Conn<'_, Self::State>, closed: &Closed<'_>) {}
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed<'a> {
    /// The peer's close code; [`CloseCode::NO_STATUS`] if its close frame had none,
    /// [`CloseCode::ABNORMAL`] if there was no close frame. After a violation, the code for it, which
    /// we sent unless we had begun the closing handshake before.
    pub code: CloseCode,
    /// The peer's reason, often empty; after a violation, what it was.
    pub reason: &'a str,
    /// What we saw happen.
    pub cause: Cause,
}

impl<'a> Closed<'a> {
    pub(crate) const fn new(code: CloseCode, reason: &'a str, cause: Cause) -> Self {
        Self { code, reason, cause }
    }

    pub(crate) const fn abnormal(cause: Cause) -> Self {
        Self::new(CloseCode::ABNORMAL, "", cause)
    }
}

/// The local cause of a connection's end: what we saw, not what the peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The peer began the closing handshake.
    PeerClosed,
    /// We began the closing handshake, and the peer answered.
    LocalClosed,
    /// The peer ended the transport without a close frame.
    Disconnected,
    /// The transport failed: a reset, or a network that is gone.
    Reset,
    /// A deadline passed: the peer did not answer our ping, or [`Conn::close`], in time.
    TimedOut,
    /// The peer broke RFC 6455.
    ProtocolError(Violation),
    /// The peer sent a message beyond a limit of [`Config`](crate::Config).
    Limit(Violation),
    /// The peer sent more in a second than
    /// [`Config::messages_per_second_max`](crate::Config::messages_per_second_max) or
    /// [`Config::bytes_per_second_max`](crate::Config::bytes_per_second_max) allows.
    TooFast,
    /// The peer took too little of what was published to it, under
    /// [`Overflow::Close`](crate::Overflow::Close).
    TooSlow,
    /// The peer sent no message for [`Config::idle_timeout`](crate::Config::idle_timeout).
    Idle,
    /// [`Config::lifetime_max`](crate::Config::lifetime_max) was over.
    Lifetime,
    /// The server stops or drains.
    Shutdown,
}

impl From<Cause> for CloseCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::PeerClosed => Self::PeerClosed,
            Cause::LocalClosed => Self::LocalClosed,
            Cause::Disconnected => Self::Disconnected,
            Cause::Reset => Self::Reset,
            Cause::TimedOut => Self::TimedOut,
            Cause::ProtocolError(_) => Self::ProtocolError,
            Cause::Limit(_) => Self::Limit,
            Cause::TooFast => Self::TooFast,
            Cause::TooSlow => Self::TooSlow,
            Cause::Idle => Self::Idle,
            Cause::Lifetime => Self::Lifetime,
            Cause::Shutdown => Self::Shutdown,
        }
    }
}

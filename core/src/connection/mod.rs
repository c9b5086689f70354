//! The sans-IO connection: received bytes in, events out; messages in, bytes to send out.

mod assembly;
mod context;
#[cfg(feature = "deflate")]
mod deflate;
#[cfg(all(test, feature = "deflate"))]
mod deflate_tests;
#[cfg(feature = "deflate")]
mod inflate;
#[cfg(test)]
mod message_tests;
mod rare;
mod receive;
mod send;
#[cfg(test)]
mod tests;

pub use context::Context;
pub use receive::{Event, Received};
pub use send::SendError;

use crate::Role;
use assembly::Assembly;
use rare::Rare;

/// One WebSocket connection, after its opening handshake (RFC 6455, sections 5 to 7).
///
/// It holds no socket, no clock and no queue. An idle one is a few words: what a partial frame or
/// a fragmented message needs is borrowed from the [`Context`], which many connections share.
///
/// Pings are answered, the closing handshake is answered, and a violation is answered with its
/// close frame, all into the `out` of [`Connection::poll_event`].
///
/// ```
/// use quelea_core::{Connection, Context, Event, Limits, Message, Received, Role};
///
/// let mut context = Context::new(Limits::default(), [0; 32]);
/// let (mut client, mut server) = (Connection::new(Role::Client), Connection::new(Role::Server));
/// let (mut wire, mut answer) = (Vec::new(), Vec::new());
/// client.send(Message::Text("hello"), &mut context, &mut wire).unwrap();
///
/// let mut received = Received::new(&mut wire);
/// while let Some(event) = server.poll_event(&mut received, &mut context, &mut answer)? {
///     assert_eq!(event, Event::Message(Message::Text("hello")));
/// }
/// # Ok::<(), quelea_core::Violation>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    assembly: Option<Box<Assembly>>,
    /// What few connections have.
    rare: Option<Box<Rare>>,
    role: Role,
    state: State,
    pongs_held: bool,
    /// Whether a message is being sent fragment by fragment.
    fragment_sent: bool,
    /// Compression is agreed on: the window within which we compress.
    #[cfg(feature = "deflate")]
    deflate: Option<crate::deflate::WindowBits>,
    /// Whether the message that is being sent fragment by fragment is compressed.
    #[cfg(feature = "deflate")]
    fragments_compressed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Messages come and go.
    Open,
    /// We sent a close frame, and nothing may follow; what the peer still sends comes as events.
    Closing,
    /// The peer's close frame came, and ours went, whichever was first: nothing after it counts.
    Closed,
    /// The peer broke the protocol: nothing after that counts.
    Failed,
}

#[derive(Debug)]
struct ControlPayload {
    len: u8,
    bytes: [u8; 125],
}

impl Connection {
    /// A connection whose opening handshake is done, without compression.
    pub const fn new(role: Role) -> Self {
        Self {
            assembly: None,
            rare: None,
            role,
            state: State::Open,
            pongs_held: false,
            fragment_sent: false,
            #[cfg(feature = "deflate")]
            deflate: None,
            #[cfg(feature = "deflate")]
            fragments_compressed: false,
        }
    }

    /// Which end this is.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Whether messages can be sent: no close frame was sent yet, and nothing failed.
    #[inline]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether the closing handshake is done, or the connection failed: once `out` is flushed the
    /// transport can be closed (section 7.1.1: by the server first).
    #[inline]
    pub const fn is_finished(&self) -> bool {
        matches!(self.state, State::Closed | State::Failed)
    }

    /// Whether a frame, or a message in fragments, has come in part.
    #[inline]
    pub const fn is_receiving(&self) -> bool {
        self.assembly.is_some()
    }

    /// Whether the peer's close frame was received.
    pub const fn is_close_received(&self) -> bool {
        matches!(self.state, State::Closed)
    }
}

//! One connection of a worker.

use super::output::Output;
use crate::{parts::timer::Tick, protocol::http::HttpConnection};
use quelea_core::Connection;

/// All that a worker keeps for a connection, but for the handler's state.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) stage: Stage,
    pub(super) output: Output,
    /// When the peer last showed that it is there.
    pub(super) heard: Tick,
    pub(super) closing: Closing,
    pub(super) paused: bool,
}

/// What a connection speaks.
#[derive(Debug)]
pub(crate) enum Stage {
    /// It asks, or has not asked yet.
    Http(Box<HttpConnection>),
    /// It is open, or in its closing handshake.
    WebSocket(Connection),
    /// It has nothing more to say, but for what is left to send.
    Ending(Ending),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both sides said all: closed once all is sent.
    Clean,
    /// The peer may still be sending. Closing now would send a RST, which can destroy what we
    /// sent last before it is read: so a FIN goes out, and input is dropped until the peer's.
    Linger,
    /// The FIN is out.
    FinSent,
    /// It is beyond use: closed with whatever was not sent.
    Abort,
}

/// Who began the closing handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    No,
    Local,
    Shutdown,
}

impl Slot {
    pub(super) const fn new(stage: Stage, heard: Tick) -> Self {
        Self { stage, output: Output::new(), heard, closing: Closing::No, paused: false }
    }
}

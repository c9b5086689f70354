//! One connection of a worker.

use super::output::Output;
use crate::{
    metrics::Limit,
    parts::{timer::Tick, topics::Form},
    protocol::http::HttpConnection,
};
use quelea_core::{CloseCode, CloseFrame, Connection};

/// All that a worker keeps for a connection, but for the handler's state.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) stage: Stage,
    pub(super) output: Output,
    /// When the peer last showed that it is there.
    pub(super) heard: Tick,
    /// When the peer last sent a message.
    pub(super) active: Tick,
    pub(super) closing: Closing,
    /// It was above the high mark, and not at or below the low one since.
    pub(super) backlogged: bool,
    /// It was let in, and counts.
    pub(super) is_admitted: bool,
    /// It was a WebSocket once.
    pub(super) opened: bool,
    /// It was pinged, and `heard` is when: it was not heard of since.
    pub(super) pinged: bool,
    /// The handler wants nothing from it for now.
    pub(super) held: bool,
    /// The driver was told to receive nothing.
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

/// Why we began the closing handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// We did not.
    No,
    /// The handler, or a handle, asked for it.
    Local,
    Shutdown,
    Idle,
    Lifetime,
    TooFast,
    TooSlow,
}

impl Closing {
    /// What we tell the peer.
    pub(super) const fn frame(self) -> CloseFrame<'static> {
        let (code, reason) = match self {
            Self::No | Self::Local => (CloseCode::NORMAL, ""),
            Self::Shutdown => (CloseCode::GOING_AWAY, "the server stops"),
            Self::Idle => (CloseCode::NORMAL, "no message for too long"),
            Self::Lifetime => (CloseCode::SERVICE_RESTART, "connected for long enough"),
            Self::TooFast => (CloseCode::POLICY_VIOLATION, "too much in a second"),
            Self::TooSlow => (CloseCode::TRY_AGAIN_LATER, "too slow for what is published"),
        };
        CloseFrame { code, reason }
    }

    /// The limit that was reached.
    pub(super) const fn limit(self) -> Option<Limit> {
        match self {
            Self::No | Self::Local | Self::Shutdown => None,
            Self::Idle => Some(Limit::IdleTimeout),
            Self::Lifetime => Some(Limit::LifetimeMax),
            Self::TooFast => Some(Limit::PerSecondMax),
            // Counted with what it missed.
            Self::TooSlow => None,
        }
    }
}

impl Slot {
    /// Whether we began the closing handshake, or nothing is left but to send what waits.
    pub(super) fn ends(&self) -> bool {
        match self.stage {
            Stage::Http(_) => false,
            Stage::WebSocket(_) => self.closing != Closing::No,
            Stage::Ending(_) => true,
        }
    }

    /// It is sent what was published in this form.
    #[inline]
    pub(super) fn note_compressed(&mut self, _form: Form) {
        #[cfg(feature = "deflate")]
        if _form != 0
            && let Stage::WebSocket(connection) = &mut self.stage
        {
            connection.sent_compressed();
        }
    }

    /// Gives back what it does not need while it is silent: how many bytes.
    pub(super) fn trim(&mut self) -> usize {
        #[cfg(feature = "deflate")]
        if let Stage::WebSocket(connection) = &mut self.stage {
            return connection.trim();
        }
        0
    }

    pub(super) const fn new(stage: Stage, is_admitted: bool, now: Tick) -> Self {
        Self {
            stage,
            output: Output::new(),
            heard: now,
            active: now,
            closing: Closing::No,
            backlogged: false,
            is_admitted,
            opened: false,
            pinged: false,
            held: false,
            paused: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_fits_a_cache_line_with_its_generation() {
        assert!(size_of::<Slot>() <= 56, "{} bytes", size_of::<Slot>());
    }
}

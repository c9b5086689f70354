//! What an engine is to do.

use super::Deflate;
use crate::target::Target;
use quelea_core::Limits;
use std::time::Duration;

/// How an engine connects, and what it lets a server do.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    /// What it asks the server to speak.
    pub(crate) subprotocol: Option<String>,
    /// What compression it offers.
    pub(crate) deflate: Deflate,
    /// How many connections may be on their way to be open at once.
    pub(crate) connecting_max: usize,
    /// How long the server has for its part of a connect, an opening or a closing handshake.
    pub(crate) patience: Duration,
    /// The longest message that the server may send.
    pub(crate) message_bytes_max: usize,
    /// How often one of the clients, in turns, sends a ping to time its pong.
    pub(crate) ping_every: Option<Duration>,
    /// The number of the first source address; 0 is the one that the system picks.
    pub(crate) first_source: u64,
    /// What ends without a closing handshake ends with a RST, not with a FIN.
    pub(crate) abort_by_reset: bool,
    pub(crate) seed: u64,
    /// Speaks TCP alone: no handshake, and no frames around what is prepared.
    pub(crate) raw: bool,
}

impl Settings {
    pub(crate) fn new(target: Target, seed: u64) -> Self {
        Self {
            target,
            subprotocol: None,
            deflate: Deflate::default(),
            connecting_max: 100,
            patience: Duration::from_secs(10),
            message_bytes_max: Limits::default().message_bytes_max,
            ping_every: Some(Duration::from_millis(100)),
            first_source: 0,
            abort_by_reset: false,
            seed,
            raw: false,
        }
    }
}

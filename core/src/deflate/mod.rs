//! Compression of messages: permessage-deflate (RFC 7692), for both roles.
//!
//! # What costs memory, and who has it
//!
//! A stream of zlib takes up to 371 KiB to compress and 48 KiB to decompress. Nearly all of it are tables that
//! are made again for each message; what a connection *needs* from one message to the next is the window: the
//! last bytes that were sent, if back references may reach into them. So no connection has a stream:
//!
//! - Compressors and decompressors belong to the [`Context`](crate::Context), made on first use, one for all its
//!   connections. Before a message they are reset, which takes 1 us for a compressor and nothing for a
//!   decompressor.
//! - Without context takeover ([`Policy::Shared`]) that is all there is.
//! - With it ([`Policy::Takeover`]) a connection has its windows, as plain bytes: at most as many as were agreed
//!   on, and no more than were sent. They are given to the stream before a message. For connections that send
//!   often, some streams are kept as they are, and need neither reset nor window.
//!
//! What is kept of whom follows from the RFC, since parameters cannot be negotiated again:
//!
//! - The window of what the *peer* compresses has to be kept as long as the connection lives: its next message
//!   may refer to all of it. It is reserved when parameters are agreed on. A server that has no room for it
//!   demands `client_no_context_takeover` (section 7.1.1.2), which needs none.
//! - The window of what *we* compress may be forgotten at any time: the next message then just refers to nothing.
//!   It is made when the first message is compressed, if there is room, and given back by
//!   [`Connection::trim`](crate::Connection::trim).
//!
//! # Receiving
//!
//! A compressed message that comes in one piece is inflated where it lies. One in pieces is kept as it came until
//! it is whole or an eighth of [`Limits::message_bytes_max`](crate::Limits::message_bytes_max) has come, and is
//! inflated as it comes from then on: so an unfinished message takes at most eight times the memory of what a
//! peer has sent of it, however well that was compressed. The output is counted while it is made: a bomb
//! ends with 1009 one byte beyond the limit. Text is checked as it is inflated.
//!
//! # Sending
//!
//! A message is compressed if it has [`Settings::message_bytes_min`] and comes out shorter; else it is sent plain,
//! which needs no agreement (section 6). What is sent to many is compressed once: see
//! [`Context::append_compressed`](crate::Context::append_compressed).

mod compress;
mod inflate;
mod parameters;
mod streams;
#[cfg(test)]
mod tests;
mod window;

use std::num::NonZeroU8;

pub(crate) use inflate::{Inflater, Output};
pub(crate) use parameters::{Agreement, NAME, agree};
pub use parameters::{InvalidOffer, Offer, Parameters};
pub(crate) use streams::Streams;
pub(crate) use window::Takeover;

/// Whether compression is agreed on, and at which cost in memory.
///
/// What a context takes beyond its connections is made on first use, and goes with
/// [`Context::trim`](crate::Context::trim).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Policy {
    /// Offers are declined, and none are made. No memory.
    #[default]
    Off,
    /// Each message is compressed by itself, in both directions: `server_no_context_takeover` and
    /// `client_no_context_takeover`. A connection takes no memory for it.
    ///
    /// A context takes about 500 KiB: one compressor of 371 KiB, one decompressor of 47 KiB, 32 KiB to inflate into,
    /// and up to 64 KiB to compress into. For peers that ask for a smaller window there is one compressor more
    /// for each size, of 243 KiB and four windows.
    Shared,
    /// Messages may refer to those before them, which makes short and similar ones much shorter.
    ///
    /// A connection takes up to two windows of 2^`window_bits` bytes, only as far as they have been filled: one
    /// from the first message it receives, one from the first it sends. A context takes what it does with
    /// [`Policy::Shared`], and `budget_bytes` at most for the windows and busy compressors of all its connections.
    ///
    /// What it costs of CPU time depends on `window_bits`: a connection whose last message another one's followed on
    /// the same compressor has its window hashed again before its next. With 15 that takes 20 us, with 12 it takes 3,
    /// with 9 less than 1; a busy compressor that has it still takes none. There are at most 64 of them.
    Takeover {
        /// The largest window that is agreed on, each way. What a client compresses is only bounded if
        /// it allows it (`client_max_window_bits`, as all browsers but Firefox do): from others
        /// `client_no_context_takeover` is demanded, unless this is 15.
        window_bits: WindowBits,
        /// Bytes for windows, and a quarter of it for the compressors of connections that send much. Beyond
        /// it, connections are agreed on and messages sent as with [`Policy::Shared`].
        budget_bytes: usize,
    },
}

/// How a [`Context`](crate::Context) compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether, and at which cost in memory. Default: [`Policy::Off`].
    pub policy: Policy,
    /// The shortest message that is compressed, in bytes. Default: 128. To compress one costs 2 us
    /// however short it is ([`Policy::Takeover`] says when more), and below that little is gained.
    pub message_bytes_min: usize,
    /// From 1, fast, to 9, small; what is beyond counts as the nearest. Default: 1. Of 1 KiB of JSON level 1
    /// makes 340 bytes in 2.4 us, level 2 makes 274 in 6.6 us, level 6 makes 259 in 7.4 us.
    pub level: u8,
}

impl Settings {
    /// The defaults with a policy.
    pub const fn new(policy: Policy) -> Self {
        Self { policy, message_bytes_min: 128, level: 1 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(Policy::Off)
    }
}

/// The size of a window as its logarithm: 9 to 15, for 512 bytes to 32 KiB (RFC 7692, section 7.1.2).
///
/// The RFC allows 8 too, but no zlib can compress with it: what it makes when asked for 8 needs 9, and breaks a
/// peer that believed it. So it is never agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WindowBits(NonZeroU8);

impl WindowBits {
    /// 9: 512 bytes.
    pub const MIN: Self = Self(NonZeroU8::new(9).unwrap());
    /// 15: 32 KiB, the size where none is agreed on.
    pub const MAX: Self = Self(NonZeroU8::new(15).unwrap());

    /// `None` for less than 9 or more than 15.
    pub const fn new(bits: u8) -> Option<Self> {
        match NonZeroU8::new(bits) {
            Some(value) if bits >= Self::MIN.get() && bits <= Self::MAX.get() => Some(Self(value)),
            _ => None,
        }
    }

    /// The logarithm.
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// The size in bytes.
    pub const fn bytes(self) -> usize {
        1 << self.get()
    }
}

/// Whether to compress one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compress {
    /// If it has [`Settings::message_bytes_min`] and becomes shorter.
    #[default]
    Auto,
    /// However short it is, if it becomes shorter.
    Yes,
    /// No: what is compressed already, and what has secrets beside what an attacker chooses (the length
    /// of the result tells how alike they are: CRIME, BREACH).
    No,
}

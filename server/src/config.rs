//! What a server can be told, and what it is unless told.

use crate::{
    error::{Error, Result},
    parts::slots::SLOTS_MAX,
};
use quelea_core::{Limits, handshake::OriginPolicy, http::HeadLimits};
use std::time::Duration;

/// The limits and timeouts of a server. Every queue, buffer and wait has one.
///
/// ```
/// use quelea::Config;
/// let config = Config { message_bytes_max: 64 << 10, ..Config::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// The longest message a peer may send, in bytes; beyond it, the connection is closed with
    /// 1009. Default: 1 MiB. To send such messages as well, see
    /// [`outbox_bytes_max`](Self::outbox_bytes_max).
    pub message_bytes_max: usize,
    /// The most fragments of one message; beyond it, 1009. Default: 131,072.
    pub fragments_max: u32,
    /// The most bytes that may wait for one slow peer; a message that would pass it is
    /// [dropped](crate::SendStatus::Dropped). Reading from that peer pauses at half of it.
    /// Default: 4 MiB, which holds a few of the longest messages.
    pub outbox_bytes_max: usize,
    /// What a request head may take; beyond it, 431. Default: 16 KiB, 100 fields.
    pub head: HeadLimits,
    /// Which pages may open a WebSocket; others get 403. Default: those of the same host, and
    /// clients that are no browsers.
    pub origins: OriginPolicy,
    /// The longest a connection may take for a request head, or wait with none. Default: 10 s,
    /// enough for a slow network, and an end to a client that never finishes.
    pub handshake_timeout: Duration,
    /// The longest a closing handshake may take, and what is left to flush. Default: 5 s.
    pub close_timeout: Duration,
    /// How long a WebSocket may be silent before it is pinged; `None` for never. Default: 30 s,
    /// below the idle limits of common proxies.
    pub ping_interval: Option<Duration>,
    /// How long a pinged peer may stay silent before its connection is ended, with
    /// [`Cause::TimedOut`](crate::Cause::TimedOut). Anything it sends counts, and so does taking
    /// some of a backlog. The next ping is not before its end, so it is best shorter than
    /// [`ping_interval`](Self::ping_interval). Default: 10 s.
    pub pong_timeout: Duration,
    /// The most connections of one worker; beyond it, 503 with `Retry-After`. Default: 1,000,000,
    /// which the limit on descriptors undercuts nearly everywhere.
    pub connections_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        let Limits { message_bytes_max, fragments_max } = Limits::default();
        Self {
            message_bytes_max,
            fragments_max,
            outbox_bytes_max: 4 << 20,
            head: HeadLimits::default(),
            origins: OriginPolicy::default(),
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            ping_interval: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(10),
            connections_max: 1_000_000,
        }
    }
}

impl Config {
    /// Checks that the values work, alone and together.
    ///
    /// # Errors
    /// [`Error::Config`], which names the field and says what to change.
    pub fn validate(&self) -> Result<()> {
        let fail = |field, reason: String| Err(Error::Config { field, reason });
        for (field, value) in [
            ("message_bytes_max", self.message_bytes_max),
            ("fragments_max", self.fragments_max as usize),
            ("connections_max", self.connections_max),
            ("head.bytes_max", self.head.bytes_max),
            ("head.fields_max", self.head.fields_max),
        ] {
            if value == 0 {
                return fail(field, "must be at least 1".into());
            }
        }
        for (field, value) in [
            ("handshake_timeout", self.handshake_timeout),
            ("close_timeout", self.close_timeout),
            ("ping_interval", self.ping_interval.unwrap_or(TIMEOUT_MAX)),
            ("pong_timeout", self.pong_timeout),
        ] {
            if value.is_zero() || value > TIMEOUT_MAX {
                return fail(field, "must be above zero and at most a day".into());
            }
        }
        if self.head.bytes_max > HEAD_BYTES_MAX {
            return fail("head.bytes_max", format!("must be at most {HEAD_BYTES_MAX}"));
        }
        if self.head.fields_max > HEAD_FIELDS_MAX {
            return fail("head.fields_max", format!("must be at most {HEAD_FIELDS_MAX}"));
        }
        if self.outbox_bytes_max < OUTBOX_BYTES_MIN {
            return fail("outbox_bytes_max", format!("must be at least {OUTBOX_BYTES_MIN}"));
        }
        let slots_max = SLOTS_MAX - EXCESS_MAX;
        if self.connections_max > slots_max {
            return fail("connections_max", format!("must be at most {slots_max} a worker"));
        }
        Ok(())
    }
}

/// The longest timeout: beyond a day, something else is meant.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A head is kept whole until it is complete, for peers that nobody knows yet.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// What [`HeadLimits`] can hold.
const HEAD_FIELDS_MAX: usize = 128;
/// Room for the longest refusal and a few control frames.
const OUTBOX_BYTES_MIN: usize = 4 << 10;
/// Connections beyond the limit that are told so, before the others are left waiting.
pub(crate) const EXCESS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn an_error_names_the_field_and_says_what_is_allowed() {
        let head = |bytes_max, fields_max| HeadLimits { bytes_max, fields_max };
        let table = [
            (Config { message_bytes_max: 0, ..Config::default() }, "message_bytes_max"),
            (Config { fragments_max: 0, ..Config::default() }, "fragments_max"),
            (Config { outbox_bytes_max: 10, ..Config::default() }, "outbox_bytes_max"),
            (Config { head: head(2 << 20, 100), ..Config::default() }, "head.bytes_max"),
            (Config { head: head(1 << 10, 129), ..Config::default() }, "head.fields_max"),
            (Config { head: head(1 << 10, 0), ..Config::default() }, "head.fields_max"),
            (Config { connections_max: 0, ..Config::default() }, "connections_max"),
            (Config { connections_max: usize::MAX, ..Config::default() }, "connections_max"),
            (Config { close_timeout: Duration::ZERO, ..Config::default() }, "close_timeout"),
            (Config { ping_interval: Some(Duration::ZERO), ..Config::default() }, "ping_interval"),
            (Config { pong_timeout: Duration::ZERO, ..Config::default() }, "pong_timeout"),
            (Config { handshake_timeout: Duration::MAX, ..Config::default() }, "handshake_timeout"),
        ];
        for (config, field) in table {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")) && error.contains("must be"), "{error}");
        }
    }
}

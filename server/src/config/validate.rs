//! Which values of a [`Config`] work, alone and together.

use super::Config;
use crate::{
    error::{Error, Result},
    id::WORKERS_MAX,
    parts::{patterns, slots::SLOTS_MAX},
};
use std::time::Duration;

/// The longest timeout: beyond a day, something else is meant.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest lifetime: what the timers can hold.
const LIFETIME_MAX: Duration = Duration::from_secs(100 * 24 * 60 * 60);
/// A head is kept whole until it is complete, for peers that nobody knows yet.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// What [`quelea_core::http::HeadLimits`] can hold.
const HEAD_FIELDS_MAX: usize = 128;
/// Room for the longest refusal and a few control frames.
const OUTBOX_BYTES_MIN: usize = 4 << 10;
/// More than this for one peer is a mistake: a hundred of them are all there is.
const OUTBOX_BYTES_MAX: usize = 1 << 30;
/// Longer names are no names; and it bounds what a look for patterns costs.
const TOPIC_BYTES_MAX: usize = 256;
/// Connections of a worker that wait to be told that they are refused, before others are just closed.
pub(crate) const EXCESS_MAX: usize = 1024;

impl Config {
    /// Checks that the values work, alone and together.
    ///
    /// # Errors
    /// [`Error::Config`], which names the field and says what to change.
    pub fn validate(&self) -> Result<()> {
        self.validate_counts()?;
        self.validate_times()?;
        self.validate_output()?;
        if self.head.bytes_max > HEAD_BYTES_MAX {
            return fail("head.bytes_max", format!("must be at most {HEAD_BYTES_MAX}"));
        }
        if self.head.fields_max > HEAD_FIELDS_MAX {
            return fail("head.fields_max", format!("must be at most {HEAD_FIELDS_MAX}"));
        }
        Ok(())
    }

    fn validate_counts(&self) -> Result<()> {
        for (field, value) in [
            ("workers", self.workers.unwrap_or(1)),
            ("message_bytes_max", self.message_bytes_max),
            ("fragments_max", self.fragments_max as usize),
            ("messages_per_second_max", self.messages_per_second_max.unwrap_or(1) as usize),
            ("subscriptions_max", self.subscriptions_max),
            ("topic_bytes_max", self.topic_bytes_max),
            ("connections_max", self.connections_max),
            ("connections_per_address_max", self.connections_per_address_max.unwrap_or(1)),
            ("handshakes_pending_max", self.handshakes_pending_max),
            ("handshakes_per_second_max", self.handshakes_per_second_max.unwrap_or(1) as usize),
            ("head.bytes_max", self.head.bytes_max),
            ("head.fields_max", self.head.fields_max),
        ] {
            if value == 0 {
                return fail(field, "must be at least 1");
            }
        }
        if self.workers.is_some_and(|workers| workers > WORKERS_MAX) {
            return fail("workers", format!("must be at most {WORKERS_MAX}"));
        }
        if self.topic_bytes_max > TOPIC_BYTES_MAX {
            return fail("topic_bytes_max", format!("must be at most {TOPIC_BYTES_MAX}"));
        }
        let slots_max = SLOTS_MAX - EXCESS_MAX;
        if self.connections_max > slots_max {
            return fail("connections_max", format!("must be at most {slots_max}"));
        }
        if self.bytes_per_second_max.is_some_and(|bytes| bytes < self.message_bytes_max) {
            let reason = "must be at least `message_bytes_max`, or such a message could never pass";
            return fail("bytes_per_second_max", reason);
        }
        Ok(())
    }

    fn validate_times(&self) -> Result<()> {
        for (field, value) in [
            ("handshake_timeout", self.handshake_timeout),
            ("close_timeout", self.close_timeout),
            ("ping_interval", self.ping_interval.unwrap_or(TIMEOUT_MAX)),
            ("pong_timeout", self.pong_timeout),
            ("idle_timeout", self.idle_timeout.unwrap_or(TIMEOUT_MAX)),
        ] {
            if value.is_zero() || value > TIMEOUT_MAX {
                return fail(field, "must be above zero and at most a day");
            }
        }
        if self.lifetime_max.is_some_and(|value| value.is_zero() || value > LIFETIME_MAX) {
            return fail("lifetime_max", "must be above zero and at most 100 days");
        }
        Ok(())
    }

    fn validate_output(&self) -> Result<()> {
        if self.outbox_bytes_max < OUTBOX_BYTES_MIN {
            return fail("outbox_bytes_max", format!("must be at least {OUTBOX_BYTES_MIN}"));
        }
        if self.outbox_bytes_max > OUTBOX_BYTES_MAX {
            return fail("outbox_bytes_max", format!("must be at most {OUTBOX_BYTES_MAX}"));
        }
        if self.mailbox_bytes_max < self.message_bytes_max {
            return fail("mailbox_bytes_max", "must be at least `message_bytes_max`");
        }
        if self.high_water() > self.outbox_bytes_max {
            return fail("high_water_bytes", "must be at most `outbox_bytes_max`");
        }
        if self.low_water() > self.high_water() {
            return fail("low_water_bytes", "must be at most `high_water_bytes`");
        }
        for (pattern, _) in &self.topic_overflow {
            if !patterns::is_valid(pattern) {
                let reason = format!("must have `>` only as the last part: `{pattern}`");
                return fail("topic_overflow", reason);
            }
        }
        Ok(())
    }
}

fn fail(field: &'static str, reason: impl Into<String>) -> Result<()> {
    Err(Error::Config { field, reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overflow;
    use quelea_core::http::HeadLimits;

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn an_error_names_the_field_and_says_what_is_allowed() {
        let head = |bytes_max, fields_max| HeadLimits { bytes_max, fields_max };
        let zero = Some(Duration::ZERO);
        let year = Some(Duration::from_secs(365 * 24 * 60 * 60));
        let default = Config::default;
        let table = [
            (Config { workers: Some(0), ..default() }, "workers"),
            (Config { workers: Some(257), ..default() }, "workers"),
            (Config { mailbox_bytes_max: 1 << 10, ..default() }, "mailbox_bytes_max"),
            (Config { message_bytes_max: 0, ..default() }, "message_bytes_max"),
            (Config { fragments_max: 0, ..default() }, "fragments_max"),
            (Config { messages_per_second_max: Some(0), ..default() }, "messages_per_second_max"),
            (Config { bytes_per_second_max: Some(9), ..default() }, "bytes_per_second_max"),
            (Config { outbox_bytes_max: 10, ..default() }, "outbox_bytes_max"),
            (Config { outbox_bytes_max: usize::MAX, ..default() }, "outbox_bytes_max"),
            (Config { high_water_bytes: Some(5 << 20), ..default() }, "high_water_bytes"),
            (Config { low_water_bytes: Some(3 << 20), ..default() }, "low_water_bytes"),
            (
                Config { topic_overflow: vec![("a.>.b".into(), Overflow::Close)], ..default() },
                "topic_overflow",
            ),
            (Config { subscriptions_max: 0, ..default() }, "subscriptions_max"),
            (Config { topic_bytes_max: 0, ..default() }, "topic_bytes_max"),
            (Config { topic_bytes_max: 257, ..default() }, "topic_bytes_max"),
            (Config { head: head(2 << 20, 100), ..default() }, "head.bytes_max"),
            (Config { head: head(1 << 10, 129), ..default() }, "head.fields_max"),
            (Config { head: head(1 << 10, 0), ..default() }, "head.fields_max"),
            (Config { connections_max: 0, ..default() }, "connections_max"),
            (Config { connections_max: usize::MAX, ..default() }, "connections_max"),
            (
                Config { connections_per_address_max: Some(0), ..default() },
                "connections_per_address_max",
            ),
            (Config { handshakes_pending_max: 0, ..default() }, "handshakes_pending_max"),
            (
                Config { handshakes_per_second_max: Some(0), ..default() },
                "handshakes_per_second_max",
            ),
            (Config { close_timeout: Duration::ZERO, ..default() }, "close_timeout"),
            (Config { ping_interval: zero, ..default() }, "ping_interval"),
            (Config { pong_timeout: Duration::ZERO, ..default() }, "pong_timeout"),
            (Config { idle_timeout: zero, ..default() }, "idle_timeout"),
            (Config { lifetime_max: year, ..default() }, "lifetime_max"),
            (Config { handshake_timeout: Duration::MAX, ..default() }, "handshake_timeout"),
        ];
        for (config, field) in table {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")) && error.contains("must"), "{error}");
        }
    }
}

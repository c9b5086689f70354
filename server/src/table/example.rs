//! A table for tests.

use super::{FanoutOptions, Marks, TableOptions, Timeouts};
use crate::{config::Overflow, mail::Outgoing, parts::rate::Rates};
use quelea_core::{Context, Limits};
use std::time::{Duration, Instant};

impl TableOptions {
    /// Of one worker, at a moment; nothing of it is tight, and nothing is pinged.
    pub(super) fn example(now: Instant) -> Self {
        let second = Duration::from_secs(1);
        Self {
            worker: 0,
            context: Context::new(Limits::default(), [0; 32]),
            marks: Marks { low: 1 << 20, high: 2 << 20, max: 4 << 20 },
            timeouts: Timeouts {
                handshake: 10 * second,
                close: 5 * second,
                ping_interval: None,
                pong: second,
                idle: None,
                lifetime: None,
            },
            rates: Rates::default(),
            fanout: FanoutOptions {
                subscriptions_max: 1,
                topic_bytes_max: 1,
                overflow: Overflow::Drop,
                topic_overflow: Vec::new(),
            },
            outgoing: Outgoing::new(0, 1, 1 << 20),
            now,
        }
    }
}

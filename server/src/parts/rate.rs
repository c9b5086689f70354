//! How much each slot has taken of what it may take in a second.

use super::timer::{TICK, Tick};

/// What a slot may take in a second, and at once after a second of nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) messages: Option<u32>,
    pub(crate) bytes: Option<usize>,
}

/// A bucket of tokens a slot, filled as time goes by; no memory while there is no limit.
#[derive(Debug)]
pub(crate) struct Meter {
    rates: Rates,
    is_on: bool,
    buckets: Vec<Bucket>,
}

/// In tokens of which a message or a byte takes [`TICKS_PER_SECOND`]: a tick brings whole ones.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    messages: u64,
    bytes: u64,
    filled: Tick,
}

const TICKS_PER_SECOND: u64 = (1_000 / TICK.as_millis()) as u64;

impl Meter {
    pub(crate) const fn new(rates: Rates) -> Self {
        let is_on = rates.messages.is_some() || rates.bytes.is_some();
        Self { rates, is_on, buckets: Vec::new() }
    }

    const fn full(&self, now: Tick) -> Bucket {
        let messages = match self.rates.messages {
            Some(rate) => rate as u64,
            None => 0,
        };
        let bytes = match self.rates.bytes {
            Some(rate) => rate as u64,
            None => 0,
        };
        Bucket {
            messages: messages * TICKS_PER_SECOND,
            bytes: bytes.saturating_mul(TICKS_PER_SECOND),
            filled: now,
        }
    }

    #[inline]
    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Starts to count for a slot.
    pub(crate) fn reset(&mut self, slot: usize, now: Tick) {
        if !self.is_on() {
            return;
        }
        let full = self.full(now);
        if self.buckets.len() <= slot {
            self.buckets.resize(slot + 1, full);
        }
        self.buckets[slot] = full;
    }

    /// Takes a message of `len` bytes; whether that was within the limits.
    pub(crate) fn take(&mut self, slot: usize, len: usize, now: Tick) -> bool {
        let full = self.full(now);
        let Some(bucket) = self.buckets.get_mut(slot) else { return true };
        let ticks = now.ticks_since(bucket.filled);
        if ticks > 0 {
            let fill = |tokens: u64, full: u64| {
                full.min(tokens.saturating_add((full / TICKS_PER_SECOND).saturating_mul(ticks)))
            };
            bucket.messages = fill(bucket.messages, full.messages);
            bucket.bytes = fill(bucket.bytes, full.bytes);
            bucket.filled = now;
        }
        let left = |tokens: u64, is_limited: bool, amount: u64| match is_limited {
            true => tokens.checked_sub(amount.saturating_mul(TICKS_PER_SECOND)),
            false => Some(0),
        };
        let messages = left(bucket.messages, self.rates.messages.is_some(), 1);
        let bytes = left(bucket.bytes, self.rates.bytes.is_some(), len as u64);
        let (Some(messages), Some(bytes)) = (messages, bytes) else { return false };
        (bucket.messages, bucket.bytes) = (messages, bytes);
        true
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
mod tests {
    use super::*;
    use crate::parts::timer::Wheel;
    use std::time::{Duration, Instant};

    #[test]
    fn without_a_limit_all_passes_and_nothing_is_kept() {
        let wheel = Wheel::new(Instant::now());
        let mut meter = Meter::new(Rates::default());
        meter.reset(7, wheel.now());
        assert!(!meter.is_on() && (0..1000).all(|_| meter.take(7, 1 << 20, wheel.now())));
        assert!(meter.buckets.is_empty());
    }

    #[test]
    fn a_seconds_worth_passes_at_once_and_then_what_time_brings() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut meter = Meter::new(Rates { messages: Some(10), bytes: None });
        meter.reset(0, wheel.now());
        let mut passed = |seconds: f64| {
            wheel.set_now(start + Duration::from_secs_f64(seconds));
            std::iter::repeat_with(|| meter.take(0, 1 << 30, wheel.now()))
                .take(100)
                .filter(|passed| *passed)
                .count()
        };
        assert_eq!(passed(0.0), 10);
        assert_eq!(passed(0.08), 0, "less than a message's time");
        assert_eq!(passed(0.56), 5);
        assert_eq!(passed(100.0), 10, "no more than a second's worth is saved up");
    }

    #[test]
    fn bytes_are_counted_apart_from_messages_and_slots_apart_from_each_other() {
        let wheel = Wheel::new(Instant::now());
        let mut meter = Meter::new(Rates { messages: Some(3), bytes: Some(100) });
        meter.reset(0, wheel.now());
        meter.reset(5, wheel.now());
        assert!(meter.take(0, 60, wheel.now()) && !meter.take(0, 60, wheel.now()));
        assert!((0..3).all(|_| meter.take(5, 0, wheel.now())) && !meter.take(5, 0, wheel.now()));
    }
}

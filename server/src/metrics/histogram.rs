//! How long something took, in buckets that double.

use std::{fmt, ops::AddAssign, time::Duration};

/// Bounds of 1 us, 2 us, 4 us and so on, up to 16.8 s, and one bucket beyond.
const BUCKETS: usize = 26;

/// How often something took how long. To record is an addition.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum_nanoseconds: u64,
}

impl Histogram {
    #[inline]
    pub(crate) fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // The least power of two that is not below.
        let bits = u64::BITS - nanoseconds.div_ceil(1000).saturating_sub(1).leading_zeros();
        self.counts[(bits as usize).min(BUCKETS - 1)] += 1;
        self.sum_nanoseconds = self.sum_nanoseconds.saturating_add(nanoseconds);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long they took together.
    pub const fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanoseconds)
    }

    /// The buckets: the longest duration that counts in each, `None` for any, and how many there were
    /// that were longer than in the bucket before.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        self.counts.iter().enumerate().map(|(at, count)| {
            let bound = (at < BUCKETS - 1).then(|| Duration::from_micros(1 << at));
            (bound, *count)
        })
    }
}

impl AddAssign for Histogram {
    fn add_assign(&mut self, other: Self) {
        for (own, other) in self.counts.iter_mut().zip(other.counts) {
            *own += other;
        }
        self.sum_nanoseconds = self.sum_nanoseconds.saturating_add(other.sum_nanoseconds);
    }
}

/// The buckets that have a count.
impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets = self.buckets().filter(|(_, count)| *count > 0);
        f.debug_map().entries(buckets).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_is_not_shorter() {
        for (nanoseconds, bound) in [
            (0, Some(1)),
            (1000, Some(1)),
            (1001, Some(2)),
            (2000, Some(2)),
            (2001, Some(4)),
            (1_000_000, Some(1024)),
            (1_024_000, Some(1024)),
            (1_024_001, Some(2048)),
            (16_777_216_000, Some(1 << 24)),
            (16_777_216_001, None),
            (u64::MAX, None),
        ] {
            let mut histogram = Histogram::default();
            histogram.record(Duration::from_nanos(nanoseconds));
            let counted: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(bound.map(Duration::from_micros), 1)], "{nanoseconds} ns");
            assert_eq!(histogram.sum(), Duration::from_nanos(nanoseconds));
        }
    }

    #[test]
    fn the_longest_duration_is_counted_and_the_sum_does_not_wrap() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        let other = histogram;
        histogram += other;
        assert_eq!((histogram.count(), histogram.sum()), (2, Duration::from_nanos(u64::MAX)));
    }
}

//! Every slot once, spread over a window of time, in an order that looks random and takes no memory.

use std::time::{Duration, Instant};

/// Walks the indices below a number with a stride that has no divisor in common with it: so each is
/// met once. The stride is near the golden section of the number, so that neighbours, which came at
/// about the same time, are met far from each other, and those of any range evenly over the window.
#[derive(Debug)]
pub(crate) struct Spread {
    count: u32,
    stride: u32,
    /// The next index, once it is due.
    index: u32,
    met: u32,
    start: Instant,
    window: Duration,
}

/// The golden section of 2^32.
const GOLDEN: u64 = 0x9e37_79b9;

impl Spread {
    /// Over the indices below `count`, which is at most
    /// [`SLOTS_MAX`](super::slots::SLOTS_MAX).
    pub(crate) fn new(count: usize, start: Instant, window: Duration) -> Self {
        let count = count as u32;
        Self { count, stride: stride(count), index: 0, met: 0, start, window }
    }

    /// The next index, if it is due: they are due at even distances, the first at the start.
    pub(crate) fn next(&mut self, now: Instant) -> Option<usize> {
        if self.due_at()? > now {
            return None;
        }
        let index = self.index;
        self.met += 1;
        self.index = (index + self.stride) % self.count;
        Some(index as usize)
    }

    /// When the next index is due; `None` once all were met.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        (self.met < self.count).then(|| self.start + self.window * self.met / self.count)
    }
}

fn stride(count: u32) -> u32 {
    let golden = ((u64::from(count) * GOLDEN) >> 32) as u32;
    // It ends at `count - 1` at the latest, and long before that.
    (golden..).find(|&stride| greatest_common_divisor(stride, count) == 1).unwrap_or(1)
}

const fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
mod tests {
    use super::*;
    use crate::parts::slots::SLOTS_MAX;

    const WINDOW: Duration = Duration::from_secs(10);

    fn order(count: usize) -> Vec<usize> {
        let start = Instant::now();
        let mut spread = Spread::new(count, start, WINDOW);
        std::iter::from_fn(|| spread.next(start + WINDOW)).collect()
    }

    #[test]
    fn each_index_is_met_once() {
        let counts = (0..=600).chain([4096, 10_000, 65_535, 65_536, 99_991, 1_000_000]);
        for count in counts {
            let mut met = order(count);
            met.sort_unstable();
            assert!(met.into_iter().eq(0..count), "{count}");
        }
    }

    #[test]
    fn the_most_slots_have_a_stride_that_meets_each_once() {
        for count in SLOTS_MAX as u32 - 100..=SLOTS_MAX as u32 {
            let stride = stride(count);
            assert!(stride < count && greatest_common_divisor(stride, count) == 1, "{count}");
            // The sum of an index and the stride has to fit.
            assert!(count.checked_add(stride).is_some());
        }
    }

    #[test]
    fn those_of_any_range_are_met_evenly_over_the_window() {
        for count in [1000, 1024, 2310, 9973, 10_000, 30_030, 65_536] {
            let order = order(count);
            for tenth in order.chunks_exact(count / 10) {
                for from in (0..count).step_by(count / 10).take(10) {
                    let range = from..from + count / 10;
                    let met = tenth.iter().filter(|index| range.contains(index)).count();
                    let even = count / 100;
                    assert!(met.abs_diff(even) <= even / 5 + 2, "{met} of {even}, {count}");
                }
            }
        }
    }

    #[test]
    fn they_are_due_at_even_distances_and_the_last_before_the_end() {
        let start = Instant::now();
        let mut spread = Spread::new(4, start, WINDOW);
        let mut due = Vec::new();
        while let Some(at) = spread.due_at() {
            due.push((at - start).as_millis());
            if at > start {
                assert_eq!(spread.next(at - Duration::from_nanos(1)), None);
            }
            assert!(spread.next(at).is_some());
        }
        assert_eq!(due, [0, 2500, 5000, 7500]);
        assert_eq!(spread.next(start + WINDOW), None);
    }

    #[test]
    fn without_a_window_all_are_due_at_once_and_a_long_one_does_not_overflow() {
        let start = Instant::now();
        let mut spread = Spread::new(3, start, Duration::ZERO);
        assert_eq!(std::iter::from_fn(|| spread.next(start)).count(), 3);
        let day = Duration::from_secs(24 * 60 * 60);
        let mut spread = Spread::new(SLOTS_MAX, start, day);
        spread.met = SLOTS_MAX as u32 - 1;
        assert!(spread.due_at().is_some_and(|at| at < start + day));
        assert!(spread.next(start + day).is_some());
        assert_eq!(spread.due_at(), None);
    }
}

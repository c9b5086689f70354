//! Whether numbered messages came once and in order.

use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    ops::{AddAssign, Range},
};

/// Which of the messages 0, 1, 2 and so on came. One line of sixteen bytes as long as all do.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    /// After the highest that came.
    next: u64,
    trouble: Option<Box<Trouble>>,
}

#[derive(Debug, Default)]
struct Trouble {
    /// What lies before `next` and did not come, in order.
    missing: VecDeque<Range<u64>>,
    /// Of ranges that are no longer kept.
    lost: u64,
    duplicated: u64,
    reordered: u64,
}

/// What did not come once and in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Never came.
    pub(crate) lost: u64,
    /// Came again.
    pub(crate) duplicated: u64,
    /// Came after a later one.
    pub(crate) reordered: u64,
}

impl Faults {
    pub(crate) const fn sum(&self) -> u64 {
        self.lost + self.duplicated + self.reordered
    }
}

/// What is missing is kept in so many ranges at most; of older ones, a message that comes after all is
/// taken for a duplicate.
const RANGES_MAX: usize = 1024;

impl Sequence {
    /// A message came; whether it came for the first time.
    #[inline]
    pub(crate) fn take(&mut self, number: u64) -> bool {
        if number == self.next {
            self.next += 1;
            return true;
        }
        self.take_out_of_order(number)
    }

    #[cold]
    fn take_out_of_order(&mut self, number: u64) -> bool {
        let trouble = self.trouble.get_or_insert_default();
        if number > self.next {
            trouble.missing.push_back(self.next..number);
            self.next = number + 1;
            trouble.forget();
            return true;
        }
        let index = trouble.missing.partition_point(|range| range.end <= number);
        match trouble.missing.get_mut(index) {
            Some(range) if range.contains(&number) => {
                let after = number + 1..range.end;
                range.end = number;
                if range.is_empty() {
                    trouble.missing.remove(index);
                }
                if !after.is_empty() {
                    let at = trouble.missing.partition_point(|range| range.end <= number);
                    trouble.missing.insert(at, after);
                    trouble.forget();
                }
                trouble.reordered += 1;
                true
            }
            _ => {
                trouble.duplicated += 1;
                false
            }
        }
    }

    /// What went wrong with so many messages, of which no more will come.
    pub(crate) fn faults(&self, published: u64) -> Faults {
        let mut faults = Faults { lost: published.saturating_sub(self.next), ..Faults::default() };
        if let Some(trouble) = &self.trouble {
            let missing = trouble.missing.iter().map(|range| range.end - range.start).sum::<u64>();
            faults.lost += trouble.lost + missing;
            (faults.duplicated, faults.reordered) = (trouble.duplicated, trouble.reordered);
        }
        faults
    }
}

impl Trouble {
    fn forget(&mut self) {
        if self.missing.len() > RANGES_MAX
            && let Some(range) = self.missing.pop_front()
        {
            self.lost += range.end - range.start;
        }
    }
}

impl Faults {
    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: &[u64], published: u64) -> (u64, u64, u64) {
        let mut sequence = Sequence::default();
        for number in numbers {
            sequence.take(*number);
        }
        let Faults { lost, duplicated, reordered } = sequence.faults(published);
        (lost, duplicated, reordered)
    }

    #[test]
    fn what_comes_once_and_in_order_is_no_fault() {
        assert_eq!(faults(&[0, 1, 2, 3], 4), (0, 0, 0));
        assert_eq!(faults(&[], 0), (0, 0, 0));
        assert_eq!(size_of::<Sequence>(), 16);
    }

    #[test]
    fn what_never_comes_is_lost_wherever_it_was() {
        assert_eq!(faults(&[1, 2, 5], 8), (5, 0, 0));
        assert_eq!(faults(&[], 3), (3, 0, 0));
    }

    #[test]
    fn what_comes_again_is_a_duplicate_and_counts_once() {
        assert_eq!(faults(&[0, 0, 1, 2, 1, 1], 3), (0, 3, 0));
        let mut sequence = Sequence::default();
        assert!(sequence.take(3) && !sequence.take(3) && sequence.take(1) && !sequence.take(1));
    }

    #[test]
    fn what_comes_after_a_later_one_is_reordered_and_not_lost() {
        assert_eq!(faults(&[0, 2, 1, 3], 4), (0, 0, 1));
        assert_eq!(faults(&[9, 4, 0, 8, 5], 10), (5, 0, 4));
        assert_eq!(faults(&[3, 2, 1, 0], 4), (0, 0, 3));
        assert_eq!(faults(&[3, 0, 1, 2, 0], 4), (0, 1, 3));
    }

    #[test]
    fn ranges_are_bounded_and_what_was_missing_in_them_stays_lost() {
        let ranges = RANGES_MAX as u64 + 10;
        let numbers: Vec<u64> = (1..=ranges).map(|number| number * 2).collect();
        let mut sequence = Sequence::default();
        for number in &numbers {
            sequence.take(*number);
        }
        assert_eq!(sequence.trouble.as_ref().unwrap().missing.len(), RANGES_MAX);
        // 0 and 1 are one range, then each odd number is.
        assert_eq!(sequence.faults(ranges * 2 + 1).lost, ranges + 1);
        assert!(!sequence.take(0) && sequence.take(ranges * 2 - 1));
        let faults = sequence.faults(ranges * 2 + 1);
        assert_eq!(faults, Faults { lost: ranges, duplicated: 1, reordered: 1 });
    }
}

//! What is published, and whether each reader got all of it in order.

use std::{ops::AddAssign, time::Duration};

/// What each payload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// 0 for the first message of a run.
    pub(super) number: u64,
    /// When it was due, since the run began; to the nanosecond.
    pub(super) due: Duration,
}

pub(super) const STAMP_BYTES: usize = 16;

impl Stamp {
    /// Overwrites the start of a payload that has at least [`STAMP_BYTES`].
    pub(super) fn write(self, payload: &mut [u8]) {
        let nanoseconds = u64::try_from(self.due.as_nanos()).unwrap_or(u64::MAX);
        payload[..8].copy_from_slice(&self.number.to_be_bytes());
        payload[8..STAMP_BYTES].copy_from_slice(&nanoseconds.to_be_bytes());
    }

    /// The stamp of a payload; `None` if it is too short for one.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (number, rest) = payload.split_first_chunk()?;
        let nanoseconds = u64::from_be_bytes(*rest.first_chunk()?);
        Some(Self { number: u64::from_be_bytes(*number), due: Duration::from_nanos(nanoseconds) })
    }
}

/// What one reader has received, against what was published.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    next: u64,
    faults: Faults,
}

/// What was not delivered once and in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    /// Messages that did not come, or not before a later one.
    pub(super) missing: u64,
    /// Messages that came again, or after a later one.
    pub(super) stray: u64,
}

impl Sequence {
    /// A message came.
    pub(super) fn take(&mut self, number: u64) {
        match number.checked_sub(self.next) {
            Some(skipped) => {
                self.faults.missing += skipped;
                self.next = number + 1;
            }
            None => self.faults.stray += 1,
        }
    }

    /// Whether the last of so many messages came.
    pub(super) const fn is_complete(&self, published: u64) -> bool {
        self.next >= published
    }

    /// Nothing more of so many messages will come: what went wrong since this was asked last.
    pub(super) fn settle(&mut self, published: u64) -> Faults {
        self.faults.missing += published.saturating_sub(self.next);
        self.next = self.next.max(published);
        std::mem::take(&mut self.faults)
    }
}

impl Faults {
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.stray += other.stray;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: &[u64], published: u64) -> Faults {
        let mut sequence = Sequence::default();
        numbers.iter().for_each(|number| sequence.take(*number));
        sequence.settle(published)
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written_whatever_follows() {
        let stamp = Stamp { number: 7 << 40, due: Duration::from_nanos(1_234_567_890_123) };
        let mut payload = [9; STAMP_BYTES + 3];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(payload[STAMP_BYTES..], [9; 3]);
        assert_eq!(Stamp::read(&payload[..STAMP_BYTES]), Some(stamp));
        assert_eq!(Stamp::read(&payload[..STAMP_BYTES - 1]), None);
        assert_eq!(Stamp::read(b"short"), None);
    }

    #[test]
    fn what_is_missing_at_the_start_inside_or_at_the_end_is_counted() {
        assert!(faults(&[0, 1, 2], 3).is_none());
        assert_eq!(faults(&[2, 3], 4), Faults { missing: 2, stray: 0 });
        assert_eq!(faults(&[0, 3], 4), Faults { missing: 2, stray: 0 });
        assert_eq!(faults(&[0, 1], 4), Faults { missing: 2, stray: 0 });
        assert_eq!(faults(&[], 4), Faults { missing: 4, stray: 0 });
    }

    #[test]
    fn what_comes_twice_or_too_late_is_counted() {
        assert_eq!(faults(&[0, 1, 1, 2], 3), Faults { missing: 0, stray: 1 });
        assert_eq!(faults(&[0, 2, 1], 3), Faults { missing: 1, stray: 1 });
    }

    #[test]
    fn a_sequence_is_complete_with_the_last_message_and_each_fault_is_told_once() {
        let mut sequence = Sequence::default();
        assert!(sequence.is_complete(0) && !sequence.is_complete(1));
        sequence.take(1);
        assert!(sequence.is_complete(2));
        assert_eq!(sequence.settle(3), Faults { missing: 2, stray: 0 });
        sequence.take(3);
        assert!(sequence.settle(4).is_none());
    }
}

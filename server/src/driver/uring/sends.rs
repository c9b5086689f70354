//! The sends of one wait, and what was left over of them.

use super::KEPT;
use crate::parts::slots::SlotId;
use std::collections::VecDeque;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Sends {
    /// What was handed over in this wait, by place.
    all: Vec<(SlotId, usize)>,
    shorts: VecDeque<(SlotId, usize)>,
    /// All bytes that the kernel took since the start.
    pub(super) bytes: u64,
}

impl Sends {
    /// The wait is over: completions tell of those of the next one.
    pub(super) fn begin(&mut self) {
        self.all.clear();
    }

    /// Gives back what only many sends at once need.
    pub(super) fn trim(&mut self) {
        self.all.shrink_to(KEPT);
        self.shorts.shrink_to(KEPT);
    }

    /// The place of a send that is about to be handed over. It counts as taken, until it is said
    /// otherwise.
    #[inline]
    pub(super) fn add(&mut self, id: SlotId, len: usize) -> usize {
        self.bytes += len as u64;
        self.all.push((id, len));
        self.all.len() - 1
    }

    /// What was left over in one place; `None` if it is not of this wait.
    pub(super) fn correct(&mut self, place: usize, sent: usize) -> Option<SlotId> {
        let (id, len) = *self.all.get(place)?;
        self.bytes -= (len - sent.min(len)) as u64;
        Some(id)
    }

    pub(super) fn push_short(&mut self, id: SlotId, sent: usize) {
        self.shorts.push_back((id, sent));
    }

    pub(super) fn next_short(&mut self) -> Option<(SlotId, usize)> {
        self.shorts.pop_front()
    }

    pub(super) fn has_shorts(&self) -> bool {
        !self.shorts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_many_sends_at_once_need_is_given_back() {
        let mut sends = Sends::default();
        for index in 0..100_000 {
            let place = sends.add(SlotId::new(index, 1), 10);
            let id = sends.correct(place, 4).unwrap();
            sends.push_short(id, 4);
        }
        sends.begin();
        while sends.next_short().is_some() {}
        sends.trim();
        assert!(sends.all.capacity() <= KEPT && sends.shorts.capacity() <= KEPT);
        assert_eq!(sends.bytes, 400_000);
    }
}

//! Who is to be passed over, in which bytes.

use std::{collections::HashMap, ops::Range};

/// Ranges by slot, each in the order it was added. Clearing keeps the memory.
#[derive(Debug, Default)]
pub(super) struct Skips {
    /// The first and the last range of a slot.
    ends: HashMap<usize, (usize, usize)>,
    ranges: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    range: Range<usize>,
    /// The messages in it.
    messages: u64,
    next: Option<usize>,
}

impl Skips {
    /// Adds a range of so many messages behind those that the slot has.
    pub(super) fn add(&mut self, slot: usize, range: Range<usize>, messages: u64) {
        let new = self.push(range, messages);
        let (_, last) = self.ends.entry(slot).or_insert((new, new));
        let last = std::mem::replace(last, new);
        if last != new {
            self.ranges[last].next = Some(new);
        }
    }

    /// Makes a range the only one of a slot.
    pub(super) fn replace(&mut self, slot: usize, range: Range<usize>, messages: u64) {
        let new = self.push(range, messages);
        self.ends.insert(slot, (new, new));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(super) fn of_slot(&self, slot: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        self.links(slot).map(|link| link.range.clone())
    }

    /// How many messages the slot does not get.
    pub(super) fn messages_of_slot(&self, slot: usize) -> u64 {
        self.links(slot).map(|link| link.messages).sum()
    }

    fn links(&self, slot: usize) -> impl Iterator<Item = &Link> + '_ {
        // Nearly always there are none, and nothing is hashed.
        let first = if self.ends.is_empty() { None } else { self.ends.get(&slot) };
        std::iter::successors(first.map(|(first, _)| *first), |at| self.ranges[*at].next)
            .map(|at| &self.ranges[at])
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
        self.ranges.clear();
    }

    fn push(&mut self, range: Range<usize>, messages: u64) -> usize {
        self.ranges.push(Link { range, messages, next: None });
        self.ranges.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_its_ranges_in_order_until_they_are_replaced() {
        let mut skips = Skips::default();
        skips.add(1, 0..2, 1);
        skips.add(2, 2..4, 1);
        skips.add(1, 4..6, 1);
        skips.add(1, 6..8, 1);
        assert_eq!(skips.of_slot(1).collect::<Vec<_>>(), [0..2, 4..6, 6..8]);
        assert!(skips.of_slot(2).eq(std::iter::once(2..4)));
        assert_eq!([1, 2, 3].map(|slot| skips.messages_of_slot(slot)), [3, 1, 0]);
        skips.replace(1, 0..8, 4);
        skips.add(1, 8..9, 1);
        assert_eq!(skips.of_slot(1).collect::<Vec<_>>(), [0..8, 8..9]);
        assert_eq!(skips.messages_of_slot(1), 5);
        skips.clear();
        assert_eq!(skips.of_slot(1).count(), 0);
    }
}

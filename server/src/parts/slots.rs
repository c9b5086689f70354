//! Slots that are used again, under ids that are not.

use std::ops::Range;

/// The most slots of one table: what 24 bits of a connection id can number.
pub(crate) const SLOTS_MAX: usize = 1 << 24;

/// Slots that vectors by slot have room for from the start. It costs nothing until it is used, and
/// makes them large enough to be mapped, not to be a part of the heap: then they grow in place, and
/// leave no holes.
pub(crate) const SLOTS_RESERVED: usize = 1 << 14;

/// Names one use of a slot; a later use of the same slot has another generation.
///
/// Generations come back after 2^32 - 1 uses of one slot: weeks, at the rate a slot can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(unreachable_pub, reason = "public with the feature `driver`")]
pub struct SlotId {
    index: u32,
    generation: u32,
}

#[allow(unreachable_pub, reason = "public with the feature `driver`")]
impl SlotId {
    /// A slot, below 2^24, and which use of it this is, never 0.
    pub const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// Where it is in the table; below 2^24.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// Never 0.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

/// A vector of slots with ids that are safe to keep after their slot is gone.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Vec<Entry<T>>,
    /// The slot that the next insert uses, or the length if none is free.
    free: u32,
    len: usize,
}

/// A slot in one cache line, if it fits: the generation lies with the value.
#[derive(Debug)]
#[repr(align(64))]
struct Entry<T> {
    /// The generation of the value, or of the next one.
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Used(T),
    /// What `free` was before.
    Free(u32),
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), free: 0, len: 0 }
    }

    /// With room for [`SLOTS_RESERVED`].
    pub(crate) fn reserved() -> Self {
        Self { entries: Vec::with_capacity(SLOTS_RESERVED), free: 0, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// How many slots there ever were at once: their indices are below.
    pub(crate) const fn bound(&self) -> usize {
        self.entries.len()
    }

    /// The id of the new slot; gives `value` back when all slots are taken.
    pub(crate) fn insert(&mut self, value: T) -> Result<SlotId, T> {
        if self.len == SLOTS_MAX {
            return Err(value);
        }
        let index = self.free;
        if index as usize == self.entries.len() {
            self.entries.push(Entry { generation: 1, content: Content::Free(index + 1) });
        }
        let entry = &mut self.entries[index as usize];
        if let Content::Free(next) = std::mem::replace(&mut entry.content, Content::Used(value)) {
            self.free = next;
        }
        self.len += 1;
        Ok(SlotId::new(index, entry.generation))
    }

    /// The id of the slot that is in use at an index.
    pub(crate) fn id_at(&self, index: usize) -> Option<SlotId> {
        let entry = self.entries.get(index)?;
        match entry.content {
            Content::Used(_) => Some(SlotId::new(index as u32, entry.generation)),
            Content::Free(_) => None,
        }
    }

    /// The indices that were ever used.
    pub(crate) const fn indices(&self) -> Range<usize> {
        0..self.entries.len()
    }

    /// What is in use among some of [`Slots::indices`].
    pub(crate) fn used(&self, indices: Range<usize>) -> impl Iterator<Item = &T> + '_ {
        self.entries[indices].iter().filter_map(|entry| match &entry.content {
            Content::Used(value) => Some(value),
            Content::Free(_) => None,
        })
    }

    /// The slot that is in use at an index, with its id.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: usize) -> Option<(SlotId, &mut T)> {
        match self.entries.get_mut(index)? {
            Entry { generation, content: Content::Used(value) } => {
                Some((SlotId::new(index as u32, *generation), value))
            }
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: SlotId) -> Option<&T> {
        match self.entries.get(id.index())? {
            Entry { generation, content: Content::Used(value) } if *generation == id.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: SlotId) -> Option<&mut T> {
        match self.entries.get_mut(id.index())? {
            Entry { generation, content: Content::Used(value) } if *generation == id.generation => {
                Some(value)
            }
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, id: SlotId) -> Option<T> {
        self.get(id)?;
        let entry = &mut self.entries[id.index()];
        entry.generation = id.generation.checked_add(1).unwrap_or(1);
        let content = std::mem::replace(&mut entry.content, Content::Free(self.free));
        self.free = id.index;
        self.len -= 1;
        match content {
            Content::Used(value) => Some(value),
            Content::Free(_) => None,
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SlotId> + '_ {
        (0..self.entries.len()).filter_map(|index| self.id_at(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_stale_id_finds_nothing_after_its_slot_is_used_again() {
        let mut slots = Slots::new();
        let first = slots.insert("first").unwrap();
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second").unwrap();
        assert_eq!(first.index(), second.index());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
    }

    #[test]
    fn a_generation_that_wraps_skips_zero() {
        let mut slots = Slots::new();
        let id = slots.insert(()).unwrap();
        slots.remove(id);
        slots.entries[0].generation = u32::MAX;
        let last = slots.insert(()).unwrap();
        assert_eq!(last.generation(), u32::MAX);
        slots.remove(last);
        assert_eq!(slots.insert(()).unwrap().generation(), 1);
    }

    proptest! {
        #[test]
        fn ids_behave_like_keys_of_a_map_that_are_never_used_twice(
            operations in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..400),
        ) {
            let (mut slots, mut oracle, mut all) = (Slots::new(), HashMap::new(), Vec::new());
            for (number, (insert, pick)) in operations.into_iter().enumerate() {
                if insert || all.is_empty() {
                    let id = slots.insert(number).unwrap();
                    prop_assert!(oracle.insert(id, number).is_none());
                    all.push(id);
                } else {
                    let id = all[pick.index(all.len())];
                    prop_assert_eq!(slots.remove(id), oracle.remove(&id));
                }
                prop_assert_eq!(slots.len(), oracle.len());
                for id in &all {
                    prop_assert_eq!(slots.get(*id), oracle.get(id));
                }
            }
            let mut ids: Vec<_> = slots.ids().map(|id| (id, *slots.get(id).unwrap())).collect();
            let mut expected: Vec<_> = oracle.into_iter().collect();
            ids.sort_by_key(|(_, number)| *number);
            expected.sort_by_key(|(_, number)| *number);
            prop_assert_eq!(ids, expected);
        }
    }
}

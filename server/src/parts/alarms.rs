//! The timers that handlers set: any number of keys a slot, none for those who set none.

use super::{slots::SlotId, timer::Wheel};
use slab::Slab;
use std::time::Instant;

/// Timers by slot and key, in a wheel of their own.
#[derive(Debug)]
pub(crate) struct Alarms {
    start: Instant,
    /// Made with the first timer.
    wheel: Option<Box<Wheel>>,
    alarms: Slab<Alarm>,
    /// The first alarm of each slot.
    first: Vec<u32>,
}

#[derive(Debug)]
struct Alarm {
    owner: SlotId,
    key: u16,
    /// The next alarm of the same slot.
    next: u32,
}

const NONE: u32 = u32::MAX;

impl Alarms {
    pub(crate) const fn new(start: Instant) -> Self {
        Self { start, wheel: None, alarms: Slab::new(), first: Vec::new() }
    }

    /// Sets the timer of a slot and key, or moves it.
    pub(crate) fn set(&mut self, owner: SlotId, key: u16, deadline: Instant) {
        let index = self.find(owner, key).unwrap_or_else(|| self.add(owner, key));
        let start = self.start;
        self.wheel.get_or_insert_with(|| Box::new(Wheel::new(start))).arm(index, deadline);
    }

    /// Whether the timer was set.
    pub(crate) fn clear(&mut self, owner: SlotId, key: u16) -> bool {
        let Some(index) = self.find(owner, key) else { return false };
        self.remove(index);
        true
    }

    /// Clears all timers of a slot.
    pub(crate) fn clear_all(&mut self, owner: SlotId) {
        while let Some(&index) = self.first.get(owner.index()).filter(|index| **index != NONE) {
            self.remove(index as usize);
        }
    }

    /// Takes a timer whose deadline has passed, and when that was; to be asked until `None`.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<(SlotId, u16, Instant)> {
        let wheel = self.wheel.as_mut()?;
        let index = wheel.expired(now)?;
        let due_at = wheel.due_at();
        let (owner, key) = self.remove(index);
        Some((owner, key, due_at))
    }

    /// How many timers are set.
    #[cfg(feature = "sim")]
    pub(crate) fn len(&self) -> usize {
        self.alarms.len()
    }

    /// When the first may be due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.wheel.as_ref()?.next()
    }

    fn find(&self, owner: SlotId, key: u16) -> Option<usize> {
        let mut at = *self.first.get(owner.index())?;
        while let Some(alarm) = self.alarms.get(at as usize) {
            if alarm.key == key {
                return Some(at as usize);
            }
            at = alarm.next;
        }
        None
    }

    fn add(&mut self, owner: SlotId, key: u16) -> usize {
        if self.first.len() <= owner.index() {
            self.first.resize(owner.index() + 1, NONE);
        }
        let next = self.first[owner.index()];
        let index = self.alarms.insert(Alarm { owner, key, next });
        self.first[owner.index()] = index as u32;
        index
    }

    fn remove(&mut self, index: usize) -> (SlotId, u16) {
        if let Some(wheel) = &mut self.wheel {
            wheel.disarm(index);
        }
        let Alarm { owner, key, next } = self.alarms.remove(index);
        let mut at = self.first[owner.index()];
        if at == index as u32 {
            self.first[owner.index()] = next;
        }
        while let Some(before) = self.alarms.get_mut(at as usize) {
            at = before.next;
            if at == index as u32 {
                before.next = next;
            }
        }
        (owner, key)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
mod tests {
    use super::*;
    use crate::parts::timer::TICK;
    use proptest::prelude::*;
    use std::{collections::BTreeMap, time::Duration};

    #[derive(Clone, Debug)]
    enum Operation {
        Set(u32, u16, u64),
        Clear(u32, u16),
        ClearAll(u32),
        Advance(u64),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            5 => (0u32..8, 0u16..4, 0u64..3_000).prop_map(|(slot, key, at)| Operation::Set(slot, key, at)),
            2 => (0u32..8, 0u16..4).prop_map(|(slot, key)| Operation::Clear(slot, key)),
            1 => (0u32..8).prop_map(Operation::ClearAll),
            3 => (0u64..2_000).prop_map(Operation::Advance),
        ]
    }

    proptest! {
        #[test]
        fn each_slot_and_key_has_one_timer_like_an_entry_of_a_map(
            operations in prop::collection::vec(operation(), 1..200),
        ) {
            let start = Instant::now();
            let at = |milliseconds| start + Duration::from_millis(milliseconds);
            let tick = TICK.as_millis() as u64;
            let id = |slot| SlotId::new(slot, 1);
            let (mut alarms, mut oracle, mut now) = (Alarms::new(start), BTreeMap::new(), 0);
            prop_assert_eq!(alarms.next(), None);
            for operation in operations {
                match operation {
                    Operation::Set(slot, key, after) => {
                        alarms.set(id(slot), key, at(now + after));
                        let due = (now + after).div_ceil(tick);
                        oracle.insert((slot, key), due);
                    }
                    Operation::Clear(slot, key) => {
                        let was = oracle.remove(&(slot, key)).is_some();
                        prop_assert_eq!(alarms.clear(id(slot), key), was);
                    }
                    Operation::ClearAll(slot) => {
                        alarms.clear_all(id(slot));
                        oracle.retain(|(other, _), _| *other != slot);
                    }
                    Operation::Advance(by) => {
                        now += by;
                        let mut due: Vec<_> = std::iter::from_fn(|| alarms.expired(at(now)))
                            .map(|(owner, key, _)| (owner.index() as u32, key))
                            .collect();
                        due.sort_unstable();
                        // What was set for a tick that is over is due with the next one: the
                        // oracle lets it be due in either.
                        for key in &due {
                            prop_assert!(oracle.remove(key).is_some_and(|at| at <= now / tick));
                        }
                        prop_assert!(oracle.values().all(|at| *at + 1 >= now / tick));
                    }
                }
                prop_assert_eq!(alarms.alarms.len(), oracle.len());
                prop_assert_eq!(alarms.next().is_some(), !oracle.is_empty());
            }
        }
    }
}

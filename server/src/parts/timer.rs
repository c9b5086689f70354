//! The timers of a worker: one for each slot, armed and disarmed in constant time.
//!
//! A hashed wheel: a ring of buckets, a tick each, and a list of slots in every bucket. A deadline
//! beyond one turn of the ring stays in its bucket for as many turns as it takes, and is passed over
//! once a turn. A hierarchy of rings would move a whole bucket of a coarse ring at once, which is a
//! pause of tens of milliseconds with a million connections; here the work of a tick is what is due
//! in it.

use super::slots::SLOTS_RESERVED;
use std::time::{Duration, Instant};

/// The length of a tick: deadlines are rounded up to it.
pub(crate) const TICK: Duration = Duration::from_millis(8);
/// Buckets of the ring: a turn takes 131 seconds, beyond most timeouts, and 64 KiB.
const BUCKETS: usize = 1 << 14;

/// A deadline in ticks since the wheel was made. It wraps after a year, and the order of two is
/// right as long as they are less than half of that apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick(u32);

impl Tick {
    /// The time since an earlier tick, to the tick.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        TICK * self.0.wrapping_sub(earlier.0)
    }

    /// The same in ticks.
    pub(crate) const fn ticks_since(self, earlier: Self) -> u64 {
        self.0.wrapping_sub(earlier.0) as u64
    }

    const fn is_after(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) as i32 > 0
    }

    const fn bucket(self) -> usize {
        self.0 as usize % BUCKETS
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Wheel {
    start: Instant,
    /// The tick that is being expired: all before it are done.
    current: Tick,
    current_at: Instant,
    now: Tick,
    buckets: Box<[Link]>,
    occupied: Bitmap,
    nodes: Vec<Node>,
    /// What `expired` has passed over in the bucket of `current`.
    passed: Link,
}

/// A slot's place in the list of a bucket.
#[derive(Clone, Copy, Debug)]
struct Node {
    expires: Tick,
    next: Link,
    /// The slot before, or the bucket if there is none.
    back: Back,
}

/// The index of a slot, or [`NONE`].
type Link = u32;

const NONE: Link = u32::MAX;

/// The index of a slot, the number of a bucket above [`IS_BUCKET`], or [`UNARMED`].
type Back = u32;

const IS_BUCKET: u32 = 1 << 31;
const UNARMED: Back = u32::MAX;
/// Stands for the list of those that were passed over, which is no bucket.
const PASSED: Back = IS_BUCKET + BUCKETS as u32;

impl Wheel {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            start: now,
            current: Tick(0),
            current_at: now,
            now: Tick(0),
            buckets: vec![NONE; BUCKETS].into_boxed_slice(),
            occupied: Bitmap::new(),
            nodes: Vec::with_capacity(SLOTS_RESERVED),
            passed: NONE,
        }
    }

    /// The tick of the last [`Wheel::set_now`]: a time in four bytes.
    #[inline]
    pub(crate) const fn now(&self) -> Tick {
        self.now
    }

    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = self.tick_of(now);
    }

    fn tick_of(&self, instant: Instant) -> Tick {
        let ticks = instant.saturating_duration_since(self.start).as_nanos() / TICK.as_nanos();
        Tick(ticks as u32)
    }

    /// Arms the timer of a slot, or moves it.
    pub(crate) fn arm(&mut self, slot: usize, deadline: Instant) {
        self.disarm(slot);
        if self.nodes.len() <= slot {
            let unarmed = Node { expires: Tick(0), next: NONE, back: UNARMED };
            self.nodes.resize(slot + 1, unarmed);
        }
        let ticks = deadline.saturating_duration_since(self.start).as_nanos();
        let expires = Tick(ticks.div_ceil(TICK.as_nanos()) as u32);
        // What is due already is due in the tick that is next.
        let expires = if self.current.is_after(expires) { self.current } else { expires };
        self.nodes[slot].expires = expires;
        self.link(slot as u32, IS_BUCKET + expires.bucket() as u32);
    }

    /// Disarms the timer of a slot, if it is armed.
    pub(crate) fn disarm(&mut self, slot: usize) {
        let Some(node) = self.nodes.get_mut(slot).filter(|node| node.back != UNARMED) else {
            return;
        };
        let Node { next, back, .. } =
            std::mem::replace(node, Node { expires: node.expires, next: NONE, back: UNARMED });
        if next != NONE {
            self.nodes[next as usize].back = back;
        }
        *self.front_or_next(back) = next;
        if next == NONE && (IS_BUCKET..PASSED).contains(&back) {
            self.occupied.clear((back - IS_BUCKET) as usize);
        }
    }

    /// How many timers are armed. It looks at each slot.
    #[cfg(feature = "sim")]
    pub(crate) fn armed(&self) -> usize {
        self.nodes.iter().filter(|node| node.back != UNARMED).count()
    }

    /// When something may be due: nothing is before that.
    pub(crate) fn next(&self) -> Option<Instant> {
        let from = self.current.bucket();
        let bucket = self.occupied.next_from(from)?;
        let ahead = (bucket + BUCKETS - from) % BUCKETS;
        Some(self.current_at + TICK * ahead as u32)
    }

    /// When the slot was due that was last taken by [`Wheel::expired`].
    pub(crate) const fn due_at(&self) -> Instant {
        self.current_at
    }

    /// Takes a slot whose deadline has passed, and disarms it; to be asked until `None`.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<usize> {
        let now = self.tick_of(now);
        while !self.current.is_after(now) {
            let bucket = self.current.bucket();
            while self.buckets[bucket] != NONE {
                let slot = self.buckets[bucket] as usize;
                let is_due = !self.nodes[slot].expires.is_after(self.current);
                self.disarm(slot);
                if is_due {
                    return Some(slot);
                }
                self.link(slot as u32, PASSED);
            }
            self.put_back(bucket);
            // Empty buckets are passed over a word of the bitmap at a time.
            let ahead = match self.occupied.next_from((bucket + 1) % BUCKETS) {
                Some(next) => (next + BUCKETS - bucket - 1) % BUCKETS + 1,
                None => BUCKETS,
            };
            let until_after_now = now.0.wrapping_sub(self.current.0).saturating_add(1);
            let ahead = (ahead as u32).min(until_after_now);
            self.current = Tick(self.current.0.wrapping_add(ahead));
            self.current_at += TICK * ahead;
        }
        None
    }

    /// Those that were passed over wait for the next turn.
    fn put_back(&mut self, bucket: usize) {
        self.buckets[bucket] = std::mem::replace(&mut self.passed, NONE);
        let first = self.buckets[bucket];
        if first != NONE {
            self.nodes[first as usize].back = IS_BUCKET + bucket as u32;
            self.occupied.set(bucket);
        }
    }

    /// Puts a slot at the front of a list.
    fn link(&mut self, slot: u32, list: Back) {
        let next = std::mem::replace(self.front_or_next(list), slot);
        let node = &mut self.nodes[slot as usize];
        (node.next, node.back) = (next, list);
        if next != NONE {
            self.nodes[next as usize].back = slot;
        }
        if list < PASSED {
            self.occupied.set((list - IS_BUCKET) as usize);
        }
    }

    /// The link that leads to what comes after `back`.
    fn front_or_next(&mut self, back: Back) -> &mut Link {
        match back {
            PASSED => &mut self.passed,
            IS_BUCKET.. => &mut self.buckets[(back - IS_BUCKET) as usize],
            slot => &mut self.nodes[slot as usize].next,
        }
    }
}

/// Which buckets have something.
#[derive(Debug)]
struct Bitmap {
    words: Box<[u64]>,
    /// A bit for each word that is not zero.
    summary: [u64; BUCKETS / 64 / 64],
}

impl Bitmap {
    fn new() -> Self {
        Self { words: vec![0; BUCKETS / 64].into_boxed_slice(), summary: [0; BUCKETS / 64 / 64] }
    }

    fn set(&mut self, bit: usize) {
        self.words[bit / 64] |= 1 << (bit % 64);
        self.summary[bit / 64 / 64] |= 1 << (bit / 64 % 64);
    }

    fn clear(&mut self, bit: usize) {
        let word = &mut self.words[bit / 64];
        *word &= !(1 << (bit % 64));
        if *word == 0 {
            self.summary[bit / 64 / 64] &= !(1 << (bit / 64 % 64));
        }
    }

    /// The first bit that is set, from `from` on and around.
    fn next_from(&self, from: usize) -> Option<usize> {
        let in_word = self.words[from / 64] & (!0 << (from % 64));
        if in_word != 0 {
            return Some(from / 64 * 64 + in_word.trailing_zeros() as usize);
        }
        let after = from / 64 + 1;
        let word = self.word_in(after..BUCKETS / 64).or_else(|| self.word_in(0..after))?;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }

    /// The first word of a range that is not zero.
    fn word_in(&self, range: std::ops::Range<usize>) -> Option<usize> {
        let mut at = range.start;
        while at < range.end {
            let rest = self.summary[at / 64] & (!0 << (at % 64));
            if rest != 0 {
                let word = at / 64 * 64 + rest.trailing_zeros() as usize;
                return (word < range.end).then_some(word);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs an instant to start from")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn expire_all(wheel: &mut Wheel, now: Instant) -> Vec<usize> {
        let mut all: Vec<_> = std::iter::from_fn(|| wheel.expired(now)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_timer_is_due_in_the_tick_after_its_deadline_and_once() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.arm(3, start + TICK * 5 - Duration::from_nanos(1));
        assert_eq!(wheel.next(), Some(start + TICK * 5));
        assert_eq!(wheel.expired(start + TICK * 5 - Duration::from_nanos(1)), None);
        assert_eq!(wheel.expired(start + TICK * 5), Some(3));
        assert_eq!(wheel.expired(start + TICK * 5), None);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_deadline_of_the_past_is_due_at_once() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let now = start + Duration::from_secs(1000);
        assert_eq!(wheel.expired(now), None);
        wheel.arm(0, start);
        assert!(wheel.next().unwrap() <= now + TICK);
        assert_eq!(wheel.expired(now + TICK), Some(0));
    }

    #[test]
    fn a_deadline_many_turns_ahead_is_due_in_its_turn() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let day = Duration::from_secs(24 * 60 * 60);
        wheel.arm(7, start + day);
        let mut now = start;
        while now < start + day {
            assert_eq!(wheel.expired(now), None);
            now = wheel.next().unwrap().max(now + TICK);
        }
        assert_eq!(wheel.expired(now + TICK), Some(7));
    }

    #[test]
    fn ticks_go_on_past_the_end_of_their_number() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let end = TICK * u32::MAX;
        // Within half a range of each other, as in any running server.
        for half in 1..=2 {
            assert_eq!(wheel.expired(start + end / 2 * half), None);
        }
        wheel.arm(1, start + end + TICK * 10);
        assert_eq!(wheel.next(), Some(start + end + TICK * 10));
        assert_eq!(wheel.expired(start + end + TICK * 9), None);
        assert_eq!(wheel.expired(start + end + TICK * 10), Some(1));
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Arm(usize, u64),
        Disarm(usize),
        Advance(u64),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let near = 0u64..2_000;
        let far = 0u64..400_000;
        prop_oneof![
            4 => (0usize..40, prop_oneof![near.clone(), far.clone()])
                .prop_map(|(slot, after)| Operation::Arm(slot, after)),
            1 => (0usize..40).prop_map(Operation::Disarm),
            3 => prop_oneof![4 => 0u64..50, 2 => near, 1 => far].prop_map(Operation::Advance),
        ]
    }

    proptest! {
        #[test]
        fn it_expires_what_a_sorted_map_expires(
            operations in prop::collection::vec(operation(), 1..200),
        ) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start);
            let mut oracle = BTreeMap::new();
            let mut now = 0;
            let at = |milliseconds| start + Duration::from_millis(milliseconds);
            let tick = TICK.as_millis() as u64;
            prop_assert_eq!(wheel.expired(start), None);
            for operation in operations {
                match operation {
                    Operation::Arm(slot, after) => {
                        wheel.arm(slot, at(now + after));
                        // Rounded up to a tick, and to the next one if that was expired before.
                        let due = (now + after).div_ceil(tick).max(now / tick + 1) * tick;
                        oracle.insert(slot, due);
                    }
                    Operation::Disarm(slot) => {
                        wheel.disarm(slot);
                        oracle.remove(&slot);
                    }
                    Operation::Advance(by) => {
                        now += by;
                        let due: Vec<_> =
                            oracle.iter().filter(|(_, due)| **due <= now).map(|(slot, _)| *slot).collect();
                        oracle.retain(|_, due| *due > now);
                        prop_assert_eq!(expire_all(&mut wheel, at(now)), due);
                        let first = oracle.values().min().map(|due| at(*due));
                        match (wheel.next(), first) {
                            (None, None) => {}
                            (Some(next), Some(first)) => prop_assert!(next <= first && next > at(now)),
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                }
            }
        }
    }
}

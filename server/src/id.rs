//! The name of a connection.

use crate::parts::slots::{SLOTS_MAX, SlotId};
use std::{fmt, num::NonZeroU64};

/// Names one connection of a server, for as long as anyone likes to keep it.
///
/// It is small and `Copy`; once its connection is gone, sending to it gives
/// [`SendStatus::Closed`](crate::SendStatus::Closed), and it never names another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(NonZeroU64);

/// The most workers of one server: what 8 bits of an id can number.
pub(crate) const WORKERS_MAX: usize = 1 << 8;

const INDEX_BITS: u32 = SLOTS_MAX.ilog2();

impl ConnId {
    pub(crate) const fn new(worker: u8, slot: SlotId) -> Self {
        let bits =
            (slot.generation() as u64) << 32 | (worker as u64) << INDEX_BITS | slot.index() as u64;
        match NonZeroU64::new(bits) {
            Some(bits) => Self(bits),
            // Generations are never 0.
            None => Self(NonZeroU64::MAX),
        }
    }

    pub(crate) const fn worker(self) -> u8 {
        (self.0.get() >> INDEX_BITS) as u8
    }

    pub(crate) const fn slot(self) -> SlotId {
        let bits = self.0.get();
        SlotId::new(bits as u32 & (SLOTS_MAX as u32 - 1), (bits >> 32) as u32)
    }

    /// A number that is this connection's alone while its server runs: for logs and messages.
    pub const fn as_u64(self) -> u64 {
        self.0.get()
    }
}

/// `WORKER.SLOT.GENERATION`, as it stands in the logs.
impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.slot();
        write!(f, "{}.{}.{}", self.worker(), slot.index(), slot.generation())
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_keeps_its_worker_slot_and_generation(
            worker: u8, index in 0..SLOTS_MAX as u32, generation in 1..=u32::MAX,
        ) {
            let slot = SlotId::new(index, generation);
            let id = ConnId::new(worker, slot);
            prop_assert_eq!((id.worker(), id.slot()), (worker, slot));
        }
    }

    #[test]
    fn an_optional_id_is_eight_bytes() {
        assert_eq!(size_of::<Option<ConnId>>(), 8);
    }
}

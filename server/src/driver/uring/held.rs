//! What came for connections that receive nothing now: it was under way when they were paused.

use crate::parts::slots::SlotId;
use std::collections::{HashMap, VecDeque};

/// What is lent at once.
const PIECE_BYTES: usize = 128 << 10;

/// Bytes of paused connections: of each at most what was received in one wait and the next, which ends it.
#[derive(Default)]
pub(super) struct Held {
    bytes: HashMap<SlotId, Vec<u8>>,
    /// Those that may have them now.
    due: VecDeque<SlotId>,
    lent: Vec<u8>,
}

impl Held {
    pub(super) fn add(&mut self, id: SlotId, bytes: &[u8]) {
        self.bytes.entry(id).or_default().extend_from_slice(bytes);
    }

    /// How many bytes there are, of all of them.
    pub(super) fn len(&self) -> usize {
        self.bytes.values().map(Vec::len).sum()
    }

    /// Gives back what only many connections that are paused at once need.
    pub(super) fn trim(&mut self) {
        self.bytes.shrink_to_fit();
        self.due.shrink_to_fit();
    }

    pub(super) fn remove(&mut self, id: SlotId) {
        self.bytes.remove(&id);
    }

    /// A connection may have what is held for it.
    pub(super) fn release(&mut self, id: SlotId) {
        self.due.push_back(id);
    }

    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// The next one that may have something.
    pub(super) fn next_due(&mut self) -> Option<SlotId> {
        self.due.pop_front()
    }

    /// Whether it gets all at once.
    pub(super) fn is_one_piece(&self, id: SlotId) -> bool {
        self.bytes.get(&id).is_none_or(|bytes| bytes.len() <= PIECE_BYTES)
    }

    /// Frees what was lent last.
    #[inline]
    pub(super) fn end_loan(&mut self) {
        if self.lent.capacity() > 0 {
            self.lent = Vec::new();
        }
    }

    /// What it gets first. It is lent until the next call.
    pub(super) fn take(&mut self, id: SlotId) -> &mut [u8] {
        self.end_loan();
        if let Some(mut bytes) = self.bytes.remove(&id) {
            let rest = bytes.split_off(bytes.len().min(PIECE_BYTES));
            if !rest.is_empty() {
                self.bytes.insert(id, rest);
            }
            self.lent = bytes;
        }
        &mut self.lent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_in_pieces_and_in_order() {
        let mut held = Held::default();
        let (a, b) = (SlotId::new(0, 1), SlotId::new(0, 2));
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n / 5) as u8).collect();
        bytes.chunks(1000).for_each(|chunk| held.add(a, chunk));
        held.add(b, b"of another");
        held.remove(b);
        let mut taken = Vec::new();
        for is_last in [false, false, true] {
            assert_eq!(held.is_one_piece(a), is_last);
            let piece = held.take(a);
            assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES);
            taken.extend_from_slice(piece);
        }
        assert!(taken == bytes);
        assert!(held.take(a).is_empty() && held.take(b).is_empty());
    }
}

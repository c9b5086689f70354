//! The output of one tick: many connections append to one buffer, each sends one piece of it.

use super::slots::SlotId;
use std::{num::NonZeroU32, ops::Range};

/// A piece of an [`Arena`], while it is not cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceId(NonZeroU32);

impl PieceId {
    const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The bytes of a tick in the order they were written, cut into one piece a connection.
///
/// Only the last piece can grow; the buffer stays warm from tick to tick.
#[derive(Debug)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    /// Where the last piece starts.
    last_start: usize,
}

#[derive(Debug)]
struct Piece {
    /// `None` once the piece was taken out.
    owner: Option<SlotId>,
    start: usize,
}

/// Room from the start, which costs nothing until it is used, and makes the buffer large enough to be
/// mapped, not to be a part of the heap: then it grows and shrinks by pages, and no other memory is
/// kept because of where it lies.
const RESERVED_BYTES: usize = 256 << 10;
/// What is left of it after [`Arena::trim`].
const TRIMMED_BYTES: usize = 2 << 10;

impl Arena {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::with_capacity(RESERVED_BYTES), pieces: Vec::new(), last_start: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Starts a piece at the end.
    #[inline]
    pub(crate) fn begin(&mut self, owner: SlotId) -> PieceId {
        self.last_start = self.bytes.len();
        self.pieces.push(Piece { owner: Some(owner), start: self.last_start });
        PieceId(NonZeroU32::new(self.pieces.len() as u32).unwrap_or(NonZeroU32::MAX))
    }

    /// Whether a piece can grow.
    #[inline]
    pub(crate) fn is_last(&self, piece: PieceId) -> bool {
        piece.index() + 1 == self.pieces.len()
    }

    /// Where to append to the last piece.
    #[inline]
    pub(crate) const fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How many bytes a piece has.
    #[inline]
    pub(crate) fn piece_len(&self, piece: PieceId) -> usize {
        if self.is_last(piece) {
            self.bytes.len() - self.last_start
        } else {
            self.range(piece.index()).len()
        }
    }

    /// The bytes of a piece.
    pub(crate) fn piece(&self, piece: PieceId) -> &[u8] {
        &self.bytes[self.range(piece.index())]
    }

    /// Takes a piece out: its bytes will not be among [`Arena::pieces`].
    pub(crate) fn remove(&mut self, piece: PieceId) {
        if let Some(piece) = self.pieces.get_mut(piece.index()) {
            piece.owner = None;
        }
    }

    /// All that is to be sent, in the order it was begun.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (SlotId, &[u8])> {
        self.pieces.iter().enumerate().filter_map(|(index, piece)| {
            let bytes = &self.bytes[self.range(index)];
            piece.owner.filter(|_| !bytes.is_empty()).map(|owner| (owner, bytes))
        })
    }

    /// Starts a new tick; returns the owners of the old one's pieces.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = SlotId> + '_ {
        self.bytes.clear();
        self.pieces.drain(..).filter_map(|piece| piece.owner)
    }

    /// Gives memory back that is not in use.
    pub(crate) fn trim(&mut self) {
        self.bytes.shrink_to(TRIMMED_BYTES);
        self.pieces.shrink_to_fit();
    }

    fn range(&self, index: usize) -> Range<usize> {
        let end = self.pieces.get(index + 1).map_or(self.bytes.len(), |next| next.start);
        self.pieces.get(index).map_or(end, |piece| piece.start)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SlotId = SlotId::new(0, 1);
    const B: SlotId = SlotId::new(1, 1);

    #[test]
    fn only_the_last_piece_grows_and_each_owner_gets_its_own_bytes() {
        let mut arena = Arena::new();
        let a = arena.begin(A);
        arena.buffer().extend_from_slice(b"for a");
        let b = arena.begin(B);
        assert!(!arena.is_last(a) && arena.is_last(b));
        arena.buffer().extend_from_slice(b"for b");
        arena.buffer().extend_from_slice(b", more");
        assert_eq!(arena.piece(a), b"for a");
        let pieces: Vec<_> = arena.pieces().collect();
        assert_eq!(pieces, [(A, &b"for a"[..]), (B, &b"for b, more"[..])]);
    }

    #[test]
    fn a_piece_that_was_removed_or_is_empty_is_not_sent() {
        let mut arena = Arena::new();
        let a = arena.begin(A);
        arena.buffer().push(1);
        arena.begin(B);
        arena.remove(a);
        assert_eq!(arena.pieces().count(), 0);
        assert_eq!(arena.clear().collect::<Vec<_>>(), [B]);
        assert_eq!(arena.pieces().count(), 0);
        assert_eq!(arena.len(), 0);
    }
}

//! Bytes that a transport has not taken yet.

use super::heap;
use std::collections::VecDeque;

/// What waits for one slow peer: appended at the end, sent from the front, in segments.
///
/// A segment is freed as soon as it is sent, and all are of one size but where a message of more than
/// [`SMALL_BYTES`] is written in place: what one slow peer has left is room for another one. Large
/// buffers of every size that come and go would leave holes in the heap.
///
/// An empty one owns no memory. It bounds nothing itself: who appends asks [`Outbox::len`] first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Those that are complete.
    segments: VecDeque<Vec<u8>>,
    /// How many bytes they have together.
    complete: usize,
    last: Vec<u8>,
    /// Bytes of the first segment that were sent.
    sent: usize,
    /// The peer has to take something before more can be sent.
    pub(crate) is_blocked: bool,
}

/// A segment that has so much is complete.
const SEGMENT_BYTES: usize = 64 << 10;
/// The first one has room for less, as long as it has no more than this.
const SMALL_BYTES: usize = SEGMENT_BYTES / 4;

impl Outbox {
    /// What is to be sent next: all that is left, or a segment of it.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.segments.front().unwrap_or(&self.last)[self.sent..]
    }

    /// Bytes left to send.
    pub(crate) fn len(&self) -> usize {
        self.complete + self.last.len() - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where to append what is written in place; [`Outbox::extend`] is for all else. What has
    /// [`SMALL_BYTES`] at most makes no segment longer than the others.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        let last = self.segment_for(SMALL_BYTES);
        if last.len() > SMALL_BYTES / 2 {
            last.reserve_exact(SEGMENT_BYTES - last.len());
        }
        last
    }

    /// The last segment, or the next one if that has room for less.
    fn segment_for(&mut self, bytes: usize) -> &mut Vec<u8> {
        if self.last.len() + bytes > SEGMENT_BYTES {
            let next = Vec::with_capacity(SEGMENT_BYTES);
            self.complete += self.last.len();
            self.segments.push_back(std::mem::replace(&mut self.last, next));
        } else if self.segments.is_empty() && self.sent > self.last.len() / 2 {
            // The sent part is moved out of the way only when it is the larger one, so that every
            // byte moves once at most for each byte that was sent.
            self.last.drain(..self.sent);
            self.sent = 0;
        }
        &mut self.last
    }

    /// Appends bytes, cut so that no segment is longer than the others.
    pub(crate) fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let last = self.segment_for(1);
            let (now, later) = bytes.split_at(bytes.len().min(SEGMENT_BYTES - last.len()));
            if last.len() + now.len() > SMALL_BYTES {
                last.reserve_exact(SEGMENT_BYTES - last.len());
            }
            last.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Drops `sent` bytes of [`Outbox::unsent`], and the memory of a segment that is sent.
    pub(crate) fn advance(&mut self, sent: usize) {
        let first = self.segments.front().unwrap_or(&self.last).len();
        self.sent = (self.sent + sent).min(first);
        if self.sent == first {
            self.sent = 0;
            match self.segments.pop_front() {
                Some(_) => self.complete -= first,
                None => self.last = Vec::new(),
            }
        }
    }
}

impl Drop for Outbox {
    /// A peer that took nothing leaves as much as there may be, of which nothing stays in memory.
    fn drop(&mut self) {
        self.segments.iter_mut().for_each(heap::discard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Outbox {
        /// Bytes of memory that it has filled.
        fn filled(&self) -> usize {
            self.complete + self.last.len()
        }
    }

    #[test]
    fn an_outbox_that_was_emptied_owns_no_memory_of_segments() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            outbox.buffer().extend_from_slice(&[0; 100_000]);
        }
        while !outbox.is_empty() {
            outbox.advance(outbox.unsent().len());
        }
        assert!(outbox.segments.is_empty());
        assert_eq!((outbox.last.capacity(), outbox.complete, outbox.sent), (0, 0, 0));
    }

    #[test]
    fn memory_leaves_with_the_segment_that_was_sent() {
        let mut outbox = Outbox::default();
        for _ in 0..100 {
            outbox.extend(&[0; 10_000]);
        }
        assert!(outbox.segments.iter().all(|segment| segment.capacity() == SEGMENT_BYTES));
        let first = outbox.unsent().len();
        assert_eq!(first, SEGMENT_BYTES);
        outbox.advance(first - 1);
        assert_eq!(outbox.filled(), 1_000_000);
        outbox.advance(1);
        assert_eq!((outbox.filled(), outbox.len()), (1_000_000 - first, 1_000_000 - first));
    }

    #[test]
    fn segments_have_one_size_though_they_are_written_in_place_message_by_message() {
        for len in [1, 100, 1000, 5000, SMALL_BYTES] {
            let mut outbox = Outbox::default();
            outbox.extend(&vec![0; len]);
            while outbox.len() < 10 * SEGMENT_BYTES {
                outbox.buffer().extend_from_slice(&vec![0; len]);
            }
            for segment in &outbox.segments {
                assert_eq!(segment.capacity(), SEGMENT_BYTES, "{len} bytes each");
                assert!(segment.len() > SEGMENT_BYTES - SMALL_BYTES, "{len} bytes each");
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_they_came_and_the_buffer_stays_in_proportion(
            steps in prop::collection::vec((0usize..2000, 0usize..3000), 1..100),
            large in prop::collection::vec((0usize..100_000, 0usize..150_000), 0..10),
        ) {
            let (mut outbox, mut oracle, mut next) = (Outbox::default(), Vec::new(), 0u8);
            for (append, send) in [&steps[..], &large, &steps].concat() {
                let start = oracle.len();
                for _ in 0..append {
                    oracle.push(next);
                    next = next.wrapping_add(1);
                }
                if append % 2 == 0 {
                    outbox.extend(&oracle[start..]);
                } else {
                    oracle[start..].iter().for_each(|byte| outbox.buffer().push(*byte));
                }
                let waste = outbox.filled() - oracle.len();
                let of_segments = SEGMENT_BYTES * outbox.segments.len().min(1);
                let waste_max = of_segments.max(oracle.len());
                prop_assert!(append == 0 || waste <= waste_max);
                let mut send = send.min(oracle.len());
                while send > 0 {
                    let piece = outbox.unsent().len().min(send);
                    prop_assert!(piece > 0);
                    prop_assert_eq!(&outbox.unsent()[..piece], &oracle[..piece]);
                    outbox.advance(piece);
                    oracle.drain(..piece);
                    send -= piece;
                }
                prop_assert_eq!(outbox.len(), oracle.len());
                prop_assert_eq!(outbox.is_empty(), oracle.is_empty());
                prop_assert_eq!(outbox.unsent().is_empty(), oracle.is_empty());
            }
        }
    }
}

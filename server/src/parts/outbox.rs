//! Bytes that a transport has not taken yet.

/// What waits for one slow peer: appended at the end, sent from the front.
///
/// An empty one owns no memory. It bounds nothing itself: who appends asks [`Outbox::len`] first.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// The peer has to take something before more can be sent.
    pub(crate) is_blocked: bool,
}

/// What waits in an outbox before it has room for all that may.
const RESERVE_FROM: usize = 64 << 10;
/// The most that is reserved, whatever may wait.
const RESERVE_MAX: usize = 16 << 20;

impl Outbox {
    /// What is left to send, in order.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Bytes left to send.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where to append.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        // The sent part is moved out of the way only when it is the larger one, so that every byte
        // moves once at most for each byte that was sent.
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        &mut self.bytes
    }

    /// Makes room for several times what waits, once that is much, up to all that may ever wait:
    /// growing in small steps would leave holes behind, of which a crowd of slow peers makes a lot.
    /// What is not used takes no memory.
    pub(crate) fn reserve(&mut self, bytes_max: usize) {
        let len = self.bytes.len();
        let wanted = bytes_max.min(RESERVE_MAX).min(len.saturating_mul(8));
        if len > RESERVE_FROM && 2 * len > self.bytes.capacity() && self.bytes.capacity() < wanted {
            // Without it, it grows step by step.
            let _ = self.bytes.try_reserve_exact(wanted - len);
        }
    }

    /// Drops the first `sent` bytes, and the memory once all are sent.
    pub(crate) fn advance(&mut self, sent: usize) {
        self.sent = (self.sent + sent).min(self.bytes.len());
        if self.is_empty() {
            (self.bytes, self.sent) = (Vec::new(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_outbox_that_was_emptied_owns_no_memory() {
        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(&[0; 100_000]);
        outbox.advance(100_000);
        assert!(outbox.is_empty());
        assert_eq!(outbox.bytes.capacity(), 0);
    }

    #[test]
    fn one_that_holds_much_has_room_for_much_more() {
        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(&[0; 1000]);
        outbox.reserve(1 << 20);
        assert!(outbox.bytes.capacity() < 100_000);
        outbox.buffer().extend_from_slice(&[0; 100_000]);
        outbox.reserve(1 << 20);
        let capacity = outbox.bytes.capacity();
        assert!((800_000..=1 << 20).contains(&capacity), "{capacity}");
        outbox.reserve(1 << 20);
        assert_eq!(outbox.bytes.capacity(), capacity);
        outbox.buffer().extend_from_slice(&[0; 1_000_000]);
        outbox.reserve(usize::MAX);
        assert!(outbox.bytes.capacity() <= RESERVE_MAX);
    }

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_they_came_and_the_buffer_stays_in_proportion(
            steps in prop::collection::vec((0usize..2000, 0usize..3000), 1..100),
        ) {
            let (mut outbox, mut oracle, mut next) = (Outbox::default(), Vec::new(), 0u8);
            for (append, send) in steps {
                for _ in 0..append {
                    outbox.buffer().push(next);
                    oracle.push(next);
                    next = next.wrapping_add(1);
                }
                prop_assert!(append == 0 || outbox.bytes.len() <= 2 * oracle.len());
                let send = send.min(oracle.len());
                prop_assert_eq!(&outbox.unsent()[..send], &oracle[..send]);
                outbox.advance(send);
                oracle.drain(..send);
                prop_assert_eq!(outbox.unsent(), &oracle[..]);
                prop_assert_eq!(outbox.len(), oracle.len());
            }
        }
    }
}

//! What a connection keeps from one message to the next, and the budget that it is taken from.

use super::{Agreement, WindowBits};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The last bytes that went through a compressor, as far as back references may reach.
#[derive(Debug)]
pub(crate) struct Window {
    /// A ring, so that what is new moves nothing.
    bytes: VecDeque<u8>,
    bits: WindowBits,
    _reserved: Reserved,
}

impl Window {
    fn new(bits: WindowBits, reserved: Reserved) -> Self {
        Self { bytes: VecDeque::new(), bits, _reserved: reserved }
    }

    /// The bytes that it takes.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Its bytes, in order, the oldest first.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        let (older, newer) = self.bytes.as_slices();
        [older, newer]
    }

    /// Appends what was sent: the oldest makes room for it.
    pub(crate) fn push(&mut self, sent: &[u8]) {
        let size = self.bits.bytes();
        let sent = &sent[sent.len().saturating_sub(size)..];
        let kept = self.bytes.len().min(size - sent.len());
        self.bytes.drain(..self.bytes.len() - kept);
        let len = kept + sent.len();
        if len > self.bytes.capacity() {
            let room = len.max(2 * self.bytes.capacity()).min(size);
            self.bytes.reserve_exact(room - kept);
        }
        self.bytes.extend(sent);
    }
}

/// The windows of a connection for which context takeover is agreed on.
#[derive(Debug)]
pub(crate) struct Takeover {
    /// Of what the peer compresses; `None` without takeover in that direction.
    pub(crate) received: Option<Window>,
    /// Of what we compress; `None` as long as it is empty.
    pub(crate) sent: Option<SentWindow>,
    /// Whether there may be one for what we compress.
    pub(crate) sends: bool,
}

#[derive(Debug)]
pub(crate) struct SentWindow {
    pub(crate) window: Window,
    /// By which a compressor knows that it was the last to compress for it; 0 for a window that has to have
    /// another one.
    pub(crate) id: u64,
}

impl SentWindow {
    /// What was sent so far is not referred to any more.
    pub(crate) fn forget(&mut self) {
        self.window.bytes.clear();
        self.id = 0;
    }
}

impl Takeover {
    /// `None` if there is nothing to take over.
    pub(crate) fn new(send: Agreement, receive: Agreement, budget: &Budget) -> Option<Self> {
        let sends = send.takeover && budget.bytes_max > 0;
        if !sends && !receive.takeover {
            return None;
        }
        // The peer may rely on it from now on, so it is reserved even beyond the budget.
        let window = || {
            let bits = receive.window_bits;
            Window::new(bits, budget.reserve(bits.bytes()))
        };
        Some(Self { received: receive.takeover.then(window), sent: None, sends })
    }

    /// The window of what we compress; `None` if there is no room for one.
    pub(crate) fn sent(
        &mut self,
        bits: WindowBits,
        budget: &mut Budget,
    ) -> Option<&mut SentWindow> {
        if self.sends && self.sent.is_none() {
            let window = Window::new(bits, budget.try_reserve(bits.bytes())?);
            self.sent = Some(SentWindow { window, id: 0 });
        }
        let sent = self.sent.as_mut()?;
        if sent.id == 0 {
            sent.id = budget.next_id();
        }
        Some(sent)
    }
}

/// The bytes that the windows of a context's connections may take.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    /// Shared with what is reserved, which is given back when its connection goes, without a context at hand.
    used: Arc<AtomicUsize>,
    last_id: u64,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, used: Arc::default(), last_id: 0 }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.bytes_max
    }

    fn try_reserve(&self, bytes: usize) -> Option<Reserved> {
        self.has_room(bytes).then(|| self.reserve(bytes))
    }

    fn reserve(&self, bytes: usize) -> Reserved {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Reserved { used: Arc::clone(&self.used), bytes }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

#[derive(Debug)]
struct Reserved {
    used: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_window_holds_the_last_bytes_and_no_more_room_than_its_size(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..20),
        ) {
            let budget = Budget::new(0);
            let mut window = Window::new(WindowBits::MIN, budget.reserve(512));
            let mut all = Vec::new();
            for piece in pieces {
                window.push(&piece);
                all.extend_from_slice(&piece);
                prop_assert_eq!(window.parts().concat(), &all[all.len().saturating_sub(512)..]);
                prop_assert!(window.bytes.capacity() <= 512);
            }
        }
    }

    #[test]
    fn what_is_reserved_is_given_back_with_its_window() {
        let mut budget = Budget::new(3 << 10);
        let direction = Agreement { window_bits: WindowBits::new(10).unwrap(), takeover: true };
        let mut first = Takeover::new(direction, direction, &budget).unwrap();
        assert_eq!(budget.used(), 1 << 10, "what is sent has no window before it is compressed");
        let mut second = Takeover::new(direction, direction, &budget).unwrap();
        let window_bits = direction.window_bits;
        assert_eq!(first.sent(window_bits, &mut budget).map(|sent| sent.id), Some(1));
        assert_eq!(first.sent(window_bits, &mut budget).map(|sent| sent.id), Some(1));
        assert!(second.sent(window_bits, &mut budget).is_none(), "there is no room");
        let sent = first.sent(window_bits, &mut budget).unwrap();
        sent.window.push(b"sent");
        sent.forget();
        let sent = first.sent(window_bits, &mut budget).unwrap();
        assert_eq!((sent.id, sent.window.parts()), (2, [&b""[..]; 2]), "no compressor has seen it");
        first.sent = None;
        assert_eq!(second.sent(window_bits, &mut budget).map(|sent| sent.id), Some(3));
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}

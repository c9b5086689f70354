//! The way from one thread to another: a bounded queue that many fill and one empties.
//!
//! A lock is held for as long as it takes to move a few pointers, once for each batch that comes in
//! and once for all that is taken out, so there is nothing a cleverer queue could save.

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    bytes_max: usize,
    /// Whether there are items: written under the lock, and read without it as a hint.
    is_filled: AtomicBool,
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    items: Vec<T>,
    bytes: usize,
    is_closed: bool,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// It is the first since the mailbox was emptied: its owner has to be woken.
    First,
    /// It is behind others, for which the owner was woken.
    Behind,
    /// There is no room for it now.
    Full,
    /// Nobody will read it.
    Closed,
}

impl<T> Mailbox<T> {
    /// A mailbox for items of so many bytes together.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let inner = Inner { items: Vec::new(), bytes: 0, is_closed: false };
        Self { bytes_max, is_filled: AtomicBool::new(false), inner: Mutex::new(inner) }
    }

    /// Puts an item of `bytes` bytes at the end. An empty mailbox has room for any.
    pub(crate) fn push(&self, item: T, bytes: usize) -> Push {
        self.try_push(item, bytes).unwrap_or_else(|(push, _)| push)
    }

    /// The same, and gives back what is not taken.
    pub(crate) fn try_push(&self, item: T, bytes: usize) -> Result<Push, (Push, T)> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err((Push::Closed, item));
        }
        let is_first = inner.items.is_empty();
        if !is_first && inner.bytes.saturating_add(bytes) > self.bytes_max {
            return Err((Push::Full, item));
        }
        inner.bytes = inner.bytes.saturating_add(bytes);
        inner.items.push(item);
        self.is_filled.store(true, Ordering::Relaxed);
        Ok(if is_first { Push::First } else { Push::Behind })
    }

    /// Whether there is something to take, as far as this thread can see: what it was woken for it
    /// can.
    pub(crate) fn is_filled(&self) -> bool {
        self.is_filled.load(Ordering::Relaxed)
    }

    /// How many items there are, and their bytes.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.items.len(), inner.bytes)
    }

    /// Moves all there is behind `items`, oldest first.
    pub(crate) fn take(&self, items: &mut Vec<T>) {
        let mut inner = self.lock();
        inner.bytes = 0;
        self.is_filled.store(false, Ordering::Relaxed);
        if items.is_empty() {
            // The vectors take turns, so that neither has to grow again.
            std::mem::swap(&mut inner.items, items);
        } else {
            items.append(&mut inner.items);
        }
    }

    /// Takes no more, and drops what there is.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.bytes = 0;
        let items = std::mem::take(&mut inner.items);
        // An item may hold what is an application's own, which may push when it is dropped.
        drop(inner);
        drop(items);
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Nothing in here can panic half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_the_order_they_went_in_and_only_the_first_wakes() {
        let mailbox = Mailbox::new(100);
        assert_eq!(mailbox.push(1, 10), Push::First);
        assert_eq!(mailbox.push(2, 10), Push::Behind);
        let mut items = Vec::new();
        mailbox.take(&mut items);
        assert_eq!(mailbox.push(3, 10), Push::First);
        mailbox.take(&mut items);
        assert_eq!(items, [1, 2, 3]);
    }

    #[test]
    fn a_full_mailbox_says_so_and_has_room_again_once_it_is_emptied() {
        let mailbox = Mailbox::new(100);
        assert_eq!(mailbox.push(1, 500), Push::First, "an empty one takes anything");
        assert_eq!(mailbox.push(2, 1), Push::Full);
        mailbox.take(&mut Vec::new());
        assert_eq!(mailbox.push(3, 60), Push::First);
        assert_eq!(mailbox.push(4, 41), Push::Full);
        assert_eq!(mailbox.push(5, 40), Push::Behind);
        assert_eq!(mailbox.depth(), (2, 100));
    }

    #[test]
    fn a_closed_mailbox_keeps_nothing() {
        let mailbox = Mailbox::new(100);
        let item = std::sync::Arc::new(());
        assert_eq!(mailbox.push(item.clone(), 1), Push::First);
        mailbox.close();
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
        assert_eq!(mailbox.push(item.clone(), 1), Push::Closed);
        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }

    #[test]
    fn an_item_that_pushes_when_it_is_dropped_finds_the_mailbox_closed() {
        use std::{sync::Arc, time::Duration};

        struct Item(Arc<Mailbox<Option<Self>>>, std::sync::mpsc::Sender<Push>);

        impl Drop for Item {
            fn drop(&mut self) {
                let _ = self.1.send(self.0.push(None, 1));
            }
        }

        let mailbox = Arc::new(Mailbox::new(100));
        let (told, tells) = std::sync::mpsc::channel();
        assert_eq!(mailbox.push(Some(Item(mailbox.clone(), told)), 1), Push::First);
        let _closing = std::thread::spawn(move || mailbox.close());
        assert_eq!(tells.recv_timeout(Duration::from_secs(10)), Ok(Push::Closed));
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p quelea --lib loom`: the orders of the threads' steps.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{
        sync::{Arc, Condvar},
        thread,
    };

    /// A waker like the driver's: a wake that comes before the wait ends the wait.
    #[derive(Default)]
    struct Waker {
        is_woken: Mutex<bool>,
        condition: Condvar,
    }

    impl Waker {
        fn wake(&self) {
            *self.is_woken.lock().unwrap() = true;
            self.condition.notify_one();
        }

        /// A wake that never comes is a deadlock, which the model reports.
        fn wait(&self) {
            let mut is_woken = self.is_woken.lock().unwrap();
            while !std::mem::take(&mut *is_woken) {
                is_woken = self.condition.wait(is_woken).unwrap();
            }
        }
    }

    /// Every order in which threads take turns up to three times where they need not; without a
    /// bound there are more orders than anyone can wait for.
    fn model(check: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(check);
    }

    fn send(mailbox: &Mailbox<u32>, waker: &Waker, item: u32) -> bool {
        let push = mailbox.push(item, 1);
        if push == Push::First {
            waker.wake();
        }
        matches!(push, Push::First | Push::Behind)
    }

    #[test]
    fn loom_an_owner_that_only_looks_when_woken_misses_nothing() {
        model(|| {
            let shared = Arc::new((Mailbox::new(100), Waker::default()));
            let senders: Vec<_> = [&[10, 11][..], &[20]]
                .into_iter()
                .map(|items| {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        for item in items {
                            assert!(send(&shared.0, &shared.1, *item));
                        }
                    })
                })
                .collect();
            let mut all = Vec::new();
            while all.len() < 3 {
                shared.1.wait();
                shared.0.take(&mut all);
            }
            for sender in senders {
                sender.join().unwrap();
            }
            all.retain(|item| *item != 20);
            assert_eq!(all, [10, 11], "each sender's items stay in order");
        });
    }

    #[test]
    fn loom_what_is_refused_is_told_and_what_is_accepted_arrives() {
        model(|| {
            let shared = Arc::new((Mailbox::new(1), Waker::default()));
            let sender = {
                let shared = shared.clone();
                thread::spawn(move || {
                    (0..3).filter(|item| send(&shared.0, &shared.1, *item)).collect::<Vec<_>>()
                })
            };
            let mut all = Vec::new();
            shared.0.take(&mut all);
            let accepted = sender.join().unwrap();
            shared.0.take(&mut all);
            assert_eq!(all, accepted);
        });
    }

    #[test]
    fn loom_nothing_stays_in_a_mailbox_that_closes() {
        model(|| {
            let mailbox = Arc::new(Mailbox::new(100));
            let item = Arc::new(());
            let sender = {
                let (mailbox, item) = (mailbox.clone(), item.clone());
                thread::spawn(move || {
                    mailbox.push(item, 1);
                })
            };
            mailbox.close();
            sender.join().unwrap();
            assert_eq!(Arc::strong_count(&item), 1);
        });
    }
}

//! All connections of a server, for those that send each message to all of them.

use slab::Slab;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};

/// So many messages may wait for a connection. One that falls further behind is left out, and ends: what
/// waits for it must not grow without bound, and must not hold up the others.
pub const INBOX_MAX: usize = 1024;

/// Where messages go to all that joined.
pub struct Room<M> {
    /// `None` is one that was left out, until it leaves.
    members: Mutex<Slab<Option<Sender<M>>>>,
}

/// Leaves the room when dropped.
pub struct Member<M> {
    room: Arc<Room<M>>,
    key: usize,
}

impl<M: Clone> Room<M> {
    /// An empty room.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { members: Mutex::new(Slab::new()) })
    }

    /// One more that gets all messages from now on. The receiver ends when it has fallen behind.
    pub fn join(self: &Arc<Self>) -> (Member<M>, Receiver<M>) {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let key = self.members().insert(Some(sender));
        (Member { room: Arc::clone(self), key }, inbox)
    }

    /// To all members. A clone of the message should share its payload.
    pub fn publish(&self, message: &M) {
        for (_, member) in &mut *self.members() {
            if let Some(sender) = member
                && let Err(TrySendError::Full(_)) = sender.try_send(message.clone())
            {
                *member = None;
            }
        }
    }
}

impl<M> Room<M> {
    fn members(&self) -> MutexGuard<'_, Slab<Option<Sender<M>>>> {
        // Nothing that runs under the lock leaves the slab in pieces.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Drop for Member<M> {
    fn drop(&mut self) {
        self.room.members().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_joined_get_a_message_and_none_that_left() {
        let room = Room::new();
        let (first, mut first_inbox) = room.join();
        let (_second, mut second_inbox) = room.join();
        room.publish(&1);
        drop(first);
        room.publish(&2);
        assert_eq!(first_inbox.try_recv(), Ok(1));
        assert!(first_inbox.try_recv().is_err());
        assert_eq!((second_inbox.try_recv(), second_inbox.try_recv()), (Ok(1), Ok(2)));
    }

    #[test]
    fn one_that_falls_behind_is_left_out_and_the_others_are_not() {
        let room = Room::new();
        let (slow, mut slow_inbox) = room.join();
        let (_member, mut inbox) = room.join();
        for number in 0..=INBOX_MAX {
            room.publish(&number);
            assert_eq!(inbox.try_recv(), Ok(number));
        }
        let received = std::iter::from_fn(|| slow_inbox.blocking_recv()).count();
        assert_eq!(received, INBOX_MAX);
        drop(slow);
        assert_eq!(room.members().len(), 1);
    }
}

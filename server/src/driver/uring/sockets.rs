//! The connections and the ring, apart from the buffers: what is sent at once is sent while bytes are lent.

use super::{
    connection::{Connection, Flags},
    find,
    operation::Subject,
    ring::{Ring, Wait},
    sends::Sends,
};
use crate::{driver::SendNow, parts::slots::SlotId};
use io_uring::cqueue;
use std::io::IoSlice;

/// How often to ask for a completion that is due: the queue may be full of others.
const ATTEMPTS_MAX: u32 = 1000;

/// See the [module](self).
pub(super) struct Sockets {
    pub(super) ring: Ring,
    pub(super) connections: Vec<Connection>,
    pub(super) sends: Sends,
    /// Those that the kernel is to do something else for.
    pub(super) unsettled: Vec<SlotId>,
    /// What was complete besides, which is looked at in the next wait.
    pub(super) later: Vec<cqueue::Entry>,
    /// Those that failed since the last wait.
    pub(super) failed: Vec<SlotId>,
}

impl Sockets {
    /// What is wanted of a connection has changed: the kernel is told with the next wait, when it may have
    /// changed back.
    pub(super) fn unsettle(&mut self, id: SlotId) {
        if let Some(connection) = find(&mut self.connections, id)
            && !connection.flags.has(Flags::UNSETTLED)
        {
            connection.flags.set(Flags::UNSETTLED, true);
            self.unsettled.push(id);
        }
    }

    /// The result of the send that was submitted last: it never waits, so that it is there. Without it, the
    /// ring ends: nobody could tell what was sent.
    fn result_now(&mut self) -> Option<i32> {
        for _ in 0..ATTEMPTS_MAX {
            let mut result = None;
            for completion in self.ring.completions() {
                match Subject::of(completion.user_data()) {
                    Subject::SendNow => result = Some(completion.result()),
                    _ => self.later.push(completion),
                }
            }
            if result.is_some() {
                return result;
            }
            if self.ring.enter(Wait::Collect).is_err() {
                break;
            }
        }
        self.ring.abandon();
        None
    }
}

impl SendNow for Sockets {
    fn send_now(&mut self, id: SlotId, slices: &[IoSlice<'_>]) -> Option<usize> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        // What is sent to who is gone goes nowhere.
        let Some(connection) = find(&mut self.connections, id) else { return Some(len) };
        if connection.flags.has(Flags::ENDED) && connection.flags.has(Flags::FAILED) {
            return Some(len);
        }
        let file = connection.file;
        self.ring.send_now(file, slices).ok()?;
        let result = self.result_now()?;
        let sent = result.max(0) as usize;
        self.sends.bytes += sent as u64;
        if sent == len {
            return Some(sent);
        }
        if result < 0 && !matches!(-result, libc::EAGAIN | libc::EINTR) {
            // It is told by receiving, which may still find bytes.
            self.failed.push(id);
        }
        if let Some(connection) = find(&mut self.connections, id) {
            connection.flags.set(Flags::BLOCKED, true);
        }
        self.unsettle(id);
        Some(sent)
    }
}

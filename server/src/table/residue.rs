//! What a table holds on to, for those who look for leaks.

use super::Table;
use std::iter::Sum;

/// What workers hold on to for connections. Nothing, once all connections are gone and nothing is on
/// its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Residue {
    /// Slots in use.
    pub connections: usize,
    /// Timers that are armed: of connections, and of handlers.
    pub timers: usize,
    /// Subscriptions to topics and patterns.
    pub subscriptions: usize,
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// Batches of mail that wait, at those who send and at those who are to read.
    pub mail: usize,
    /// Connections that count towards the limits on all.
    pub admitted: usize,
    /// Connections that count as not open yet.
    pub pending: usize,
    /// Addresses that connections are counted by.
    pub addresses: usize,
}

impl Sum for Residue {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            connections: sum.connections + one.connections,
            timers: sum.timers + one.timers,
            subscriptions: sum.subscriptions + one.subscriptions,
            queued_bytes: sum.queued_bytes + one.queued_bytes,
            mail: sum.mail + one.mail,
            // Every worker sees all of them.
            admitted: sum.admitted.max(one.admitted),
            pending: sum.pending.max(one.pending),
            addresses: sum.addresses.max(one.addresses),
        })
    }
}

impl Table {
    pub(crate) fn residue(&self) -> Residue {
        let slots = || self.slots.ids().filter_map(|id| self.slots.get(id));
        Residue {
            connections: self.slots.len(),
            timers: self.timers.armed() + self.alarms.len(),
            subscriptions: self.fanout.topics.subscriptions(),
            queued_bytes: slots().map(|slot| slot.output.queued(&self.arena)).sum::<usize>()
                + self.arena.len(),
            mail: self.outgoing.waiting(),
            admitted: 0,
            pending: 0,
            addresses: 0,
        }
    }
}

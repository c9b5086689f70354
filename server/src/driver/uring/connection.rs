//! What the driver knows of one slot, and what the kernel is doing for it.

use super::{
    operation::{Operation, Standing, Subject},
    ring::Ring,
};
use crate::parts::slots::SlotId;

/// One slot. One that is not in use has generation 0.
#[derive(Clone, Copy, Default)]
pub(super) struct Connection {
    pub(super) file: u32,
    pub(super) generation: u32,
    pub(super) flags: Flags,
}

/// A set of the constants below.
#[derive(Clone, Copy, Default)]
pub(super) struct Flags(u16);

impl Flags {
    /// Operations that the kernel has not ended yet: receiving, waiting for a failure, waiting for room.
    pub(super) const RECEIVING: u16 = 1 << 0;
    pub(super) const WATCHING_FAILURE: u16 = 1 << 1;
    pub(super) const WATCHING_ROOM: u16 = 1 << 2;
    const CANCELLABLE: u16 = Self::RECEIVING | Self::WATCHING_FAILURE | Self::WATCHING_ROOM;
    /// Its FIN is being sent.
    pub(super) const SHUTTING_DOWN: u16 = 1 << 14;
    /// Receiving is about to end.
    pub(super) const CANCELLING: u16 = 1 << 3;
    pub(super) const PAUSED: u16 = 1 << 4;
    /// It failed: what came before that is told even while paused, and then that.
    pub(super) const FAILED: u16 = 1 << 5;
    /// A send failed: it took the error, which the kernel tells once.
    pub(super) const BROKEN: u16 = 1 << 6;
    /// It was told that nothing more comes.
    pub(super) const ENDED: u16 = 1 << 7;
    /// A send was short.
    pub(super) const BLOCKED: u16 = 1 << 8;
    /// There was no buffer to receive into: it is in the queue of those that wait for one.
    pub(super) const STARVED: u16 = 1 << 9;
    /// It is to be closed, and then the file is.
    pub(super) const CLOSING: u16 = 1 << 10;
    pub(super) const CLOSED: u16 = 1 << 11;
    /// Something is held for it that came while it was paused.
    pub(super) const HELD: u16 = 1 << 13;
    /// Something came since receiving began.
    pub(super) const FED: u16 = 1 << 15;
    /// It is among those that are to be settled.
    pub(super) const UNSETTLED: u16 = 1 << 12;

    #[inline]
    pub(super) const fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }

    #[inline]
    pub(super) const fn set(&mut self, flag: u16, value: bool) {
        self.0 = self.0 & !flag | if value { flag } else { 0 };
    }

    /// Whether it is not to be told what came.
    pub(super) const fn holds(self) -> bool {
        self.has(Self::HELD) || (self.has(Self::PAUSED) && !self.has(Self::FAILED))
    }

    /// Whether what is held may be told.
    pub(super) const fn releases(self) -> bool {
        self.has(Self::HELD) && (!self.has(Self::PAUSED) || self.has(Self::FAILED))
    }

    /// The flag that stands for it while it is under way.
    const fn of(standing: Standing) -> u16 {
        match standing {
            Standing::Receive => Self::RECEIVING,
            Standing::Failure => Self::WATCHING_FAILURE,
            Standing::Room => Self::WATCHING_ROOM,
        }
    }

    /// Whether this is under way, though it was cancelled.
    pub(super) const fn is_cancelling(self, standing: Standing) -> bool {
        let is_receive_ending = matches!(standing, Standing::Receive) && self.has(Self::CANCELLING);
        self.has(Self::of(standing)) && (is_receive_ending || self.has(Self::CLOSING))
    }

    /// Whether the kernel is done with it.
    pub(super) const fn is_over(self) -> bool {
        self.has(Self::CLOSED) && !self.has(Self::CANCELLABLE)
    }
}

impl Connection {
    pub(super) fn new(file: u32, id: SlotId) -> Self {
        Self { file, generation: id.generation(), flags: Flags::default() }
    }

    /// Starts and cancels operations until the kernel is doing what is wanted now.
    pub(super) fn settle(&mut self, id: SlotId, ring: &mut Ring) {
        let Self { file, flags, .. } = self;
        let file = *file;
        if flags.has(Flags::CLOSING) {
            return;
        }
        let is_open = !flags.has(Flags::ENDED);
        let has_failed = flags.has(Flags::FAILED);
        // What is held comes first, so that also the end comes behind it.
        let is_wanted = is_open && !flags.has(Flags::HELD);
        let is_standing = is_wanted && !flags.has(Flags::PAUSED) && !has_failed;
        if flags.has(Flags::RECEIVING) {
            if is_open && !is_standing && !flags.has(Flags::CANCELLING) {
                flags.set(Flags::CANCELLING, true);
                ring.cancel(file, Standing::Receive, id);
            }
        } else if is_wanted && has_failed {
            flags.set(Flags::RECEIVING | Flags::CANCELLING, true);
            ring.push(&Operation::receive_now(file, id));
        } else if is_standing && !flags.has(Flags::STARVED) {
            flags.set(Flags::RECEIVING, true);
            flags.set(Flags::FED, false);
            ring.push(&Operation::receive(file, id));
        }
        let watches_failure = is_open && flags.has(Flags::PAUSED) && !has_failed;
        if watches_failure && !flags.has(Flags::WATCHING_FAILURE) {
            flags.set(Flags::WATCHING_FAILURE, true);
            ring.push(&Operation::watch_failure(file, id));
        }
        // That it failed is told by receiving, unless that has ended.
        let may_send = !has_failed || !is_open;
        if flags.has(Flags::BLOCKED) && may_send && !flags.has(Flags::WATCHING_ROOM) {
            flags.set(Flags::WATCHING_ROOM, true);
            ring.push(&Operation::watch_room(file, id));
        }
    }

    /// Ends it: all that is under way, and then the file. What has to come before that was pushed before.
    pub(super) fn close(&mut self, id: SlotId, ring: &mut Ring) {
        let Self { file, flags, .. } = self;
        flags.set(Flags::CLOSING, true);
        for standing in Standing::ALL {
            if flags.has(Flags::of(standing)) {
                ring.cancel(*file, standing, id);
            }
        }
        if !flags.has(Flags::SHUTTING_DOWN) {
            ring.push(&Operation::close(*file, Subject::Close(id)));
        }
    }

    /// Sends a FIN behind all that was sent.
    pub(super) fn shut_down(&mut self, id: SlotId, ring: &mut Ring) {
        let Self { file, flags, .. } = self;
        if !flags.has(Flags::SHUTTING_DOWN) {
            flags.set(Flags::SHUTTING_DOWN, true);
            ring.push(&Operation::shutdown(*file, id));
        }
    }

    /// The FIN is sent, or can not be.
    pub(super) fn complete_shutdown(&mut self, id: SlotId, result: i32, ring: &mut Ring) {
        let Self { file, flags, .. } = self;
        flags.set(Flags::SHUTTING_DOWN, false);
        if flags.has(Flags::CLOSING) {
            ring.push(&Operation::close(*file, Subject::Close(id)));
        } else if result == -libc::ECANCELED {
            // Something else was.
            self.shut_down(id, ring);
        }
    }
}

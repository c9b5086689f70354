//! What the kernel completed, and what of it there is to tell.

use super::{
    Uring,
    accept::Accepted,
    any,
    connection::{Connection, Flags},
    find,
    operation::{Standing, Subject},
};
use crate::parts::slots::SlotId;
use io_uring::cqueue;
use std::io::{self, ErrorKind};

/// What there is to tell: a [`Completion`] that borrows nothing.
pub(super) enum Told {
    Received(SlotId),
    Ended(SlotId, Option<io::Error>),
    Writable(SlotId),
    Closed(SlotId),
    Accepted(Accepted),
    Woken,
}

impl Uring {
    /// Takes what is complete from the kernel, and looks at once at what became of the sends.
    pub(super) fn collect(&mut self) -> usize {
        let first = self.completions.len();
        let (mut received, mut has_sends) = (0, false);
        for completion in self.sockets.ring.completions() {
            received += completion.result().max(0) as usize;
            has_sends |= matches!(Subject::of(completion.user_data()), Subject::Send(_));
            self.completions.push(completion);
        }
        if has_sends {
            self.complete_sends(first);
        }
        received
    }

    #[cold]
    fn complete_sends(&mut self, first: usize) {
        for index in first..self.completions.len() {
            let completion = &self.completions[index];
            if let Subject::Send(place) = Subject::of(completion.user_data()) {
                let result = completion.result();
                self.complete_send(place, result);
            }
        }
    }

    fn complete_send(&mut self, place: usize, result: i32) {
        let sent = result.max(0) as usize;
        let Some(id) = self.sockets.sends.correct(place, sent) else { return };
        let Some(connection) = self.connection(id) else { return };
        let flags = &mut connection.flags;
        flags.set(Flags::BLOCKED, true);
        let has_failed = result < 0 && !matches!(-result, libc::EAGAIN | libc::EINTR);
        if (has_failed || flags.has(Flags::FAILED)) && flags.has(Flags::ENDED) {
            // It is told already that nothing more comes. What is left goes nowhere.
            return;
        }
        self.sockets.sends.push_short(id, sent);
        if has_failed {
            // It is told by receiving, which may still find bytes.
            self.fail(id, Flags::BROKEN);
        }
        self.sockets.unsettle(id);
    }

    /// What is to be told of a completion, if anything is.
    #[inline]
    pub(super) fn complete(&mut self, completion: &cqueue::Entry) -> Option<Told> {
        let result = completion.result();
        match Subject::of(completion.user_data()) {
            Subject::Receive(id) => self.complete_receive(id, completion),
            Subject::Failure(id) => self.complete_watch(id, Flags::WATCHING_FAILURE, completion),
            Subject::Room(id) => self.complete_watch(id, Flags::WATCHING_ROOM, completion),
            Subject::Close(id) => {
                let connection = any(&mut self.sockets.connections, id)?;
                connection.flags.set(Flags::CLOSED, true);
                let file = connection.file;
                self.files.give_back(file);
                self.finish_close(id)
            }
            Subject::Accept { listener, place } => {
                let Self { acceptors, files, now, .. } = self;
                let accepted = acceptors.get_mut(listener)?.complete(place, result, files, *now)?;
                Some(Told::Accepted(accepted))
            }
            Subject::Queue { listener } => {
                let Self { acceptors, files, now, .. } = self;
                let accepted = acceptors.get_mut(listener)?.complete_watch(result, files, *now)?;
                Some(Told::Accepted(accepted))
            }
            Subject::Shutdown(id) => {
                let connection = any(&mut self.sockets.connections, id)?;
                connection.complete_shutdown(id, result, &mut self.sockets.ring);
                None
            }
            Subject::Discard(file) => {
                self.files.give_back(file);
                None
            }
            Subject::Wake => {
                self.is_watching_wakes &= cqueue::more(completion.flags());
                Some(Told::Woken)
            }
            Subject::Cancel(standing, id) => {
                self.complete_cancel(standing, id, result);
                None
            }
            // What failed is seen elsewhere: a cancellation of nothing.
            Subject::Nothing | Subject::Send(_) | Subject::SendNow => None,
        }
    }

    /// A cancellation failed: that is as it should be if what it was for had ended before, which was told
    /// before.
    pub(super) fn complete_cancel(&mut self, standing: Standing, id: SlotId, result: i32) {
        if let Some(connection) = any(&mut self.sockets.connections, id)
            && result == -libc::ENOENT
            && connection.flags.is_cancelling(standing)
        {
            self.sockets.ring.cancel_missed();
        }
    }

    #[inline]
    fn complete_receive(&mut self, id: SlotId, completion: &cqueue::Entry) -> Option<Told> {
        let Some(connection) = any(&mut self.sockets.connections, id) else {
            debug_assert!(false, "no slot is free while something is under way for it");
            self.buffers.take(completion);
            return None;
        };
        let flags = &mut connection.flags;
        let has_ended = !cqueue::more(completion.flags());
        if has_ended {
            flags.set(Flags::RECEIVING | Flags::CANCELLING, false);
        }
        if flags.has(Flags::CLOSING) || flags.has(Flags::ENDED) {
            self.buffers.take(completion);
            return self.finish_close(id);
        }
        let result = completion.result();
        if result <= 0 {
            self.buffers.take(completion);
            return self.complete_empty_receive(id, result);
        }
        flags.set(Flags::FED, true);
        let holds = flags.holds();
        if holds {
            flags.set(Flags::HELD, true);
            self.held.add(id, self.buffers.take(completion));
        }
        if has_ended {
            self.sockets.unsettle(id);
        }
        (!holds).then_some(Told::Received(id))
    }

    /// Receiving ended, and found nothing.
    pub(super) fn complete_empty_receive(&mut self, id: SlotId, result: i32) -> Option<Told> {
        let Self { sockets, starved, .. } = self;
        let flags = &mut find(&mut sockets.connections, id)?.flags;
        let error = match -result {
            libc::ENOBUFS => {
                flags.set(Flags::STARVED, true);
                // Who got nothing comes before those that took it all.
                if flags.has(Flags::FED) {
                    starved.push_back(id);
                } else {
                    starved.push_front(id);
                }
                return None;
            }
            // A FIN stays where it is.
            0 if flags.holds() => return None,
            0 => flags.has(Flags::BROKEN).then(|| ErrorKind::BrokenPipe.into()),
            libc::EAGAIN if flags.has(Flags::FAILED) => Some(ErrorKind::BrokenPipe.into()),
            libc::ECANCELED | libc::EAGAIN | libc::EINTR => {
                self.sockets.unsettle(id);
                return None;
            }
            _ if flags.has(Flags::HELD) => {
                self.fail(id, Flags::BROKEN);
                return None;
            }
            error => Some(io::Error::from_raw_os_error(error)),
        };
        flags.set(Flags::ENDED, true);
        if flags.has(Flags::BLOCKED) {
            // That there is room is told from now on though it failed.
            self.sockets.unsettle(id);
        }
        Some(Told::Ended(id, error))
    }

    /// A connection failed: that is told behind what came before, even while it is paused.
    pub(super) fn fail(&mut self, id: SlotId, how: u16) {
        let Some(connection) = self.connection(id) else { return };
        connection.flags.set(Flags::FAILED | how, true);
        if connection.flags.has(Flags::HELD) {
            self.held.release(id);
        }
        self.sockets.unsettle(id);
    }

    fn complete_watch(
        &mut self,
        id: SlotId,
        flag: u16,
        completion: &cqueue::Entry,
    ) -> Option<Told> {
        let flags = &mut any(&mut self.sockets.connections, id)?.flags;
        let has_ended = !cqueue::more(completion.flags());
        if has_ended {
            flags.set(flag, false);
        }
        if flags.has(Flags::CLOSING) {
            return self.finish_close(id);
        }
        let seen = completion.result().max(0);
        let has_failed = seen & i32::from(libc::POLLERR | libc::POLLHUP) != 0;
        let has_room = seen & i32::from(libc::POLLOUT) != 0 || has_failed;
        let is_told = flag == Flags::WATCHING_ROOM && has_room && flags.has(Flags::BLOCKED);
        if is_told {
            flags.set(Flags::BLOCKED, false);
        }
        if has_failed {
            self.fail(id, 0);
        } else if has_ended {
            self.sockets.unsettle(id);
        }
        is_told.then_some(Told::Writable(id))
    }

    /// Frees the slot if the kernel is done with it.
    fn finish_close(&mut self, id: SlotId) -> Option<Told> {
        let connection = any(&mut self.sockets.connections, id)?;
        if !connection.flags.is_over() {
            return None;
        }
        *connection = Connection::default();
        Some(Told::Closed(id))
    }
}

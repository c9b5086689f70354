//! What is asked of the kernel, and by what its answers are known.
#![allow(unsafe_code, reason = "some operations name memory: to make them is unsafe")]

use crate::parts::slots::SlotId;
use io_uring::{
    opcode, squeue,
    squeue::Flags,
    types::{CancelBuilder, Fd, Fixed},
};
use std::os::fd::RawFd;

/// The only group of buffers.
pub(super) const BUFFER_GROUP: u16 = 0;
/// The most bytes of one send: the kernel takes no more at once.
pub(super) const SEND_BYTES_MAX: usize = 1 << 30;
const POLLOUT: u32 = libc::POLLOUT as u32;
const POLLIN: u32 = libc::POLLIN as u32;

/// What an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Nothing that has to be known.
    Nothing,
    /// Receiving for a connection.
    Receive(SlotId),
    /// The failure of a connection that nothing is received for.
    Failure(SlotId),
    /// Room to send.
    Room(SlotId),
    /// A FIN.
    Shutdown(SlotId),
    /// The end of a connection.
    Close(SlotId),
    /// The send at this place among those of the wait.
    Send(usize),
    /// The send that is under way by itself.
    SendNow,
    /// A place of a listener that accepts.
    Accept {
        listener: usize,
        place: usize,
    },
    /// Somebody waits at a listener that does not accept.
    Queue {
        listener: usize,
    },
    /// The end of a file that never was a connection.
    Discard(u32),
    Wake,
    /// A cancellation for a connection, that failed.
    Cancel(Standing, SlotId),
}

/// What goes on for a connection until it is cancelled, or ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Receive,
    Failure,
    Room,
}

impl Standing {
    pub(super) const ALL: [Self; 3] = [Self::Receive, Self::Failure, Self::Room];

    const fn of(self, id: SlotId) -> Subject {
        match self {
            Self::Receive => Subject::Receive(id),
            Self::Failure => Subject::Failure(id),
            Self::Room => Subject::Room(id),
        }
    }
}

impl Subject {
    /// 8 bits for what it is, 24 for an index, 32 for a generation or another number.
    const fn user_data(self) -> u64 {
        const fn pack(kind: u64, index: usize, number: u64) -> u64 {
            kind << 56 | (index as u64) << 32 | number
        }
        const fn pack_id(kind: u64, id: SlotId) -> u64 {
            pack(kind, id.index(), id.generation() as u64)
        }
        match self {
            Self::Nothing => 0,
            Self::Receive(id) => pack_id(1, id),
            Self::Failure(id) => pack_id(2, id),
            Self::Room(id) => pack_id(3, id),
            Self::Close(id) => pack_id(4, id),
            Self::Send(place) => pack(5, 0, place as u64),
            Self::Accept { listener, place } => pack(6, listener, place as u64),
            Self::Queue { listener } => pack(7, listener, 0),
            Self::Discard(file) => pack(8, 0, file as u64),
            Self::Wake => pack(9, 0, 0),
            Self::Shutdown(id) => pack_id(10, id),
            Self::SendNow => pack(11, 0, 0),
            Self::Cancel(Standing::Receive, id) => pack_id(12, id),
            Self::Cancel(Standing::Failure, id) => pack_id(13, id),
            Self::Cancel(Standing::Room, id) => pack_id(14, id),
        }
    }

    #[inline]
    pub(super) const fn of(user_data: u64) -> Self {
        let index = (user_data >> 32) as u32 & 0xFF_FFFF;
        let number = user_data as u32;
        let id = SlotId::new(index, number);
        match user_data >> 56 {
            1 => Self::Receive(id),
            2 => Self::Failure(id),
            3 => Self::Room(id),
            4 => Self::Close(id),
            5 => Self::Send(number as usize),
            6 => Self::Accept { listener: index as usize, place: number as usize },
            7 => Self::Queue { listener: index as usize },
            8 => Self::Discard(number),
            9 => Self::Wake,
            10 => Self::Shutdown(id),
            11 => Self::SendNow,
            12 => Self::Cancel(Standing::Receive, id),
            13 => Self::Cancel(Standing::Failure, id),
            14 => Self::Cancel(Standing::Room, id),
            _ => Self::Nothing,
        }
    }
}

/// One entry of the submission queue. `file` is always a place in the ring's table.
///
/// An operation that names memory can only be made by an unsafe function, whose caller answers for
/// that memory; all others may be submitted by anybody at any time.
pub(super) struct Operation(squeue::Entry);

impl Operation {
    fn new(entry: squeue::Entry, subject: Subject) -> Self {
        Self(entry.user_data(subject.user_data()))
    }

    /// Receives into provided buffers until it is cancelled, fails, or finds none of them.
    pub(super) fn receive(file: u32, id: SlotId) -> Self {
        let entry = opcode::RecvMulti::new(Fixed(file), BUFFER_GROUP).build();
        Self::new(entry, Subject::Receive(id))
    }

    /// Receives what is there already, once.
    pub(super) fn receive_now(file: u32, id: SlotId) -> Self {
        let entry = opcode::Recv::new(Fixed(file), std::ptr::null_mut(), 0)
            .buf_group(BUFFER_GROUP)
            .flags(libc::MSG_DONTWAIT)
            .build()
            .flags(Flags::BUFFER_SELECT);
        Self::new(entry, Subject::Receive(id))
    }

    /// Tells when a connection fails: what is asked for is nothing, failures are always told. So is the
    /// peer's FIN, for which reason this stands: asked again, it would tell that at once again.
    pub(super) fn watch_failure(file: u32, id: SlotId) -> Self {
        let entry = opcode::PollAdd::new(Fixed(file), 0).multi(true).build();
        Self::new(entry, Subject::Failure(id))
    }

    /// Tells when there is room to send, now and after each send that was short. It stands for the same
    /// reason.
    pub(super) fn watch_room(file: u32, id: SlotId) -> Self {
        let entry = opcode::PollAdd::new(Fixed(file), POLLOUT).multi(true).build();
        Self::new(entry, Subject::Room(id))
    }

    /// Cancels the one operation of this name. The kernel finds it by a hash.
    pub(super) fn cancel_one(standing: Standing, id: SlotId) -> Self {
        let entry = opcode::AsyncCancel::new(standing.of(id).user_data()).build();
        Self::new(entry.flags(Flags::SKIP_SUCCESS), Subject::Cancel(standing, id))
    }

    /// Cancels everything. What is still wanted has to be begun again.
    pub(super) fn cancel_everything() -> Self {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        Self::new(entry.flags(Flags::SKIP_SUCCESS), Subject::Nothing)
    }

    /// Cancels all operations on a file. The kernel looks at each operation that there is, of all connections.
    pub(super) fn cancel_file(file: u32) -> Self {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fixed(file)).all()).build();
        Self::new(entry.flags(Flags::SKIP_SUCCESS), Subject::Nothing)
    }

    pub(super) fn close(file: u32, subject: Subject) -> Self {
        Self::new(opcode::Close::new(Fixed(file)).build(), subject)
    }

    /// Sends a FIN. A thread of the kernel does it, which looks for the file only then: so its place may not
    /// be used again before this is complete.
    pub(super) fn shutdown(file: u32, id: SlotId) -> Self {
        let entry = opcode::Shutdown::new(Fixed(file), libc::SHUT_WR).build();
        Self::new(entry, Subject::Shutdown(id))
    }

    /// Tells each time that a descriptor becomes readable.
    pub(super) fn watch_wakes(fd: RawFd) -> Self {
        Self::new(opcode::PollAdd::new(Fd(fd), POLLIN).multi(true).build(), Subject::Wake)
    }

    pub(super) fn watch_queue(listener_fd: RawFd, listener: usize) -> Self {
        let entry = opcode::PollAdd::new(Fd(listener_fd), POLLIN).build();
        Self::new(entry, Subject::Queue { listener })
    }

    pub(super) fn cancel_listener(listener_fd: RawFd) -> Self {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(listener_fd)).all()).build();
        Self::new(entry.flags(Flags::SKIP_SUCCESS), Subject::Nothing)
    }

    /// Sends what there is room for at once, and completes only if that is not all.
    ///
    /// With `MSG_WAITALL` a short send counts as failed, so that its completion is not skipped; with
    /// `MSG_DONTWAIT` it fails at once and does not wait for the rest.
    ///
    /// # Safety
    /// The bytes stay as they are until the kernel has taken the operation from the queue: then it
    /// is done with them.
    pub(super) unsafe fn send(file: u32, bytes: &[u8], place: usize) -> Self {
        let len = bytes.len().min(SEND_BYTES_MAX);
        let entry = opcode::Send::new(Fixed(file), bytes.as_ptr(), len as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        let skips = len == bytes.len();
        let entry = if skips { entry.flags(Flags::SKIP_SUCCESS) } else { entry };
        Self::new(entry, Subject::Send(place))
    }

    /// Sends what there is room for at once, and always completes.
    ///
    /// # Safety
    /// What the message names is as it has to be for `sendmsg`, and stays until the kernel has taken the
    /// operation from the queue: then it is done with it.
    pub(super) unsafe fn send_now(file: u32, message: &libc::msghdr) -> Self {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let entry = opcode::SendMsg::new(Fixed(file), message).flags(flags as u32).build();
        Self::new(entry, Subject::SendNow)
    }

    /// Accepts one connection into a free place of the table.
    ///
    /// # Safety
    /// `address` and `len`, unless they are null, are of one address and its length in bytes, and
    /// theirs alone until the operation completes.
    pub(super) unsafe fn accept(
        listener_fd: RawFd,
        address: *mut libc::sockaddr,
        len: *mut libc::socklen_t,
        file: u32,
        subject: Subject,
    ) -> Self {
        let to = io_uring::types::DestinationSlot::try_from_slot_target(file).ok();
        let entry = opcode::Accept::new(Fd(listener_fd), address, len).file_index(to).build();
        Self::new(entry, subject)
    }

    pub(super) const fn entry(&self) -> &squeue::Entry {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_is_about_survives_the_kernel() {
        let id = SlotId::new((1 << 24) - 1, u32::MAX);
        for subject in [
            Subject::Nothing,
            Subject::Receive(id),
            Subject::Failure(id),
            Subject::Room(SlotId::new(0, 1)),
            Subject::Close(id),
            Subject::Send(70_000),
            Subject::Accept { listener: 3, place: 63 },
            Subject::Queue { listener: 2 },
            Subject::Discard(1 << 20),
            Subject::Wake,
            Subject::Shutdown(id),
            Subject::SendNow,
            Subject::Cancel(Standing::Receive, id),
            Subject::Cancel(Standing::Failure, id),
            Subject::Cancel(Standing::Room, id),
        ] {
            assert_eq!(Subject::of(subject.user_data()), subject);
        }
    }
}

//! The buffers that the kernel receives into: it takes one when there are bytes, so that an idle
//! connection has none.
//!
//! Where the kernel can, it fills a buffer piece by piece (`IOU_PBUF_RING_INC`): then a few large ones are
//! as good for a flood of small messages as for large ones, and what comes at once lies together.
#![allow(unsafe_code, reason = "buffers and their ring are shared with the kernel")]

use super::{memory::Shared, operation::BUFFER_GROUP, ring::Ring};
use io_uring::{
    cqueue,
    types::{BufRingEntry, IOU_PBUF_RING_INC},
};
use std::{
    io,
    sync::atomic::{AtomicU16, Ordering},
};

/// How many buffers there are, and how large they are: `count` is a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) count: u16,
    pub(super) bytes: usize,
    pub(super) is_incremental: bool,
}

impl Shape {
    pub(super) const INCREMENTAL: Self = Self { count: 4, bytes: 256 << 10, is_incremental: true };
    pub(super) const WHOLE: Self = Self { count: 256, bytes: 8 << 10, is_incremental: false };
}

/// See the [module](self).
pub(super) struct Buffers {
    shape: Shape,
    /// The ring that says which buffers the kernel may take.
    ring: Shared,
    bytes: Shared,
    /// How much of each buffer was received into, if the kernel fills them piece by piece.
    filled: Box<[usize]>,
    /// How often a buffer was put into the ring, and how much of that the kernel knows.
    tail: u16,
    published: u16,
    /// How many the kernel has.
    given: u16,
    /// The last one that was taken, if it is to go back.
    lent: Option<u16>,
}

impl Buffers {
    /// Has the ring receive into new buffers.
    pub(super) fn register(ring: &Ring, shape: Shape) -> io::Result<Self> {
        let Shape { count, bytes, is_incremental } = shape;
        let mut buffers = Self {
            shape,
            ring: Shared::new::<BufRingEntry>(usize::from(count)),
            bytes: Shared::new::<u8>(usize::from(count) * bytes),
            filled: vec![0; usize::from(count)].into(),
            tail: 0,
            published: 0,
            given: 0,
            lent: None,
        };
        let flags = if is_incremental { IOU_PBUF_RING_INC as u16 } else { 0 };
        let start = buffers.ring.start().as_ptr() as u64;
        // SAFETY: the memory is as large as so many entries, and is freed only once the kernel has let go
        // of it.
        let registered = unsafe {
            ring.submitter().register_buf_ring_with_flags(start, count, BUFFER_GROUP, flags)
        };
        if let Err(error) = registered {
            // SAFETY: the kernel did not take it.
            unsafe { buffers.free() };
            return Err(error);
        }
        (0..count).for_each(|buffer| buffers.give(buffer));
        buffers.publish();
        Ok(buffers)
    }

    pub(super) const fn shape(&self) -> Shape {
        self.shape
    }

    /// How many buffers the kernel has that are not full.
    pub(super) const fn given(&self) -> usize {
        self.given as usize
    }

    /// How many neither the kernel has nor anybody was lent.
    pub(super) fn lost(&self) -> usize {
        usize::from(self.shape.count) - self.given() - usize::from(self.lent.is_some())
    }

    /// The bytes of a completion, which has to be asked about in the order of all of them. They are lent
    /// until the next call.
    #[inline]
    pub(super) fn take(&mut self, completion: &cqueue::Entry) -> &mut [u8] {
        self.give_back();
        let len = completion.result().max(0) as usize;
        let Some(buffer) = cqueue::buffer_select(completion.flags()) else { return &mut [] };
        let index = usize::from(buffer);
        let from = self.filled[index];
        let to = from + len;
        let is_more_to_come = self.shape.is_incremental && cqueue::buffer_more(completion.flags());
        if is_more_to_come {
            self.filled[index] = to;
        } else {
            self.filled[index] = 0;
            self.given -= 1;
            self.lent = Some(buffer);
        }
        assert!(to <= self.shape.bytes, "the kernel receives into what it was given");
        // SAFETY: this is inside the buffer: `index` is that of one, as it was found in `filled`, and `to`
        // is checked. All bytes were initialized. The kernel said that it is done with these, and gets
        // them again only by `give_back`, whose next call ends this borrow.
        unsafe {
            let start = self.bytes.start().as_ptr().add(index * self.shape.bytes + from);
            std::slice::from_raw_parts_mut(start, len)
        }
    }

    /// Lets the kernel have what was lent.
    #[inline]
    pub(super) fn give_back(&mut self) {
        if let Some(buffer) = self.lent.take() {
            self.give(buffer);
        }
    }

    fn give(&mut self, buffer: u16) {
        let Shape { count, bytes, .. } = self.shape;
        let place = usize::from(self.tail & (count - 1));
        // SAFETY: `place` is below `count`, which the memory has room for. The kernel does not look at an
        // entry behind the published tail; and it has at most `count` buffers, so that this is not one
        // before it.
        let entry = unsafe { &mut *self.ring.start().cast::<BufRingEntry>().add(place).as_ptr() };
        let at = usize::from(buffer) * bytes;
        entry.set_addr(self.bytes.start().as_ptr() as u64 + at as u64);
        entry.set_len(bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.given += 1;
    }

    /// Tells the kernel what it was given.
    #[inline]
    pub(super) fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        self.published = self.tail;
        // SAFETY: the tail lies in the first entry, where nothing else is; only this writes it, and
        // the kernel reads it as an atomic.
        unsafe {
            let tail = BufRingEntry::tail(self.ring.start().cast::<BufRingEntry>().as_ptr());
            AtomicU16::from_ptr(tail.cast_mut()).store(self.tail, Ordering::Release);
        }
    }

    /// Frees the memory, after which there are no buffers.
    ///
    /// # Safety
    /// This is called once, and from then on neither the kernel nor anybody else uses the memory.
    pub(super) unsafe fn free(&self) {
        // SAFETY: as above.
        unsafe {
            self.ring.free();
            self.bytes.free();
        }
    }
}

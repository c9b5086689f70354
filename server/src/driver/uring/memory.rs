//! Memory that the kernel writes to at any time.
#![allow(unsafe_code, reason = "the kernel is a second owner, which no borrow knows of")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ptr::NonNull,
};

/// A page: what the kernel asks a ring of buffers to begin at.
const ALIGN: usize = 4096;

/// Zeroed memory that is not freed by itself: it would be soundest to lose it, should the kernel still be
/// using it.
#[derive(Debug)]
pub(super) struct Shared {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory, as a box does; the other owner is the kernel, for which threads are no
// matter.
unsafe impl Send for Shared {}

impl Shared {
    /// Of a length that is known when the program is written, and not zero.
    pub(super) fn new(len: usize) -> Self {
        let layout = Layout::from_size_align(len.max(1), ALIGN).expect("no overflow");
        // SAFETY: the layout is of at least one byte.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout }
    }

    pub(super) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Frees it.
    ///
    /// # Safety
    /// Neither the kernel nor anybody else uses it any more.
    pub(super) unsafe fn free(self) {
        // SAFETY: it was allocated with this layout, and is freed once, as `self` is gone.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

//! Memory that the kernel writes to at any time.
#![allow(unsafe_code, reason = "the kernel is a second owner, which no borrow knows of")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    ptr::NonNull,
};

/// A page: what the kernel asks a ring of buffers to begin at.
const ALIGN: usize = 4096;

/// Zeroed memory that is not freed by itself: should the kernel still be using it, it is better lost.
#[derive(Debug)]
pub(super) struct Shared {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory, as a box does; the other owner is the kernel, for which threads are no
// matter.
unsafe impl Send for Shared {}

impl Shared {
    /// Room for `count` values.
    pub(super) fn new<T>(count: usize) -> Self {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= ALIGN) };
        let len = size_of::<T>().checked_mul(count.max(1));
        let layout = len.and_then(|len| Layout::from_size_align(len, ALIGN).ok());
        let Some(layout) = layout else { handle_alloc_error(Layout::new::<T>()) };
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
    /// It was not freed before, and from now on neither the kernel nor anybody else uses it.
    pub(super) unsafe fn free(&self) {
        // SAFETY: it was allocated with this layout, and is freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

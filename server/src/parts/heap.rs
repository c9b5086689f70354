//! Giving freed memory back to the system.
#![allow(unsafe_code, reason = "the C library has no other way to be asked")]

/// Asks the allocator to return what is free, wherever it lies.
///
/// The GNU C library returns by itself only what is free at the end of its heap: one small piece
/// there keeps all that a busy time took below it. This walks the heap, so it is for times of quiet.
/// Other C libraries return it by themselves; for other allocators it does nothing.
pub(crate) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time from any thread, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

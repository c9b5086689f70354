//! Giving memory back to the system.
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

/// Gives back the pages of a buffer that is about to be freed; it is empty afterwards.
///
/// What is freed in the middle of a heap stays resident until something is put there. After a large buffer
/// of a peer that is gone, that may be never.
pub(crate) fn discard(buffer: &mut Vec<u8>) {
    buffer.clear();
    #[cfg(target_os = "linux")]
    {
        let page = rustix::param::page_size();
        let room = buffer.spare_capacity_mut();
        let start = room.as_ptr().align_offset(page).min(room.len());
        let whole = (room.len() - start) / page * page;
        let pages = &mut room[start..start + whole];
        // SAFETY: these are whole pages inside the buffer's own room, none of which holds a value;
        // that they read as zero from now on is as good as what was there. That it may fail, when
        // they stay as they are, is no matter.
        unsafe {
            libc::madvise(pages.as_mut_ptr().cast(), pages.len(), libc::MADV_DONTNEED);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs;

    fn resident_bytes() -> usize {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size()
    }

    #[test]
    fn buffers_that_are_discarded_take_no_memory_though_they_are_not_freed() {
        const COUNT: usize = 1000;
        const BYTES: usize = 64 << 10;
        let mut buffers: Vec<_> = (0..COUNT).map(|_| vec![7; BYTES]).collect();
        let before = resident_bytes();
        buffers.iter_mut().for_each(discard);
        // A few pages at the ends are not whole; the rest is for what other tests do meanwhile.
        let given = before.saturating_sub(resident_bytes());
        assert!(given > COUNT * BYTES / 2, "{given} bytes were given back");
        for buffer in &mut buffers {
            assert!(buffer.is_empty());
            buffer.extend(std::iter::repeat_n(9, BYTES));
            assert!(buffer.iter().all(|byte| *byte == 9));
        }
    }

    #[test]
    fn small_and_empty_buffers_are_discarded_too() {
        for len in [0, 1, 4095, 4096, 8191, 8192, 12_289] {
            let mut buffer = vec![7; len];
            discard(&mut buffer);
            buffer.resize(len, 9);
            assert!(buffer.iter().all(|byte| *byte == 9));
        }
    }
}

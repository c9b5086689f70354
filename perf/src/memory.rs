//! The memory of processes, as the kernel accounts it.

use std::{fs, io};

/// Resident memory of a process (`self` or a number) that no file backs: its heap and stacks.
pub(crate) fn anonymous_bytes(pid: &str) -> io::Result<u64> {
    parse(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?)
}

/// The most resident memory that a process had, with what files back: ever, or since the kernel was told to forget.
pub(crate) fn peak_bytes(pid: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    number(&status, "VmHWM:").ok_or_else(|| io::Error::other("unexpected form of /proc/PID/status"))
}

/// Of a line of kibibytes, the bytes.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn parse(rollup: &str) -> io::Result<u64> {
    number(rollup, "Anonymous:")
        .ok_or_else(|| io::Error::other("unexpected form of /proc/PID/smaps_rollup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_is_read_in_bytes() {
        assert_eq!(parse("7f-8f [rollup]\nRss: 99 kB\nAnonymous:    12 kB\n").unwrap(), 12 << 10);
        assert!(parse("Anonymous: many\n").is_err());
    }

    #[test]
    fn the_peak_stays_when_memory_is_given_back() {
        let before = peak_bytes("self").unwrap();
        std::hint::black_box(vec![1; before as usize + (1 << 20)]);
        assert!(peak_bytes("self").unwrap() > before + before / 2);
    }
}

//! The memory of processes, as the kernel accounts it.

use std::{fs, io};

/// Resident memory of a process (`self` or a number) that no file backs: its heap and stacks.
pub(crate) fn anonymous_bytes(pid: &str) -> io::Result<u64> {
    parse(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?)
}

fn parse(rollup: &str) -> io::Result<u64> {
    let kibibytes = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:")?.split_whitespace().next()?.parse().ok());
    let kibibytes: u64 =
        kibibytes.ok_or_else(|| io::Error::other("unexpected form of /proc/PID/smaps_rollup"))?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_memory_is_read_in_bytes() {
        assert_eq!(parse("7f-8f [rollup]\nRss: 99 kB\nAnonymous:    12 kB\n").unwrap(), 12 << 10);
        assert!(parse("Anonymous: many\n").is_err());
    }
}

//! CPU time of processes, as the kernel accounts it.

use std::{fs, io, time::Duration};

/// Ticks of `/proc/PID/stat`: 100 a second on every Linux there is.
const TICK: Duration = Duration::from_millis(10);

/// The CPU time that a process (`self` or a number) has used, user and system together.
pub(crate) fn time(pid: &str) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the process, in parentheses, may hold anything.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks =
        |field: usize| -> Option<u32> { after_name.split_whitespace().nth(field)?.parse().ok() };
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok(TICK * (user + system)),
        _ => Err(io::Error::other("unexpected form of /proc/PID/stat")),
    }
}

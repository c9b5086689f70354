//! CPU time of processes, as the kernel accounts it.

use rustix::time::{ClockId, clock_gettime};
use std::{fs, io, time::Duration};

/// Ticks of `/proc/PID/stat`: 100 a second on every Linux there is.
const TICK: Duration = Duration::from_millis(10);

/// The CPU time that a process (`self` or a number) has used, user and system together.
///
/// Of the threads it has now, to the nanosecond where the kernel tells; one that is running is
/// accounted up to the last tick.
pub(crate) fn time(pid: &str) -> io::Result<Duration> {
    match time_of_threads(pid) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => time_of_process(pid),
    }
}

/// The CPU time that this process has used, with that of threads that have ended: it never goes back.
pub(crate) fn of_this_process() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // It is neither negative nor a second or more of nanoseconds.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn time_of_threads(pid: &str) -> io::Result<Duration> {
    let mut time = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        time += parse_schedstat(&text)?;
    }
    Ok(time)
}

/// Nanoseconds on a CPU, nanoseconds waiting for one, times it got one.
fn parse_schedstat(text: &str) -> io::Result<Duration> {
    let nanoseconds = text.split_whitespace().next().and_then(|field| field.parse().ok());
    let nanoseconds =
        nanoseconds.ok_or_else(|| io::Error::other("unexpected form of schedstat"))?;
    Ok(Duration::from_nanos(nanoseconds))
}

fn time_of_process(pid: &str) -> io::Result<Duration> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

fn parse_stat(stat: &str) -> io::Result<Duration> {
    parse_modes(stat).map(|(user, system)| user + system)
}

/// The same as [`time`], to a hundredth of a second: in user mode, and in the kernel.
pub(crate) fn modes(pid: &str) -> io::Result<(Duration, Duration)> {
    parse_modes(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

fn parse_modes(stat: &str) -> io::Result<(Duration, Duration)> {
    // The name of the process, in parentheses, may hold anything.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks =
        |field: usize| -> Option<u32> { after_name.split_whitespace().nth(field)?.parse().ok() };
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((TICK * user, TICK * system)),
        _ => Err(io::Error::other("unexpected form of /proc/PID/stat")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_a_thread_is_the_first_field_of_its_schedstat() {
        assert_eq!(parse_schedstat("1234567 89 3\n").unwrap(), Duration::from_nanos(1_234_567));
        assert!(parse_schedstat("").is_err() && parse_schedstat("a 1 2").is_err());
    }

    #[test]
    fn the_cpu_time_of_a_process_is_user_and_system_whatever_its_name_is() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 1 0";
        assert_eq!(parse_stat(stat).unwrap(), Duration::from_millis(1750));
        let modes = [1500, 250].map(Duration::from_millis).into();
        assert_eq!(parse_modes(stat).unwrap(), modes);
        assert!(parse_stat("7 (a) S 1 2").is_err());
    }

    #[test]
    fn the_cpu_time_of_this_process_grows_as_it_works() {
        let before = time("self").unwrap();
        while time("self").unwrap() <= before {}
        let before = of_this_process();
        while of_this_process() <= before {}
        assert!(time("0").is_err());
    }
}

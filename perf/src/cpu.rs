//! CPU time of processes, as the kernel accounts it.

use rustix::time::{ClockId, clock_gettime};
use std::{collections::BTreeMap, fs, io, time::Duration};

/// Ticks of `/proc/PID/stat`: 100 a second on every Linux there is.
const TICK: Duration = Duration::from_millis(10);

/// The CPU time that a process (`self` or a number) has used, user and system together.
///
/// To the nanosecond where the kernel tells; a thread that is running is accounted up to the last
/// tick, and those that have ended to a hundredth of a second.
pub(crate) fn time(pid: &str) -> io::Result<Duration> {
    // Only the process's own account has threads that have ended; but for them it is never more.
    let process = time_of_process(pid)?;
    Ok(threads(pid)?.values().sum::<Duration>().max(process))
}

/// The CPU time of each of the threads that a process has now, by their ids.
pub(crate) fn threads(pid: &str) -> io::Result<BTreeMap<u32, Duration>> {
    let mut times = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = thread?.path();
        let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        // Without a file is one that has just ended, or a kernel that does not account like this.
        if let (Some(id), Ok(text)) = (id, fs::read_to_string(path.join("schedstat"))) {
            times.insert(id, parse_schedstat(&text)?);
        }
    }
    Ok(times)
}

/// A process and those that it started, those that they started included, as far as they run. This
/// process is no part of what started it: what starts a server may start the load as well.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let own = std::process::id();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&pid) = family.get(next) {
        for child in children(pid) {
            if child != own && !family.contains(&child) {
                family.push(child);
            }
        }
        next += 1;
    }
    family
}

fn children(pid: u32) -> Vec<u32> {
    // What has just ended has none.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let parse = |list: String| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    lists.flat_map(|list| -> Vec<_> { parse(list) }).collect()
}

/// The CPU time that this process has used, with that of threads that have ended: it never goes back.
pub(crate) fn of_this_process() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // It is neither negative nor a second or more of nanoseconds.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
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

    #[test]
    fn the_cpu_time_of_a_thread_that_has_ended_is_not_lost() {
        let work = Duration::from_millis(100);
        let before = time("self").unwrap();
        let used = std::thread::spawn(move || {
            let used = || clock_gettime(ClockId::ThreadCPUTime).tv_nsec.unsigned_abs();
            while used() < work.as_nanos() as u64 {}
        });
        used.join().unwrap();
        let after = time("self").unwrap();
        // Up to two hundredths of a second are not accounted.
        assert!(after >= before + work - 3 * TICK, "{before:?} {after:?}");
    }

    #[test]
    fn a_process_has_those_it_started_in_its_family() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 30 & echo; read line; kill $!"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut line).unwrap();
        let family = family(shell.id());
        assert_eq!((family.len(), family[0]), (2, shell.id()));
        assert!(self::family(std::process::id()).contains(&family[1]));
        // What started this process has it not, nor what it started.
        let parent = std::os::unix::process::parent_id();
        assert!(!self::family(parent).contains(&std::process::id()));
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}

//! CPU time of processes, as the kernel accounts it.

use rustix::time::{ClockId, clock_gettime};
use std::{collections::BTreeMap, fs, io, time::Duration};

/// Ticks of `/proc/PID/stat`: 100 a second on every Linux there is.
const TICK: Duration = Duration::from_millis(10);

/// What the kernel has accounted to some processes by now.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// By their ids, or `self`.
    processes: BTreeMap<String, Process>,
}

/// What some processes used between two accounts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) total: Duration,
    /// Of the thread that used most.
    pub(crate) busiest: Duration,
    /// What was not the kernel's, and what was, to a hundredth of a second.
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

#[derive(Debug, Default)]
struct Process {
    /// Of the threads it has, to the nanosecond, but of those that run to the last tick.
    threads: BTreeMap<u32, Duration>,
    /// Of those that have ended as well, to a hundredth of a second.
    user: Duration,
    system: Duration,
}

/// How far the two accounts of a process may differ: each part of the coarse one leaves out up to a
/// tick, as does each thread that runs.
const DIFFERENCE_MAX: Duration = TICK.saturating_mul(3);

impl Account {
    /// Of this process alone.
    pub(crate) fn own() -> io::Result<Self> {
        let processes = BTreeMap::from([("self".to_owned(), Process::read("self")?)]);
        Ok(Self { processes })
    }

    /// Of some processes, and of all that they started.
    ///
    /// # Errors
    /// One of the first is not there, or tells nothing.
    pub(crate) fn of_families(pids: &[u32]) -> io::Result<Self> {
        let mut account = Self::default();
        for pid in pids {
            let process = Process::read(&pid.to_string()).map_err(|error| {
                io::Error::new(error.kind(), format!("the CPU time of process {pid}: {error}"))
            })?;
            account.processes.insert(pid.to_string(), process);
        }
        for pid in pids.iter().flat_map(|pid| family(*pid)).filter(|pid| !pids.contains(pid)) {
            // One that has ended by now has no account.
            if let Ok(process) = Process::read(&pid.to_string()) {
                account.processes.insert(pid.to_string(), process);
            }
        }
        Ok(account)
    }

    /// What was used since an earlier account of the same.
    pub(crate) fn since(&self, before: &Self) -> Spent {
        let mut sum = Spent::default();
        for (pid, process) in &self.processes {
            let none = Process::default();
            let spent = process.since(before.processes.get(pid).unwrap_or(&none));
            sum.total += spent.total;
            sum.busiest = sum.busiest.max(spent.busiest);
            sum.user += spent.user;
            sum.system += spent.system;
        }
        sum
    }
}

impl Process {
    fn read(pid: &str) -> io::Result<Self> {
        let (user, system) = modes(pid)?;
        Ok(Self { threads: threads(pid)?, user, system })
    }

    fn since(&self, before: &Self) -> Spent {
        let of_thread = |(id, time): (&u32, &Duration)| {
            time.saturating_sub(before.threads.get(id).copied().unwrap_or_default())
        };
        let threads = || self.threads.iter().map(of_thread);
        let user = self.user.saturating_sub(before.user);
        let system = self.system.saturating_sub(before.system);
        let (fine, coarse) = (threads().sum::<Duration>(), user + system);
        // Only the coarse account has what threads used that have ended since.
        let is_fine = !self.threads.is_empty() && coarse <= fine + DIFFERENCE_MAX;
        let total = if is_fine { fine } else { coarse };
        Spent { total, busiest: threads().max().unwrap_or(total), user, system }
    }
}

/// The CPU time that a process (`self` or a number) has used, user and system together, to about a
/// hundredth of a second.
pub(crate) fn time(pid: &str) -> io::Result<Duration> {
    // A thread that has ended is in the coarse account alone.
    let Process { threads, user, system } = Process::read(pid)?;
    Ok(threads.values().sum::<Duration>().max(user + system))
}

/// The CPU time of each of the threads that a process has now, by their ids.
fn threads(pid: &str) -> io::Result<BTreeMap<u32, Duration>> {
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

/// In user mode, and in the kernel, to a hundredth of a second.
fn modes(pid: &str) -> io::Result<(Duration, Duration)> {
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
        let modes = [1500, 250].map(Duration::from_millis).into();
        assert_eq!(parse_modes(stat).unwrap(), modes);
        assert!(parse_modes("7 (a) S 1 2").is_err());
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
        let before = Account::own().unwrap();
        let used = std::thread::spawn(move || {
            let used = || clock_gettime(ClockId::ThreadCPUTime).tv_nsec.unsigned_abs();
            while used() < work.as_nanos() as u64 {}
        });
        used.join().unwrap();
        let spent = Account::own().unwrap().since(&before);
        assert!(spent.total >= work - 3 * TICK, "{spent:?}");
    }

    #[test]
    fn the_fine_account_counts_unless_it_misses_something() {
        let millis = Duration::from_millis;
        let account = |threads: &[(u32, u64)], ticks: u64| {
            let threads = threads.iter().map(|(id, time)| (*id, Duration::from_micros(*time)));
            Process { threads: threads.collect(), user: millis(ticks * 10), system: millis(0) }
        };
        // 500 ms of threads that had ended before, which the fine one does not have.
        let before = account(&[(1, 1_500), (2, 7)], 50);
        let spent = |after: Process| after.since(&before);
        let fine = spent(account(&[(1, 101_700), (2, 7), (3, 300)], 59));
        let micros = Duration::from_micros;
        assert_eq!((fine.total, fine.busiest), (micros(100_500), micros(100_200)));
        let ended = spent(account(&[(2, 7)], 70));
        assert_eq!((ended.total, ended.busiest), (millis(200), millis(0)));
        let coarse = account(&[], 70).since(&account(&[], 69));
        assert_eq!((coarse.total, coarse.busiest), (millis(10), millis(10)));
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

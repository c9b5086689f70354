//! CPU time of the generator and of the server, while something is measured.

use super::Outcome;
use crate::{
    clock,
    cpu::{Account, Spent},
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Reads CPU times at both ends of a stretch of time.
pub(crate) struct Meter {
    /// The processes of a server; `None` for this one.
    server: Option<Vec<u32>>,
    start: Instant,
    before: Account,
}

/// What some processes used.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Used {
    /// Of the clock on the wall.
    pub(crate) length: Duration,
    pub(crate) cpu: Duration,
    /// What of it the thread used that used most.
    busiest: Duration,
    /// What of it was not the kernel's, and what was, to a hundredth of a second.
    user: Duration,
    system: Duration,
}

impl Meter {
    /// Of this process.
    pub(crate) fn of_self() -> Outcome<Self> {
        Self::start(None)
    }

    /// Of a server: all its processes, those that they started included.
    pub(crate) fn of_server(pids: &[u32]) -> Outcome<Self> {
        Self::start(Some(pids.to_vec()))
    }

    fn start(server: Option<Vec<u32>>) -> Outcome<Self> {
        let before = read(server.as_deref())?;
        Ok(Self { server, start: clock::now(), before })
    }

    /// What was used since the start.
    pub(crate) fn stop(&self) -> Outcome<Used> {
        let (length, after) = (clock::now() - self.start, read(self.server.as_deref())?);
        Ok(Used::new(length, after.since(&self.before)))
    }
}

fn read(server: Option<&[u32]>) -> Outcome<Account> {
    Ok(server.map_or_else(Account::own, Account::of_families)?)
}

impl Used {
    /// What was spent in a time.
    pub(crate) const fn new(length: Duration, spent: Spent) -> Self {
        let Spent { total, busiest, user, system } = spent;
        Self { length, cpu: total, busiest, user, system }
    }

    /// How much of one core that was.
    pub(crate) fn of_core(&self) -> f64 {
        self.cpu.as_secs_f64() / self.length.as_secs_f64()
    }

    /// How much of one core its busiest thread used.
    pub(crate) fn busiest_of_core(&self) -> f64 {
        self.busiest.as_secs_f64() / self.length.as_secs_f64()
    }

    /// Which part was not the kernel's; no number if all of it is below a hundredth of a second.
    pub(crate) fn user_share(&self) -> f64 {
        self.user.as_secs_f64() / (self.user + self.system).as_secs_f64()
    }
}

/// Beyond this part of a core, a generator is taken to be the bottleneck.
pub(crate) const CORE_MAX: f64 = 0.95;

/// Why the generator's CPU time makes a run invalid, if it does: each of its processes has a core.
pub(crate) fn judge(generator: &[Used], server: Option<&Used>) -> Option<String> {
    // Who has several threads is at its end only when one of them is.
    let busiest = generator.iter().map(Used::busiest_of_core).fold(0.0, f64::max);
    let server = server?.busiest_of_core();
    (busiest > CORE_MAX && server <= CORE_MAX).then(|| {
        format!(
            "the generator was the bottleneck: it used {:.0} % of its core, and the busiest thread of \
             the server {:.0} % of one",
            busiest * 100.0,
            server * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Read,
        process::{Command, Stdio},
    };

    fn used(milliseconds: u64) -> Used {
        let cpu = Duration::from_millis(milliseconds);
        let (length, user) = (Duration::from_secs(1), cpu / 2);
        Used { length, cpu, busiest: cpu, user, system: user }
    }

    #[test]
    fn a_generator_that_uses_its_whole_core_is_the_bottleneck_unless_the_server_does_too() {
        assert!(judge(&[used(960)], Some(&used(500))).unwrap().contains("used 96 % of its core"));
        assert!(judge(&[used(100), used(990)], Some(&used(500))).is_some());
        assert_eq!(judge(&[used(990)], Some(&used(990))), None);
        let of_two_threads = Used { busiest: Duration::from_millis(950), ..used(1900) };
        assert!(judge(&[used(990)], Some(&of_two_threads)).unwrap().contains("server 95 %"));
        assert_eq!(judge(&[used(900), used(900)], Some(&used(500))), None);
        assert_eq!(judge(&[used(990)], None), None);
    }

    #[test]
    fn the_time_of_this_process_is_metered_and_one_that_is_not_there_is_named() {
        let meter = Meter::of_self().unwrap();
        while meter.stop().unwrap().cpu < Duration::from_millis(30) {}
        let used = meter.stop().unwrap();
        assert!(used.length >= used.cpu.mul_f64(0.1) && used.of_core() > 0.0);
        assert!(used.user_share() <= 1.0, "{}", used.user_share());
        let error = Meter::of_server(&[u32::MAX]).err().unwrap().to_string();
        assert!(error.contains("process 4294967295"), "{error}");
    }

    #[test]
    fn what_a_server_started_is_metered_with_it() {
        // The shell sleeps: what works is its child.
        let script = "(while :; do :; done) & echo; read line; kill $!";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let meter = Meter::of_server(&[shell.id()]).unwrap();
        let deadline = clock::now() + Duration::from_secs(20);
        while meter.stop().unwrap().cpu < Duration::from_millis(50) {
            assert!(clock::now() < deadline, "the child's CPU time is not told");
        }
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}

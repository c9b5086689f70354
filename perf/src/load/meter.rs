//! CPU time of the generator and of the server, while something is measured.

use super::Outcome;
use crate::{clock, cpu};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Reads CPU times at both ends of a stretch of time.
pub(crate) struct Meter {
    pids: Vec<String>,
    start: Instant,
    before: Reading,
}

/// What some processes used.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Used {
    /// Of the clock on the wall.
    pub(crate) length: Duration,
    pub(crate) cpu: Duration,
    /// What of it was not the kernel's, and what was, to a hundredth of a second.
    user: Duration,
    system: Duration,
}

#[derive(Default)]
struct Reading {
    cpu: Duration,
    user: Duration,
    system: Duration,
}

impl Meter {
    /// Of this process.
    pub(crate) fn of_self() -> Outcome<Self> {
        Self::start(vec!["self".to_owned()])
    }

    /// Of a server: all its processes.
    pub(crate) fn of_server(pids: &[u32]) -> Outcome<Self> {
        Self::start(pids.iter().map(u32::to_string).collect())
    }

    fn start(pids: Vec<String>) -> Outcome<Self> {
        let before = Reading::of(&pids)?;
        Ok(Self { pids, start: clock::now(), before })
    }

    /// What was used since the start.
    pub(crate) fn stop(&self) -> Outcome<Used> {
        let (length, after) = (clock::now() - self.start, Reading::of(&self.pids)?);
        Ok(Used {
            length,
            cpu: after.cpu.saturating_sub(self.before.cpu),
            user: after.user.saturating_sub(self.before.user),
            system: after.system.saturating_sub(self.before.system),
        })
    }
}

impl Used {
    /// How much of one core that was.
    pub(crate) fn of_core(&self) -> f64 {
        self.cpu.as_secs_f64() / self.length.as_secs_f64()
    }

    /// Which part was not the kernel's; no number if all of it is below a hundredth of a second.
    pub(crate) fn user_share(&self) -> f64 {
        self.user.as_secs_f64() / (self.user + self.system).as_secs_f64()
    }
}

impl Reading {
    fn of(pids: &[String]) -> Outcome<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let explain = |error| format!("the CPU time of process {pid}: {error}");
            sum.cpu += cpu::time(pid).map_err(explain)?;
            let (user, system) = cpu::modes(pid).map_err(explain)?;
            sum.user += user;
            sum.system += system;
        }
        Ok(sum)
    }
}

/// Beyond this part of a core, a generator is taken to be the bottleneck.
pub(crate) const CORE_MAX: f64 = 0.95;

/// Why the generator's CPU time makes a run invalid, if it does: each of its processes has a core.
pub(crate) fn judge(generator: &[Used], server: Option<&Used>) -> Option<String> {
    let busiest = generator.iter().map(Used::of_core).fold(0.0, f64::max);
    let server = server?.of_core();
    (busiest > CORE_MAX && server <= CORE_MAX).then(|| {
        format!(
            "the generator was the bottleneck: it used {:.0} % of its core, the server {:.0} % of one",
            busiest * 100.0,
            server * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(milliseconds: u64) -> Used {
        let cpu = Duration::from_millis(milliseconds);
        Used { length: Duration::from_secs(1), cpu, user: cpu / 2, system: cpu / 2 }
    }

    #[test]
    fn a_generator_that_uses_its_whole_core_is_the_bottleneck_unless_the_server_does_too() {
        assert!(judge(&[used(960)], Some(&used(500))).unwrap().contains("used 96 % of its core"));
        assert!(judge(&[used(100), used(990)], Some(&used(500))).is_some());
        assert_eq!(judge(&[used(990)], Some(&used(1900))), None);
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
}

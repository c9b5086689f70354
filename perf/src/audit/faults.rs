//! Clients that misbehave while others are audited.

use crate::load::Time;
use clap::ValueEnum;
use serde::Serialize;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    /// It resets its connection, and connects again.
    Resets,
    /// It reads nothing for a while.
    Stalls,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) kinds: Vec<Fault>,
    pub(super) clients: usize,
    /// Between two faults of one client, on the average.
    pub(super) every: Duration,
    pub(super) stall_max: Duration,
}

/// When which client does what.
pub(super) struct Faulty {
    plan: Plan,
    steps: BinaryHeap<Reverse<(Time, usize, u32, Step)>>,
    /// How often each client has connected: what was planned before is for a connection that is gone.
    connected: Vec<u32>,
    resets: u64,
    stalls: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Connect,
    Reset,
    Stall,
    GoOn,
}

/// Until a client that was refused tries again.
const AGAIN: Duration = Duration::from_millis(100);

impl Faulty {
    pub(super) fn new(plan: Plan) -> Self {
        let connected = vec![0; plan.clients];
        Self { plan, steps: BinaryHeap::new(), connected, resets: 0, stalls: 0 }
    }

    /// A client has connected.
    pub(super) fn begin(&mut self, client: usize, now: Time, random: &mut fastrand::Rng) {
        self.connected[client] = self.connected[client].wrapping_add(1);
        self.plan_next(client, now, random);
    }

    /// A client does something after a while.
    pub(super) fn plan_next(&mut self, client: usize, now: Time, random: &mut fastrand::Rng) {
        let Some(fault) = random.choice(&self.plan.kinds) else { return };
        let step = match fault {
            Fault::Resets => Step::Reset,
            Fault::Stalls => Step::Stall,
        };
        let at = now + self.plan.every.mul_f64(2.0 * random.f64());
        self.push(at, client, step);
    }

    /// A client could not connect.
    pub(super) fn refuse(&mut self, client: usize, now: Time) {
        self.push(now + AGAIN, client, Step::Connect);
    }

    /// The next step that is due.
    pub(super) fn next(&mut self, now: Time) -> Option<(usize, Step)> {
        while self.next_time() <= now {
            let Reverse((_, client, connected, step)) = self.steps.pop()?;
            if connected == self.connected[client] {
                return Some((client, step));
            }
        }
        None
    }

    pub(super) fn next_time(&self) -> Time {
        self.steps.peek().map_or(Time::NEVER, |Reverse((at, ..))| *at)
    }

    fn push(&mut self, at: Time, client: usize, step: Step) {
        self.steps.push(Reverse((at, client, self.connected[client], step)));
    }

    pub(super) const fn count_reset(&mut self) {
        self.resets += 1;
    }

    /// A client begins to stall; it goes on later.
    pub(super) fn stall(&mut self, client: usize, now: Time, random: &mut fastrand::Rng) {
        self.stalls += 1;
        let at = now + self.plan.stall_max.mul_f64(random.f64());
        self.push(at, client, Step::GoOn);
    }

    /// They do nothing more.
    pub(super) fn stop(&mut self) {
        self.steps.clear();
    }

    /// What they did.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        let counts = [("resets", self.resets), ("stalls", self.stalls)];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        counts.map(|(name, count)| (name.to_owned(), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_does_one_thing_after_another_at_its_times() {
        let plan = Plan {
            kinds: vec![Fault::Stalls],
            clients: 2,
            every: Duration::from_secs(1),
            stall_max: Duration::from_secs(3),
        };
        let mut faulty = Faulty::new(plan);
        let mut random = fastrand::Rng::with_seed(1);
        let (start, late) = (Time::default(), Time::from_nanos(2_000_000_000));
        faulty.begin(1, start, &mut random);
        assert!(faulty.next_time() < late && faulty.next(start).is_none());
        assert_eq!(faulty.next(late), Some((1, Step::Stall)));
        faulty.stall(1, late, &mut random);
        assert_eq!(faulty.next(late + Duration::from_secs(3)), Some((1, Step::GoOn)));
        assert_eq!((faulty.next(late), faulty.next_time()), (None, Time::NEVER));
        faulty.refuse(0, start);
        assert_eq!(faulty.next(late), Some((0, Step::Connect)));
        assert_eq!(faulty.counts(), BTreeMap::from([("stalls".to_owned(), 1)]));
    }

    #[test]
    fn what_was_planned_for_a_connection_that_is_gone_is_not_done_to_the_next() {
        let second = Duration::from_secs(1);
        let kinds = vec![Fault::Resets];
        let plan = Plan { kinds, clients: 1, every: second, stall_max: second };
        let mut faulty = Faulty::new(plan);
        let mut random = fastrand::Rng::with_seed(1);
        faulty.begin(0, Time::default(), &mut random);
        faulty.begin(0, Time::default(), &mut random);
        let late = Time::default() + 2 * second;
        assert_eq!(faulty.next(late), Some((0, Step::Reset)));
        assert_eq!(faulty.next(late), None);
    }
}

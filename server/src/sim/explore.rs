//! Many seeds, and what is left of a failure when all that it does not need is taken away.

use super::Faults;
use std::{
    env, fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The environment variable that holds the one plan to run.
const VARIABLE: &str = "QUELEA_SIM";

/// What one run of a scenario is to be like. The scenario makes of it what it wants: all of its
/// choices have to follow from the seed.
///
/// It is written `seed=7 workers=2 steps=40 faults=cuts,resets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What all chance follows from.
    pub seed: u64,
    /// How many workers the server has.
    pub workers: usize,
    /// How much is to happen.
    pub steps: u32,
    /// What may go wrong.
    pub faults: Faults,
}

/// A run that failed, made as small as it could be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The smallest run that fails.
    pub plan: Plan,
    /// The run that was found to fail first.
    pub found: Plan,
    /// What the smallest one said.
    pub message: String,
}

/// Runs a scenario with one seed after the other until one fails: by an error, or by a panic. Then
/// tries to do without each fault, with fewer workers and fewer steps.
///
/// If the environment variable `QUELEA_SIM` holds a plan, as a failure is told, only that is run.
///
/// ```
/// use quelea::sim::{Faults, Plan, explore};
/// let plan = Plan { seed: 0, workers: 2, steps: 64, faults: Faults::ALL };
/// let failure = explore(0..10, plan, |plan| match plan.steps {
///     20.. => Err("too much".into()),
///     _ => Ok(()),
/// })
/// .unwrap_err();
/// assert_eq!(failure.plan, Plan { seed: 0, workers: 1, steps: 20, faults: Faults::NONE });
/// ```
///
/// # Errors
/// The first failure.
pub fn explore(
    seeds: Range<u64>,
    plan: Plan,
    scenario: impl Fn(&Plan) -> Result<(), String>,
) -> Result<(), Failure> {
    let run = |plan: &Plan| match catch_unwind(AssertUnwindSafe(|| scenario(plan))) {
        Ok(result) => result.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
            Some(text.unwrap_or_else(|| "it panicked".into()))
        }
    };
    if let Some(text) = env::var_os(VARIABLE) {
        let Some(wanted) = text.to_str().and_then(Plan::read) else {
            let message = format!("{VARIABLE} is no plan: {}", text.display());
            return Err(Failure { plan, found: plan, message });
        };
        return match run(&wanted) {
            Some(message) => Err(Failure { plan: wanted, found: wanted, message }),
            None => Ok(()),
        };
    }
    for seed in seeds {
        let found = Plan { seed, ..plan };
        if let Some(message) = run(&found) {
            let (plan, message) = shrink(found, message, run);
            return Err(Failure { plan, found, message });
        }
    }
    Ok(())
}

fn shrink(found: Plan, message: String, run: impl Fn(&Plan) -> Option<String>) -> (Plan, String) {
    let mut best = (found, message);
    let attempt = |best: &mut (Plan, String), plan: Plan| {
        if let Some(message) = run(&plan) {
            *best = (plan, message);
            true
        } else {
            false
        }
    };
    for fault in found.faults.iter() {
        let plan = best.0;
        attempt(&mut best, Plan { faults: plan.faults.without(fault), ..plan });
    }
    for workers in 1..found.workers {
        let plan = best.0;
        if attempt(&mut best, Plan { workers, ..plan }) {
            break;
        }
    }
    // The fewest steps, as if fewer never failed where more do not.
    let mut too_few = 0;
    while best.0.steps - too_few > 1 {
        let plan = best.0;
        let steps = too_few + (plan.steps - too_few) / 2;
        if !attempt(&mut best, Plan { steps, ..plan }) {
            too_few = steps;
        }
    }
    best
}

impl Plan {
    fn read(text: &str) -> Option<Self> {
        let mut plan = Self { seed: 0, workers: 1, steps: 1, faults: Faults::NONE };
        for part in text.split_whitespace() {
            let (name, value) = part.split_once('=')?;
            match name {
                "seed" => plan.seed = value.parse().ok()?,
                "workers" => plan.workers = value.parse().ok()?,
                "steps" => plan.steps = value.parse().ok()?,
                "faults" => plan.faults = value.parse().ok()?,
                _ => return None,
            }
        }
        Some(plan)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, workers, steps, faults } = self;
        write!(f, "seed={seed} workers={workers} steps={steps} faults={faults}")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, found, message } = self;
        writeln!(f, "{message}")?;
        writeln!(f, "found with {found}; to run the smallest that fails again, set")?;
        write!(f, "{VARIABLE}='{plan}'")
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Fault;

    const PLAN: Plan = Plan { seed: 0, workers: 4, steps: 100, faults: Faults::ALL };

    #[test]
    fn a_plan_is_read_as_it_is_written() {
        assert_eq!(Plan::read(&PLAN.to_string()), Some(PLAN));
        assert_eq!(Plan::read("seed=x"), None);
    }

    #[test]
    fn a_failure_is_made_as_small_as_it_can_be() {
        let failure = explore(3..10, PLAN, |plan| {
            let needs = plan.faults.has(Fault::Cuts) && plan.workers >= 2 && plan.steps >= 13;
            if plan.seed >= 5 && needs { Err(format!("as {plan}")) } else { Ok(()) }
        })
        .unwrap_err();
        let faults = Faults::NONE.with(Fault::Cuts);
        assert_eq!(failure.plan, Plan { seed: 5, workers: 2, steps: 13, faults });
        assert_eq!(failure.found, Plan { seed: 5, ..PLAN });
        assert!(failure.to_string().contains("QUELEA_SIM='seed=5 workers=2 steps=13 faults=cuts'"));
    }

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let failure = explore(0..1, PLAN, |plan| panic!("no {}", plan.seed)).unwrap_err();
        assert_eq!(failure.message, "no 0");
    }
}

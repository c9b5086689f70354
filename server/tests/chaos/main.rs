//! Many runs of a simulated server under faults, each checked in all that was promised.

mod handler;
mod ledger;
mod scenario;

use quelea::sim::{Faults, Plan, explore};

const PLAN: Plan = Plan { seed: 0, workers: 1, steps: 150, faults: Faults::ALL };

/// How many seeds each test runs: `QUELEA_SEEDS`, or a few.
fn seeds() -> u64 {
    std::env::var("QUELEA_SEEDS").map_or(100, |seeds| seeds.parse().expect("a number of seeds"))
}

/// Each seed leaves out other faults, so that none hides behind another.
fn plan_of(plan: &Plan) -> Plan {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    if random.u32(0..8) == 0 {
        return Plan { faults: Faults::NONE, ..*plan };
    }
    let faults = Faults::ALL.iter().fold(plan.faults, |left, fault| match random.u32(0..3) {
        0 => left.without(fault),
        _ => left,
    });
    Plan { faults, ..*plan }
}

fn check(plan: Plan) {
    let result = explore(0..seeds(), plan, |plan| {
        let plan = plan_of(plan);
        let digest = scenario::run(&plan)?;
        if plan.seed % 16 == 0 && scenario::run(&plan) != Ok(digest) {
            return Err("the same seed gave another run".into());
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}\nand run: cargo test -p quelea --features sim --test chaos");
    }
}

#[test]
fn all_promises_hold_under_faults_with_one_worker() {
    check(PLAN);
}

#[test]
fn all_promises_hold_under_faults_with_several_workers() {
    check(Plan { workers: 3, ..PLAN });
}

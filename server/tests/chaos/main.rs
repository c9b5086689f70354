//! Many runs of a simulated server under faults, each checked in all that was promised.

mod handler;
mod ledger;
#[cfg(mutants)]
mod mutants;
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

/// Runs a plan, and now and then runs it again; `prepare` is called before each.
fn check_plan(plan: &Plan, prepare: impl Fn()) -> Result<(), String> {
    let plan = plan_of(plan);
    prepare();
    let digest = scenario::run(&plan)?;
    prepare();
    if plan.seed.is_multiple_of(16) && scenario::run(&plan) != Ok(digest) {
        return Err("the same seed gave another run".into());
    }
    Ok(())
}

fn check(plan: Plan) {
    if let Err(failure) = explore(0..seeds(), plan, |plan| check_plan(plan, || {})) {
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

//! Many runs of a simulated server under faults, each checked in all that was promised.

mod config;
mod counts;
mod ends;
mod handler;
mod ledger;
#[cfg(mutants)]
mod mutants;
mod scenario;

use quelea::sim::{Faults, Plan, explore};
use std::{cell::RefCell, collections::BTreeSet};

const PLAN: Plan = Plan { seed: 0, workers: 1, steps: 150, faults: Faults::ALL };

/// What has to happen in some of the runs, or they show little.
const KINDS: &[&str] = &[
    "Disconnected",
    "Idle",
    "Lifetime",
    "Limit",
    "LocalClosed",
    "PeerClosed",
    "ProtocolError",
    "Reset",
    "Shutdown",
    "TimedOut",
    "TooFast",
    "TooSlow",
    "backlog",
    "close behind all else",
    "drain",
    "mail dropped",
    "eager",
    "pong",
    "publish dropped",
    "publish refused",
    "refused 408",
    "refused 429",
    "refused 503",
    "resume",
    "round trip",
    "send refused",
    "timer",
];

/// How many seeds each test runs: `QUELEA_SEEDS`, or a few.
fn seeds() -> u64 {
    std::env::var("QUELEA_SEEDS").map_or(200, |seeds| seeds.parse().expect("a number of seeds"))
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

/// Runs a plan, and now and then runs it again; `prepare` is called before each. The kinds of things
/// that happened.
fn check_plan(plan: &Plan, prepare: impl Fn()) -> Result<BTreeSet<String>, String> {
    let plan = plan_of(plan);
    prepare();
    let outcome = scenario::run(&plan)?;
    prepare();
    if plan.seed.is_multiple_of(16) && scenario::run(&plan)? != outcome {
        return Err("the same seed gave another run".into());
    }
    Ok(outcome.seen)
}

fn check(plan: Plan) {
    let seen = RefCell::new(BTreeSet::new());
    let result = explore(0..seeds(), plan, |plan| {
        seen.borrow_mut().append(&mut check_plan(plan, || {})?);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}\nand run: cargo test -p quelea --features sim --test chaos");
    }
    if std::env::var_os("QUELEA_SIM").is_some() {
        return;
    }
    let seen = seen.into_inner();
    let unseen: Vec<_> = KINDS.iter().filter(|kind| !seen.contains(**kind)).collect();
    assert!(unseen.is_empty(), "never happened: {unseen:?}; what did: {seen:?}");
}

#[test]
fn all_promises_hold_under_faults_with_one_worker() {
    check(PLAN);
}

#[test]
fn all_promises_hold_under_faults_with_several_workers() {
    check(Plan { workers: 3, ..PLAN });
}

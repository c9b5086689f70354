//! Each checker finds the bug that it is there for.

use super::{PLAN, check_plan};
use quelea::sim::{Mutant, Plan, explore, plant};

/// What is said of a bug.
fn told(mutant: Mutant) -> &'static [&'static str] {
    match mutant {
        Mutant::SendTwice => &["twice, out of order or unasked"],
        Mutant::LoseSend => &["missed", "publishes are lost", "broke a rule"],
        Mutant::LoseMail => &["mailed messages are lost"],
        Mutant::Miscount => &["opened: "],
        Mutant::ShuffleMail => &["out of order", "behind what came later"],
        Mutant::ForgetWritable => &["missed", "came", "alive"],
        Mutant::KeepSlot | Mutant::KeepTimer | Mutant::KeepSubscriptions => &["this is left"],
        Mutant::KeepAdmission => &["this is left"],
        Mutant::NoOutboxLimit => &["bytes wait for client"],
        Mutant::DoubleMessages => &["bytes passed"],
        Mutant::NoOnClose => &["were opened"],
        Mutant::ResetAsFin => &["which is not true"],
        Mutant::Oversleep => &["late"],
        Mutant::Unseeded => &["another run"],
        _ => &[],
    }
}

#[test]
fn every_planted_bug_is_found_by_its_checker() {
    let mut missed = Vec::new();
    for &mutant in Mutant::ALL {
        let plan = Plan { workers: 2, ..PLAN };
        // Another checker may see it first.
        let is_told = |message: &str| told(mutant).iter().any(|words| message.contains(words));
        let found = explore(0..500, plan, |plan| match check_plan(plan, || plant(Some(mutant))) {
            Err(message) if is_told(&message) => Err(message),
            _ => Ok(()),
        });
        plant(None);
        match found {
            Ok(()) => missed.push(mutant),
            Err(failure) => println!("{mutant:?}: {}", failure.message),
        }
    }
    assert!(missed.is_empty(), "their checkers have not found {missed:?}");
}

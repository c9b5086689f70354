//! Tells the tool the commit it is built from: every result names it.

use std::{path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=QUELEA_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    // A line is added to it with each commit and checkout. A path that is not there would build
    // the tool anew each time.
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.git/logs/HEAD");
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    // What is not committed is told as well, and may come with any change.
    for sources in ["src", "../core/src", "../server/src"] {
        println!("cargo::rerun-if-changed={sources}");
    }
    let commit = std::env::var("QUELEA_COMMIT").ok().or_else(commit);
    println!("cargo::rustc-env=QUELEA_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn commit() -> Option<String> {
    let describe = ["describe", "--always", "--dirty=-changed", "--abbrev=12", "--exclude=*"];
    let output = Command::new("git").args(describe).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !commit.is_empty()).then(|| commit.trim().to_owned())
}

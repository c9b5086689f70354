//! A server that is killed and started again.

use serde_json::Value;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_quelea-perf");
/// The status of a run that is not valid, as any may be on a busy machine.
const INVALID: i32 = 3;

#[test]
fn all_are_back_after_the_server_was_killed_and_started_again() {
    let server = format!("{PROGRAM} bare --listen {{address}}");
    let output = Command::new(PROGRAM)
        .args([
            "storm",
            "--how",
            "restart",
            "--connections",
            "50",
            "--before",
            "0.2",
            "--json",
            "-",
        ])
        .args(["--server", &server])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | INVALID)), "{} {error}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figure = |name: &str| report["figures"][name]["value"].as_f64().unwrap();
    assert_eq!(figure("back"), 50.0);
    assert!(figure("back_100_seconds") > 0.0 && figure("attempts") >= 50.0);
    assert!(figure("server_cpu_ns_per_handshake") >= 0.0);
}

//! How an audit ends, against a server that sends each message to all.

use serde_json::Value;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_quelea-perf");

/// The status, and figures by their names.
fn audit(words: &[&str]) -> (Option<i32>, impl Fn(&str) -> f64) {
    let output = Command::new(PROGRAM)
        .args(["audit", "--seconds", "0.3", "--settle", "0.1", "--connections", "4", "--json", "-"])
        .args(["--server", &format!("{PROGRAM} bare --listen {{address}}")])
        .args(words)
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figure = move |name: &str| report["figures"][name]["value"].as_f64().unwrap();
    (output.status.code(), figure)
}

#[test]
fn the_status_tells_whether_all_came_as_it_should() {
    let (status, figure) = audit(&["--server-does", "broadcast", "--publishers", "2"]);
    assert_eq!((status, figure("lost"), figure("misdelivered")), (Some(0), 0.0, 0.0));
    assert!(figure("sent") > 0.0 && figure("received") == figure("sent") * 4.0);
    // The same server is no echo server.
    let (status, figure) = audit(&[]);
    assert_eq!((status, figure("lost")), (Some(1), 0.0));
    assert!(figure("misdelivered") > 0.0);
}

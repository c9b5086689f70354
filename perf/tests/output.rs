//! Where the result of a run goes, as a caller sees it.

use std::process::{Command, Output};

/// A run of a moment.
fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quelea-perf"));
    command.args(["sim", "--connections", "100", "--seconds", "1"]);
    command.args(arguments).output().unwrap()
}

#[test]
fn json_has_standard_output_for_itself_and_says_what_the_text_says() {
    let output = sim(&["--json", "-"]);
    assert!(output.status.success());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["mode"], "sim");
    assert_eq!(json["valid"], true);
    assert_eq!(json["settings"]["connections"], 100);
    assert_eq!(json["figures"]["connections"]["value"], 100.0);
    let text = String::from_utf8(output.stderr).unwrap();
    let memory = json["figures"]["bytes_per_connection"]["value"].as_f64().unwrap();
    let digits = if memory >= 1000.0 { format!("{memory:.0}") } else { format!("{memory:.1}") };
    assert!(text.starts_with("connections     100\n"), "{text}");
    assert!(text.contains(&format!("memory          {digits}")), "{text}");
    assert!(text.contains(json["environment"]["commit"].as_str().unwrap()), "{text}");
}

#[test]
fn nothing_but_the_result_is_written_where_no_terminal_is() {
    let output = sim(&[]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("connections     100\n"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn a_file_that_cannot_be_is_told_before_the_run() {
    for (arguments, reason) in [
        (["--json", "/nowhere/a.json"], "there is no directory /nowhere"),
        (["--hgrm", "a.hgrm"], "--hgrm: sim measures no latency; leave it out"),
    ] {
        let output = sim(&arguments);
        assert!(!output.status.success() && output.stdout.is_empty());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_mode_without_latencies_refuses_the_file_for_them_before_the_run() {
    for arguments in [
        "attack ws://127.0.0.1:9/",
        "compare --server a={port}",
        "idle ws://127.0.0.1:9/ --server-pid 1",
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quelea-perf"));
        let output = command.args(arguments.split(' ')).args(["--hgrm", "a.hgrm"]).output();
        let error = String::from_utf8(output.unwrap().stderr).unwrap();
        assert!(error.contains("measures no latency"), "{error}");
    }
}

//! The tool measures a server that it starts: here its own floor.

use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quelea-perf");

/// Runs to the end, and to that of every server that it started: they hold its error output open.
fn fanout(arguments: &[&str]) -> Output {
    let server = format!("{PROGRAM} bare --listen {{address}}");
    let mut command = Command::new(PROGRAM);
    command.args(["fanout", "--rounds", "2", "--seconds", "0.1", "--server", &server]);
    command.args(arguments).output().unwrap()
}

/// The fields of each line of the table, without those of its head.
fn rows(output: &Output) -> Vec<Vec<String>> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines =
        text.lines().skip(2).take_while(|line| line.trim_start().starts_with(char::is_numeric));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn each_delivery_of_a_burst_is_counted() {
    let rows = rows(&fanout(&["--subscribers", "5,2", "--burst", "1,100"]));
    let loads: Vec<_> = rows.iter().map(|row| (&*row[0], &*row[1])).collect();
    assert_eq!(loads, [("5", "1"), ("5", "100"), ("2", "1"), ("2", "100")]);
    for row in rows {
        let [subscribers, burst, deliveries] =
            [0, 1, 2].map(|field| row[field].parse::<u64>().unwrap());
        assert!(deliveries >= 2 * subscribers * burst, "{row:?}");
        assert_eq!(deliveries % (subscribers * burst), 0, "{row:?}");
        for cost in &row[3..6] {
            assert!(cost.parse::<f64>().unwrap() > 0.0, "{row:?}");
        }
    }
}

#[test]
fn each_delivery_is_counted_when_all_publish_to_all() {
    let floor = format!("{PROGRAM} bare --per-receive --listen {{address}}");
    let arguments = ["--all-to-all", "--clients", "5", "--depth", "2", "--floor", &floor];
    let rows = rows(&fanout(&arguments));
    let [row] = &*rows else { panic!("{rows:?}") };
    let deliveries: u64 = row[2].parse().unwrap();
    assert!(deliveries >= 2 * 2 * 5 * 5 && deliveries.is_multiple_of(5), "{row:?}");
}

#[test]
fn a_server_that_does_not_start_is_an_error_and_ends_the_other() {
    let server = format!("{PROGRAM} bare --listen {{address}}0");
    let mut command = Command::new(PROGRAM);
    let output = command.args(["fanout", "--server", &server]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("ended: exit status"));
}

//! The tool loads a server of this process, from one process and from several.

use quelea::{Config, Conn, Handle, Handler, Message, Server};
use serde_json::Value;
use std::{
    net::TcpListener,
    process::{Command, Output, Stdio},
    thread::{self, JoinHandle, sleep},
    time::Duration,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quelea-perf");
/// The status of a run that is not valid, as any may be on a busy machine.
const INVALID: i32 = 3;

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

/// A server that echoes, until it is dropped.
struct Running {
    url: String,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        let config = Config { workers: Some(1), ..Config::default() };
        let server = Server::new(|_| Echo).config(config).unwrap();
        let server = server.listen("127.0.0.1:0").unwrap();
        let url = format!("ws://{}/", server.local_addresses().next().unwrap());
        let handle = server.handle();
        let thread = Some(thread::spawn(move || server.run().unwrap()));
        Self { url, handle, thread }
    }

    fn connections(&self) -> usize {
        self.handle.counts().connections
    }

    /// Waits until it has so many connections.
    fn until(&self, connections: usize) {
        for _ in 0..500 {
            if self.connections() == connections {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        panic!("{} connections, not {connections}", self.connections());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn echo(url: &str, arguments: &str) -> Output {
    let arguments = arguments.split_whitespace();
    Command::new(PROGRAM).args(["echo", url, "--json", "-"]).args(arguments).output().unwrap()
}

fn result(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | INVALID)), "{stderr}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["valid"] == true, output.status.code() == Some(0), "{result}");
    result
}

fn figure(result: &Value, name: &str) -> f64 {
    result["figures"][name]["value"].as_f64().unwrap_or_else(|| panic!("{name}: {result}"))
}

#[test]
fn several_processes_are_one_run() {
    let server = Running::start();
    let pid = std::process::id();
    for load in ["--depth 2", "--rate 2000"] {
        let arguments = format!("{load} --connections 10 --seconds 0.3 --warm-up 0.05");
        for processes in [1, 3] {
            let arguments = format!("{arguments} --processes {processes} --server-pid {pid}");
            let result = result(&echo(&server.url, &arguments));
            assert!(figure(&result, "messages") > 100.0, "{result}");
            for name in [
                "messages_per_second",
                "generator_cpu_ns_per_message",
                "server_cpu_ns_per_message",
                "goodput",
                "wire_sent",
                "wire_received",
            ] {
                assert!(figure(&result, name) >= 0.0, "{name}");
            }
            let histograms = &result["histograms"];
            assert_eq!(histograms["connect"]["count"], 10);
            assert_eq!(histograms["upgrade"]["count"], 10);
            assert!(histograms["latency"]["p99"].as_u64().unwrap() > 0);
            let is_open = load.starts_with("--rate");
            assert_eq!(histograms["latency_uncorrected"].is_object(), is_open);
            assert_eq!(result["counts"]["errors"]["counts"], serde_json::json!({}));
            server.until(0);
        }
    }
}

#[test]
fn an_error_of_one_process_ends_the_run_and_is_told() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = echo(&format!("ws://{address}/"), "--connections 10 --processes 2");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("Connection refused"), "{stderr}");
}

#[test]
fn processes_end_with_the_one_that_started_them() {
    let server = Running::start();
    let arguments = "--connections 10 --processes 2 --seconds 60 --warm-up 0";
    let mut run = Command::new(PROGRAM)
        .args(["echo", &server.url])
        .args(arguments.split_whitespace())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    server.until(10);
    // Soon they measure, and hear nothing.
    sleep(Duration::from_millis(300));
    run.kill().unwrap();
    run.wait().unwrap();
    server.until(0);
}

#[test]
fn the_highest_rate_is_searched_step_by_step() {
    let server = Running::start();
    let arguments = "--find-max p99<20ms --rate 500 --seconds 0.1 --warm-up 0 --connections 5";
    let result = result(&echo(&server.url, arguments));
    let steps = result["tables"][0]["rows"].as_array().unwrap();
    assert!(steps.len() >= 2, "{result}");
    let held = steps.iter().filter(|step| step[3] == "yes").filter_map(|step| step[0].as_f64());
    let highest = held.fold(0.0, f64::max);
    if highest > 0.0 {
        assert_eq!(figure(&result, "rate_max"), highest);
    }
    assert!(steps.iter().any(|step| step[3] != "yes"), "{result}");
}

#[test]
fn another_host_is_not_loaded_by_mistake() {
    for mode in ["echo", "idle --server-pid 1"] {
        let words = mode.split_whitespace().chain(["ws://192.0.2.1:9/"]);
        let output = Command::new(PROGRAM).args(words).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(stderr.contains("--i-own-this-host"), "{stderr}");
    }
}

//! What `attack` finds: nothing at a server that keeps to the rules, and each thing at one that does
//! not. The servers are in this process, the attacker is one of its own.

mod careless;

use careless::{Careless, Fault};
use quelea::{
    Config, Conn, Handler, Message, Server,
    deflate::{Policy, Settings, WindowBits},
};
use serde_json::Value;
use std::{
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Memory and descriptors are those of the whole process: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    give_back_memory();
    guard
}

/// What the allocator keeps for later would hide what a server takes.
fn give_back_memory() {
    // SAFETY: it only gives back what is not in use.
    unsafe { libc::malloc_trim(0) };
}

fn attack(address: impl std::fmt::Display, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quelea-perf"));
    command.args(["attack", &format!("ws://{address}/"), "--json", "-"]);
    command.args(["--memory-mib", "32", "--flood-mib", "48", "--connections", "400"]);
    command.args(["--fragments", "200000"]);
    command.args(arguments).output().unwrap()
}

/// What was found: the name of each row, its verdict and what happened.
fn found(output: &Output) -> Vec<(String, String, String)> {
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    let cell = |row: &Value, index: usize| row[index].as_str().unwrap().to_owned();
    rows.iter().map(|row| (cell(row, 1), cell(row, 0), cell(row, 2))).collect()
}

fn pid() -> String {
    std::process::id().to_string()
}

struct Echo;

impl Handler for Echo {
    type State = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        conn.send(message);
    }
}

/// What is found at our own server.
fn found_at(config: Config, arguments: &[&str]) -> (Output, Vec<(String, String, String)>) {
    let config = Config { workers: Some(1), ..config };
    let server = Server::new(|_| Echo).config(config).unwrap().listen("127.0.0.1:0").unwrap();
    let address = server.local_addresses().next().unwrap().to_string();
    let handle = server.handle();
    let thread = thread::spawn(move || server.run());
    let output = attack(&address, &[&["--server-pid", &pid()], arguments].concat());
    let rows = found(&output);
    handle.stop();
    thread.join().unwrap().unwrap();
    (output, rows)
}

const TAKEOVER: Policy = Policy::Takeover { window_bits: WindowBits::MAX, budget_bytes: 8 << 20 };

#[test]
fn a_server_that_keeps_to_the_rules_passes_every_row() {
    let _alone = alone();
    let handshake_timeout = Duration::from_millis(500);
    let deflate = Settings::new(TAKEOVER);
    let config = Config { handshake_timeout, deflate, ..Config::default() };
    let (output, rows) = found_at(config, &[]);
    let others: Vec<_> = rows.iter().filter(|(_, verdict, _)| verdict != "pass").collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(rows.len() > 50, "{} rows", rows.len());
    assert!(output.status.success());
}

/// Holds that the rows of a careless server are judged so.
fn is_judged(fault: Fault, arguments: &[&str], expected: &[(&str, &str)]) {
    let server = Careless::start(fault);
    let pid = pid();
    let rows: Vec<_> = expected.iter().flat_map(|(name, _)| ["--row", name]).collect();
    let arguments = [arguments, &["--server-pid", &pid, "--patience", "1"], &rows].concat();
    let output = attack(server.address, &arguments);
    let found = found(&output);
    let verdicts: Vec<_> =
        found.iter().map(|(name, verdict, _)| (name.as_str(), verdict.as_str())).collect();
    assert_eq!(verdicts, expected, "{found:#?}");
    let has_failed = expected.iter().any(|(_, verdict)| *verdict == "fail");
    assert_eq!(output.status.code(), Some(i32::from(has_failed)));
}

#[test]
fn a_server_that_opens_for_anything_fails_the_handshakes() {
    let _alone = alone();
    let expected = [
        ("handshake/no-upgrade", "fail"),
        ("handshake/no-connection", "fail"),
        ("handshake/no-version", "fail"),
        ("handshake/no-key", "fail"),
        ("handshake/no-host", "fail"),
        ("handshake/version-not-13", "fail"),
        ("handshake/http-1.0", "fail"),
        ("handshake/method-post", "fail"),
        ("handshake/bad-key", "weak"),
        ("handshake/repeated-fields", "fail"),
        ("handshake/odd-bytes", "fail"),
        ("handshake/long-lists", "pass"),
        ("handshake/other-origin", "weak"),
        ("handshake/no-http", "weak"),
        ("handshake/body", "fail"),
        ("handshake/two-lengths", "fail"),
        ("handshake/length-and-encoding", "fail"),
        ("handshake/early-bytes", "weak"),
        ("handshake/hidden-lines", "fail"),
        ("handshake/space-before-colon", "fail"),
        ("handshake/head-too-long", "weak"),
        ("handshake/byte-at-a-time", "pass"),
        ("handshake/never-finished", "weak"),
    ];
    is_judged(Fault::None, &["--deadline-wait", "1"], &expected);
}

#[test]
fn a_server_that_checks_no_frame_fails_the_frames() {
    let _alone = alone();
    let expected = [
        ("frames/unmasked", "fail"),
        ("frames/reserved-opcodes", "fail"),
        ("frames/reserved-bits", "fail"),
        ("frames/long-control", "fail"),
        ("frames/fragmented-control", "fail"),
        ("frames/mixed-fragments", "fail"),
        ("frames/length-top-bit", "fail"),
        ("frames/length-overflow", "weak"),
        ("frames/length-not-minimal", "weak"),
        ("frames/utf8", "fail"),
        ("frames/utf8-fragments", "fail"),
        ("frames/utf8-at-once", "weak"),
        ("frames/byte-at-a-time", "pass"),
        ("frames/close-codes", "pass"),
        ("frames/close-codes-registered-later", "pass"),
        ("frames/close-without-code", "pass"),
        ("frames/close-codes-never-sent", "fail"),
        ("frames/close-codes-undefined", "weak"),
        ("frames/close-one-byte", "fail"),
        ("frames/close-reason-utf8", "weak"),
        ("frames/data-behind-close", "pass"),
        ("frames/never-closing-peer", "weak"),
    ];
    is_judged(Fault::None, &["--deadline-wait", "1"], &expected);
}

#[test]
fn a_server_that_takes_messages_of_any_length_and_form_fails_those() {
    let _alone = alone();
    for name in [
        "frames/declared-length",
        "floods/too-long-message",
        "floods/never-final",
        "frames/empty-fragments",
        "frames/tiny-fragments",
    ] {
        is_judged(Fault::None, &[], &[(name, "fail")]);
        give_back_memory();
    }
}

#[test]
fn a_server_that_compresses_each_message_by_itself_passes_the_rows_of_compression() {
    let _alone = alone();
    let config = Config { deflate: Settings::new(Policy::Shared), ..Config::default() };
    let (_, rows) = found_at(config, &["--row", "deflate"]);
    assert!(rows.len() > 8 && rows.iter().all(|(_, verdict, _)| verdict == "pass"), "{rows:#?}");
}

#[test]
fn a_server_that_does_not_look_at_compressed_messages_fails_those() {
    let _alone = alone();
    let expected = [
        ("deflate/not-agreed", "fail"),
        ("deflate/reserved-bits", "fail"),
        ("deflate/invalid", "fail"),
        ("deflate/unfinished", "weak"),
        ("deflate/utf8", "fail"),
    ];
    is_judged(Fault::Deflates, &[], &expected);
}

#[test]
fn a_server_that_inflates_whatever_comes_fails_the_bombs() {
    let _alone = alone();
    for row in ["deflate/bomb", "deflate/bomb-in-fragments"] {
        let deflate = Settings::new(Policy::Shared);
        let config = Config { deflate, message_bytes_max: 256 << 20, ..Config::default() };
        let config = Config { mailbox_bytes_max: 1 << 30, outbox_bytes_max: 1 << 30, ..config };
        let (_, rows) = found_at(config, &["--row", row]);
        assert!(rows.iter().all(|(_, verdict, _)| verdict == "fail"), "{rows:#?}");
        give_back_memory();
    }
}

#[test]
fn a_server_that_does_not_compress_is_not_judged_by_compressed_messages() {
    let _alone = alone();
    let (output, rows) = found_at(Config::default(), &["--row", "deflate"]);
    for (name, verdict, happened) in &rows {
        let expected = if name == "deflate/not-agreed" { "pass" } else { "skip" };
        assert_eq!(verdict, expected, "{name}: {happened}");
    }
    assert!(rows.len() > 8 && output.status.success());
}

#[test]
fn a_server_that_keeps_what_nobody_reads_fails_the_floods() {
    let _alone = alone();
    for name in ["floods/pings-not-reading", "floods/never-reader", "floods/slow-reader"] {
        is_judged(Fault::None, &[], &[(name, "fail")]);
        give_back_memory();
    }
    let expected = [("floods/half-open-handshakes", "pass"), ("floods/connect-and-reset", "pass")];
    is_judged(Fault::None, &[], &expected);
}

#[test]
fn a_server_that_serves_one_handshake_at_a_time_fails_beside_half_open_ones() {
    let _alone = alone();
    is_judged(Fault::OneHandshakeAtATime, &[], &[("floods/half-open-handshakes", "fail")]);
}

#[test]
fn a_server_that_keeps_descriptors_fails_after_resets() {
    let _alone = alone();
    let arguments = ["--deadline-wait", "1"];
    is_judged(Fault::Leaks, &arguments, &[("floods/connect-and-reset", "fail")]);
}

#[test]
fn rows_after_the_one_that_ended_the_server_are_skipped_and_say_so() {
    let _alone = alone();
    let server = Careless::start(Fault::Dies);
    let rows = ["--row", "frames/unmasked", "--row", "frames/reserved-bits", "--patience", "1"];
    let output = attack(server.address, &rows);
    let found = found(&output);
    assert_eq!((found[0].1.as_str(), found[1].1.as_str()), ("fail", "skip"), "{found:#?}");
    assert!(found[0].2.contains("another connection was closed"), "{found:#?}");
    assert!(found[1].2.contains("no server since frames/unmasked"), "{found:#?}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn without_the_pid_rows_about_memory_and_descriptors_are_skipped_with_the_reason() {
    let _alone = alone();
    let server = Careless::start(Fault::None);
    let rows = ["--row", "floods/never-reader", "--row", "floods/connect-and-reset"];
    let output = attack(server.address, &rows);
    for (name, verdict, happened) in found(&output) {
        assert_eq!(verdict, "skip", "{name}: {happened}");
        assert!(happened.contains("--server-pid"), "{name}: {happened}");
    }
    assert!(output.status.success());
}

#[test]
fn what_was_asked_for_wrongly_is_an_error_that_says_what_to_change() {
    for (arguments, hint) in [
        (&["ws://127.0.0.1:1/", "--row", "frames/none"][..], "--list"),
        (&["ws://127.0.0.1:1/", "--server-pid", "4294967295"], "--server-pid"),
        (&["ws://127.0.0.1:1/", "--patience", "0"], "--patience"),
        (&[], "<URL>"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quelea-perf"));
        let output = command.arg("attack").args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(hint), "{arguments:?}: {error}");
    }
}

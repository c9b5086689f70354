//! A run that is ended by a signal.

use rustix::process::{Pid, Signal, kill_process};
use std::{fs, os::unix::process::ExitStatusExt, process::Command, thread::sleep, time::Duration};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quelea-perf");
/// 10 ms apart.
const LOOKS_MAX: u32 = 2000;

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS_MAX {
        if let Some(found) = look() {
            return found;
        }
        sleep(Duration::from_millis(10));
    }
    panic!("it did not come in time");
}

/// What a process was called with; nothing once it has ended.
fn command_line(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

#[test]
fn the_server_of_a_run_ends_with_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = format!("{PROGRAM} bare --listen {{address}}");
        let mut run = Command::new(PROGRAM)
            .args("fanout --no-floor --subscribers 2 --rounds 1 --seconds 10".split(' '))
            .args(["--server", &server])
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", run.id());
        let server = wait_for(|| {
            let children = fs::read_to_string(&children).unwrap();
            let mut children = children.split_whitespace().map(str::to_owned);
            children.find(|pid| command_line(pid).contains("bare"))
        });
        kill_process(Pid::from_raw(run.id() as i32).unwrap(), signal).unwrap();
        assert_eq!(run.wait().unwrap().signal(), Some(signal.as_raw()));
        wait_for(|| command_line(&server).is_empty().then_some(()));
    }
}

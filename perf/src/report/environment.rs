//! Where and when something was measured, and by what.

use crate::clock;
use serde::{Deserialize, Serialize};
use std::{fmt, fs};

/// What a figure depends on, apart from what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// UTC, as RFC 3339 writes it.
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// The soft limit of this process (`RLIMIT_NOFILE`); none if it has none.
    pub(crate) descriptors_max: Option<u64>,
    /// Of the tool.
    pub(crate) version: String,
    pub(crate) commit: String,
    /// If the run depends on one.
    pub(crate) seed: Option<u64>,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
}

const UNKNOWN: &str = "unknown";

impl Environment {
    pub(crate) fn collect() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cpu, cores) = parse_cpus(&read("/proc/cpuinfo"));
        let kernel = read("/proc/sys/kernel/osrelease");
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            date: humantime::format_rfc3339_seconds(clock::date()).to_string(),
            cpu: cpu.unwrap_or_else(|| UNKNOWN.to_owned()),
            cores,
            memory_bytes: parse_memory(&read("/proc/meminfo")).unwrap_or(0),
            kernel: or_unknown(kernel.trim()).to_owned(),
            descriptors_max: limit.current,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("QUELEA_COMMIT").to_owned(),
            seed: None,
            command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        }
    }

    /// The command as it can be given to a shell.
    pub(crate) fn command_line(&self) -> String {
        self.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn machine(&self) -> String {
        let Self { cpu, cores, kernel, .. } = self;
        let memory = super::Unit::Bytes.text(self.memory_bytes as f64);
        let descriptors = match self.descriptors_max {
            Some(count) => count.to_string(),
            None => "unlimited".to_owned(),
        };
        format!("{cpu}, {cores} cores, {memory}, Linux {kernel}, {descriptors} descriptors")
    }

    pub(crate) fn tool(&self) -> String {
        let Self { version, commit, .. } = self;
        let seed = self.seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
        format!("quelea-perf {version}, commit {commit}{seed}")
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}\n{}", self.tool(), self.date, self.machine())
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}

/// The model, and how many there are: all of the machine, not those that this process may use.
fn parse_cpus(cpuinfo: &str) -> (Option<String>, usize) {
    let fields = || {
        cpuinfo.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim(), value.trim()))
        })
    };
    let model = fields().find(|(name, _)| *name == "model name").map(|(_, model)| model.to_owned());
    (model, fields().filter(|(name, _)| *name == "processor").count())
}

fn parse_memory(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_as_the_kernel_tells_it() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2: 3\n\nprocessor\t: 1\n";
        assert_eq!(parse_cpus(cpuinfo), (Some("Some CPU @ 2: 3".to_owned()), 2));
        assert_eq!(parse_cpus(""), (None, 0));
        assert_eq!(parse_memory("MemTotal:  12 kB\nMemFree: 1 kB\n"), Some(12 << 10));
        assert_eq!(parse_memory("MemTotal: x"), None);
    }

    #[test]
    fn this_machine_and_this_build_are_known() {
        let environment = Environment::collect();
        assert!(environment.cores > 0 && environment.memory_bytes > 0, "{environment}");
        assert_ne!(environment.kernel, UNKNOWN);
        assert_eq!(environment.version, env!("CARGO_PKG_VERSION"));
        assert!(environment.date.ends_with('Z') && environment.date.len() == 20, "{environment}");
        assert!(!environment.command.is_empty());
    }

    #[test]
    fn a_command_line_can_be_given_to_a_shell() {
        let command = ["perf", "--server", "a 'b' {port}", ""].map(str::to_owned).to_vec();
        let environment = Environment { command, ..Environment::collect() };
        assert_eq!(environment.command_line(), r"perf --server 'a '\''b'\'' {port}' ''");
    }
}

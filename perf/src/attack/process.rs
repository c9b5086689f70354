//! The server's process, as `/proc` tells of it.

use crate::{cpu, memory};
use std::{fs, io, path::Path, time::Duration};

pub(crate) struct Process {
    pid: String,
}

impl Process {
    /// # Errors
    /// There is no such process, or what it uses may not be read.
    pub(crate) fn new(pid: u32) -> io::Result<Self> {
        let process = Self { pid: pid.to_string() };
        let readable = process.memory().and(process.cpu()).and(process.descriptors());
        match readable {
            Ok(_) => Ok(process),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("cannot read what process {pid} uses (--server-pid): {error}"),
            )),
        }
    }

    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        cpu::time(&self.pid)
    }

    pub(crate) fn memory(&self) -> io::Result<u64> {
        memory::anonymous_bytes(&self.pid)
    }

    /// The most resident memory that it had since [`Process::forget_peak`], or ever, with what files back.
    pub(crate) fn memory_peak(&self) -> io::Result<u64> {
        memory::peak_bytes(&self.pid)
    }

    /// Has the kernel begin anew with the peak. Not all kernels do: then what is below an earlier peak is not seen.
    pub(crate) fn forget_peak(&self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.pid), "5");
    }

    pub(crate) fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// How many descriptors it may have.
    pub(crate) fn descriptors_max(&self) -> io::Result<usize> {
        parse_limits(&fs::read_to_string(format!("/proc/{}/limits", self.pid))?)
    }

    /// Whether it has neither ended nor only waits to be buried.
    pub(crate) fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists() && self.descriptors().is_ok()
    }
}

fn parse_limits(limits: &str) -> io::Result<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => Ok(usize::MAX),
        Some(soft) => soft.parse().map_err(io::Error::other),
        None => Err(io::Error::other("unexpected form of /proc/PID/limits")),
    }
}

/// How many descriptors this process may have.
pub(crate) fn own_descriptors_max() -> io::Result<usize> {
    parse_limits(&fs::read_to_string("/proc/self/limits")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_descriptors_is_the_first_number() {
        let head = "Limit                     Soft Limit           Hard Limit           Units\n";
        let limits = format!("{head}Max open files            1024                 4096  files\n");
        assert_eq!(parse_limits(&limits).unwrap(), 1024);
        assert!(parse_limits(head).is_err());
        assert!(own_descriptors_max().unwrap() > 0);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error_that_names_the_option() {
        let error = Process::new(u32::MAX).err().unwrap();
        assert!(error.to_string().contains("--server-pid"), "{error}");
        assert!(Process::new(std::process::id()).unwrap().is_running());
    }
}

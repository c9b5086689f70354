//! What the kernel can do, and why it can not.

use super::{buffers::Shape, ring::TaskRun};
use std::{fmt, fs, io};

/// What of io_uring a driver uses, as the kernel allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    pub(super) task_run: TaskRun,
    pub(super) has_array: bool,
    pub(super) buffers: Shape,
    pub(super) files: u32,
}

impl Features {
    /// What is missing of that which makes it faster than waiting for readiness, and where it is to be had.
    pub(crate) const fn lacking(&self) -> Option<&'static str> {
        if !matches!(self.task_run, TaskRun::Deferred) {
            Some("Linux 6.1 has IORING_SETUP_DEFER_TASKRUN")
        } else if !self.buffers.is_incremental {
            Some("Linux 6.16 fills buffers piece by piece, and in order")
        } else {
            None
        }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task_run, has_array, buffers, files } = self;
        let Shape { count, bytes, is_incremental } = buffers;
        let task_run = match task_run {
            TaskRun::Deferred => "DEFER_TASKRUN",
            TaskRun::Cooperative => "COOP_TASKRUN",
            TaskRun::Interrupting => "no TASKRUN flag",
        };
        let array = if *has_array { "SQARRAY" } else { "NO_SQARRAY" };
        let filled = if *is_incremental { "piece by piece" } else { "as a whole" };
        write!(
            f,
            "{task_run}, {array}, {count} buffers of {} KiB filled {filled}, {files} files",
            bytes >> 10
        )
    }
}

/// Why there is no io_uring for this process, and what to change.
#[derive(Debug)]
pub struct Unavailable {
    reason: String,
    source: io::Error,
}

impl Unavailable {
    pub(super) fn new(source: io::Error) -> Self {
        Self { reason: explain(&source, disabled()), source }
    }

    pub(super) fn for_nobody() -> Self {
        let reason = "it is to be for 0 connections: ask for at least 1".to_owned();
        Self { reason, source: io::ErrorKind::InvalidInput.into() }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring is not available: {} ({})", self.reason, self.source)
    }
}

impl std::error::Error for Unavailable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl From<Unavailable> for io::Error {
    fn from(error: Unavailable) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// What the sysctl says: 0 for everybody, 1 for a group, 2 for nobody.
fn disabled() -> Option<u8> {
    let text = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok()
}

fn explain(error: &io::Error, disabled: Option<u8>) -> String {
    let text = match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some(2)) => {
            "the sysctl kernel.io_uring_disabled is 2, for nobody: set it to 0"
        }
        (Some(libc::EPERM), Some(1)) => {
            "the sysctl kernel.io_uring_disabled is 1, for the group kernel.io_uring_group only: set it \
             to 0, or run in that group"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a policy such as seccomp forbids it, as containers do by default: have it allow \
             io_uring_setup, io_uring_register and io_uring_enter"
        }
        (Some(libc::ENOSYS), _) => {
            "the kernel was built without it, or seccomp hides it: have that allow io_uring_setup, \
             io_uring_register and io_uring_enter"
        }
        (Some(libc::EINVAL), _) => "the kernel is too old: Linux 6.0 is needed",
        (Some(libc::ENOMEM), _) => {
            "there is not enough memory that may be locked: raise `ulimit -l` (RLIMIT_MEMLOCK)"
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => "there is no descriptor left for a ring",
        _ => "the kernel refuses it",
    };
    text.to_owned()
}

/// Whether completions of what is received always come in the order in which buffers are filled, also
/// when the completion queue overflows: without it, who fills buffers piece by piece might take the
/// bytes of one connection for those of another.
pub(super) fn fills_in_order() -> bool {
    let system = rustix::system::uname();
    is_at_least(system.release().to_str().unwrap_or_default(), (6, 16))
}

fn is_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_change() {
        let explain = |error, disabled| explain(&io::Error::from_raw_os_error(error), disabled);
        assert!(explain(libc::EPERM, Some(2)).contains("sysctl kernel.io_uring_disabled is 2"));
        assert!(explain(libc::EPERM, Some(1)).contains("io_uring_group"));
        assert!(explain(libc::EPERM, Some(0)).contains("seccomp"));
        assert!(explain(libc::EPERM, None).contains("seccomp"));
        assert!(explain(libc::ENOSYS, None).contains("built without"));
        assert!(explain(libc::EINVAL, Some(0)).contains("Linux 6.0"));
        assert!(explain(libc::ENOMEM, Some(0)).contains("ulimit -l"));
    }

    #[test]
    fn what_is_lacking_is_told_by_where_it_is_to_be_had() {
        let complete = Features {
            task_run: TaskRun::Deferred,
            has_array: false,
            buffers: Shape::INCREMENTAL,
            files: 1,
        };
        assert_eq!(complete.lacking(), None);
        for (features, release) in [
            (Features { task_run: TaskRun::Cooperative, ..complete }, "Linux 6.1 "),
            (Features { buffers: Shape::WHOLE, ..complete }, "Linux 6.16 "),
        ] {
            assert!(features.lacking().unwrap().starts_with(release));
        }
    }

    #[test]
    fn releases_are_compared_by_number() {
        for (release, is_enough) in [
            ("6.18.44-fc-v657", true),
            ("6.16.0", true),
            ("6.9.12", false),
            ("6.15.11-200.fc42", false),
            ("7.0-rc1", true),
            ("5.19", false),
            ("", false),
            ("unknown", false),
        ] {
            assert_eq!(is_at_least(release, (6, 16)), is_enough, "{release}");
        }
    }
}

//! Waits to the microsecond: epoll's own are rounded up to milliseconds, which no server minds.

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

pub(super) struct Timer {
    fd: OwnedFd,
    /// When it expires next, or did.
    at: Option<Instant>,
}

impl Timer {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd, at: None })
    }

    /// Ends a wait at `until`. It need not be told when the wait ended otherwise: the next one ends
    /// early then, or sets it anew. What it has to say is an edge that nobody has to read.
    pub(super) fn set(&mut self, until: Instant, now: Instant) -> io::Result<()> {
        if self.at.is_some_and(|at| at > now && at <= until) {
            return Ok(());
        }
        let after = until.saturating_duration_since(now).max(Duration::from_nanos(1));
        let after = Timespec::try_from(after).map_err(io::Error::other)?;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: zero, it_value: after };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        self.at = Some(until);
        Ok(())
    }
}

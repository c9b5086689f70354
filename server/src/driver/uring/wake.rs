//! Ending a wait from another thread.

use crate::driver::Wake;
use rustix::{
    event::{EventfdFlags, eventfd},
    io::{Errno, write},
};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

/// A descriptor that the ring watches. Nobody reads it: each write is an edge of its own, and a ring
/// that begins to watch learns of those before.
#[derive(Debug)]
pub(super) struct Waker(OwnedFd);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Wake for Waker {
    fn wake(&self) -> io::Result<()> {
        match write(&self.0, &1u64.to_ne_bytes()) {
            // It was written to more often than it can count: it is readable.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

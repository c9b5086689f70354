//! The ring's table of files. What is in it has no descriptor: neither the limit of the process nor
//! other threads know of it.

use super::ring::Ring;
use std::{
    io::{self, ErrorKind},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// What the kernel takes at most.
const FILES_MAX: u32 = 1 << 20;

/// Which places of the table are in use.
pub(super) struct Files {
    len: u32,
    /// All from here on were never in use.
    fresh: u32,
    free: Vec<u32>,
    dropped: Arc<Dropped>,
}

/// Sockets that were dropped without being opened.
#[derive(Debug, Default)]
struct Dropped {
    is_any: AtomicBool,
    files: Mutex<Vec<u32>>,
}

/// A socket in the table of a ring, that is closed when it is dropped.
#[derive(Debug)]
pub struct DirectSocket {
    /// `None` once somebody else closes it.
    file: Option<u32>,
    dropped: Arc<Dropped>,
}

impl Files {
    /// A table for so many, or for as many as the process may have descriptors: the kernel allows no
    /// more in one table.
    pub(super) fn register(ring: &Ring, files_max: usize) -> io::Result<Self> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let limit = limit.current.unwrap_or(u64::MAX).min(files_max as u64);
        let len = limit.min(u64::from(FILES_MAX)) as u32;
        ring.submitter().register_files_sparse(len)?;
        Ok(Self { len, fresh: 0, free: Vec::new(), dropped: Arc::default() })
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// A free place, from now on in use.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let file = self.fresh;
            self.fresh += u32::from(file < self.len);
            (file < self.len).then_some(file)
        })
    }

    /// Nothing is in this place any more.
    #[inline]
    pub(super) fn give_back(&mut self, file: u32) {
        self.free.push(file);
    }

    /// Puts a stream into the table, without a descriptor from then on.
    pub(super) fn install(&mut self, ring: &mut Ring, stream: OwnedFd) -> io::Result<DirectSocket> {
        let file = self.take().ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
        if let Err(error) = ring.install(file, stream.as_fd()) {
            self.give_back(file);
            return Err(error);
        }
        Ok(self.socket(file))
    }

    /// What is in a place now.
    pub(super) fn socket(&self, file: u32) -> DirectSocket {
        DirectSocket { file: Some(file), dropped: self.dropped.clone() }
    }

    /// The place of a socket, which has to be closed by who takes it. What is in the same place of another
    /// driver's table is another socket: that one is dropped, for which its own driver closes it.
    pub(super) fn claim(&self, mut socket: DirectSocket) -> io::Result<u32> {
        let is_own = Arc::ptr_eq(&self.dropped, &socket.dropped);
        socket.file.take_if(|_| is_own).ok_or_else(|| {
            let reason = "the socket is another driver's: open it with the driver that accepted it";
            io::Error::new(ErrorKind::InvalidInput, reason)
        })
    }

    /// How many places are in use.
    pub(super) const fn taken(&self) -> usize {
        self.fresh as usize - self.free.len()
    }

    /// Those that were dropped, to be closed.
    pub(super) fn take_dropped(&mut self) -> Vec<u32> {
        // Both ends are on one thread, but for a socket that outlives its worker.
        if !self.dropped.is_any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.dropped.is_any.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.dropped.files.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for DirectSocket {
    fn drop(&mut self) {
        if let Some(file) = self.file {
            self.dropped.files.lock().unwrap_or_else(PoisonError::into_inner).push(file);
            self.dropped.is_any.store(true, Ordering::Relaxed);
        }
    }
}

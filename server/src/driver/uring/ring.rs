//! The ring: what the kernel can do for it, and the one place where it is entered.
#![allow(unsafe_code, reason = "the queues are shared with the kernel")]

use super::operation::{Operation, Standing};
use crate::parts::slots::SlotId;
use io_uring::{
    EnterFlags, IoUring, Submitter, cqueue,
    types::{CancelBuilder, SubmitArgs, Timespec},
};
use std::{
    io::{self, IoSlice},
    marker::PhantomData,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    time::Duration,
};

/// Submissions that are handed over at once: more would fall out of the cache before the kernel reads
/// them.
const SUBMISSIONS_MAX: u32 = 256;
/// Completions that the kernel has room for. What is beyond them it keeps elsewhere, slowly.
const COMPLETIONS_MAX: u32 = 16 << 10;
/// How often in a row the kernel may have no memory for a submission.
const ATTEMPTS_MAX: u32 = 1000;
/// How long to wait for what is cancelled in the end.
const CANCEL_TIMEOUT: Timespec = Timespec::new().sec(1);

/// When the kernel does what completions need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskRun {
    /// When it is entered to wait (Linux 6.1).
    Deferred,
    /// At the next system call, whichever it is.
    Cooperative,
    /// It interrupts the thread.
    Interrupting,
}

impl TaskRun {
    /// From the best.
    pub(super) const ALL: [Self; 3] = [Self::Deferred, Self::Cooperative, Self::Interrupting];
}

/// How long to stay in the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// Only to submit.
    Submit,
    /// To submit, and for completions that are due.
    Collect,
    /// Until there is a completion, or for so long.
    For(Option<Duration>),
}

/// See the [module](self).
pub(super) struct Ring {
    ring: IoUring,
    task_run: TaskRun,
    has_array: bool,
    /// The kernel missed something that was cancelled by its name.
    pub(super) misses_names: bool,
    /// Set with the first call: from then on all come from that thread.
    is_enabled: bool,
    /// The error number that ended it. What is in the queue then is never submitted.
    failure: Option<i32>,
    /// How often the kernel was entered.
    #[cfg(test)]
    pub(super) calls: usize,
}

/// Submissions of bytes that are lent until this is over: either the kernel has them all, or the ring has
/// failed for good.
pub(super) struct Lending<'r, 'b> {
    ring: &'r mut Ring,
    is_over: bool,
    lent: PhantomData<&'b [u8]>,
}

impl<'b> Lending<'_, 'b> {
    /// Sends what there is room for.
    #[inline]
    pub(super) fn send(&mut self, file: u32, bytes: &'b [u8], place: usize) {
        // SAFETY: the bytes live as long as this does, and it ends with the queue empty or never
        // submitted.
        let operation = unsafe { Operation::send(file, bytes, place) };
        self.ring.push(&operation);
    }

    /// Hands over all that was pushed, and perhaps waits.
    #[inline]
    pub(super) fn enter(mut self, wait: Wait) -> io::Result<()> {
        self.is_over = true;
        self.ring.enter(wait)
    }
}

impl Drop for Lending<'_, '_> {
    /// Perhaps what gives the bytes panicked.
    fn drop(&mut self) {
        if !self.is_over {
            self.ring.abandon();
        }
    }
}

impl Ring {
    /// A ring that the first thread to enter it has alone.
    ///
    /// That the kernel takes `SINGLE_ISSUER` says more than that: receiving more than once and cancelling
    /// at once came with the same release, Linux 6.0.
    pub(super) fn new(task_run: TaskRun) -> io::Result<Self> {
        let build = |has_array: bool| {
            let mut builder = IoUring::builder();
            builder
                .setup_single_issuer()
                .setup_r_disabled()
                .setup_submit_all()
                .setup_clamp()
                .setup_cqsize(COMPLETIONS_MAX);
            if !has_array {
                builder.setup_no_sqarray();
            }
            match task_run {
                TaskRun::Deferred => {
                    builder.setup_defer_taskrun().setup_taskrun_flag();
                }
                TaskRun::Cooperative => {
                    builder.setup_coop_taskrun().setup_taskrun_flag();
                }
                TaskRun::Interrupting => {}
            }
            builder.build(SUBMISSIONS_MAX)
        };
        // Linux 6.6 needs no array.
        let (ring, has_array) = match build(false) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (build(true)?, true),
            ring => (ring?, false),
        };
        let params = ring.params();
        if !params.is_feature_nodrop() || !params.is_feature_skip_cqe_on_success() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // Until it is enabled the kernel does not let anybody in, unless something before it does not: seccomp.
        match ring.submit() {
            Err(error) if error.raw_os_error() != Some(libc::EBADFD) => return Err(error),
            _ => {}
        }
        Ok(Self {
            ring,
            task_run,
            has_array,
            misses_names: false,
            is_enabled: false,
            failure: None,
            #[cfg(test)]
            calls: 0,
        })
    }

    /// What is in the queue may name memory that is gone: it is never submitted.
    pub(super) fn abandon(&mut self) {
        self.failure.get_or_insert(libc::ECANCELED);
    }

    pub(super) const fn task_run(&self) -> TaskRun {
        self.task_run
    }

    pub(super) const fn has_array(&self) -> bool {
        self.has_array
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    /// Lets this thread, and no other, have the ring.
    pub(super) fn enable(&mut self) -> io::Result<()> {
        if !self.is_enabled {
            self.ring.submitter().register_enable_rings()?;
            self.is_enabled = true;
        }
        Ok(())
    }

    pub(super) const fn lend<'b>(&mut self) -> Lending<'_, 'b> {
        Lending { ring: self, is_over: false, lent: PhantomData }
    }

    /// Submits with the next call, or now if the queue is full. If that fails, so does the next wait.
    #[inline]
    pub(super) fn push(&mut self, operation: &Operation) {
        if self.ring.submission().is_full() && self.enter(Wait::Submit).is_err() {
            return;
        }
        let mut queue = self.ring.submission();
        // SAFETY: whoever makes an operation answers for the memory that it names; those that name
        // none are always sound. That there is room was seen above.
        let pushed = unsafe { queue.push(operation.entry()) };
        debug_assert!(pushed.is_ok(), "there is room");
    }

    /// Cancels an operation on a file for a connection.
    pub(super) fn cancel(&mut self, file: u32, standing: Standing, id: SlotId) {
        let operation = match self.misses_names {
            true => Operation::cancel_file(file),
            false => Operation::cancel_one(standing, id),
        };
        self.push(&operation);
    }

    /// Cancels everything, as something was not found by its name, and from now on by files. Some kernels
    /// (6.11) do not find all by names; it may be too late for the file of this one.
    #[cold]
    pub(super) fn cancel_missed(&mut self) {
        // What was cancelled by its name before that is told of is among everything, too.
        if !self.misses_names {
            self.misses_names = true;
            self.push(&Operation::cancel_everything());
        }
    }

    /// Hands over all that was pushed, and perhaps waits. Afterwards the queue is empty, or the ring has
    /// failed for good.
    #[inline]
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if let Err(error) = self.enable() {
            self.abandon();
            return Err(error);
        }
        for _ in 0..ATTEMPTS_MAX {
            if let Some(failure) = self.failure {
                return Err(io::Error::from_raw_os_error(failure));
            }
            let result = self.enter_once(wait);
            let error = result.err().and_then(|error| error.raw_os_error()).unwrap_or(0);
            match error {
                0 | libc::ETIME | libc::EINTR => {}
                // There is no memory for it just now.
                libc::EAGAIN | libc::EBUSY => std::thread::yield_now(),
                error => self.failure = Some(error),
            }
            if self.failure.is_none() && self.ring.submission().is_empty() {
                return Ok(());
            }
        }
        let failure = *self.failure.get_or_insert(libc::ENOMEM);
        Err(io::Error::from_raw_os_error(failure))
    }

    /// Submits a send that takes what there is room for at once. Afterwards the kernel is done with the bytes,
    /// or the ring has failed for good.
    pub(super) fn send_now(&mut self, file: u32, slices: &[IoSlice<'_>]) -> io::Result<()> {
        // SAFETY: of no address, no bytes and no control data, it is a message.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = slices.as_ptr().cast_mut().cast();
        message.msg_iovlen = slices.len().min(libc::UIO_MAXIOV as usize) as _;
        // SAFETY: an `IoSlice` is an `iovec`, which is only read. The message and the slices outlive the
        // call, which ends with the queue empty or never submitted.
        self.push(&unsafe { Operation::send_now(file, &message) });
        self.enter(Wait::Submit)
    }

    fn enter_once(&mut self, wait: Wait) -> io::Result<usize> {
        let len = self.ring.submission().len() as u32;
        #[cfg(test)]
        {
            self.calls += usize::from(len > 0 || !matches!(wait, Wait::Submit));
        }
        let submitter = self.ring.submitter();
        let flags = EnterFlags::GETEVENTS.bits();
        match wait {
            Wait::Submit if len == 0 => Ok(0),
            // SAFETY: there is no argument.
            Wait::Submit => unsafe { submitter.enter::<libc::sigset_t>(len, 0, 0, None) },
            // SAFETY: there is no argument.
            Wait::Collect | Wait::For(Some(Duration::ZERO)) => unsafe {
                submitter.enter::<libc::sigset_t>(len, 0, flags, None)
            },
            Wait::For(timeout) => {
                let time = timeout.map(Timespec::from);
                let arguments = SubmitArgs::new();
                let arguments = match &time {
                    Some(time) => arguments.timespec(time),
                    None => arguments,
                };
                let flags = flags | EnterFlags::EXT_ARG.bits();
                // SAFETY: the flag says what the argument is, and the time that it names outlives
                // the call.
                unsafe { submitter.enter(len, 1, flags, Some(&arguments)) }
            }
        }
    }

    /// What is complete.
    pub(super) fn completions(&mut self) -> impl Iterator<Item = cqueue::Entry> + '_ {
        self.ring.completion()
    }

    /// Whether the kernel has more that it can complete at once.
    pub(super) fn has_more(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Whether the kernel had no room for a completion: it keeps those until it is asked for more.
    pub(super) fn has_overflowed(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Replaces a file of the table.
    pub(super) fn install(&mut self, file: u32, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.enable()?;
        let fds: [RawFd; 1] = [fd.as_raw_fd()];
        self.ring.submitter().register_files_update(file, &fds).map(drop)
    }

    /// Ends all that is under way, and closes the files of the table. From then on the kernel uses no
    /// memory that an operation named, if this says so, but for what a thread of the kernel was doing: of that
    /// only a completion tells the end.
    pub(super) fn stop(&mut self, mut complete: impl FnMut(cqueue::Entry)) -> bool {
        if !self.is_enabled {
            return true;
        }
        let cancelled =
            self.ring.submitter().register_sync_cancel(Some(CANCEL_TIMEOUT), CancelBuilder::any());
        let is_stopped = match cancelled {
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
            Ok(()) => true,
        };
        // What was cancelled still has to be taken note of, and only then lets go of its file.
        for _ in 0..ATTEMPTS_MAX {
            let flags = EnterFlags::GETEVENTS.bits();
            // SAFETY: there is no argument. What is still in the queue is not submitted.
            let entered =
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(0, 0, flags, None) };
            self.ring.completion().for_each(&mut complete);
            if entered.is_err() || !self.has_more() {
                break;
            }
        }
        // It fails only if there is no table.
        let _ = self.ring.submitter().unregister_files();
        is_stopped
    }
}

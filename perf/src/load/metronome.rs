//! A thread that wakes the engine when something is due.
//!
//! A wait of the kernel for sockets is rounded up to milliseconds, and to wait in a loop instead takes
//! a whole core, which the server may need.

use quelea::driver::Wake;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Wakes are not closer together than this: what is due in between waits that long.
pub(super) const INTERVAL_MIN: Duration = Duration::from_micros(50);
/// How long the thread may go on after it is dropped.
const NAP_MAX: Duration = Duration::from_millis(100);

pub(super) struct Metronome {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Metronome {
    /// Wakes at `start` and every `interval` after it.
    pub(super) fn start(waker: Arc<dyn Wake>, start: Instant, interval: Duration) -> Self {
        let interval = interval.max(INTERVAL_MIN);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            // Without it, the kernel adds 50 us to each sleep; it fails nowhere on Linux.
            let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            let mut due = start;
            while !stopped.load(Ordering::Relaxed) {
                let now = crate::clock::now();
                if now < due {
                    thread::sleep((due - now).min(NAP_MAX));
                    continue;
                }
                // It fails only when the engine is gone.
                let _ = waker.wake();
                let missed = (now - due).as_nanos() / interval.as_nanos();
                due += interval * (u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

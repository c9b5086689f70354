//! Workers that stay on one core.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// A thread that stays on one core, until this is dropped.
pub(super) struct Pinned {
    /// The cores that it may use again.
    allowed: CpuSet,
}

/// Keeps this thread on one of the cores that it may use: the same for the same `index`, others for
/// others as long as there are enough.
pub(super) fn pin(index: usize) -> io::Result<Pinned> {
    let allowed = sched_getaffinity(None)?;
    let cores: Vec<_> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if let Some(core) = cores.get(index % cores.len().max(1)) {
        let mut own = CpuSet::new();
        own.set(*core);
        sched_setaffinity(None, &own)?;
    }
    Ok(Pinned { allowed })
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(None, &self.allowed) {
            tracing::warn!(%error, "a thread could not be given its cores back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_core_and_its_neighbour_another_if_there_is_one() {
        let allowed = sched_getaffinity(None).unwrap().count();
        let cores = [0, 1].map(|index| {
            let pinned = std::thread::spawn(move || {
                let pinned = pin(index).unwrap();
                let own = sched_getaffinity(None).unwrap();
                assert_eq!(own.count(), 1);
                drop(pinned);
                assert_eq!(sched_getaffinity(None).unwrap().count() as usize, allowed as usize);
                (0..CpuSet::MAX_CPU).find(|core| own.is_set(*core))
            });
            pinned.join().unwrap()
        });
        assert_eq!(cores[0] == cores[1], allowed == 1);
    }
}

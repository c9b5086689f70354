//! Workers that stay on one core.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;

/// Keeps this thread on one of the cores that it may use: the same for the same `index`, others for
/// others as long as there are enough.
pub(super) fn pin(index: usize) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let cores: Vec<_> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let Some(core) = cores.get(index % cores.len().max(1)) else { return Ok(()) };
    let mut own = CpuSet::new();
    own.set(*core);
    Ok(sched_setaffinity(None, &own)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_core_and_its_neighbour_another_if_there_is_one() {
        let allowed = sched_getaffinity(None).unwrap().count();
        let cores = [0, 1].map(|index| {
            let pinned = std::thread::spawn(move || {
                pin(index).unwrap();
                let own = sched_getaffinity(None).unwrap();
                assert_eq!(own.count(), 1);
                (0..CpuSet::MAX_CPU).find(|core| own.is_set(*core))
            });
            pinned.join().unwrap()
        });
        assert_eq!(cores[0] == cores[1], allowed == 1);
    }
}

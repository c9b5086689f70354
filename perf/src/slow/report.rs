//! What was measured: a line for each phase, and what they come to.

use super::message::Faults;
use crate::fanout::report::{median, sorted};
use std::fmt;

/// One phase.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) round: usize,
    /// How many subscribers never read; 0 in every other phase.
    pub(super) never_readers: usize,
    pub(super) deliveries: u64,
    pub(super) median_microseconds: f64,
    pub(super) p99_microseconds: f64,
    pub(super) max_microseconds: f64,
    pub(super) faults: Faults,
    /// The server's anonymous resident memory when it was over, with the never-readers still
    /// there.
    pub(super) server_bytes: u64,
    /// How much of one core the generator took: near 1, the latency is its own.
    pub(super) generator: f64,
}

/// The head of the table that phases are lines of.
pub(super) struct Head;

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "latency in microseconds, from when a message was due; memory of the server")?;
        write!(
            f,
            "{:>5} {:>11} {:>10} {:>9} {:>9} {:>9} {:>8} {:>6} {:>8} {:>11}",
            "round",
            "never read",
            "deliveries",
            "median",
            "p99",
            "max",
            "missing",
            "stray",
            "own CPU",
            "memory",
        )
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>5} {:>11} {:>10} {:>9.0} {:>9.0} {:>9.0} {:>8} {:>6} {:>6.0} % {:>7} KiB",
            self.round,
            self.never_readers,
            self.deliveries,
            self.median_microseconds,
            self.p99_microseconds,
            self.max_microseconds,
            self.faults.missing,
            self.faults.stray,
            self.generator * 100.0,
            self.server_bytes / 1024,
        )
    }
}

/// All rounds: of each, the phase without never-readers and the one with them.
pub(super) struct Summary {
    pub(super) rounds: Vec<[Phase; 2]>,
    /// What the server may keep for one connection, apart from what the kernel does.
    pub(super) bound_bytes: usize,
    /// The server's memory when the last never-readers had left.
    pub(super) left_bytes: u64,
}

impl Summary {
    pub(super) fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        self.rounds.iter().flatten().for_each(|phase| faults += phase.faults);
        faults
    }

    /// The memory before there ever were never-readers.
    fn before_bytes(&self) -> u64 {
        self.rounds.first().map_or(0, |[without, _]| without.server_bytes)
    }

    /// The most memory that a never-reader took, in bytes; what the server kept of earlier ones is
    /// counted as well.
    fn growth(&self) -> f64 {
        let growths = self.rounds.iter().map(|[_, with]| {
            let grown = with.server_bytes.saturating_sub(self.before_bytes());
            grown as f64 / with.never_readers.max(1) as f64
        });
        growths.fold(0.0, f64::max)
    }

    fn latencies(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        value: fn(&Phase) -> f64,
    ) -> fmt::Result {
        let of = |phase: usize| sorted(self.rounds.iter().map(|round| value(&round[phase])));
        let ratios = sorted(self.rounds.iter().map(|[without, with]| value(with) / value(without)));
        let (Some(lowest), Some(highest)) = (ratios.first(), ratios.last()) else { return Ok(()) };
        writeln!(
            f,
            "{name:<15} {:.0} us without, {:.0} us with, ratio {:.3} ({lowest:.3}-{highest:.3})",
            median(&of(0)),
            median(&of(1)),
            median(&ratios),
        )
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.latencies(f, "median", |phase| phase.median_microseconds)?;
        self.latencies(f, "p99", |phase| phase.p99_microseconds)?;
        let growth = self.growth();
        writeln!(
            f,
            "a never-reader  {:.0} KiB, {:.0} % of its bound of {} KiB (what the kernel holds is not \
             counted)",
            growth / 1024.0,
            growth * 100.0 / self.bound_bytes as f64,
            self.bound_bytes / 1024,
        )?;
        write!(
            f,
            "once they left  {} KiB, {:.0} % of {} KiB before",
            self.left_bytes / 1024,
            self.left_bytes as f64 * 100.0 / self.before_bytes().max(1) as f64,
            self.before_bytes() / 1024,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(never_readers: usize, microseconds: f64, kibibytes: u64) -> Phase {
        Phase {
            round: 1,
            never_readers,
            deliveries: 10,
            median_microseconds: microseconds,
            p99_microseconds: 2.0 * microseconds,
            max_microseconds: 3.0 * microseconds,
            faults: Faults { missing: 1, stray: 2 },
            server_bytes: kibibytes * 1024,
            generator: 0.456,
        }
    }

    #[test]
    fn a_summary_tells_medians_of_rounds_and_the_most_memory_of_any() {
        let summary = Summary {
            rounds: vec![
                [phase(0, 100.0, 1000), phase(10, 150.0, 21_000)],
                [phase(0, 200.0, 5000), phase(10, 240.0, 31_000)],
                [phase(0, 400.0, 6000), phase(10, 400.0, 11_000)],
            ],
            bound_bytes: 4096 * 1024,
            left_bytes: 1100 * 1024,
        };
        assert_eq!(
            summary.to_string(),
            "median          200 us without, 240 us with, ratio 1.200 (1.000-1.500)\n\
             p99             400 us without, 480 us with, ratio 1.200 (1.000-1.500)\n\
             a never-reader  3000 KiB, 73 % of its bound of 4096 KiB (what the kernel holds is not \
             counted)\n\
             once they left  1100 KiB, 110 % of 1000 KiB before"
        );
        assert_eq!(summary.faults(), Faults { missing: 6, stray: 12 });
    }

    #[test]
    fn a_line_has_a_field_below_each_of_the_head() {
        let text = phase(3, 12.4, 2000).to_string();
        let fields: Vec<_> = text.split_whitespace().collect();
        assert_eq!(fields, ["1", "3", "10", "12", "25", "37", "1", "2", "46", "%", "2000", "KiB"]);
        let head = Head.to_string();
        assert_eq!(head.lines().last().map(str::len), Some(text.len()));
    }
}

//! What was measured: a line for each phase, and what they come to.

use super::message::Faults;
use crate::{
    fanout::report::{median, sorted},
    report::{Cell, Report, Table, Unit},
};
use hdrhistogram::Histogram;

/// One phase.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    pub(super) round: usize,
    /// How many subscribers never read; 0 in every other phase.
    pub(super) never_readers: usize,
    /// From when a message was due until a reader had it, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) faults: Faults,
    /// The server's anonymous resident memory when it was over, with the never-readers still
    /// there.
    pub(super) server_bytes: u64,
    /// How much of one core the generator took: near 1, the latency is its own.
    pub(super) generator: f64,
    /// How much of one core the server took.
    pub(super) server: f64,
    /// How much of one core its busiest thread took.
    pub(super) server_thread: f64,
}

/// The generator has one thread: with more of a core than this, it is not in time.
const GENERATOR_SHARE_MAX: f64 = 0.95;

impl Phase {
    fn at(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64
    }

    pub(super) fn cells(&self) -> Vec<Cell> {
        vec![
            self.round.into(),
            self.never_readers.into(),
            self.latency.len().into(),
            self.at(0.5).into(),
            self.at(0.99).into(),
            self.at(1.0).into(),
            self.faults.missing.into(),
            self.faults.stray.into(),
            self.generator.into(),
            self.server.into(),
            self.server_bytes.into(),
        ]
    }

    /// The latency is the generator's, not the server's.
    fn is_invalid(&self) -> bool {
        self.generator > GENERATOR_SHARE_MAX && self.server_thread <= GENERATOR_SHARE_MAX
    }
}

/// The table that phases are lines of.
pub(super) fn table() -> Table {
    Table::new(
        "latency from when a message was due; CPU time of the generator and of the server; memory \
         of the server",
        &[
            ("round", Some(Unit::Count)),
            ("never read", Some(Unit::Count)),
            ("deliveries", Some(Unit::Count)),
            ("median", Some(Unit::Nanoseconds)),
            ("p99", Some(Unit::Nanoseconds)),
            ("max", Some(Unit::Nanoseconds)),
            ("missing", Some(Unit::Count)),
            ("stray", Some(Unit::Count)),
            ("own CPU", Some(Unit::Share)),
            ("its CPU", Some(Unit::Share)),
            ("memory", Some(Unit::Bytes)),
        ],
    )
}

/// All rounds: of each, the phase without never-readers and the one with them.
#[derive(Debug)]
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
        self.phases().for_each(|phase| faults += phase.faults);
        faults
    }

    fn phases(&self) -> impl Iterator<Item = &Phase> {
        self.rounds.iter().flatten()
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

    /// All latencies without never-readers (0) or with them (1).
    fn latency(&self, phase: usize) -> Histogram<u64> {
        let mut sum = Histogram::new_from(&self.rounds[0][phase].latency);
        for round in &self.rounds {
            sum.add(&round[phase].latency).expect("all have the same bounds");
        }
        sum
    }

    fn compared(&self) -> Table {
        let mut table = Table::new(
            "the median round; ratio: with never-readers to without",
            &[
                ("latency", None),
                ("without", Some(Unit::Nanoseconds)),
                ("with", Some(Unit::Nanoseconds)),
                ("ratio", Some(Unit::Ratio)),
                ("lowest", Some(Unit::Ratio)),
                ("highest", Some(Unit::Ratio)),
            ],
        );
        for (name, quantile) in [("median", 0.5), ("p99", 0.99)] {
            let of =
                |phase: usize| sorted(self.rounds.iter().map(|round| round[phase].at(quantile)));
            let ratio = |[without, with]: &[Phase; 2]| with.at(quantile) / without.at(quantile);
            let ratios = sorted(self.rounds.iter().map(ratio));
            table.row(vec![
                name.into(),
                median(&of(0)).into(),
                median(&of(1)).into(),
                median(&ratios).into(),
                ratios.first().copied().into(),
                ratios.last().copied().into(),
            ]);
        }
        table
    }

    /// Adds all of it to a result whose text has the line of each phase already.
    pub(super) fn add_to(&self, report: &mut Report) {
        let (growth, before) = (self.growth(), self.before_bytes().max(1) as f64);
        let faults = self.faults();
        let mut phases = table().written();
        self.phases().for_each(|phase| {
            phases.row(phase.cells());
        });
        report
            .figure("bytes_per_never_reader", "a never-reader", growth, Unit::Bytes)
            .figure("share_of_bound", "of its bound", growth / self.bound_bytes as f64, Unit::Share)
            .figure("server_bytes_after", "once they left", self.left_bytes as f64, Unit::Bytes)
            .figure("share_of_before", "of before", self.left_bytes as f64 / before, Unit::Share)
            .figure("missing", "missing", faults.missing as f64, Unit::Count)
            .figure("stray", "stray", faults.stray as f64, Unit::Count)
            .histogram("latency_without", "without them", &self.latency(0))
            .histogram("latency_with", "with them", &self.latency(1))
            .table(phases)
            .table(self.compared())
            .note("What the kernel holds for a never-reader is not counted.");
        if let Some(phase) = self.phases().find(|phase| phase.is_invalid()) {
            let (own, its) = (phase.generator * 100.0, phase.server_thread * 100.0);
            report.invalid(format!(
                "the generator used {own:.0} % of its core in round {}, the server's busiest \
                 thread {its:.0} %: use fewer --subscribers or a lower --rate",
                phase.round
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(never_readers: usize, microseconds: u64, kibibytes: u64) -> Phase {
        let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        latency.record_n(microseconds * 1000, 98).unwrap();
        latency.record_n(microseconds * 2000, 2).unwrap();
        Phase {
            round: 1,
            never_readers,
            latency,
            faults: Faults { missing: 1, stray: 2 },
            server_bytes: kibibytes * 1024,
            generator: 0.456,
            server: 0.3,
            server_thread: 0.3,
        }
    }

    fn summary() -> Summary {
        Summary {
            rounds: vec![
                [phase(0, 100, 1024), phase(10, 150, 21_504)],
                [phase(0, 200, 5120), phase(10, 240, 31_744)],
                [phase(0, 400, 6144), phase(10, 400, 11_264)],
            ],
            bound_bytes: 4096 * 1024,
            left_bytes: 1126 * 1024,
        }
    }

    #[test]
    fn a_summary_tells_medians_of_rounds_and_the_most_memory_of_any() {
        let mut report = Report::new("slow", ());
        summary().add_to(&mut report);
        let text = report.to_string();
        let expected = "\
a never-reader  3.00 MiB
of its bound    75.0 %
once they left  1.10 MiB
of before       110.0 %
missing         6
stray           12
without them    p50 200.1 us, p90 400.1 us, p99 400.1 us, p99.9 800.3 us, p99.99 800.3 us, max 800.3 us
with them       p50 240.1 us, p90 400.1 us, p99 480.3 us, p99.9 800.3 us, p99.99 800.3 us, max 800.3 us

the median round; ratio: with never-readers to without
latency   without      with  ratio  lowest  highest
median   200.1 us  240.1 us  1.200   1.000    1.500
p99      400.1 us  480.3 us  1.200   1.000    1.500
What the kernel holds for a never-reader is not counted.
";
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(summary().faults(), Faults { missing: 6, stray: 12 });
        assert!(report.valid);
    }

    #[test]
    fn a_generator_that_was_busier_than_the_server_makes_it_invalid() {
        for (generator, server, valid) in
            [(0.96, 0.5, false), (0.96, 0.97, true), (0.94, 0.5, true)]
        {
            let mut summary = summary();
            let phase = &mut summary.rounds[1][0];
            (phase.generator, phase.server_thread) = (generator, server);
            let mut report = Report::new("slow", ());
            summary.add_to(&mut report);
            assert_eq!(report.valid, valid, "{generator} {server}");
        }
    }

    #[test]
    fn a_line_has_a_field_below_each_of_the_head() {
        let table = table();
        let widths = table.widths();
        let line = table.line(&phase(3, 12, 2000).cells(), &widths);
        let fields: Vec<_> =
            line.split("  ").map(str::trim).filter(|field| !field.is_empty()).collect();
        let expected = [
            "1", "3", "100", "12.0 us", "24.0 us", "24.0 us", "1", "2", "45.6 %", "30.0 %",
            "1.95 MiB",
        ];
        assert_eq!(fields, expected);
        assert_eq!(table.head().lines().last().map(str::len), Some(line.len()));
    }
}

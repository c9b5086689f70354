//! What was measured, as a table.

use super::subscribers::Load;
use std::{fmt, time::Duration};

/// What one round took of a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) deliveries: u64,
    pub(super) cpu: Duration,
}

impl Cost {
    fn nanoseconds_each(self) -> f64 {
        self.cpu.as_nanos() as f64 / self.deliveries.max(1) as f64
    }
}

/// The rounds of one number of subscribers and one burst.
pub(super) struct Row {
    pub(super) load: Load,
    pub(super) subscribers: usize,
    /// Messages in one write, if one publishes.
    pub(super) burst: usize,
    pub(super) server: Vec<Cost>,
    /// As many, or none.
    pub(super) floor: Vec<Cost>,
}

impl Row {
    /// How much more CPU the server takes than the floor: one ratio for each round, in order of
    /// size.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.server.iter().zip(&self.floor);
        let ratios =
            pairs.map(|(server, floor)| server.nanoseconds_each() / floor.nanoseconds_each());
        sorted(ratios)
    }
}

pub(crate) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The median of values in order; of none, not a number.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)])
}

/// The head of the table that rows are lines of.
pub(super) struct Head(pub(super) Load);

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, in_flight) = match self.0 {
            Load::OneToAll => ("nanoseconds of CPU a delivery", "burst"),
            Load::AllToAll { .. } => ("thousands of deliveries a CPU-second", "depth"),
        };
        writeln!(f, "{unit}, the median round; ratio: the server's CPU time to the floor's")?;
        write!(
            f,
            "{:>11} {:>5} {:>10} {:>10} {:>10} {:>6} {:>13}",
            "subscribers", in_flight, "deliveries", "floor", "server", "ratio", "lowest-highest",
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let middle = |costs: &[Cost]| {
            let each = median(&sorted(costs.iter().copied().map(Cost::nanoseconds_each)));
            match self.load {
                Load::OneToAll => each,
                Load::AllToAll { .. } => 1e6 / each,
            }
        };
        let in_flight = match self.load {
            Load::OneToAll => self.burst as u64,
            Load::AllToAll { depth } => depth,
        };
        let deliveries: u64 = self.server.iter().map(|cost| cost.deliveries).sum();
        write!(f, "{:>11} {in_flight:>5} {deliveries:>10} ", self.subscribers)?;
        let ratios = self.ratios();
        match (ratios.first(), ratios.last()) {
            (Some(lowest), Some(highest)) => write!(
                f,
                "{:>10.1} {:>10.1} {:>6.3} {lowest:>7.3}-{highest:.3}",
                middle(&self.floor),
                middle(&self.server),
                median(&ratios),
            ),
            _ => write!(f, "{:>10} {:>10.1}", "-", middle(&self.server)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(nanoseconds: u64) -> Cost {
        Cost { deliveries: 10, cpu: Duration::from_nanos(nanoseconds * 10) }
    }

    #[test]
    fn a_median_is_the_middle_value_or_between_the_two() {
        assert_eq!(median(&sorted([3.0, 1.0, 2.0].into_iter())), 2.0);
        assert_eq!(median(&sorted([4.0, 1.0, 2.0, 3.0].into_iter())), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_row_tells_medians_and_ratios_of_rounds_not_of_medians() {
        let floor = vec![cost(100), cost(200), cost(400)];
        let server = vec![cost(150), cost(220), cost(400)];
        let row = Row { load: Load::OneToAll, subscribers: 30, burst: 1, server, floor };
        let expected = "         30     1         30      200.0      220.0  1.100   1.000-1.500";
        assert_eq!(row.to_string(), expected);
        let load = Load::AllToAll { depth: 4 };
        let text = Row { load, ..row }.to_string();
        let fields: Vec<_> = text.split_whitespace().collect();
        assert_eq!(&fields[..4], ["30", "4", "30", "5000.0"]);
    }

    #[test]
    fn a_row_without_a_floor_tells_the_server_alone() {
        let row = Row {
            load: Load::OneToAll,
            subscribers: 30,
            burst: 1,
            server: vec![cost(150)],
            floor: Vec::new(),
        };
        let text = row.to_string();
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["30", "1", "10", "-", "150.0"]);
    }
}

//! What was measured, as a table.

use super::subscribers::Load;
use crate::report::{Cell, Report, Table, Unit};
use std::{collections::BTreeMap, time::Duration};

/// What one round took of a server.
#[derive(Clone, Debug)]
pub(super) struct Cost {
    pub(super) deliveries: u64,
    pub(super) cpu: Duration,
    /// What all deliveries took on the wire.
    pub(super) bytes: u64,
    /// Why it is not the server that was measured, if it is not.
    pub(super) fault: Option<String>,
}

impl Cost {
    fn nanoseconds_each(&self) -> f64 {
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
    /// What compression was agreed on, by how many; empty if none was offered.
    pub(super) agreed: BTreeMap<String, u64>,
}

impl Row {
    /// Why most rounds did not measure the server, if they did not.
    pub(super) fn fault(&self) -> Option<String> {
        let mut faults = self.server.iter().filter_map(|cost| cost.fault.as_deref());
        let first = faults.next()?;
        let count = 1 + faults.count();
        (2 * count > self.server.len()).then(|| {
            format!(
                "{} subscribers: in {count} of {} rounds {first}",
                self.subscribers,
                self.server.len()
            )
        })
    }

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

/// The table that rows are lines of.
pub(super) fn table(load: Load) -> Table {
    let (title, unit, in_flight) = match load {
        Load::OneToAll => ("CPU time of a delivery", Unit::NanosecondsPerDelivery, "burst"),
        Load::AllToAll { .. } => ("deliveries a CPU-second", Unit::PerCpuSecond, "depth"),
    };
    let title = format!("{title}, the median round; ratio: the server's CPU time to the floor's");
    Table::new(
        title,
        &[
            ("subscribers", Some(Unit::Count)),
            (in_flight, Some(Unit::Count)),
            ("deliveries", Some(Unit::Count)),
            ("floor", Some(unit)),
            ("server", Some(unit)),
            ("ratio", Some(Unit::Ratio)),
            ("lowest", Some(Unit::Ratio)),
            ("highest", Some(Unit::Ratio)),
        ],
    )
}

fn median_nanoseconds(costs: &[Cost]) -> f64 {
    median(&sorted(costs.iter().map(Cost::nanoseconds_each)))
}

impl Row {
    pub(super) fn cells(&self) -> Vec<Cell> {
        let middle = |costs: &[Cost]| match self.load {
            Load::OneToAll => median_nanoseconds(costs),
            Load::AllToAll { .. } => 1e9 / median_nanoseconds(costs),
        };
        let in_flight = match self.load {
            Load::OneToAll => self.burst as u64,
            Load::AllToAll { depth } => depth,
        };
        let deliveries: u64 = self.server.iter().map(|cost| cost.deliveries).sum();
        let ratios = self.ratios();
        vec![
            self.subscribers.into(),
            in_flight.into(),
            deliveries.into(),
            middle(&self.floor).into(),
            middle(&self.server).into(),
            median(&ratios).into(),
            ratios.first().copied().into(),
            ratios.last().copied().into(),
        ]
    }

    /// What a run of one line comes to.
    pub(super) fn figures(&self, report: &mut Report) {
        let each = median_nanoseconds(&self.server);
        report
            .figure("server_cpu_ns_per_delivery", "server CPU", each, Unit::NanosecondsPerDelivery)
            .figure(
                "deliveries_per_server_cpu_second",
                "deliveries",
                1e9 / each,
                Unit::PerCpuSecond,
            );
        let (bytes, deliveries) = self.server.iter().fold((0, 0), |(bytes, deliveries), cost| {
            (bytes + cost.bytes, deliveries + cost.deliveries)
        });
        let each = bytes as f64 / deliveries.max(1) as f64;
        report.figure("wire_received_per_delivery", "received", each, Unit::BytesPerMessage);
        if !self.agreed.is_empty() {
            report.counts("deflate", "compression", self.agreed.clone());
        }
        if !self.floor.is_empty() {
            let ratio = median(&self.ratios());
            report.figure("cpu_ratio_to_floor", "CPU to floor's", ratio, Unit::Ratio);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    fn cost(nanoseconds: u64) -> Cost {
        Cost {
            deliveries: 10,
            cpu: Duration::from_nanos(nanoseconds * 10),
            bytes: 1020,
            fault: None,
        }
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
        let row =
            Row { load: Load::OneToAll, subscribers: 30, burst: 1, server, floor, agreed: none() };
        let expected = [30.0, 1.0, 30.0, 200.0, 220.0, 1.1, 1.0, 1.5].map(Cell::Number);
        assert_eq!(row.cells(), expected);
        let load = Load::AllToAll { depth: 4 };
        let expected = [30.0, 4.0, 30.0, 5e6, 1e9 / 220.0].map(Cell::Number);
        assert_eq!(Row { load, ..row }.cells()[..5], expected);
    }

    #[test]
    fn a_row_is_faulty_if_most_of_its_rounds_are() {
        let faulty = || Cost { fault: Some("the generator lagged".to_owned()), ..cost(100) };
        let row = |server| Row {
            load: Load::OneToAll,
            subscribers: 30,
            burst: 1,
            server,
            floor: Vec::new(),
            agreed: none(),
        };
        assert_eq!(row(vec![cost(100), faulty()]).fault(), None);
        let fault = row(vec![faulty(), cost(100), faulty()]).fault().unwrap();
        assert_eq!(fault, "30 subscribers: in 2 of 3 rounds the generator lagged");
    }

    #[test]
    fn a_row_without_a_floor_tells_the_server_alone() {
        let row = Row {
            load: Load::OneToAll,
            subscribers: 30,
            burst: 1,
            server: vec![cost(150)],
            floor: Vec::new(),
            agreed: [("permessage-deflate".to_owned(), 30)].into(),
        };
        let expected = [Cell::None, Cell::Number(150.0), Cell::None, Cell::None, Cell::None];
        assert_eq!(row.cells()[3..], expected);
        let mut report = Report::new("fanout", ());
        row.figures(&mut report);
        let names: Vec<_> = report.figures.keys().map(String::as_str).collect();
        let expected = [
            "server_cpu_ns_per_delivery",
            "deliveries_per_server_cpu_second",
            "wire_received_per_delivery",
        ];
        assert_eq!(names, expected);
        assert_eq!(report.figures["wire_received_per_delivery"].value, 102.0);
        assert_eq!(report.counts["deflate"].counts["permessage-deflate"], 30);
        assert_eq!(report.figures["deliveries_per_server_cpu_second"].value, 1e9 / 150.0);
    }

    #[test]
    fn a_line_has_a_field_below_each_of_the_head() {
        let costs = || vec![cost(150)];
        let load = Load::OneToAll;
        let row = Row {
            load,
            subscribers: 30,
            burst: 1,
            server: costs(),
            floor: costs(),
            agreed: none(),
        };
        let table = table(load);
        assert_eq!(
            format!("{}\n{}", table.head(), table.line(&row.cells(), &table.widths())),
            "CPU time of a delivery, the median round; ratio: the server's CPU time to the floor's\n\
             subscribers  burst  deliveries  floor (ns a delivery)  server (ns a delivery)  ratio  \
             lowest  highest\n         \
             30      1          10                    150                     150  1.000   \
             1.000    1.000"
        );
    }
}

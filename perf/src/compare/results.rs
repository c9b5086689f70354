//! What each round said, and what all of them say.

use super::{
    contestant::Contestant,
    measurement::{Measurement, Take},
};
use crate::report::{Cell, Report, Table};
use serde_json::Value;
use std::collections::BTreeMap;

/// The values of all rounds.
#[derive(Debug)]
pub(super) struct Results {
    names: Vec<String>,
    columns: Vec<ResultColumn>,
    /// Runs that do not count, by their measurement and server.
    left_out: BTreeMap<(usize, usize), LeftOut>,
}

#[derive(Debug)]
struct LeftOut {
    rounds: usize,
    /// Of the first of them.
    reason: String,
}

#[derive(Debug)]
struct ResultColumn {
    measurement: usize,
    take: Take,
    /// Of each server.
    rounds: Vec<Vec<f64>>,
}

impl Results {
    pub(super) fn new(contestants: &[Contestant], measurements: &[Measurement]) -> Self {
        let names: Vec<_> = contestants.iter().map(|one| one.name.clone()).collect();
        let takes = measurements.iter().enumerate().flat_map(|(index, measurement)| {
            measurement.takes.iter().map(move |take| (index, take))
        });
        let column = |(measurement, take): (usize, &Take)| ResultColumn {
            measurement,
            take: take.clone(),
            rounds: vec![Vec::new(); names.len()],
        };
        Self { columns: takes.map(column).collect(), names, left_out: BTreeMap::new() }
    }

    /// A run gave this; `None` if it is nothing for the server. One that is not valid does not count.
    pub(super) fn add(&mut self, server: usize, measurement: usize, run: Option<&Value>) {
        let Some(run) = run else { return };
        if run["valid"].as_bool() != Some(true) {
            let reasons = run["invalid_because"].as_array().into_iter().flatten();
            let reasons: Vec<_> = reasons.filter_map(Value::as_str).collect();
            self.fail(server, measurement, &reasons.join("; "));
            return;
        }
        let mut missing = None;
        for column in self.columns.iter_mut().filter(|column| column.measurement == measurement) {
            match column.take.value(run) {
                Some(value) => column.rounds[server].push(value),
                None => missing = Some(format!("there is no figure for {}", column.take.column)),
            }
        }
        if let Some(missing) = missing {
            self.fail(server, measurement, &missing);
        }
    }

    /// A run failed, or does not count.
    pub(super) fn fail(&mut self, server: usize, measurement: usize, reason: &str) {
        let none = || LeftOut { rounds: 0, reason: reason.to_owned() };
        self.left_out.entry((measurement, server)).or_insert_with(none).rounds += 1;
    }

    /// Tables of medians, each with the first server's ratio to the best of the others.
    pub(super) fn report(&self, report: &mut Report) {
        let mut rest: Vec<_> = self.columns.iter().collect();
        while let Some(first) = rest.first() {
            let title = &first.take.table;
            let (columns, others): (Vec<&ResultColumn>, Vec<_>) =
                rest.iter().partition(|column| column.take.table == *title);
            report.table(self.table(title, &columns));
            rest = others;
        }
        let spreads = self
            .columns
            .iter()
            .flat_map(|column| &column.rounds)
            .filter_map(|rounds| spread(rounds));
        let spreads: Vec<_> = spreads.collect();
        if let Some(median) = median(&spreads) {
            let most = spreads.iter().copied().fold(0.0, f64::max);
            report.note(format!(
                "Each number is the median of its rounds. From the least to the most of them it is {:.0} % of \
                 the median in the median cell, {:.0} % in the worst.",
                median * 100.0,
                most * 100.0
            ));
        }
        for ((measurement, server), LeftOut { rounds, reason }) in &self.left_out {
            let columns = self.columns.iter().filter(|column| column.measurement == *measurement);
            let names: Vec<_> = columns.clone().map(|column| &*column.take.column).collect();
            let table = columns.clone().next().map_or("", |column| &column.take.table);
            report.note(format!(
                "{}, {table}, {}: left out {rounds} of the rounds: {reason}",
                self.names[*server],
                names.join(" and "),
            ));
        }
    }

    fn table(&self, title: &str, columns: &[&ResultColumn]) -> Table {
        let heads = columns.iter().map(|column| (&*column.take.column, Some(column.take.unit())));
        let heads: Vec<_> = [("server", None)].into_iter().chain(heads).collect();
        let mut table = Table::new(title, &heads).bars("server", &columns[0].take.column);
        for (server, name) in self.names.iter().enumerate() {
            let medians = columns.iter().map(|column| median(&column.rounds[server]).into());
            table.row([Cell::from(&**name)].into_iter().chain(medians).collect());
        }
        if let [first, _, ..] = &self.names[..] {
            let ratios = columns.iter().map(|column| match column.ratio() {
                Some(ratio) => format!("{ratio:.3}").into(),
                None => Cell::None,
            });
            let name = Cell::from(format!("{first} / best of the others"));
            table.row([name].into_iter().chain(ratios).collect());
        }
        table
    }
}

impl ResultColumn {
    /// The first server's median to that of the best of the others.
    fn ratio(&self) -> Option<f64> {
        let (own, others) = self.rounds.split_first()?;
        let others = others.iter().filter_map(|rounds| median(rounds));
        let best = match self.take.is_less_better() {
            true => others.reduce(f64::min),
            false => others.reduce(f64::max),
        };
        let (own, best) = (median(own)?, best?);
        (best > 0.0).then(|| own / best)
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) =
        (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

/// From the least to the most, as a part of the median.
fn spread(values: &[f64]) -> Option<f64> {
    let most = values.iter().copied().reduce(f64::max)?;
    let least = values.iter().copied().reduce(f64::min)?;
    let median = median(values)?;
    (values.len() > 1 && median > 0.0).then(|| (most - least) / median)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 20.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 20.0, 5.0]), Some(4.0));
        assert_eq!(spread(&[3.0]), None);
        assert_eq!(spread(&[8.0, 10.0, 12.0]), Some(0.4));
    }

    #[test]
    fn a_round_that_is_not_valid_does_not_count_and_is_told_of() {
        let options = "--server|a=x {port}|--only|echo|--sizes|20|--depths|1|--placements|cross";
        let options = crate::compare::tests::parse(options).unwrap();
        let measurements = Measurement::all(&options);
        let mut results = Results::new(&options.contestants().unwrap(), &measurements);
        let run = |nanos: f64, valid| {
            let figure = json!({ "server_cpu_ns_per_message": { "value": nanos } });
            json!({ "valid": valid, "invalid_because": ["it lagged"], "figures": figure })
        };
        results.add(0, 0, Some(&run(1000.0, true)));
        results.add(0, 0, Some(&run(1.0, false)));
        results.add(0, 0, Some(&run(1.0, false)));
        results.add(0, 0, Some(&run(f64::NAN, true)));
        results.fail(0, 0, "it is gone");
        let mut report = Report::new("compare", ());
        results.report(&mut report);
        assert_eq!(report.tables[0].rows, [[Cell::from("a"), Cell::Number(1e6)]]);
        let notes = report.notes.join("\n");
        assert!(notes.contains("20 B: left out 4 of the rounds: it lagged"), "{notes}");
    }
}

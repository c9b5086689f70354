//! What a run gives, whatever its mode: one model, written as text, JSON, percentiles and a page.

mod environment;
pub(crate) mod heat;
pub(crate) mod histogram;
mod html;
mod output;
mod plot;
mod series;
pub(crate) mod table;
mod text;
mod unit;

pub(crate) use environment::Environment;
pub(crate) use heat::Heat;
pub(crate) use histogram::Latency;
pub(crate) use output::Output;
pub(crate) use series::Series;
pub(crate) use table::{Cell, Table};
pub(crate) use unit::Unit;

use hdrhistogram::Histogram;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, fmt};

/// The result of a run. What is added is told in the order in which it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) tool: String,
    pub(crate) version: String,
    pub(crate) mode: String,
    pub(crate) valid: bool,
    pub(crate) invalid_because: Vec<String>,
    pub(crate) environment: Environment,
    pub(crate) settings: Value,
    pub(crate) figures: IndexMap<String, Figure>,
    pub(crate) histograms: IndexMap<String, Latency>,
    pub(crate) series: IndexMap<String, Series>,
    pub(crate) heat: IndexMap<String, HeatMap>,
    pub(crate) counts: IndexMap<String, Counts>,
    pub(crate) tables: Vec<Table>,
    /// What a reader has to know to understand the figures.
    pub(crate) notes: Vec<String>,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) label: String,
    /// What is no number is null.
    #[serde(deserialize_with = "number_or_null")]
    pub(crate) value: f64,
    pub(crate) unit: Unit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeatMap {
    pub(crate) label: String,
    #[serde(flatten)]
    pub(crate) heat: Heat,
}

/// How often each of some things happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) label: String,
    pub(crate) counts: BTreeMap<String, u64>,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.counts.is_empty() {
            return f.write_str("none");
        }
        let texts: Vec<_> =
            self.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        f.write_str(&texts.join(", "))
    }
}

fn number_or_null<'d, D: serde::Deserializer<'d>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Report {
    /// An empty one, of a run that was asked for with these settings.
    pub(crate) fn new(mode: &str, settings: impl Serialize) -> Self {
        let settings = serde_json::to_value(settings);
        Self {
            tool: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: mode.to_owned(),
            valid: true,
            invalid_because: Vec::new(),
            environment: Environment::collect(),
            settings: settings.expect("options have names that are strings"),
            figures: IndexMap::new(),
            histograms: IndexMap::new(),
            series: IndexMap::new(),
            heat: IndexMap::new(),
            counts: IndexMap::new(),
            tables: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The seed that gives the same run again.
    pub(crate) fn seed(&mut self, seed: u64) -> &mut Self {
        self.environment.seed = Some(seed);
        self
    }

    pub(crate) fn figure(
        &mut self,
        name: impl Into<String>,
        label: &str,
        value: f64,
        unit: Unit,
    ) -> &mut Self {
        let label = label.to_owned();
        self.figures.insert(name.into(), Figure { label, value, unit });
        self
    }

    /// A histogram of nanoseconds.
    pub(crate) fn histogram(
        &mut self,
        name: impl Into<String>,
        label: &str,
        histogram: &Histogram<u64>,
    ) -> &mut Self {
        let latency = Latency { label: label.to_owned(), histogram: histogram.clone() };
        self.histograms.insert(name.into(), latency);
        self
    }

    pub(crate) fn series(&mut self, series: Series) -> &mut Self {
        self.series.insert(series.name.clone(), series);
        self
    }

    /// Latency over time.
    pub(crate) fn heat(&mut self, name: impl Into<String>, label: &str, heat: &Heat) -> &mut Self {
        let heat = heat.clone();
        self.heat.insert(name.into(), HeatMap { label: label.to_owned(), heat });
        self
    }

    pub(crate) fn counts(
        &mut self,
        name: impl Into<String>,
        label: &str,
        counts: BTreeMap<String, u64>,
    ) -> &mut Self {
        self.counts.insert(name.into(), Counts { label: label.to_owned(), counts });
        self
    }

    pub(crate) fn table(&mut self, table: Table) -> &mut Self {
        self.tables.push(table);
        self
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.notes.push(note.into());
        self
    }

    /// The figures do not tell what they seem to: the program ends with status 3.
    pub(crate) fn invalid(&mut self, reason: impl Into<String>) -> &mut Self {
        self.valid = false;
        self.invalid_because.push(reason.into());
        self
    }
}

#[cfg(test)]
mod tests;

//! The result for a terminal.

use super::Report;
use std::fmt;

/// Values begin below each other, here or behind the longest label.
const LABEL_WIDTH: usize = 15;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        let width =
            lines.iter().map(|(label, _)| label.chars().count()).fold(LABEL_WIDTH, usize::max);
        for (label, text) in lines {
            writeln!(f, "{label:<width$} {text}")?;
        }
        for table in self.tables.iter().filter(|table| !table.written) {
            writeln!(f, "\n{table}")?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        for reason in &self.invalid_because {
            writeln!(f, "INVALID: {reason}")?;
        }
        write!(f, "\n{}", self.environment)
    }
}

impl Report {
    /// All that is a label and a value.
    fn lines(&self) -> Vec<(&str, String)> {
        let figures =
            self.figures.values().map(|figure| (&*figure.label, figure.unit.text(figure.value)));
        let histograms =
            self.histograms.values().map(|latency| (&*latency.label, latency.to_string()));
        let slopes =
            self.series.values().filter_map(|series| Some((&*series.label, series.slope_text()?)));
        let counts = self.counts.values().map(|counts| (&*counts.label, counts.to_string()));
        figures.chain(histograms).chain(slopes).chain(counts).collect()
    }
}

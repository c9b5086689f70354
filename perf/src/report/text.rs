//! The result for a terminal.

use super::Report;
use std::fmt;

/// Where values begin, if their labels are short enough.
const LABEL_WIDTH: usize = 15;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for figure in self.figures.values() {
            line(f, &figure.label, figure.unit.text(figure.value))?;
        }
        for latency in self.histograms.values() {
            line(f, &latency.label, latency)?;
        }
        for series in self.series.values() {
            if let Some(slope) = series.slope_text() {
                line(f, &series.label, slope)?;
            }
        }
        for counts in self.counts.values() {
            let text: Vec<_> =
                counts.counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
            let text = if text.is_empty() { "none".to_owned() } else { text.join(", ") };
            line(f, &counts.label, text)?;
        }
        for table in &self.tables {
            writeln!(f, "{table}")?;
        }
        self.foot(f)
    }
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{label:<LABEL_WIDTH$} {text}")
}

/// The end alone, for a mode that wrote its lines when they were there.
pub(super) struct Foot<'r>(pub(super) &'r Report);

impl fmt::Display for Foot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.foot(f)
    }
}

impl Report {
    /// What holds for all of it.
    fn foot(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        for reason in &self.invalid_because {
            writeln!(f, "INVALID: {reason}")?;
        }
        write!(f, "\n{}", self.environment)
    }
}

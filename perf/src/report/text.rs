//! The result for a terminal.

use super::Report;
use std::{borrow::Cow, fmt};

/// Values begin below each other, here or behind the longest label.
const LABEL_WIDTH: usize = 15;
const INVALID: &str = "INVALID: ";

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
            writeln!(f, "{INVALID}{reason}")?;
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

/// Without what a terminal takes for a command: a server may have chosen the words.
pub(super) fn plain(text: &str) -> String {
    let command = |character: char| character.is_control() && character != '\n';
    text.replace(command, "\u{fffd}")
}

/// With what makes a result invalid in red.
pub(super) fn colored(text: &str) -> String {
    let color = |line| match line {
        line if str::starts_with(line, INVALID) => Cow::Owned(format!("\x1b[1;31m{line}\x1b[0m")),
        line => Cow::Borrowed(line),
    };
    text.split('\n').map(color).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_command_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\r\u{9b}c\nd"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\nd");
    }

    #[test]
    fn only_what_makes_it_invalid_is_red() {
        assert_eq!(colored("a\nINVALID: late\n\nb"), "a\n\x1b[1;31mINVALID: late\x1b[0m\n\nb");
    }
}

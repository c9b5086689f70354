//! Lines of results, one for each load, server or row of a list.

use super::Unit;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Lines under a title, and how they are to be drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
    #[serde(skip)]
    pub(super) plot: Option<Plot>,
    /// Its lines were written when they were there: the text of the result leaves them out.
    #[serde(skip)]
    pub(super) written: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) label: String,
    /// None if it holds words.
    pub(crate) unit: Option<Unit>,
}

/// In JSON a number, a string or null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    Number(f64),
    Text(String),
    /// Not measured.
    None,
}

/// What a page shows beside the lines; columns by their index.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plot {
    /// A bar for each line.
    Bars { name: usize, value: usize },
    /// A point for each line, and a line through them in their order.
    Curve { x: usize, y: usize },
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: &[(&str, Option<Unit>)]) -> Self {
        let column = |&(label, unit): &(&str, _)| Column { label: label.to_owned(), unit };
        let columns = columns.iter().map(column).collect();
        Self { title: title.into(), columns, rows: Vec::new(), plot: None, written: false }
    }

    /// Adds a line, which has a cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) -> &mut Self {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column of {}", self.title);
        self.rows.push(cells);
        self
    }

    /// Draws a column as bars, named by another: one server beside the other.
    pub(crate) fn bars(mut self, name: &str, value: &str) -> Self {
        self.plot = Some(Plot::Bars { name: self.index(name), value: self.index(value) });
        self
    }

    /// Draws a column against another: p99 over throughput.
    pub(crate) fn curve(mut self, x: &str, y: &str) -> Self {
        self.plot = Some(Plot::Curve { x: self.index(x), y: self.index(y) });
        self
    }

    /// Leaves it out of the text of the result, where its lines already are.
    pub(crate) fn written(mut self) -> Self {
        self.written = true;
        self
    }

    fn index(&self, label: &str) -> usize {
        let index = self.columns.iter().position(|column| column.label == label);
        index.unwrap_or_else(|| panic!("{} has no column {label}", self.title))
    }

    /// How wide each column is, with these lines.
    pub(crate) fn widths(&self) -> Vec<usize> {
        let width = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| column.text(&row[index]).chars().count());
            cells.fold(column.width_min(), usize::max)
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    /// What is above its lines.
    pub(crate) fn head(&self) -> String {
        format!("{}\n{}", self.title, self.names(&self.widths()))
    }

    fn names(&self, widths: &[usize]) -> String {
        self.columns
            .iter()
            .zip(widths)
            .map(|(column, &width)| column.padded(&column.head(), width))
            .collect::<Vec<_>>()
            .join("  ")
            .trim_end()
            .to_owned()
    }

    /// A line of text.
    pub(crate) fn line(&self, row: &[Cell], widths: &[usize]) -> String {
        self.columns
            .iter()
            .zip(row)
            .zip(widths)
            .map(|((column, cell), &width)| column.padded(&column.text(cell), width))
            .collect::<Vec<_>>()
            .join("  ")
            .trim_end()
            .to_owned()
    }
}

impl Column {
    /// Its label, with the unit if its numbers are written without.
    pub(crate) fn head(&self) -> String {
        match self.unit.map(Unit::axis_suffix) {
            None | Some("") => self.label.clone(),
            Some(suffix) => format!("{} ({suffix})", self.label),
        }
    }

    /// For its head, and for numbers of any size if they are told in units of different sizes.
    fn width_min(&self) -> usize {
        let number = if self.unit.is_some_and(Unit::is_scaled) { "123.4 us".len() } else { 0 };
        self.head().chars().count().max(number)
    }

    pub(crate) fn text(&self, cell: &Cell) -> String {
        match (cell, self.unit) {
            (Cell::Number(value), Some(unit)) => unit.cell(*value),
            (Cell::Number(value), None) => value.to_string(),
            (Cell::Text(text), _) => text.clone(),
            (Cell::None, _) => "-".to_owned(),
        }
    }

    /// Numbers end where those above them end, words begin there.
    fn padded(&self, text: &str, width: usize) -> String {
        if self.unit.is_some() { format!("{text:>width$}") } else { format!("{text:<width$}") }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        write!(f, "{}\n{}", self.title, self.names(&widths))?;
        self.rows.iter().try_for_each(|row| write!(f, "\n{}", self.line(row, &widths)))
    }
}

impl From<f64> for Cell {
    /// What is no number was not measured.
    fn from(value: f64) -> Self {
        if value.is_finite() { Self::Number(value) } else { Self::None }
    }
}

impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Self::Number(value as f64)
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self::Number(value as f64)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_text_in_columns() {
        let columns =
            [("server", None), ("rate", Some(Unit::PerSecond)), ("ratio", Some(Unit::Ratio))];
        let mut table = Table::new("echo", &columns);
        table.row(vec!["quelea".into(), 1_500_000_u64.into(), 1.0.into()]);
        table.row(vec!["other server".into(), 90_u64.into(), None::<f64>.into()]);
        assert_eq!(
            table.to_string(),
            "echo\n\
             server        rate (a second)  ratio\n\
             quelea                1500000  1.000\n\
             other server               90      -"
        );
    }

    #[test]
    fn cells_are_numbers_strings_and_null_in_json() {
        let cells: Vec<Cell> = vec![2_u64.into(), "a".into(), f64::NAN.into()];
        assert_eq!(serde_json::to_string(&cells).unwrap(), r#"[2.0,"a",null]"#);
        assert_eq!(serde_json::from_str::<Vec<Cell>>(r#"[2,"a",null]"#).unwrap(), cells);
    }
}

//! One number against another: throughput over time, memory against connections.

use super::Unit;
use serde::{Deserialize, Serialize};

/// Points in the order in which they were measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    #[serde(skip)]
    pub(super) name: String,
    pub(crate) label: String,
    pub(crate) unit: Unit,
    /// What the points are over.
    pub(crate) over: Axis,
    /// A straight line through them means something, its slope above all.
    pub(crate) sloped: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) unit: Unit,
}

impl Series {
    /// Points over seconds since the measurement began.
    pub(crate) fn over_time(
        name: impl Into<String>,
        label: impl Into<String>,
        unit: Unit,
        points: Vec<(f64, f64)>,
    ) -> Self {
        let over = Axis { label: "time".to_owned(), unit: Unit::Seconds };
        Self { name: name.into(), label: label.into(), unit, over, sloped: false, points }
    }

    /// Points over a count of what is `counted`, such as "connections": the slope is told.
    pub(crate) fn over_count(
        name: impl Into<String>,
        label: impl Into<String>,
        unit: Unit,
        counted: impl Into<String>,
        points: Vec<(f64, f64)>,
    ) -> Self {
        let over = Axis { label: counted.into(), unit: Unit::Count };
        Self { name: name.into(), label: label.into(), unit, over, sloped: true, points }
    }

    /// The straight line that is nearest to the points (least squares), as its value at 0 and its
    /// slope; none through points of fewer than two places.
    pub(crate) fn line(&self) -> Option<(f64, f64)> {
        let count = self.points.len() as f64;
        let (x_sum, y_sum) =
            self.points.iter().fold((0.0, 0.0), |(x_sum, y_sum), (x, y)| (x_sum + x, y_sum + y));
        let (x_mean, y_mean) = (x_sum / count, y_sum / count);
        let (mut square, mut product) = (0.0, 0.0);
        for (x, y) in &self.points {
            square += (x - x_mean) * (x - x_mean);
            product += (x - x_mean) * (y - y_mean);
        }
        let slope = product / square;
        (square > 0.0).then_some((y_mean - slope * x_mean, slope))
    }

    /// The slope in words, if it is to be told and there is one.
    pub(crate) fn slope_text(&self) -> Option<String> {
        let (_, slope) = self.line().filter(|_| self.sloped)?;
        let (digits, suffix) = (self.unit.digits(slope), self.unit.suffix());
        let space = if suffix.is_empty() { "" } else { " " };
        let one = self.over.label.strip_suffix('s').unwrap_or(&self.over.label);
        Some(format!("{digits}{space}{suffix} a {one}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(points: &[(f64, f64)]) -> Series {
        Series::over_count("memory", "memory", Unit::Bytes, "connections", points.to_vec())
    }

    #[test]
    fn the_slope_is_that_of_the_nearest_line() {
        let series = memory(&[(0.0, 100.0), (10.0, 1100.0), (20.0, 2100.0)]);
        assert_eq!(series.line(), Some((100.0, 100.0)));
        assert_eq!(series.slope_text().as_deref(), Some("100 bytes a connection"));
        assert_eq!(memory(&[(0.0, 1.0), (1.0, 1.0), (2.0, 4.0)]).line(), Some((0.5, 1.5)));
    }

    #[test]
    fn points_of_one_place_have_no_slope() {
        assert_eq!(memory(&[]).line(), None);
        assert_eq!(memory(&[(5.0, 1.0), (5.0, 2.0)]).line(), None);
        assert_eq!(memory(&[(5.0, 1.0)]).slope_text(), None);
    }
}

//! Axes: where they begin and end, where they are marked, and what is written there.

use crate::report::Unit;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::{ops::Range, rc::Rc};

/// An axis, in its own coordinates: of a logarithmic one, logarithms to base 10.
#[derive(Clone)]
pub(super) struct Scale {
    pub(super) low: f64,
    /// Below the low end if the axis runs the other way.
    pub(super) high: f64,
    marks: Vec<f64>,
    text: Rc<dyn Fn(f64) -> String>,
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let part = (value - self.low) / (self.high - self.low);
        start + (part * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, mark: &f64) -> String {
        (self.text)(*mark)
    }
}

/// About as many marks as can be told from each other.
const MARKS: f64 = 6.0;

impl Scale {
    /// Round numbers around all values and zero.
    pub(super) fn linear(values: impl Iterator<Item = f64>, unit: Unit) -> Self {
        let (low, high) = bounds(values).unwrap_or((0.0, 1.0));
        let (low, high) = (low.min(0.0), high.max(0.0));
        let high = if high > low { high } else { 1.0 };
        let step = step(high - low, unit);
        let (low, high) = ((low / step).floor(), (high / step).ceil());
        let marks = (low as i64..=high as i64).map(|mark| mark as f64 * step).collect();
        let text = Rc::new(move |value| short(value, unit));
        Self { low: low * step, high: high * step, marks, text }
    }

    /// From one of 1, 2 and 5 times a power of ten to another, for times in nanoseconds.
    pub(super) fn logarithmic(nanoseconds: impl Iterator<Item = f64>) -> Self {
        let logarithms = nanoseconds.map(|value| value.max(1.0).log10());
        let (low, high) = bounds(logarithms).unwrap_or((0.0, 1.0));
        let powers = low.floor() as i32..=high.ceil() as i32 + 1;
        let marks = powers
            .flat_map(|power| [1.0, 2.0, 5.0].map(|part: f64| part.log10() + f64::from(power)));
        let mut marks: Vec<_> = marks.collect();
        let first = marks.iter().rposition(|mark| *mark <= low).unwrap_or(0);
        let last = marks.iter().position(|mark| *mark >= high && *mark > marks[first]);
        marks = marks[first..=last.unwrap_or(marks.len() - 1)].to_vec();
        let (low, high) = (marks[0], marks[marks.len() - 1]);
        if marks.len() as f64 > 1.5 * MARKS {
            marks.retain(|mark| mark.fract() == 0.0);
        }
        let text = |mark: f64| Unit::Nanoseconds.axis(10_f64.powf(mark));
        Self { low, high, marks, text: Rc::new(text) }
    }

    /// Quantiles by the logarithm of 1/(1-quantile): of how many, one is beyond.
    pub(super) fn quantiles(high: f64) -> Self {
        let high = high.max(1.0);
        let marks = (0..=high as i32).map(f64::from).collect();
        Self { low: 0.0, high, marks, text: Rc::new(percent) }
    }

    /// Lines from the top on, the first of which is between 0 and 1.
    pub(super) fn lines(names: Vec<String>) -> Self {
        let high = names.len() as f64;
        let marks = (0..names.len()).map(|line| line as f64 + 0.5).collect();
        let text = move |mark: f64| names.get(mark as usize).cloned().unwrap_or_default();
        Self { low: high, high: 0.0, marks, text: Rc::new(text) }
    }
}

pub(super) fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|value| value.is_finite());
    finite.fold(None, |bounds, value| match bounds {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// 1, 2 or 5 times a power of ten of a unit that is written.
fn step(length: f64, unit: Unit) -> f64 {
    let written = match unit {
        Unit::Bytes | Unit::BytesPerSecond if length >= 1024.0 => {
            1024_f64.powi((length.log2() / 10.0) as i32)
        }
        _ => 1.0,
    };
    let least = length / written / MARKS;
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|part| part * power);
    steps.into_iter().find(|step| *step >= least).unwrap_or(least) * written
}

fn short(value: f64, unit: Unit) -> String {
    // What is left of a subtraction is no number to be written.
    if value.abs() < 1e-12 { unit.axis(0.0) } else { unit.axis(value) }
}

fn percent(nines: f64) -> String {
    let decimals = (nines as usize).saturating_sub(2);
    format!("{:.decimals$} %", (1.0 - 10_f64.powf(-nines)) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<String> {
        scale.marks.iter().map(|mark| (scale.text)(*mark)).collect()
    }

    #[test]
    fn a_linear_axis_is_marked_at_round_numbers_from_zero_on() {
        let scale = Scale::linear([3.0, 91.0].into_iter(), Unit::Count);
        assert_eq!(texts(&scale), ["0", "20", "40", "60", "80", "100"]);
        let scale = Scale::linear([1_490_000.0].into_iter(), Unit::PerSecond);
        assert_eq!(texts(&scale), ["0", "500 k", "1 M", "1.5 M"]);
        let scale = Scale::linear([3.5 * 1024.0 * 1024.0].into_iter(), Unit::Bytes);
        assert_eq!(texts(&scale), ["0", "1 MiB", "2 MiB", "3 MiB", "4 MiB"]);
    }

    #[test]
    fn an_axis_of_nothing_or_of_zeros_still_has_a_length() {
        for values in [&[][..], &[0.0, 0.0], &[f64::NAN], &[-1.0]] {
            let scale = Scale::linear(values.iter().copied(), Unit::Count);
            assert!(scale.high > scale.low && scale.marks.len() > 1, "{values:?}");
            let scale = Scale::logarithmic(values.iter().copied());
            assert!(scale.high > scale.low && scale.marks.len() > 1, "{values:?}");
        }
    }

    #[test]
    fn a_logarithmic_axis_is_marked_at_all_steps_of_few_and_at_powers_of_many() {
        let scale = Scale::logarithmic([1.2e6, 70e6].into_iter());
        assert_eq!(texts(&scale), ["1 ms", "2 ms", "5 ms", "10 ms", "20 ms", "50 ms", "100 ms"]);
        let scale = Scale::logarithmic([1e3, 3e9].into_iter());
        let expected = ["1 us", "10 us", "100 us", "1 ms", "10 ms", "100 ms", "1 s"];
        assert_eq!(texts(&scale), expected);
        assert!(scale.high > 3e9_f64.log10());
    }

    #[test]
    fn quantiles_have_as_many_decimals_as_they_need() {
        let scale = Scale::quantiles(4.2);
        assert_eq!(texts(&scale), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}

//! What a number is, and how it is written for a reader.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    #[serde(rename = "count")]
    Count,
    #[serde(rename = "1/s")]
    PerSecond,
    #[serde(rename = "1/cpu-s")]
    PerCpuSecond,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ns")]
    Nanoseconds,
    #[serde(rename = "ns/message")]
    NanosecondsPerMessage,
    #[serde(rename = "ns/delivery")]
    NanosecondsPerDelivery,
    #[serde(rename = "ns/handshake")]
    NanosecondsPerHandshake,
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "bytes/s")]
    BytesPerSecond,
    #[serde(rename = "bytes/connection")]
    BytesPerConnection,
    #[serde(rename = "bytes/message")]
    BytesPerMessage,
    /// One number divided by another of its kind.
    #[serde(rename = "ratio")]
    Ratio,
    /// A part of a whole, from 0 to 1; above that of several cores.
    #[serde(rename = "share")]
    Share,
}

impl Unit {
    /// What is written after a number.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Count | Self::Ratio => "",
            Self::PerSecond => "a second",
            Self::PerCpuSecond => "a CPU-second",
            Self::Seconds => "s",
            Self::Nanoseconds => "ns",
            Self::NanosecondsPerMessage => "ns a message",
            Self::NanosecondsPerDelivery => "ns a delivery",
            Self::NanosecondsPerHandshake => "ns a handshake",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes a second",
            Self::BytesPerConnection => "bytes a connection",
            Self::BytesPerMessage => "bytes a message",
            Self::Share => "%",
        }
    }

    /// The number alone, with as many digits as tell something.
    pub(crate) fn digits(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => "-".to_owned(),
            Self::Ratio | Self::Seconds => format!("{value:.3}"),
            Self::Share if value.abs() < 0.01 => format!("{:.3}", value * 100.0),
            Self::Share => format!("{:.1}", value * 100.0),
            _ if value.fract() == 0.0 || value.abs() >= 1000.0 => format!("{value:.0}"),
            _ => format!("{value:.1}"),
        }
    }

    /// The number with its unit, in a larger one where that is easier to read.
    pub(crate) fn text(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => self.digits(value),
            Self::Nanoseconds => time(value).to_string(),
            Self::Bytes => bytes(value).to_string(),
            Self::BytesPerSecond => format!("{} a second", bytes(value)),
            _ => Scaled { digits: self.digits(value), unit: self.suffix() }.to_string(),
        }
    }

    /// What is written beside an axis or above a column: nothing if each number has its own unit.
    pub(crate) fn axis_suffix(self) -> &'static str {
        if self.is_scaled() { "" } else { self.suffix() }
    }

    /// The number in a column.
    pub(crate) fn cell(self, value: f64) -> String {
        if self.is_scaled() { self.text(value) } else { self.digits(value) }
    }

    /// Numbers of this are written in units of different sizes.
    pub(crate) fn is_scaled(self) -> bool {
        matches!(
            self,
            Self::Nanoseconds | Self::Bytes | Self::BytesPerSecond | Self::Share | Self::Seconds
        )
    }

    /// The number at the mark of an axis.
    pub(crate) fn axis(self, value: f64) -> String {
        if value == 0.0 {
            return "0".to_owned();
        }
        short(match self {
            Self::Nanoseconds => time(value),
            Self::Bytes | Self::BytesPerSecond => bytes(value),
            Self::Share => Scaled { digits: self.digits(value), unit: "%" },
            Self::Seconds if value >= 60.0 => Scaled { digits: format!("{value:.0}"), unit: "s" },
            Self::Seconds => Scaled { digits: self.digits(value), unit: "s" },
            _ => scaled(value, &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]),
        })
    }
}

/// Without digits that are none: marks are round.
fn short(scaled: Scaled) -> String {
    let Scaled { digits, unit } = scaled;
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        &digits
    };
    if unit.is_empty() { digits.to_owned() } else { format!("{digits} {unit}") }
}

struct Scaled {
    digits: String,
    unit: &'static str,
}

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits)?;
        if self.unit.is_empty() { Ok(()) } else { write!(f, " {}", self.unit) }
    }
}

fn time(nanoseconds: f64) -> Scaled {
    scaled(nanoseconds, &[(1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns")])
}

fn bytes(bytes: f64) -> Scaled {
    let scales = [1024.0 * 1024.0 * 1024.0, 1024.0 * 1024.0, 1024.0, 1.0];
    let [gib, mib, kib, one] = scales;
    scaled(bytes, &[(gib, "GiB"), (mib, "MiB"), (kib, "KiB"), (one, "bytes")])
}

/// In the largest of the units that it is at least one of, or in the last.
fn scaled(value: f64, units: &[(f64, &'static str)]) -> Scaled {
    let fits = units.iter().find(|(size, _)| value.abs() >= *size).or(units.last());
    let &(size, unit) = fits.unwrap_or(&(1.0, ""));
    let digits = match value / size {
        value if size == 1.0 && value.abs() >= 1.0 => format!("{value:.0}"),
        value if value.abs() < 10.0 => format!("{value:.2}"),
        value if value.abs() < 1000.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    };
    Scaled { digits, unit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_the_digits_that_tell_something() {
        for (unit, value, text) in [
            (Unit::Count, 1_620_000.0, "1620000"),
            (Unit::PerSecond, 1_620_000.4, "1620000 a second"),
            (Unit::PerSecond, 1.5, "1.5 a second"),
            (Unit::NanosecondsPerMessage, 299.04, "299.0 ns a message"),
            (Unit::BytesPerConnection, 88.84, "88.8 bytes a connection"),
            (Unit::Nanoseconds, 999.0, "999 ns"),
            (Unit::Nanoseconds, 1234.0, "1.23 us"),
            (Unit::Nanoseconds, 52_340_000.0, "52.3 ms"),
            (Unit::Nanoseconds, 2_000_000_000.0, "2.00 s"),
            (Unit::Bytes, 100.0, "100 bytes"),
            (Unit::Bytes, 2.5 * 1024.0 * 1024.0, "2.50 MiB"),
            (Unit::BytesPerSecond, 1536.0, "1.50 KiB a second"),
            (Unit::Ratio, 1.1, "1.100"),
            (Unit::Share, 0.456, "45.6 %"),
            (Unit::Share, 0.000_23, "0.023 %"),
            (Unit::Seconds, 0.25, "0.250 s"),
            (Unit::Ratio, f64::NAN, "-"),
            (Unit::Nanoseconds, f64::INFINITY, "-"),
        ] {
            assert_eq!(unit.text(value), text);
        }
    }
}

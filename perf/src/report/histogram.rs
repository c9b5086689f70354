//! Histograms of nanoseconds: in JSON, with all their values, and as the standard percentile output.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};
use std::{
    error::Error,
    fmt::{self, Write},
};

/// A histogram of nanoseconds and what it is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Encoded", try_from = "Encoded")]
pub(crate) struct Latency {
    pub(crate) label: String,
    pub(crate) histogram: Histogram<u64>,
}

/// The quantiles that are told, by their names in JSON and in text.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

impl Latency {
    pub(crate) fn quantiles(&self) -> impl Iterator<Item = (&'static str, u64)> {
        QUANTILES.into_iter().map(|(name, at)| (name, self.histogram.value_at_quantile(at)))
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: u64| super::Unit::Nanoseconds.text(value as f64);
        if self.histogram.is_empty() {
            return f.write_str("nothing was measured");
        }
        for (name, value) in self.quantiles() {
            write!(f, "{name} {}, ", text(value))?;
        }
        write!(f, "max {}", text(self.histogram.max()))
    }
}

/// As it is in JSON: nanoseconds, and the whole of it in `hdr`.
#[derive(Clone, Serialize, Deserialize)]
struct Encoded {
    label: String,
    unit: super::Unit,
    count: u64,
    min: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    p9999: u64,
    max: u64,
    hdr: String,
}

impl From<Latency> for Encoded {
    fn from(Latency { label, histogram }: Latency) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            label,
            unit: super::Unit::Nanoseconds,
            count: histogram.len(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max(),
            hdr: encode(&histogram),
        }
    }
}

impl TryFrom<Encoded> for Latency {
    type Error = String;

    fn try_from(encoded: Encoded) -> Result<Self, String> {
        let histogram = decode(&encoded.hdr).map_err(|error| format!("hdr: {error}"))?;
        Ok(Self { label: encoded.label, histogram })
    }
}

/// In HdrHistogram's compressed form (V2), in base64: what its other implementations read.
pub(crate) fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("memory takes all that is written, and counts are below 2^63");
    BASE64_STANDARD.encode(bytes)
}

/// What [`encode`] wrote.
pub(crate) fn decode(text: &str) -> Result<Histogram<u64>, Box<dyn Error>> {
    let bytes = BASE64_STANDARD.decode(text)?;
    let histogram = Deserializer::new().deserialize(&mut &*bytes);
    histogram.map_err(|error| format!("not a histogram: {error}").into())
}

/// The percentile output of HdrHistogram, as its plotter reads it, in milliseconds.
pub(crate) fn percentiles(histogram: &Histogram<u64>) -> String {
    const SCALE: f64 = 1e6;
    let mut text = String::new();
    let mut write = |line: fmt::Arguments<'_>| {
        text.write_fmt(line).expect("a string takes all that is written");
    };
    write(format_args!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    ));
    let mut count = 0;
    for step in histogram.iter_quantiles(5) {
        count += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / SCALE;
        let quantile = step.quantile_iterated_to();
        write(format_args!("{value:>12.6} {quantile:>14.12} {count:>10}"));
        if quantile < 1.0 {
            write(format_args!(" {:>14.2}", 1.0 / (1.0 - quantile)));
        }
        write(format_args!("\n"));
    }
    let (mean, deviation) = (histogram.mean() / SCALE, histogram.stdev() / SCALE);
    write(format_args!("#[Mean    = {mean:>12.6}, StdDeviation   = {deviation:>12.6}]\n"));
    let max = histogram.max() as f64 / SCALE;
    write(format_args!("#[Max     = {max:>12.6}, Total count    = {:>12}]\n", histogram.len()));
    // Each bucket but the first has only the upper half of its parts.
    let buckets = usize::from(histogram.buckets());
    let parts = histogram.distinct_values() * 2 / (buckets + 1);
    write(format_args!("#[Buckets = {buckets:>12}, SubBuckets     = {parts:>12}]\n"));
    text
}

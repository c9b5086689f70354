//! Histograms on the way from one process to another: `#[serde(with = "hdr")]`.

use crate::report::histogram::{decode, encode};
use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(super) fn serialize<S: Serializer>(
    histogram: &Histogram<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&encode(histogram))
}

pub(super) fn deserialize<'d, D: Deserializer<'d>>(
    deserializer: D,
) -> Result<Histogram<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    decode(&text).map_err(D::Error::custom)
}

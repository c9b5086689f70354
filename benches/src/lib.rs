//! Benches of the hot path live in `benches/`.

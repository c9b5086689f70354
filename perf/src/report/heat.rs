//! Latency over time: how many messages took how long, in each stretch of the run.

use serde::{Deserialize, Serialize};

/// Counts by time and latency. Cheap enough to record each message in; its size is bounded however
/// long the run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heat {
    /// How long a column is, in milliseconds: 125 times a power of two.
    column_milliseconds: u64,
    /// From the start of the measurement on, [`ROWS`] counts each at most.
    columns: Vec<Vec<u64>>,
}

/// Parts of a power of two, each a row.
const PARTS_BITS: u32 = 2;
const PARTS: u64 = 1 << PARTS_BITS;
/// All below is in the first row: 1.024 us.
const LOWEST_BITS: u32 = 10;
/// All above is in the last row: 68.7 s.
const HIGHEST_BITS: u32 = 36;
pub(crate) const ROWS: usize = ((HIGHEST_BITS - LOWEST_BITS) << PARTS_BITS) as usize;
/// With more columns, two become one.
const COLUMNS_MAX: usize = 240;
const FIRST_COLUMN_MILLISECONDS: u64 = 125;

impl Default for Heat {
    fn default() -> Self {
        Self { column_milliseconds: FIRST_COLUMN_MILLISECONDS, columns: Vec::new() }
    }
}

impl Heat {
    /// Counts messages whose answers came after so many nanoseconds, so many milliseconds after the
    /// start.
    #[inline]
    pub(crate) fn record(&mut self, milliseconds: u64, nanoseconds: u64, count: u64) {
        let row = row(nanoseconds);
        match self.columns.get_mut((milliseconds / self.column_milliseconds) as usize) {
            Some(column) => column[row] += count,
            None => self.column(milliseconds)[row] += count,
        }
    }

    /// Adds what another process counted in the same time.
    pub(crate) fn add(&mut self, other: &Self) {
        for (index, counts) in other.columns.iter().enumerate() {
            let column = self.column(index as u64 * other.column_milliseconds);
            column.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    #[cold]
    fn column(&mut self, milliseconds: u64) -> &mut [u64] {
        while milliseconds / self.column_milliseconds >= COLUMNS_MAX as u64 {
            self.column_milliseconds *= 2;
            let halves = std::mem::take(&mut self.columns);
            for pair in halves.chunks(2) {
                let mut sum = pair[0].clone();
                for column in &pair[1..] {
                    sum.iter_mut().zip(column).for_each(|(sum, count)| *sum += count);
                }
                self.columns.push(sum);
            }
        }
        let index = (milliseconds / self.column_milliseconds) as usize;
        if self.columns.len() <= index {
            self.columns.resize(index + 1, vec![0; ROWS]);
        }
        &mut self.columns[index]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    pub(crate) fn column_seconds(&self) -> f64 {
        self.column_milliseconds as f64 / 1e3
    }

    pub(crate) fn columns(&self) -> &[Vec<u64>] {
        &self.columns
    }
}

fn row(nanoseconds: u64) -> usize {
    let value = nanoseconds.clamp(1 << LOWEST_BITS, (1 << HIGHEST_BITS) - 1);
    let power = value.ilog2();
    let part = (value >> (power - PARTS_BITS)) & (PARTS - 1);
    (u64::from((power - LOWEST_BITS) << PARTS_BITS) + part) as usize
}

/// The least that is in a row, in nanoseconds; that of one row more is the end of the last.
pub(crate) fn row_start(row: usize) -> f64 {
    let power = LOWEST_BITS + (row as u32 >> PARTS_BITS);
    let part = row as u64 & (PARTS - 1);
    (u128::from(PARTS + part) << (power - PARTS_BITS)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_latency_is_in_the_row_that_begins_at_or_below_it() {
        for nanoseconds in [1024, 1279, 1280, 1_000_000, 52_000_000, (1 << 36) - 1] {
            let row = row(nanoseconds);
            let range = row_start(row)..row_start(row + 1);
            assert!(range.contains(&(nanoseconds as f64)), "{nanoseconds}: {range:?}");
            assert!(range.end / range.start <= 1.25, "{range:?}");
        }
        assert_eq!((row(0), row(u64::MAX)), (0, ROWS - 1));
    }

    #[test]
    fn a_long_run_has_longer_columns_and_loses_no_count() {
        let mut heat = Heat::default();
        for step in 0..1000 {
            heat.record(step * 125, 5000, 1);
        }
        assert_eq!(heat.column_seconds(), 1.0);
        assert_eq!(heat.columns().len(), 125);
        assert!(heat.columns().iter().all(|column| column[row(5000)] == 8));
    }

    #[test]
    fn what_two_processes_counted_is_added_though_one_ran_longer() {
        let mut short = Heat::default();
        short.record(0, 5000, 1);
        short.record(3000, 7000, 1);
        let mut long = Heat::default();
        long.record(3500, 7000, 1);
        long.record(300_000, 9000, 1);
        let mut sum = short.clone();
        sum.add(&long);
        let mut other = long.clone();
        other.add(&short);
        assert_eq!(sum, other);
        assert_eq!(sum.column_seconds(), 2.0);
        assert_eq!((sum.columns()[0][row(5000)], sum.columns()[1][row(7000)]), (1, 2));
        assert_eq!(sum.columns()[150][row(9000)], 1);
    }
}

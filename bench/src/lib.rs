// SPDX-License-Identifier: BSD-3-Clause
//! What the benchmarks share: medians, ratios, tables, and redis-benchmark as the load.
//!
//! Figures are ratios to Valkey 9.1.2 measured in the same run, interleaved, medians over rounds; server CPU per request
//! is the steadiest of them. No test depends on any of this.

pub mod load;
pub mod table;
pub mod types;

/// The middle value; the mean of the middle two of an even count; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

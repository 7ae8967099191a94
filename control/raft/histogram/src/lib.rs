// SPDX-License-Identifier: BSD-3-Clause
//! The part of the crate `base2histogram` that openraft uses for statistics which nobody here reads. The original makes
//! tables for histograms of every precision when the first one is used: 26 MB and 8 ms of processor time for each
//! process, more than all the rest of an empty node. This one counts values by their powers of two.
//!
//! Called by openraft only, in place of the original by `[patch.crates-io]`. To be removed when the original makes the
//! tables that are used.

use std::fmt;
use std::marker::PhantomData;

/// Counts of values, by the position of their highest bit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Histogram<T = ()> {
    counts: [u64; 65],
    data: PhantomData<T>,
}

/// The values below which parts of all values are, to a power of two.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PercentileStats {
    /// How many values were recorded.
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self { counts: [0; 65], data: PhantomData }
    }
}

impl<T> Histogram<T> {
    /// Without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.counts[bucket] = self.counts[bucket].saturating_add(times);
    }

    /// The usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        // The least value of the bucket in which that many thousandths of all values end.
        let at = |permille: u64| {
            let wanted = (samples / 1000 * permille).saturating_add(samples % 1000 * permille / 1000);
            let mut seen = 0u64;
            let bucket = self.counts.iter().position(|count| {
                seen = seen.saturating_add(*count);
                seen > wanted
            });
            bucket.map_or(0, |bucket| if bucket == 0 { 0 } else { 1 << (bucket - 1) })
        };
        PercentileStats {
            samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "samples {}, median {}, 99% {}", self.samples, self.p50, self.p99)
    }
}

/// Several histograms as text.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    lines: Vec<String>,
}

impl AsciiChart {
    /// Without histograms.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram) -> Self {
        self.lines.push(format!("{name}: {}", histogram.percentile_stats()));
        self
    }

    /// The chart.
    pub fn detailed(&self) -> String {
        self.lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn percentiles_are_powers_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        (0..1000).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p50, stats.p99), (1000, 8, 256, 512));
        histogram.record_n(u64::MAX, 9000);
        assert_eq!(histogram.percentile_stats().p50, 1 << 63);
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! How long executions of one command took: a histogram with 32 steps to each power of two, so that a percentile is at
//! most 3 % off. One writer; read by INFO latencystats.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const STEP_BITS: u32 = 5;
const STEPS: usize = 1 << STEP_BITS;
/// What takes longer than 17 s counts as this long.
const LONGEST_NS: u64 = (1 << 34) - 1;
const BUCKETS: usize = (34 - STEP_BITS as usize + 1) * STEPS;

/// See the head of this file. Takes memory from the first call on.
#[derive(Debug, Default)]
pub(crate) struct LatencyHistogram(OnceLock<Box<[AtomicU32]>>);

fn bucket_of(ns: u64) -> usize {
    let ns = ns.min(LONGEST_NS);
    if ns < STEPS as u64 {
        return ns as usize;
    }
    let shift = 63 - ns.leading_zeros() - STEP_BITS;
    (shift as usize + 1) * STEPS + (ns >> shift) as usize % STEPS
}

/// The longest time that falls into a bucket.
fn longest_in(bucket: usize) -> u64 {
    match bucket / STEPS {
        0 => bucket as u64,
        octave => ((STEPS + bucket % STEPS + 1) as u64) << (octave - 1),
    }
    .saturating_sub(u64::from(bucket >= STEPS))
}

impl LatencyHistogram {
    /// Counts one execution; only the owner may call it.
    #[inline]
    pub(crate) fn record(&self, ns: u64) {
        let buckets = self.0.get_or_init(|| (0..BUCKETS).map(|_| AtomicU32::new(0)).collect());
        let bucket = &buckets[bucket_of(ns)];
        bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub(crate) fn add_to(&self, sums: &mut Vec<u64>) {
        let Some(buckets) = self.0.get() else { return };
        sums.resize(BUCKETS, 0);
        for (sum, bucket) in sums.iter_mut().zip(buckets) {
            *sum += u64::from(bucket.load(Relaxed));
        }
    }

    pub(crate) fn reset(&self) {
        for bucket in self.0.get().into_iter().flatten() {
            bucket.store(0, Relaxed);
        }
    }
}

/// For each of the percentiles the time in nanoseconds that so many executions took at most; empty if there were none.
pub(crate) fn percentiles(sums: &[u64], wanted: &[f64]) -> Vec<u64> {
    let count: u64 = sums.iter().sum();
    if count == 0 {
        return Vec::new();
    }
    let at = |percentile: &f64| {
        let rank = (percentile / 100.0 * count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = sums.iter().position(|in_bucket| {
            seen += in_bucket;
            seen >= rank
        });
        longest_in(bucket.unwrap_or(sums.len() - 1))
    };
    wanted.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, LONGEST_NS, LatencyHistogram, bucket_of, longest_in, percentiles};

    #[test]
    fn buckets_cover_all_times() {
        for bucket in 0..BUCKETS {
            let longest = longest_in(bucket);
            assert_eq!(bucket_of(longest), bucket);
            assert!(longest >= LONGEST_NS || bucket_of(longest + 1) == bucket + 1, "{bucket}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_close() {
        let histogram = LatencyHistogram::default();
        let mut sums = Vec::new();
        histogram.add_to(&mut sums);
        assert_eq!(percentiles(&sums, &[50.0]), [0; 0]);
        (1..=1000).for_each(|n| histogram.record(n * 1000));
        histogram.add_to(&mut sums);
        for (got, exact) in
            percentiles(&sums, &[0.0, 50.0, 99.0, 100.0]).into_iter().zip([1000, 500_000, 990_000, 1_000_000])
        {
            assert!((exact..=exact + exact / 30).contains(&got), "{got} for {exact}");
        }
        histogram.reset();
        sums.clear();
        histogram.add_to(&mut sums);
        assert_eq!(percentiles(&sums, &[50.0]), [0; 0]);
    }
}

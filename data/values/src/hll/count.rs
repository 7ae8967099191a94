// SPDX-License-Identifier: BSD-3-Clause
//! From registers to an estimate: Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches",
//! arXiv:1702.01284. The order of the floating point operations is Valkey's, for equal results.

use super::REGISTERS;

/// 1 / (2 ln 2)
const ALPHA: f64 = 0.721_347_520_444_481_7;
/// The highest rank that an element can have is one more.
const RANK_BITS: usize = 64 - REGISTERS.ilog2() as usize;

/// The estimate for registers of which `histogram[rank]` have that rank.
pub(super) fn estimate(histogram: &[u32; 64]) -> u64 {
    let registers = REGISTERS as f64;
    let mut z = registers * tau((registers - f64::from(histogram[RANK_BITS + 1])) / registers);
    for rank in (1..=RANK_BITS).rev() {
        z += f64::from(histogram[rank]);
        z *= 0.5;
    }
    z += registers * sigma(f64::from(histogram[0]) / registers);
    (ALPHA * registers * registers / z).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Which register an element belongs to, and its rank there: MurmurHash64A with Valkey's seed, so that the same elements
//! give the same registers.

use super::REGISTERS;

const SEED: u64 = 0xadc8_3b19;
const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
const SHIFT: u32 = 47;
/// Bits of the hash behind those that choose the register.
const RANK_BITS: u32 = 64 - REGISTERS.ilog2();

fn hash(bytes: &[u8]) -> u64 {
    // The reference takes the length as a signed 32-bit integer.
    let mut hash = SEED ^ (bytes.len() as i32 as u64).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(FACTOR);
        word ^= word >> SHIFT;
        hash = (hash ^ word.wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |last, byte| last << 8 | u64::from(*byte));
        hash = (hash ^ last).wrapping_mul(FACTOR);
    }
    hash ^= hash >> SHIFT;
    hash = hash.wrapping_mul(FACTOR);
    hash ^ (hash >> SHIFT)
}

/// The register of an element and its rank: one more than the zeros at the end of what is left of the hash.
#[inline]
pub fn place_of(element: &[u8]) -> (usize, u8) {
    let hash = hash(element);
    let rest = hash >> REGISTERS.ilog2() | 1 << RANK_BITS;
    (hash as usize & (REGISTERS - 1), rest.trailing_zeros() as u8 + 1)
}

// SPDX-License-Identifier: BSD-3-Clause
//! The dense form: registers of six bits, from the low bits of a byte on; four registers in three bytes.

use super::REGISTERS;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Bytes of all registers.
pub(super) const BYTES: usize = REGISTERS * 6 / 8;
const MASK: u32 = 0x3f;

/// Whether whole groups are merged at once, which compiles to vector instructions.
static GROUPED: AtomicBool = AtomicBool::new(true);

/// Whether registers are merged in groups (PFDEBUG SIMD).
pub fn is_grouped() -> bool {
    GROUPED.load(Relaxed)
}

/// Merges registers in groups, or one by one, which gives the same and takes longer.
pub fn set_grouped(grouped: bool) {
    GROUPED.store(grouped, Relaxed);
}

fn read_one(bytes: &[u8], register: usize) -> u8 {
    let (at, shift) = (register * 6 / 8, register * 6 % 8);
    let next = bytes.get(at + 1).copied().unwrap_or(0);
    ((u32::from(bytes[at]) | u32::from(next) << 8) >> shift & MASK) as u8
}

/// Sets a register unless it is as high already. Returns whether it changed.
pub(super) fn raise(bytes: &mut [u8], register: usize, rank: u8) -> bool {
    if read_one(bytes, register) >= rank {
        return false;
    }
    let (at, shift) = (register * 6 / 8, register * 6 % 8);
    let (keep, set) = (!(MASK << shift), u32::from(rank) << shift);
    bytes[at] = bytes[at] & keep as u8 | set as u8;
    if let Some(next) = bytes.get_mut(at + 1) {
        *next = *next & (keep >> 8) as u8 | (set >> 8) as u8;
    }
    true
}

/// Four registers as four bytes.
#[inline]
fn unpack([a, b, c]: [u8; 3]) -> [u8; 4] {
    let packed = u32::from_le_bytes([a, b, c, 0]);
    let apart = packed & MASK | (packed & MASK << 6) << 2 | (packed & MASK << 12) << 4 | (packed & MASK << 18) << 6;
    apart.to_le_bytes()
}

pub(super) fn histogram(bytes: &[u8], histogram: &mut [u32; 64]) {
    count_groups(bytes.as_chunks::<3>().0.iter().map(|group| unpack(*group)), histogram);
}

/// Counts registers by rank.
pub(super) fn count_groups(groups: impl Iterator<Item = [u8; 4]>, histogram: &mut [u32; 64]) {
    // Neighbours are counted apart, because equal registers in a row would wait for each other.
    let mut counts = [[0_u32; 64]; 4];
    for ranks in groups {
        for (counts, rank) in counts.iter_mut().zip(ranks) {
            counts[(rank & 63) as usize] += 1;
        }
    }
    for (rank, total) in histogram.iter_mut().enumerate() {
        *total += counts.iter().map(|counts| counts[rank]).sum::<u32>();
    }
}

/// Raises `ranks` to the registers.
pub(super) fn merge(bytes: &[u8], ranks: &mut [u8; REGISTERS]) {
    if is_grouped() {
        for (packed, ranks) in bytes.as_chunks::<48>().0.iter().zip(ranks.as_chunks_mut::<64>().0) {
            // Unpacked first, so that the comparison is one of whole vectors.
            let mut others = [0; 64];
            for (group, others) in packed.as_chunks::<3>().0.iter().zip(others.as_chunks_mut::<4>().0) {
                *others = unpack(*group);
            }
            for (rank, other) in ranks.iter_mut().zip(others) {
                *rank = (*rank).max(other);
            }
        }
    } else {
        for (register, rank) in ranks.iter_mut().enumerate() {
            *rank = (*rank).max(read_one(bytes, register));
        }
    }
}

/// Writes all registers.
pub(super) fn write(bytes: &mut [u8], ranks: &[u8; REGISTERS]) {
    for (group, &[a, b, c, d]) in bytes.as_chunks_mut::<3>().0.iter_mut().zip(ranks.as_chunks::<4>().0) {
        *group = [a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2];
    }
}

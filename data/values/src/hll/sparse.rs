// SPDX-License-Identifier: BSD-3-Clause
//! The sparse form: runs of equal registers.
//!
//! ```text
//! 00llllll            1 to 64 zeros
//! 01llllll llllllll   1 to 16384 zeros
//! 1vvvvvll            1 to 4 registers of rank 1 to 32
//! ```
//! A change replaces one run by up to three, then joins neighbours of one rank, looking at five runs at most: the bytes
//! depend on the order of changes, and have to be Valkey's.

use super::{HEAD, HllError, REGISTERS};
use std::fmt::Write;

const RANK_MAX: u8 = 32;
const VALUE_LEN_MAX: usize = 4;
const SHORT_ZEROS_MAX: usize = 64;
/// Runs that are looked at when neighbours are joined.
const JOIN_SCAN: usize = 5;

/// One run.
#[derive(Copy, Clone)]
struct Run {
    rank: u8,
    /// Registers.
    len: usize,
    /// Bytes that it takes.
    bytes: usize,
}

/// The run that starts at `at`; what a cut off run lacks counts as zero, as it does for Valkey.
#[inline]
fn run_at(bytes: &[u8], at: usize) -> Option<Run> {
    let first = *bytes.get(at)?;
    Some(match first >> 6 {
        0 => Run { rank: 0, len: usize::from(first & 0x3f) + 1, bytes: 1 },
        1 => {
            let low = bytes.get(at + 1).copied().unwrap_or(0);
            Run { rank: 0, len: (usize::from(first & 0x3f) << 8 | usize::from(low)) + 1, bytes: 2 }
        }
        _ => Run { rank: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, bytes: 1 },
    })
}

fn runs(bytes: &[u8]) -> impl Iterator<Item = Run> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let run = run_at(bytes, at)?;
        at += run.bytes;
        Some(run)
    })
}

fn value(rank: u8, len: usize) -> u8 {
    0x80 | (rank - 1) << 2 | (len - 1) as u8
}

/// Appends a run of zeros.
pub(super) fn push_zeros(bytes: &mut Vec<u8>, len: usize) {
    let mut short = Splice::default();
    short.zeros(len);
    bytes.extend_from_slice(short.bytes());
}

/// Up to three runs that take the place of one.
#[derive(Default)]
struct Splice {
    bytes: [u8; 5],
    len: usize,
}

impl Splice {
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn zeros(&mut self, len: usize) {
        match len {
            0 => {}
            1..=SHORT_ZEROS_MAX => self.push((len - 1) as u8),
            _ => {
                self.push(0x40 | ((len - 1) >> 8) as u8);
                self.push((len - 1) as u8);
            }
        }
    }

    /// Registers of one rank, which may be zero.
    fn run(&mut self, rank: u8, len: usize) {
        match (rank, len) {
            (_, 0) => {}
            (0, len) => self.zeros(len),
            (rank, len) => self.push(value(rank, len)),
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What became of a change.
pub(super) enum Raised {
    /// The register was as high already.
    No,
    Yes,
    /// The sparse form cannot say it, or not within the bytes allowed. Nothing changed.
    DoesNotFit,
}

/// Sets a register, unless it is as high already, in a string whose header comes first.
pub(super) fn raise(bytes: &mut Vec<u8>, register: usize, rank: u8, bytes_max: usize) -> Result<Raised, HllError> {
    if rank > RANK_MAX {
        return Ok(Raised::DoesNotFit);
    }
    let (mut at, mut before, mut first) = (HEAD, HEAD, 0);
    let run = loop {
        let run = run_at(bytes, at).ok_or(HllError::Corrupted)?;
        if register < first + run.len {
            break run;
        }
        before = at;
        at += run.bytes;
        first += run.len;
    };
    if run.rank >= rank {
        return Ok(Raised::No);
    }
    let end = at + run.bytes;
    if end > bytes.len() {
        return Err(HllError::Corrupted);
    }
    if run.bytes == 1 && run.len == 1 {
        bytes[at] = value(rank, 1);
    } else {
        let mut splice = Splice::default();
        splice.run(run.rank, register - first);
        splice.push(value(rank, 1));
        splice.run(run.rank, first + run.len - 1 - register);
        if splice.len > run.bytes && bytes.len() + splice.len - run.bytes > bytes_max {
            return Ok(Raised::DoesNotFit);
        }
        bytes.splice(at..end, splice.bytes().iter().copied());
    }
    join(bytes, before);
    Ok(Raised::Yes)
}

/// Joins neighbours of one rank from `at` on.
fn join(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOIN_SCAN {
        let Some(run) = run_at(bytes, at) else { return };
        if run.rank != 0
            && let Some(next) = run_at(bytes, at + 1)
            && next.rank == run.rank
            && run.len + next.len <= VALUE_LEN_MAX
        {
            bytes[at + 1] = value(run.rank, run.len + next.len);
            bytes.remove(at);
            // What was joined may be joined with what follows.
            continue;
        }
        at += run.bytes;
    }
}

/// Raises `ranks` to the registers.
pub(super) fn read(bytes: &[u8], ranks: &mut [u8; REGISTERS]) -> Result<(), HllError> {
    let mut register = 0;
    for run in runs(bytes) {
        let registers = ranks.get_mut(register..register + run.len).ok_or(HllError::Corrupted)?;
        if run.rank != 0 {
            registers.iter_mut().for_each(|rank| *rank = run.rank.max(*rank));
        }
        register += run.len;
    }
    if register == REGISTERS { Ok(()) } else { Err(HllError::Corrupted) }
}

pub(super) fn histogram(bytes: &[u8], histogram: &mut [u32; 64]) -> Result<(), HllError> {
    let mut registers = 0;
    for run in runs(bytes) {
        registers += run.len;
        if registers > REGISTERS {
            break;
        }
        histogram[usize::from(run.rank)] += run.len as u32;
    }
    if registers == REGISTERS { Ok(()) } else { Err(HllError::Corrupted) }
}

/// The runs as text.
pub(super) fn describe(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in runs(bytes) {
        let separator = if text.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = match (run.rank, run.bytes) {
            (0, 1) => write!(text, "{separator}z:{}", run.len),
            (0, _) => write!(text, "{separator}Z:{}", run.len),
            (rank, _) => write!(text, "{separator}v:{rank},{}", run.len),
        };
    }
    text
}

// SPDX-License-Identifier: BSD-3-Clause
//! HyperLogLog: an estimate of how many different elements were added, in a string of Valkey's bytes, so that values move
//! between the two with GET and SET.
//!
//! ```text
//! "HYLL" | form: 0 dense, 1 sparse | 3 unused | cached count: u64 LE, invalid when its top bit is set | registers
//! ```
//! 16384 registers hold the longest run of zeros that a hash of their elements began with. Dense: six bits each
//! (`dense.rs`). Sparse: runs of equal registers (`sparse.rs`), up to a threshold of bytes.
//!
//! Not here: keys and strings. Called by the PF commands.

mod count;
mod dense;
mod hash;
mod selftest;
mod sparse;
#[cfg(test)]
mod tests;

pub use dense::{is_grouped, set_grouped};
pub use hash::place_of;
pub use selftest::self_test;

/// Registers of a HyperLogLog.
pub const REGISTERS: usize = 1 << 14;
const HEAD: usize = 16;
const CARD: usize = 8;
const MAGIC: &[u8] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// The top bit of the cached count, in its last byte.
const STALE: u8 = 0x80;

/// How the registers are written.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum HllForm {
    /// Six bits each.
    Dense,
    /// As runs.
    Sparse,
}

/// Why a string cannot be used.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum HllError {
    /// It has no header of a HyperLogLog, or not the length.
    NotHll,
    /// Its runs do not add up.
    Corrupted,
}

/// The form of a string that looks like a HyperLogLog.
pub fn form_of(bytes: &[u8]) -> Result<HllForm, HllError> {
    match bytes.get(MAGIC.len()) {
        Some(&SPARSE) if bytes.len() >= HEAD && bytes.starts_with(MAGIC) => Ok(HllForm::Sparse),
        Some(&DENSE) if bytes.len() == HEAD + dense::BYTES && bytes.starts_with(MAGIC) => Ok(HllForm::Dense),
        _ => Err(HllError::NotHll),
    }
}

/// A HyperLogLog to which nothing was added.
pub fn empty() -> Vec<u8> {
    let mut bytes = vec![0; HEAD];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[MAGIC.len()] = SPARSE;
    sparse::push_zeros(&mut bytes, REGISTERS);
    bytes
}

/// Adds an element. Returns whether a register changed. The caller marks the cached count as stale.
pub fn add(bytes: &mut Vec<u8>, element: &[u8], sparse_max: usize) -> Result<bool, HllError> {
    let (register, rank) = place_of(element);
    raise(bytes, register, rank, sparse_max)
}

/// Sets a register unless it is as high already. A sparse form that would grow beyond `sparse_max` bytes, or cannot say
/// `rank`, becomes dense.
fn raise(bytes: &mut Vec<u8>, register: usize, rank: u8, sparse_max: usize) -> Result<bool, HllError> {
    match form_of(bytes)? {
        HllForm::Dense => Ok(dense::raise(&mut bytes[HEAD..], register, rank)),
        HllForm::Sparse => match sparse::raise(bytes, register, rank, sparse_max)? {
            sparse::Raised::No => Ok(false),
            sparse::Raised::Yes => Ok(true),
            sparse::Raised::DoesNotFit => {
                make_dense(bytes)?;
                Ok(dense::raise(&mut bytes[HEAD..], register, rank))
            }
        },
    }
}

/// Converts to the dense form, which keeps the cached count. Returns whether it was sparse.
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<bool, HllError> {
    if form_of(bytes)? == HllForm::Dense {
        return Ok(false);
    }
    let mut registers = [0; REGISTERS];
    sparse::read(&bytes[HEAD..], &mut registers)?;
    let mut result = Vec::with_capacity(HEAD + dense::BYTES);
    result.extend_from_slice(&bytes[..HEAD]);
    result[MAGIC.len()] = DENSE;
    result.resize(HEAD + dense::BYTES, 0);
    dense::write(&mut result[HEAD..], &registers);
    *bytes = result;
    Ok(true)
}

/// The cached count, unless it is stale.
pub fn cached_count(bytes: &[u8]) -> Option<u64> {
    let card = bytes.get(CARD..HEAD)?;
    let count = u64::from_le_bytes(card.try_into().ok()?);
    (card[7] & STALE == 0).then_some(count)
}

/// Writes the count into the header.
pub fn cache_count(bytes: &mut [u8], count: u64) {
    bytes[CARD..HEAD].copy_from_slice(&count.to_le_bytes());
}

/// Marks the cached count as stale.
pub fn forget_count(bytes: &mut [u8]) {
    bytes[HEAD - 1] |= STALE;
}

/// Estimates the count, whatever is cached.
pub fn count(bytes: &[u8]) -> Result<u64, HllError> {
    let mut histogram = [0; 64];
    match form_of(bytes)? {
        HllForm::Dense => dense::histogram(&bytes[HEAD..], &mut histogram),
        HllForm::Sparse => sparse::histogram(&bytes[HEAD..], &mut histogram)?,
    }
    Ok(count::estimate(&histogram))
}

/// The runs of a sparse form as text, `None` for a dense one: `Z` and `z` zeros, `v` a value and its length.
pub fn describe_runs(bytes: &[u8]) -> Result<Option<String>, HllError> {
    match form_of(bytes)? {
        HllForm::Dense => Ok(None),
        HllForm::Sparse => Ok(Some(sparse::describe(&bytes[HEAD..]))),
    }
}

/// One byte for each register: the union of several HyperLogLogs.
pub struct Registers {
    ranks: [u8; REGISTERS],
    any_dense: bool,
}

impl Default for Registers {
    fn default() -> Self {
        Self { ranks: [0; REGISTERS], any_dense: false }
    }
}

impl Registers {
    /// The registers.
    pub fn ranks(&self) -> &[u8; REGISTERS] {
        &self.ranks
    }

    /// Raises all registers to those of a HyperLogLog.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), HllError> {
        match form_of(bytes)? {
            HllForm::Dense => {
                self.any_dense = true;
                dense::merge(&bytes[HEAD..], &mut self.ranks);
                Ok(())
            }
            HllForm::Sparse => sparse::read(&bytes[HEAD..], &mut self.ranks),
        }
    }

    /// Estimates the count.
    pub fn count(&self) -> u64 {
        let mut histogram = [0; 64];
        dense::count_groups(self.ranks.as_chunks::<4>().0.iter().copied(), &mut histogram);
        count::estimate(&histogram)
    }

    /// Writes the union into one of the HyperLogLogs that were merged, and marks its count as stale. It becomes dense if
    /// any of them was.
    pub fn write_to(&self, bytes: &mut Vec<u8>, sparse_max: usize) -> Result<(), HllError> {
        if self.any_dense {
            make_dense(bytes)?;
            dense::write(&mut bytes[HEAD..], &self.ranks);
        } else {
            for (register, &rank) in self.ranks.iter().enumerate().filter(|(_, rank)| **rank != 0) {
                raise(bytes, register, rank, sparse_max)?;
            }
        }
        forget_count(bytes);
        Ok(())
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! When the fields of one hash fall due: records of due time and field hash in order, nine bytes for each volatile field.
//!
//! ```text
//! record: due 5 bytes, ms since DUE_EPOCH_MS | hash of the field 4     (both big endian: bytes in order are times in order)
//! few records: one array      many: arrays of CHUNK_LEN records at most, behind `Arc`, each with its last record beside it
//! ```
//! The first record tells when the hash wants work, exactly; a record goes when its field goes or gets another time. So the
//! structure is as large as what is volatile, and what is past due is found without looking at anything else. Times
//! before the epoch count as the epoch. Times 34 years after it or later are never reported: such fields are merely
//! hidden once they are due.
//!
//! Not here: fields and their times, which lie in the table. Called by `table`.

use crate::relocate::Mover;
use crate::size_class::size_class;
use std::sync::Arc;

/// 1 January 2020.
const DUE_EPOCH_MS: u64 = 1_577_836_800_000;
const DUE_LEN: usize = 5;
const DUE_MAX: u64 = (1 << (8 * DUE_LEN)) - 1;
/// Records of one array: 4 KiB.
const CHUNK_LEN: usize = 455;
/// Neighbours of no more records together become one.
const MERGED_LEN_MAX: usize = CHUNK_LEN * 3 / 4;
/// An `Arc<Vec>`: two counters and the vector.
const ARC_BYTES: usize = size_class(16 + size_of::<Vec<Record>>());

type Record = [u8; DUE_LEN + 4];

fn record(due_ms: u64, hash: u32) -> Record {
    let due = due_ms.saturating_sub(DUE_EPOCH_MS).min(DUE_MAX).to_be_bytes();
    let mut record = Record::default();
    record[..DUE_LEN].copy_from_slice(&due[8 - DUE_LEN..]);
    record[DUE_LEN..].copy_from_slice(&hash.to_be_bytes());
    record
}

/// The due time, in milliseconds since the epoch of records.
fn due_of(record: Record) -> u64 {
    let mut due = [0; 8];
    due[8 - DUE_LEN..].copy_from_slice(&record[..DUE_LEN]);
    u64::from_be_bytes(due)
}

fn hash_of(record: Record) -> u32 {
    let [.., a, b, c, d] = record;
    u32::from_be_bytes([a, b, c, d])
}

/// One array of many.
#[derive(Clone, Debug)]
struct Chunk {
    last: Record,
    records: Arc<Vec<Record>>,
}

#[derive(Clone, Debug)]
enum Records {
    Few(Vec<Record>),
    Many(Vec<Chunk>),
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Dues {
    records: Records,
    len: usize,
    /// Bytes of all arrays.
    heap_bytes: usize,
}

impl Clone for Dues {
    /// Shares the arrays where there are many.
    fn clone(&self) -> Self {
        let records = match &self.records {
            Records::Few(records) => {
                // As large as it was, so that a copy of a hash takes as much as the hash.
                let mut copy = Vec::with_capacity(records.capacity());
                copy.extend_from_slice(records);
                Records::Few(copy)
            }
            many => many.clone(),
        };
        let heap_bytes = self.heap_bytes + own_bytes(&records) - own_bytes(&self.records);
        Self { records, len: self.len, heap_bytes }
    }
}

/// Bytes of the vector itself, without arrays behind `Arc`.
fn own_bytes(records: &Records) -> usize {
    match records {
        Records::Few(records) => array_bytes(records),
        Records::Many(chunks) => chunks.capacity() * size_of::<Chunk>(),
    }
}

fn array_bytes(records: &Vec<Record>) -> usize {
    records.capacity() * size_of::<Record>()
}

fn chunk(records: Vec<Record>) -> Chunk {
    Chunk { last: records.last().copied().unwrap_or_default(), records: Arc::new(records) }
}

/// Inserts with as much capacity as the allocator gives anyway.
fn insert_in(records: &mut Vec<Record>, at: usize, record: Record) {
    if records.len() == records.capacity() {
        let bytes = size_class((records.len() + 1) * size_of::<Record>());
        records.reserve_exact(bytes / size_of::<Record>() - records.len());
    }
    records.insert(at, record);
}

fn remove_in(records: &mut Vec<Record>, at: usize) {
    records.remove(at);
    if records.len() < records.capacity() / 2 {
        records.shrink_to(records.len());
    }
}

impl Dues {
    /// Moves the arrays that lie in sparse memory: see `Collection::relocate`.
    pub(crate) fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        let chunks = match &mut self.records {
            Records::Few(records) => {
                mover.vec(records);
                return 0;
            }
            Records::Many(chunks) => chunks,
        };
        for (number, chunk) in chunks.iter_mut().enumerate().skip(from) {
            if mover.is_spent() {
                return number.max(1);
            }
            if let Some(records) = Arc::get_mut(&mut chunk.records) {
                mover.vec(records);
            }
        }
        0
    }

    pub(crate) fn new() -> Self {
        Self { records: Records::Few(Vec::new()), len: 0, heap_bytes: 0 }
    }

    /// Records, which is fields that have a due time.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the arrays, without the struct.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.heap_bytes
    }

    /// Allocations.
    pub(crate) fn free_effort(&self) -> usize {
        match &self.records {
            Records::Few(_) => 1,
            Records::Many(chunks) => 1 + 2 * chunks.len(),
        }
    }

    fn first(&self) -> Option<Record> {
        match &self.records {
            Records::Few(records) => records.first().copied(),
            Records::Many(chunks) => chunks.first().and_then(|chunk| chunk.records.first().copied()),
        }
    }

    /// The time of the field that is due first, Unix milliseconds.
    pub(crate) fn first_due_ms(&self) -> Option<u64> {
        let due = due_of(self.first()?);
        (due != DUE_MAX).then_some(DUE_EPOCH_MS + due)
    }

    /// The hash of a field that is past due.
    pub(crate) fn first_past(&self, now_ms: u64) -> Option<u32> {
        let is_past = self.first_due_ms().is_some_and(|due_ms| due_ms <= now_ms);
        self.first().filter(|_| is_past).map(hash_of)
    }

    /// Adds a field.
    pub(crate) fn insert(&mut self, due_ms: u64, hash: u32) {
        let record = record(due_ms, hash);
        self.len += 1;
        match &mut self.records {
            Records::Few(records) if records.len() < CHUNK_LEN => {
                let before = array_bytes(records);
                let at = records.partition_point(|other| *other < record);
                insert_in(records, at, record);
                self.heap_bytes += array_bytes(records) - before;
            }
            Records::Few(records) => {
                let first = chunk(std::mem::take(records));
                self.heap_bytes += ARC_BYTES;
                let mut chunks = Vec::with_capacity(2);
                chunks.push(first);
                self.heap_bytes += 2 * size_of::<Chunk>();
                self.records = Records::Many(chunks);
                self.insert_in_chunks(record);
            }
            Records::Many(_) => self.insert_in_chunks(record),
        }
    }

    fn insert_in_chunks(&mut self, record: Record) {
        let Records::Many(chunks) = &mut self.records else { return };
        let number = chunks.partition_point(|chunk| chunk.last < record).min(chunks.len() - 1);
        let chunk_ = &mut chunks[number];
        if chunk_.records.len() < CHUNK_LEN {
            let before = array_bytes(&chunk_.records);
            let records = Arc::make_mut(&mut chunk_.records);
            let at = records.partition_point(|other| *other < record);
            insert_in(records, at, record);
            chunk_.last = records[records.len() - 1];
            self.heap_bytes += array_bytes(records) - before;
            return;
        }
        // Times that only grow, as those of equal TTLs do, leave full arrays behind.
        let is_later = chunk_.last < record;
        let upper = if is_later {
            vec![record]
        } else {
            let before = array_bytes(&chunk_.records);
            let records = Arc::make_mut(&mut chunk_.records);
            let mut upper = records.split_off(CHUNK_LEN / 2);
            records.shrink_to_fit();
            let half = if upper[0] < record { &mut upper } else { &mut *records };
            let at = half.partition_point(|other| *other < record);
            insert_in(half, at, record);
            self.heap_bytes = self.heap_bytes + array_bytes(records) - before;
            chunk_.last = records[records.len() - 1];
            upper
        };
        self.heap_bytes += array_bytes(&upper) + ARC_BYTES;
        let before = chunks.capacity();
        if chunks.len() == before {
            chunks.reserve_exact((before / 4).max(2));
        }
        chunks.insert(number + 1, chunk(upper));
        self.heap_bytes += (chunks.capacity() - before) * size_of::<Chunk>();
    }

    /// Takes a field out; false when it is not there.
    pub(crate) fn remove(&mut self, due_ms: u64, hash: u32) -> bool {
        let record = record(due_ms, hash);
        match &mut self.records {
            Records::Few(records) => {
                let Ok(at) = records.binary_search(&record) else { return false };
                let before = array_bytes(records);
                remove_in(records, at);
                self.heap_bytes = self.heap_bytes + array_bytes(records) - before;
            }
            Records::Many(chunks) => {
                let number = chunks.partition_point(|chunk| chunk.last < record);
                let Some(found) = chunks.get_mut(number) else { return false };
                let Ok(at) = found.records.binary_search(&record) else { return false };
                let before = array_bytes(&found.records);
                let records = Arc::make_mut(&mut found.records);
                remove_in(records, at);
                self.heap_bytes = self.heap_bytes + array_bytes(records) - before;
                found.last = records.last().copied().unwrap_or(record);
                self.merge(number);
            }
        }
        self.len -= 1;
        true
    }

    /// Takes the first record out.
    pub(crate) fn remove_first(&mut self) {
        if let Some(first) = self.first() {
            self.remove(DUE_EPOCH_MS + due_of(first), hash_of(first));
        }
    }

    /// Makes one of the array and a neighbour when both are small, or it is empty.
    fn merge(&mut self, number: usize) {
        let Records::Many(chunks) = &mut self.records else { return };
        let is_empty = chunks[number].records.is_empty();
        let left = match number {
            0 => 0,
            number if number + 1 == chunks.len() => number - 1,
            // The smaller neighbour.
            number if chunks[number - 1].records.len() < chunks[number + 1].records.len() => number - 1,
            number => number,
        };
        let together = chunks[left].records.len() + chunks.get(left + 1).map_or(0, |right| right.records.len());
        if together > MERGED_LEN_MAX && !is_empty {
            return;
        }
        if left + 1 < chunks.len() {
            let right = chunks.remove(left + 1);
            let before = array_bytes(&chunks[left].records) + array_bytes(&right.records);
            let records = Arc::make_mut(&mut chunks[left].records);
            if records.is_empty() {
                *records = Arc::unwrap_or_clone(right.records);
                chunks[left].last = right.last;
            } else if !right.records.is_empty() {
                records.reserve_exact(right.records.len());
                records.extend_from_slice(&right.records);
                chunks[left].last = right.last;
            }
            self.heap_bytes = self.heap_bytes + array_bytes(&chunks[left].records) - before - ARC_BYTES;
        }
        if chunks.len() == 1 {
            let only = chunks.pop().map(|chunk| Arc::unwrap_or_clone(chunk.records)).unwrap_or_default();
            self.heap_bytes = array_bytes(&only);
            self.records = Records::Few(only);
        } else if chunks.len() < chunks.capacity() / 2 {
            let before = chunks.capacity();
            chunks.shrink_to(chunks.len());
            self.heap_bytes -= (before - chunks.capacity()) * size_of::<Chunk>();
        }
    }

    /// All records in order, as time and hash.
    #[cfg(test)]
    fn all(&self) -> Vec<(u64, u32)> {
        let pair = |record: &Record| (DUE_EPOCH_MS + due_of(*record), hash_of(*record));
        match &self.records {
            Records::Few(records) => records.iter().map(pair).collect(),
            Records::Many(chunks) => chunks.iter().flat_map(|chunk| chunk.records.iter().map(pair)).collect(),
        }
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        let all = self.all();
        assert!(all.is_sorted());
        assert_eq!(all.len(), self.len);
        let bytes = match &self.records {
            Records::Few(records) => array_bytes(records),
            Records::Many(chunks) => {
                for chunk in chunks {
                    assert_eq!(chunk.records.last(), Some(&chunk.last));
                    assert!(chunk.records.len() <= CHUNK_LEN);
                }
                chunks.capacity() * size_of::<Chunk>()
                    + chunks.iter().map(|chunk| array_bytes(&chunk.records) + ARC_BYTES).sum::<usize>()
            }
        };
        assert_eq!(bytes, self.heap_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_700_000_000_000;

    /// splitmix64.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    #[test]
    fn behaves_as_a_sorted_list() {
        for (seed, spread) in [(1, 10), (2, 1000), (3, 1 << 30), (4, 1)] {
            let mut random = seed;
            let (mut dues, mut model) = (Dues::new(), Vec::<(u64, u32)>::new());
            for round in 0..12_000 {
                // Grows, then shrinks to nothing.
                let grows = next(&mut random) % 10 < if round < 6000 { 7 } else { 2 };
                if grows || model.is_empty() {
                    let (due, hash) = (START_MS + next(&mut random) % spread, next(&mut random) as u32 % 5000);
                    dues.insert(due, hash);
                    let at = model.partition_point(|other| *other < (due, hash));
                    model.insert(at, (due, hash));
                } else {
                    let at = (next(&mut random) % model.len() as u64) as usize;
                    let (due, hash) = model.remove(at);
                    assert!(dues.remove(due, hash));
                    assert_eq!(dues.remove(due, hash), model.binary_search(&(due, hash)).is_ok());
                    if let Ok(at) = model.binary_search(&(due, hash)) {
                        model.remove(at);
                    }
                }
                assert_eq!(dues.first_due_ms(), model.first().map(|first| first.0));
                if round % 500 == 0 {
                    dues.check_invariants();
                    assert_eq!(dues.all(), model);
                }
            }
            while let Some((due, hash)) = model.pop() {
                assert!(dues.remove(due, hash));
            }
            dues.check_invariants();
            assert_eq!(dues.len(), 0);
        }
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut dues = Dues::new();
        for at in 0..5000 {
            dues.insert(START_MS + at, at as u32);
        }
        let copy = dues.clone();
        for at in 0..5000 {
            assert_eq!(dues.first_past(START_MS + at), Some(at as u32));
            assert!(dues.remove(START_MS + at, at as u32));
        }
        copy.check_invariants();
        assert_eq!(copy.len(), 5000);
    }

    #[test]
    fn times_that_grow_take_nine_bytes_a_field() {
        let mut dues = Dues::new();
        for at in 0..100_000 {
            dues.insert(START_MS + at / 3, at as u32);
        }
        dues.check_invariants();
        assert!(dues.heap_bytes() < 100_000 * 95 / 10, "{}", dues.heap_bytes());
    }

    #[test]
    fn far_times_are_kept_but_not_reported() {
        let mut dues = Dues::new();
        dues.insert(u64::MAX, 1);
        assert_eq!((dues.first_due_ms(), dues.first_past(u64::MAX)), (None, None));
        dues.insert(0, 2);
        assert_eq!((dues.first_due_ms(), dues.first_past(START_MS)), (Some(DUE_EPOCH_MS), Some(2)));
        assert!(dues.remove(5, 2));
        assert!(dues.remove(u64::MAX - 1, 1));
        assert_eq!(dues.len(), 0);
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! From a member's hash to the leaf that holds the member: the sorted set's hash table, which stores no member.
//!
//! Linear hashing over segments behind `Arc`. A segment holds the hashes of one range, sorted, so that a place is found by
//! interpolation, halves are cut without hashing again, and a scan in the order of hashes misses nothing whatever the
//! table does meanwhile. An entry is eight bytes: 32 bits of hash, 32 of leaf. Equal hashes are told apart by the caller.

use super::table::Table;
use crate::relocate::Mover;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

/// Seeded once per process, against members that are chosen to collide.
static HASHER: LazyLock<foldhash::quality::RandomState> = LazyLock::new(foldhash::quality::RandomState::default);

/// The hash by which a member is found.
#[inline]
pub(super) fn hash_member(member: &[u8]) -> u32 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(member);
    hasher.finish() as u32
}

/// Entries of a segment on average, at most; a segment that was not split yet has up to twice as many.
const LOAD_MAX: usize = 256;
/// Below this average, segments are joined.
const LOAD_MIN: usize = 96;

type Segment = Vec<u64>;

#[inline]
fn entry(hash: u32, leaf: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(leaf)
}

#[inline]
fn hash_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Members {
    /// Numbered without gaps: segment `n` holds the hashes whose first bits, in reverse, are `n`.
    segments: Table<Segment>,
    count: u32,
    len: usize,
    /// Bytes of the segments' arrays.
    entry_bytes: usize,
}

impl Members {
    pub(super) fn new() -> Self {
        let mut segments = Table::new();
        segments.add(Segment::new());
        Self { segments, count: 1, len: 0, entry_bytes: 0 }
    }

    /// Segment of a hash, and the number of first bits that all its hashes share.
    #[inline]
    fn address(&self, hash: u32) -> (u32, u32) {
        let reversed = u64::from(hash.reverse_bits());
        let level = self.count.ilog2();
        let split = self.count - (1 << level);
        let index = (reversed & ((1u64 << level) - 1)) as u32;
        if index < split { ((reversed & ((2u64 << level) - 1)) as u32, level + 1) } else { (index, level) }
    }

    /// The first entry of `segment` whose hash is not below `hash`.
    #[inline]
    fn lower_bound(segment: &[u64], hash: u32, shared_bits: u32) -> usize {
        let rest = (u64::from(hash) << shared_bits) & u64::from(u32::MAX);
        let mut at = ((rest * segment.len() as u64) >> 32) as usize;
        while at < segment.len() && hash_of(segment[at]) < hash {
            at += 1;
        }
        while at > 0 && hash_of(segment[at - 1]) >= hash {
            at -= 1;
        }
        at
    }

    /// The leaves that hold a member with this hash; the same leaf may come twice.
    #[inline]
    pub(super) fn leaves(&self, hash: u32) -> impl Iterator<Item = u32> + '_ {
        let (index, shared) = self.address(hash);
        let segment = self.segments.get(index);
        let at = Self::lower_bound(segment, hash, shared);
        segment[at..].iter().take_while(move |entry| hash_of(**entry) == hash).map(|entry| *entry as u32)
    }

    pub(super) fn insert(&mut self, hash: u32, leaf: u32) {
        let (index, shared) = self.address(hash);
        self.edit(index, |segment| {
            let at = Self::lower_bound(segment, hash, shared);
            let len = segment.len();
            if len == segment.capacity() {
                segment.reserve_exact(crate::size_class(len * 8 + len.max(8)) / 8 - len);
            }
            segment.insert(at, entry(hash, leaf));
        });
        self.len += 1;
        if self.len > self.count as usize * LOAD_MAX {
            self.split();
        }
    }

    /// Where the entry is: segment and index.
    fn find(&self, hash: u32, leaf: u32) -> Option<(u32, usize)> {
        let (index, shared) = self.address(hash);
        let segment = self.segments.get(index);
        let at = Self::lower_bound(segment, hash, shared);
        let same = segment[at..].iter().take_while(|entry| hash_of(**entry) == hash);
        same.zip(at..).find(|(found, _)| **found as u32 == leaf).map(|(_, at)| (index, at))
    }

    pub(super) fn remove(&mut self, hash: u32, leaf: u32) {
        let Some((index, at)) = self.find(hash, leaf) else {
            debug_assert!(false, "a member without an entry");
            return;
        };
        self.edit(index, |segment| {
            segment.remove(at);
            if segment.capacity() > 32 && segment.len() < segment.capacity() / 2 {
                segment.shrink_to(crate::size_class(segment.len() * 9) / 8);
            }
        });
        self.len -= 1;
        if self.count > 1 && self.len < self.count as usize * LOAD_MIN {
            self.join();
        }
    }

    /// The member moved from one leaf to another.
    pub(super) fn relocate(&mut self, hash: u32, from: u32, to: u32) {
        match self.find(hash, from) {
            Some((index, at)) => self.edit(index, |segment| segment[at] = entry(hash, to)),
            None => debug_assert!(false, "a member without an entry"),
        }
    }

    /// Moves what lies in sparse memory: see `Collection::relocate`.
    pub(super) fn move_segments(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        self.segments.relocate(from, mover, |segment, mover| mover.vec(segment))
    }

    /// Changes a segment; a copy that is made because a clone has it too may have another capacity.
    fn edit<R>(&mut self, index: u32, edit: impl FnOnce(&mut Segment) -> R) -> R {
        let before = self.segments.get(index).capacity();
        let segment = self.segments.get_mut(index);
        let result = edit(segment);
        self.entry_bytes = self.entry_bytes + segment.capacity() * 8 - before * 8;
        result
    }

    fn split(&mut self) {
        let level = self.count.ilog2();
        let low = self.count - (1 << level);
        // The bit that decides is the next one from the top; the segment is sorted, so the halves are contiguous.
        let bit = 1u32 << (31 - level);
        let high = self.edit(low, |segment| {
            let middle = segment.partition_point(|entry| hash_of(*entry) & bit == 0);
            let mut high = Segment::new();
            high.reserve_exact(crate::size_class((segment.len() - middle) * 8) / 8);
            high.extend_from_slice(&segment[middle..]);
            segment.truncate(middle);
            segment.shrink_to(crate::size_class(middle * 8) / 8);
            high
        });
        self.entry_bytes += high.capacity() * 8;
        let id = self.segments.add(high);
        debug_assert_eq!(id, self.count);
        self.count += 1;
    }

    fn join(&mut self) {
        self.count -= 1;
        let low = self.count - (1 << self.count.ilog2());
        let high = self.segments.remove(self.count);
        self.entry_bytes -= high.capacity() * 8;
        self.edit(low, |segment| {
            let total = segment.len() + high.len();
            segment.reserve_exact((crate::size_class(total * 8) / 8).saturating_sub(segment.len()));
            segment.extend_from_slice(&high);
        });
    }

    /// Calls `visit` with the entries whose hash is `from` or above, in the order of hashes, until at least `count` were
    /// visited and the hash changes. Returns the hash to go on from, `None` at the end.
    pub(super) fn scan(&self, from: u32, count: usize, mut visit: impl FnMut(u32, u32)) -> Option<u32> {
        let mut from = from;
        let mut visited = 0;
        loop {
            let (index, shared) = self.address(from);
            let segment = self.segments.get(index);
            let mut at = Self::lower_bound(segment, from, shared);
            while at < segment.len() {
                let hash = hash_of(segment[at]);
                if visited >= count && hash_of(segment[at - 1]) != hash {
                    return Some(hash);
                }
                visit(hash, segment[at] as u32);
                visited += 1;
                at += 1;
            }
            let width = 1u64 << (32 - shared);
            let next = (u64::from(from) / width + 1) * width;
            from = u32::try_from(next).ok()?;
            if visited >= count {
                return Some(from);
            }
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.entry_bytes + self.segments.heap_bytes()
    }

    pub(super) fn allocations(&self) -> usize {
        self.segments.allocations() + self.count as usize
    }

    /// Panics when the structure is inconsistent; for tests.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut len = 0;
        let mut bytes = 0;
        for index in 0..self.count {
            let segment = self.segments.get(index);
            assert!(segment.is_sorted_by_key(|entry| hash_of(*entry)));
            assert!(segment.iter().all(|entry| self.address(hash_of(*entry)).0 == index));
            len += segment.len();
            bytes += segment.capacity() * 8;
        }
        assert_eq!((len, bytes), (self.len, self.entry_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn entries_are_found_through_growth_and_shrinking() {
        let mut members = Members::new();
        let hash = |n: u32| hash_member(&n.to_le_bytes());
        for n in 0..20_000 {
            members.insert(hash(n), n);
        }
        members.check();
        assert!((0..20_000).all(|n| members.leaves(hash(n)).any(|leaf| leaf == n)));
        for n in 0..19_000 {
            members.relocate(hash(n), n, n + 1);
            members.remove(hash(n), n + 1);
        }
        members.check();
        assert!((19_000..20_000).all(|n| members.leaves(hash(n)).any(|leaf| leaf == n)));
        assert!(members.count < 20);
    }

    #[test]
    fn equal_hashes_keep_apart() {
        let mut members = Members::new();
        for leaf in 0..1000 {
            members.insert(7, leaf);
        }
        members.check();
        members.remove(7, 500);
        members.relocate(7, 1, 5000);
        let leaves: HashSet<u32> = members.leaves(7).collect();
        assert!(leaves.len() == 999 && leaves.contains(&5000) && !leaves.contains(&500));
    }

    #[test]
    fn a_scan_sees_every_entry_that_stays() {
        for shrink in [false, true] {
            let hash = |n: u32| hash_member(&n.to_le_bytes());
            let mut members = Members::new();
            let all = if shrink { 30_000 } else { 3000 };
            (0..all).for_each(|n| members.insert(hash(n), n));
            let mut seen = HashSet::new();
            let mut from = Some(0);
            let mut next = 1000;
            while let Some(at) = from {
                from = members.scan(at, 10, |_, leaf| {
                    seen.insert(leaf);
                });
                if shrink && next + 20 < all {
                    (next..next + 20).for_each(|n| members.remove(hash(n), n));
                    next += 20;
                } else if !shrink {
                    (0..50).for_each(|n| members.insert(hash(all + next * 50 + n), all + next * 50 + n));
                    next += 1;
                }
            }
            members.check();
            assert!((0..1000).all(|n| seen.contains(&n)), "{shrink}");
        }
    }
}

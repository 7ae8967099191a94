// SPDX-License-Identifier: BSD-3-Clause
//! A leaf of a sorted set's ordered index: up to [`SLOTS_MAX`] elements in order, packed into one allocation.
//!
//! ```text
//!   scores      f64 x slots   |  sorted, so that a search touches few cache lines
//!   ends        u16 x slots   |  where the member's bytes end in `bytes`; the top bit: a long member
//!   tags        u8  x slots   |  eight bits of the member's hash, to find a member without comparing all
//!   bytes       the members, in order; of a long one the two-byte index of its place in `long`
//! ```
//! Members over [`INLINE_MAX`] bytes lie outside, shared with clones. Not here: the tree above the leaves.

use crate::relocate::Mover;
use crate::size_class;
use std::cmp::Ordering;
use std::sync::Arc;

/// Elements of a leaf at most.
pub(super) const SLOTS_MAX: usize = 128;
/// Bytes of a leaf's allocation at most.
const BYTES_MAX: usize = 4096;
/// Bytes of a member that are stored in the leaf.
const INLINE_MAX: usize = 256;
/// Fixed bytes for each element: score, end, tag.
const FIXED: usize = 11;
/// In `ends`: the member is long.
const LONG: u16 = 1 << 15;

/// An element's place in the order: by score, then by bytes. Zeros of both signs are equal; there is no NaN.
#[inline]
pub(super) fn order(score: f64, member: &[u8], other_score: f64, other_member: &[u8]) -> Ordering {
    if score < other_score {
        Ordering::Less
    } else if score > other_score {
        Ordering::Greater
    } else {
        member.cmp(other_member)
    }
}

/// Members that are not in the leaf's bytes.
#[derive(Clone, Debug, Default)]
struct Long {
    places: Vec<Option<Arc<[u8]>>>,
    /// What the allocator gave for the members.
    bytes: usize,
}

fn long_bytes(member: &[u8]) -> usize {
    size_class(member.len() + 16)
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaf {
    count: u16,
    slots: u16,
    used: u16,
    data: Box<[u8]>,
    long: Option<Box<Long>>,
}

impl Leaf {
    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Bytes that the elements need, the measure for splitting and merging.
    #[inline]
    pub(super) fn weight(&self) -> usize {
        self.len() * FIXED + usize::from(self.used)
    }

    /// Whether a member of this length may be added. Always true for a leaf with few elements.
    #[inline]
    pub(super) fn has_room(&self, member_len: usize) -> bool {
        let inline = if member_len > INLINE_MAX { 2 } else { member_len };
        self.len() < SLOTS_MAX && self.weight() + FIXED + inline <= BYTES_MAX
    }

    /// Whether the elements of both fit into one leaf with room to grow.
    pub(super) fn can_join(&self, other: &Leaf) -> bool {
        self.len() + other.len() <= SLOTS_MAX * 3 / 4 && self.weight() + other.weight() <= BYTES_MAX * 3 / 4
    }

    /// Few enough elements that it should be joined with another.
    pub(super) fn is_sparse(&self) -> bool {
        self.len() < SLOTS_MAX / 4 && self.weight() < BYTES_MAX / 4
    }

    /// Moves what lies in sparse memory, but for the struct itself.
    pub(super) fn relocate(&mut self, mover: &mut Mover<'_>) {
        if !self.data.is_empty() && mover.wants(self.data.as_ptr()) {
            self.data = self.data.clone();
        }
        let Some(long) = &mut self.long else { return };
        long.places.iter_mut().flatten().for_each(|member| mover.bytes(member));
    }

    /// Heap bytes, the struct itself not included.
    pub(super) fn heap_bytes(&self) -> usize {
        let long = self.long.as_ref().map_or(0, |long| {
            size_class(size_of::<Long>()) + long.places.len() * size_of::<Option<Arc<[u8]>>>() + long.bytes
        });
        self.data.len() + long
    }

    #[inline]
    pub(super) fn score(&self, at: usize) -> f64 {
        let bytes = self.data[at * 8..at * 8 + 8].try_into().expect("eight bytes");
        f64::from_le_bytes(bytes)
    }

    #[inline]
    fn raw_end(&self, at: usize) -> u16 {
        let from = usize::from(self.slots) * 8 + at * 2;
        u16::from_le_bytes([self.data[from], self.data[from + 1]])
    }

    #[inline]
    fn set_raw_end(&mut self, at: usize, end: u16) {
        let from = usize::from(self.slots) * 8 + at * 2;
        self.data[from..from + 2].copy_from_slice(&end.to_le_bytes());
    }

    /// Where the packed bytes of the element begin (of `at == len`: where the next would).
    #[inline]
    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { usize::from(self.raw_end(at - 1) & !LONG) }
    }

    #[inline]
    fn bytes_at(&self) -> usize {
        usize::from(self.slots) * FIXED
    }

    #[inline]
    fn tags_at(&self) -> usize {
        usize::from(self.slots) * 10
    }

    #[inline]
    pub(super) fn member(&self, at: usize) -> &[u8] {
        let raw = self.raw_end(at);
        let base = self.bytes_at();
        let inline = &self.data[base + self.start(at)..base + usize::from(raw & !LONG)];
        if raw & LONG == 0 { inline } else { self.long_member(inline) }
    }

    #[cold]
    fn long_member(&self, inline: &[u8]) -> &[u8] {
        let place = u16::from_le_bytes([inline[0], inline[1]]);
        let long = self.long.as_ref().expect("places of long members");
        long.places[usize::from(place)].as_deref().expect("a long member")
    }

    /// The number of leading elements that are before the element (`score`, `member`).
    #[inline]
    pub(super) fn lower_bound(&self, score: f64, member: &[u8]) -> usize {
        self.partition(|other_score, other| other_score < score || (other_score == score && other() < member))
    }

    /// The number of leading elements for which `is_before` holds; it must hold for a prefix. The member is read only when
    /// asked for.
    #[inline]
    pub(super) fn partition<'a>(&'a self, is_before: impl Fn(f64, &dyn Fn() -> &'a [u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if is_before(self.score(middle), &|| self.member(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The index that halves the leaf by its bytes; never at an end.
    pub(super) fn middle(&self) -> usize {
        let half = self.weight() / 2;
        let (mut low, mut high) = (1, self.len() - 1);
        while low < high {
            let at = (low + high) / 2;
            if at * FIXED + self.start(at) < half {
                low = at + 1;
            } else {
                high = at;
            }
        }
        low
    }

    #[inline]
    pub(super) fn tag(&self, at: usize) -> u8 {
        self.data[self.tags_at() + at]
    }

    /// Where the member is.
    #[inline]
    pub(super) fn find(&self, tag: u8, member: &[u8]) -> Option<usize> {
        let from = self.tags_at();
        let tags = &self.data[from..from + self.len()];
        memchr::memchr_iter(tag, tags).find(|at| self.member(*at) == member)
    }

    pub(super) fn set_score(&mut self, at: usize, score: f64) {
        self.data[at * 8..at * 8 + 8].copy_from_slice(&score.to_le_bytes());
    }

    /// Inserts an element before `at`; the caller asked [`Leaf::has_room`].
    pub(super) fn insert(&mut self, at: usize, score: f64, tag: u8, member: &[u8]) {
        if member.len() > INLINE_MAX {
            let place = self.add_long(Arc::from(member));
            self.insert_packed(at, score, tag, &place.to_le_bytes(), LONG);
        } else {
            self.insert_packed(at, score, tag, member, 0);
        }
    }

    fn add_long(&mut self, member: Arc<[u8]>) -> u16 {
        let long = self.long.get_or_insert_default();
        long.bytes += long_bytes(&member);
        let place = long.places.iter().position(Option::is_none);
        match place {
            Some(place) => {
                long.places[place] = Some(member);
                place as u16
            }
            None => {
                if long.places.len() == long.places.capacity() {
                    long.places.reserve_exact(1);
                }
                long.places.push(Some(member));
                (long.places.len() - 1) as u16
            }
        }
    }

    fn insert_packed(&mut self, at: usize, score: f64, tag: u8, packed: &[u8], flag: u16) {
        let (count, used, len) = (self.len(), usize::from(self.used), packed.len());
        if count == usize::from(self.slots) || self.bytes_at() + used + len > self.data.len() {
            self.resize(count + 1, used + len, true);
        }
        let start = self.start(at);
        let (base, tags, slots) = (self.bytes_at(), self.tags_at(), usize::from(self.slots));
        self.data.copy_within(base + start..base + used, base + start + len);
        self.data[base + start..base + start + len].copy_from_slice(packed);
        self.data.copy_within(tags + at..tags + count, tags + at + 1);
        self.data[tags + at] = tag;
        let ends = slots * 8;
        self.data.copy_within(ends + at * 2..ends + count * 2, ends + at * 2 + 2);
        for end in self.data[ends + at * 2 + 2..ends + count * 2 + 2].chunks_exact_mut(2) {
            let moved = u16::from_le_bytes([end[0], end[1]]) + len as u16;
            end.copy_from_slice(&moved.to_le_bytes());
        }
        self.set_raw_end(at, (start + len) as u16 | flag);
        self.data.copy_within(at * 8..count * 8, at * 8 + 8);
        self.set_score(at, score);
        self.count += 1;
        self.used += len as u16;
    }

    /// Moves everything to an allocation for `count` elements whose packed members take `used` bytes; with some room when
    /// it `grows`.
    fn resize(&mut self, count: usize, used: usize, grows: bool) {
        let need = count * FIXED + used;
        let total = size_class(if grows { need + need / 16 } else { need });
        let typical = total / (FIXED + used / count.max(1));
        let slots = typical.max(count).min((total - used) / FIXED).min(SLOTS_MAX).max(count);
        let mut data = vec![0; total].into_boxed_slice();
        let old = usize::from(self.slots);
        let kept = self.len();
        data[..kept * 8].copy_from_slice(&self.data[..kept * 8]);
        data[slots * 8..slots * 8 + kept * 2].copy_from_slice(&self.data[old * 8..old * 8 + kept * 2]);
        data[slots * 10..slots * 10 + kept].copy_from_slice(&self.data[old * 10..old * 10 + kept]);
        let bytes = usize::from(self.used);
        data[slots * FIXED..slots * FIXED + bytes].copy_from_slice(&self.data[old * FIXED..old * FIXED + bytes]);
        self.data = data;
        self.slots = slots as u16;
    }

    /// Removes the elements from `from` up to `to`.
    pub(super) fn remove_range(&mut self, from: usize, to: usize) {
        let (count, used, gone) = (self.len(), usize::from(self.used), to - from);
        if self.long.is_some() {
            self.forget_long(from, to);
        }
        let (start, end) = (self.start(from), self.start(to));
        let len = end - start;
        let (base, tags, ends) = (self.bytes_at(), self.tags_at(), usize::from(self.slots) * 8);
        self.data.copy_within(base + end..base + used, base + start);
        self.data.copy_within(tags + to..tags + count, tags + from);
        self.data.copy_within(ends + to * 2..ends + count * 2, ends + from * 2);
        for end in self.data[ends + from * 2..ends + (count - gone) * 2].chunks_exact_mut(2) {
            let moved = u16::from_le_bytes([end[0], end[1]]) - len as u16;
            end.copy_from_slice(&moved.to_le_bytes());
        }
        self.data.copy_within(to * 8..count * 8, from * 8);
        self.count -= gone as u16;
        self.used -= len as u16;
        if self.data.len() > 256 && self.weight() < self.data.len() / 2 {
            self.resize(self.len(), usize::from(self.used), true);
        }
    }

    fn forget_long(&mut self, from: usize, to: usize) {
        for at in from..to {
            if self.raw_end(at) & LONG == 0 {
                continue;
            }
            let start = self.bytes_at() + self.start(at);
            let place = u16::from_le_bytes([self.data[start], self.data[start + 1]]);
            if let Some(long) = &mut self.long
                && let Some(member) = long.places[usize::from(place)].take()
            {
                long.bytes -= long_bytes(&member);
            }
        }
        if self.long.as_ref().is_some_and(|long| long.bytes == 0) {
            self.long = None;
        }
    }

    /// Cuts the elements from `at` on off into a leaf of their own. Both become as small as they can be.
    pub(super) fn split_off(&mut self, at: usize) -> Leaf {
        let mut right = Leaf::default();
        right.append(self, at);
        self.remove_range(at, self.len());
        self.resize(self.len(), usize::from(self.used), true);
        right
    }

    /// Adds the elements of `other` from `from` on behind the own ones.
    pub(super) fn append(&mut self, other: &Leaf, from: usize) {
        let (count, start) = (self.len(), other.start(from));
        let added = other.len() - from;
        let used = usize::from(self.used);
        let len = usize::from(other.used) - start;
        self.resize(count + added, used + len, true);
        let (base, tags) = (self.bytes_at(), self.tags_at());
        self.data[count * 8..(count + added) * 8].copy_from_slice(&other.data[from * 8..other.len() * 8]);
        let their_tags = other.tags_at();
        self.data[tags + count..tags + count + added]
            .copy_from_slice(&other.data[their_tags + from..their_tags + other.len()]);
        self.data[base + used..base + used + len]
            .copy_from_slice(&other.data[other.bytes_at() + start..other.bytes_at() + usize::from(other.used)]);
        for at in from..other.len() {
            let raw = other.raw_end(at);
            let end = used + usize::from(raw & !LONG) - start;
            self.set_raw_end(count + at - from, end as u16 | (raw & LONG));
            if raw & LONG != 0 {
                let member = other.shared_member(at);
                let place = self.add_long(member);
                let to = self.bytes_at() + end - 2;
                self.data[to..to + 2].copy_from_slice(&place.to_le_bytes());
            }
        }
        self.count += added as u16;
        self.used += len as u16;
    }

    /// Adds the elements of `other` before the own ones.
    pub(super) fn prepend(&mut self, other: &Leaf) {
        let mut joined = other.clone();
        joined.append(self, 0);
        *self = joined;
    }

    fn shared_member(&self, at: usize) -> Arc<[u8]> {
        let start = self.bytes_at() + self.start(at);
        let place = u16::from_le_bytes([self.data[start], self.data[start + 1]]);
        let long = self.long.as_ref().expect("places of long members");
        long.places[usize::from(place)].clone().expect("a long member")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(leaf: &Leaf) -> Vec<(f64, usize, u8)> {
        (0..leaf.len()).map(|at| (leaf.score(at), leaf.member(at).len(), leaf.member(at)[0])).collect()
    }

    #[test]
    fn elements_survive_splits_and_joins() {
        let mut leaf = Leaf::default();
        let mut expected = Vec::new();
        for n in 0..100u8 {
            let len = if n % 10 == 0 { 1000 } else { 1 + usize::from(n) / 7 };
            let member = vec![n; len];
            let at = usize::from(n) / 2;
            assert!(leaf.has_room(member.len()));
            leaf.insert(at, f64::from(n), n, &member);
            expected.insert(at, (f64::from(n), len, n));
        }
        assert_eq!(contents(&leaf), expected);
        let mut right = leaf.split_off(37);
        assert_eq!(contents(&right), expected[37..]);
        right.remove_range(3, 9);
        expected.drain(40..46);
        assert_eq!(contents(&right), expected[37..]);
        leaf.append(&right, 2);
        expected.drain(37..39);
        assert_eq!(contents(&leaf), expected);
        for (at, (_, len, byte)) in expected.iter().enumerate() {
            assert_eq!(leaf.find(*byte, &vec![*byte; *len]), Some(at));
        }
        assert_eq!(leaf.find(3, b"absent"), None);
        let len = leaf.len();
        leaf.remove_range(0, len);
        assert_eq!((leaf.len(), leaf.weight(), leaf.long.is_none()), (0, 0, true));
    }
}

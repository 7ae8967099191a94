// SPDX-License-Identifier: BSD-3-Clause
//! The table of one database in one slot: linear hashing over 64-byte buckets of ten entries.
//!
//! It grows and shrinks by one bucket at a time, so there is neither a doubling spike nor a rehash. A full bucket
//! continues in a chain of overflow buckets of four entries each, because what overflows is little; entries of a chain are
//! kept dense, so only the last bucket has gaps.
//! Up to three entries lie in the table itself: with few keys in 16384 slots, a bucket each would cost more than the keys.
//! Cursors go through the hash's bits in reverse, which visits every entry that stays, whatever the size does meanwhile.
//!
//! Not here: locks, TTLs, accounting of entries. Called by `slot` and `db`.

use crate::buckets::{
    Buckets, Overflow, PER_BUCKET, PER_OVERFLOW, PER_SMALL, Primary, SEGMENT, Slots as _, Small, View, ViewMut,
    find_tag, len_of,
};
use crate::entry::{Entry, prefetch};
use pando_slab::Handle;
use pando_values::Mover;
use smallvec::SmallVec;
use std::hash::BuildHasher;
use std::sync::LazyLock;

/// Entries per 100 places of primary buckets at which the table grows; and entries per 100 places that it would have with
/// a bucket less below which it gives that up. Near each other, because slots have few keys, whose number goes up
/// and down when keys come and go; far enough that a table does not split and merge all the time.
const GROW_PERCENT: usize = 95;
const SHRINK_PERCENT: usize = 75;

static HASHER: LazyLock<foldhash::quality::RandomState> = LazyLock::new(foldhash::quality::RandomState::default);

/// The hash by which a key is placed, tagged, and recorded in expire buckets.
#[inline]
pub(crate) fn hash_key(key: &[u8]) -> u32 {
    HASHER.hash_one(key) as u32
}

/// A place in the table; valid until the table changes its shape.
#[derive(Copy, Clone)]
pub(crate) struct Place {
    primary: u32,
    /// Overflow bucket plus one, zero for the primary, [`SMALL`] for the table itself.
    overflow: u32,
    index: u8,
}

/// See [`Place::overflow`].
const SMALL: u32 = u32::MAX;

/// There is no primary bucket as long as all entries are in `small`, and none in `small` afterwards.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Table {
    len: usize,
    primary: Buckets<Primary>,
    overflow: Buckets<Overflow>,
    small: Small,
}

#[inline]
fn tag_of(hash: u32) -> u8 {
    ((hash >> 24) as u8).max(1)
}

#[inline]
fn address(count: u32, hash: u32) -> (u32, u32) {
    let count = u64::from(count);
    let level = count.ilog2();
    let wide = u64::from(hash) & ((2u64 << level) - 1);
    if wide < count {
        let narrow = wide & ((1 << level) - 1);
        // A bucket that has not been split yet is still chosen by `level` bits.
        let is_split = narrow < count - (1 << level);
        (level + u32::from(is_split), wide as u32)
    } else {
        (level, (wide & ((1 << level) - 1)) as u32)
    }
}

/// Where the bucket of `hash` lies in a table of `len` buckets that begins at `first`; `None` if it is not in the first
/// array, or there is none.
#[inline]
pub(crate) fn bucket_at(first: *const u8, len: u32, hash: u32) -> Option<*const u8> {
    if first.is_null() || len == 0 {
        return None;
    }
    let number = address(len, hash).1 as usize;
    (number < SEGMENT).then(|| first.wrapping_add(number * size_of::<Primary>()))
}

fn next_cursor(cursor: u32, bits: u32) -> u32 {
    let mask = ((1u64 << bits) - 1) as u32;
    (cursor | !mask).reverse_bits().wrapping_add(1).reverse_bits()
}

impl Table {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the buckets.
    pub(crate) fn bytes(&self) -> usize {
        self.primary.bytes() + self.overflow.bytes()
    }

    /// Bits of the hash that choose the bucket of `hash`, and the bucket.
    #[inline]
    fn address(&self, hash: u32) -> (u32, u32) {
        address(self.primary.len(), hash)
    }
    #[inline]
    fn bucket(&self, primary: u32, overflow: u32) -> View<'_> {
        match overflow {
            0 => self.primary.get(primary).view(),
            SMALL => self.small.view(),
            number => self.overflow.get(number - 1).view(),
        }
    }

    #[inline]
    fn is_small(&self) -> bool {
        self.primary.len() == 0
    }

    #[inline]
    fn bucket_mut(&mut self, primary: u32, overflow: u32) -> ViewMut<'_> {
        match overflow {
            0 => self.primary.get_mut(primary).view_mut(),
            SMALL => self.small.view_mut(),
            number => self.overflow.get_mut(number - 1).view_mut(),
        }
    }

    /// The first entry with the tag of `hash` in its bucket that `is_it` accepts.
    #[inline]
    pub(crate) fn find_by(&self, hash: u32, mut is_it: impl FnMut(Entry) -> bool) -> Option<Place> {
        let tag = tag_of(hash);
        if self.is_small() {
            let small = self.small.view();
            let index = (0..PER_SMALL).find(|&index| small.tags[index] == tag && is_it(small.entry(index)))?;
            return Some(Place { primary: 0, overflow: SMALL, index: index as u8 });
        }
        let number = self.address(hash).1;
        let Primary(bucket) = self.primary.get(number);
        let view = bucket.view();
        if let Some(index) = find_tag(&bucket.tags, tag, |index| is_it(view.entry(index))) {
            return Some(Place { primary: number, overflow: 0, index: index as u8 });
        }
        let mut overflow = bucket.next;
        while overflow != 0 {
            let bucket = self.bucket(number, overflow);
            for index in 0..PER_OVERFLOW {
                if bucket.tags[index] == tag && is_it(bucket.entry(index)) {
                    return Some(Place { primary: number, overflow, index: index as u8 });
                }
            }
            overflow = bucket.next;
        }
        None
    }

    #[inline]
    pub(crate) fn find(&self, hash: u32, key: &[u8]) -> Option<Place> {
        self.find_by(hash, |entry| entry.key() == key)
    }

    #[inline]
    pub(crate) fn entry(&self, place: Place) -> Entry {
        self.bucket(place.primary, place.overflow).entry(usize::from(place.index))
    }

    /// Puts another entry of the same key in the place; the caller disposes of the old one.
    pub(crate) fn replace(&mut self, place: Place, entry: Entry) {
        self.bucket_mut(place.primary, place.overflow).handles[usize::from(place.index)] = entry.0.to_bytes();
    }

    /// Adds an entry whose key is not in the table.
    pub(crate) fn insert(&mut self, hash: u32, entry: Entry) {
        if self.is_small() {
            if self.len < PER_SMALL {
                let small = self.small.view_mut();
                small.tags[self.len] = tag_of(hash);
                small.handles[self.len] = entry.0.to_bytes();
                self.len += 1;
                return;
            }
            self.spill();
        }
        if (self.len + 1) * 100 > self.primary.len() as usize * PER_BUCKET * GROW_PERCENT
            && self.primary.len() < u32::MAX
        {
            self.split();
        }
        let primary = self.address(hash).1;
        self.append(primary, tag_of(hash), entry.0.to_bytes());
        self.len += 1;
    }

    /// Puts the entries of the table itself into a bucket.
    fn spill(&mut self) {
        let small = std::mem::take(&mut self.small);
        self.primary.push();
        let small = small.view();
        (0..small.len()).for_each(|index| self.append(0, small.tags[index], small.handles[index]));
    }

    /// Takes the entries of the only bucket into the table itself.
    fn gather(&mut self) {
        let entries = self.drain(0);
        (self.primary, self.overflow) = Default::default();
        let small = self.small.view_mut();
        for (index, (tag, handle)) in entries.into_iter().enumerate() {
            (small.tags[index], small.handles[index]) = (tag, handle);
        }
    }

    fn append(&mut self, primary: u32, tag: u8, handle: [u8; 5]) {
        let mut overflow = 0;
        loop {
            let bucket = self.bucket_mut(primary, overflow);
            let len = len_of(bucket.tags);
            if len < bucket.tags.len() {
                bucket.tags[len] = tag;
                bucket.handles[len] = handle;
                return;
            }
            if *bucket.next == 0 {
                let number = self.overflow.push() + 1;
                *self.bucket_mut(primary, overflow).next = number;
            }
            overflow = self.bucket(primary, overflow).next;
        }
    }

    /// Takes the entry out; the caller disposes of it.
    pub(crate) fn remove(&mut self, place: Place) -> Entry {
        let removed = self.entry(place);
        if self.is_small() {
            let (index, last) = (usize::from(place.index), self.len - 1);
            let small = self.small.view_mut();
            (small.tags[index], small.handles[index]) = (small.tags[last], small.handles[last]);
            (small.tags[last], small.handles[last]) = (0, [0; 5]);
            self.len -= 1;
            return removed;
        }
        let (mut before, mut tail) = (0, 0);
        loop {
            let next = self.bucket(place.primary, tail).next;
            if next == 0 {
                break;
            }
            (before, tail) = (tail, next);
        }
        let last_bucket = self.bucket_mut(place.primary, tail);
        let last = len_of(last_bucket.tags) - 1;
        let (tag, handle) = (last_bucket.tags[last], last_bucket.handles[last]);
        let hole = self.bucket_mut(place.primary, place.overflow);
        hole.tags[usize::from(place.index)] = tag;
        hole.handles[usize::from(place.index)] = handle;
        let last_bucket = self.bucket_mut(place.primary, tail);
        last_bucket.tags[last] = 0;
        last_bucket.handles[last] = [0; 5];
        if last == 0 && tail != 0 {
            *self.bucket_mut(place.primary, before).next = 0;
            self.free_overflow(tail - 1);
        }
        self.len -= 1;
        let fewer = self.primary.len() as usize - 1;
        if fewer == 0 {
            if self.len < PER_SMALL {
                self.gather();
            }
        } else if self.len * 100 < fewer * PER_BUCKET * SHRINK_PERCENT {
            self.merge();
        }
        removed
    }

    /// Gives up an unlinked overflow bucket; the last one takes its number, so that the array has no holes.
    fn free_overflow(&mut self, number: u32) {
        let last = self.overflow.len() - 1;
        if number != last {
            let moved = *self.overflow.get(last);
            let primary = self.address(hash_key(moved.view().entry(0).key())).1;
            let mut overflow = 0;
            loop {
                let next = self.bucket_mut(primary, overflow).next;
                if *next == last + 1 {
                    *next = number + 1;
                    break;
                }
                overflow = *next;
                debug_assert_ne!(overflow, 0, "every overflow bucket is in the chain of its entries");
            }
            *self.overflow.get_mut(number) = moved;
        }
        self.overflow.pop();
    }

    /// Takes a whole chain out of the table.
    fn drain(&mut self, primary: u32) -> SmallVec<[(u8, [u8; 5]); 32]> {
        let mut entries = SmallVec::new();
        let mut numbers = SmallVec::<[u32; 8]>::new();
        let mut overflow = 0;
        loop {
            let bucket = self.bucket(primary, overflow);
            for index in 0..bucket.len() {
                bucket.entry(index).prefetch();
                entries.push((bucket.tags[index], bucket.handles[index]));
            }
            overflow = bucket.next;
            if overflow == 0 {
                break;
            }
            numbers.push(overflow - 1);
        }
        *self.primary.get_mut(primary) = Primary::EMPTY;
        // Descending: the bucket that moves into a gap is then never one of those that are to go.
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        for number in numbers {
            self.free_overflow(number);
        }
        entries
    }

    fn split(&mut self) {
        let count = self.primary.len();
        let old = count - (1 << count.ilog2());
        let entries = self.drain(old);
        self.primary.push();
        for (tag, handle) in entries {
            let hash = hash_key(Entry(Handle::from_bytes(handle)).key());
            let primary = self.address(hash).1;
            self.append(primary, tag, handle);
        }
    }

    fn merge(&mut self) {
        let last = self.primary.len() - 1;
        let entries = self.drain(last);
        self.primary.pop();
        let image = last - (1 << last.ilog2());
        for (tag, handle) in entries {
            self.append(image, tag, handle);
        }
    }

    /// Visits the bucket at `cursor` and returns the next cursor, zero after the last bucket.
    pub(crate) fn scan(&self, cursor: u32, visit: &mut dyn FnMut(Entry)) -> u32 {
        if self.is_small() {
            let small = self.small.view();
            (0..small.len()).for_each(|index| visit(small.entry(index)));
            return 0;
        }
        let (bits, primary) = self.address(cursor);
        let mut overflow = 0;
        loop {
            let bucket = self.bucket(primary, overflow);
            for index in 0..bucket.len() {
                visit(bucket.entry(index));
            }
            overflow = bucket.next;
            if overflow == 0 {
                break;
            }
        }
        next_cursor(cursor, bits)
    }

    /// As `scan`, and lets `relocate` put the same entry elsewhere.
    pub(crate) fn relocate(&mut self, cursor: u32, relocate: &mut dyn FnMut(Entry) -> Option<Entry>) -> u32 {
        let (bits, primary, mut overflow) = if self.is_small() {
            (0, 0, SMALL)
        } else {
            let (bits, primary) = self.address(cursor);
            (bits, primary, 0)
        };
        loop {
            let bucket = self.bucket_mut(primary, overflow);
            for index in 0..len_of(bucket.tags) {
                if let Some(moved) = relocate(Entry(Handle::from_bytes(bucket.handles[index]))) {
                    bucket.handles[index] = moved.0.to_bytes();
                }
            }
            overflow = *bucket.next;
            if overflow == 0 {
                break;
            }
        }
        next_cursor(cursor, bits)
    }

    /// Moves the buckets that lie in sparse memory of the heap.
    pub(crate) fn relocate_buckets(&mut self, mover: &mut Mover<'_>) {
        self.primary.relocate(mover);
        self.overflow.relocate(mover);
    }

    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(Entry)) {
        let primary = (0..self.primary.len()).map(|number| self.primary.get(number).view());
        let overflow = (0..self.overflow.len()).map(|number| self.overflow.get(number).view());
        for bucket in primary.chain(overflow).chain(std::iter::once(self.small.view())) {
            (0..bucket.len()).for_each(|index| visit(bucket.entry(index)));
        }
    }

    /// Visits up to `count` entries next to each other, from a place that `random` chooses.
    pub(crate) fn sample(&self, random: u64, count: usize, visit: &mut dyn FnMut(Entry)) {
        if self.len == 0 {
            return;
        }
        let (buckets, mut left) = (u64::from(self.primary.len()).max(1), count);
        // Empty buckets are rare; a bound keeps a table that has just shrunk a lot from costing more.
        for step in 0..buckets.min(count as u64 * 2 + 8) {
            let primary = ((random % buckets + step) % buckets) as u32;
            let mut overflow = if self.is_small() { SMALL } else { 0 };
            loop {
                let bucket = self.bucket(primary, overflow);
                let len = bucket.len();
                // Within a bucket the older come first: begin anywhere.
                let first = (random >> 40) as usize;
                // All at once: each entry is likely to be a cache miss.
                (0..len.min(left)).for_each(|index| bucket.entry((first + index) % len).prefetch());
                for index in 0..len.min(left) {
                    visit(bucket.entry((first + index) % len));
                }
                left -= len.min(left);
                overflow = bucket.next;
                if overflow == 0 || left == 0 {
                    break;
                }
            }
            if left == 0 {
                return;
            }
        }
    }

    /// An entry, uniformly enough: `random` chooses the bucket and the entry.
    pub(crate) fn random(&self, random: u64) -> Option<Entry> {
        if self.len == 0 {
            return None;
        }
        let count = u64::from(self.primary.len()).max(1);
        for step in 0..count {
            let primary = ((random % count + step) % count) as u32;
            let mut entries = SmallVec::<[Entry; 32]>::new();
            let mut overflow = if self.is_small() { SMALL } else { 0 };
            loop {
                let bucket = self.bucket(primary, overflow);
                entries.extend((0..bucket.len()).map(|index| bucket.entry(index)));
                overflow = bucket.next;
                if overflow == 0 {
                    break;
                }
            }
            if !entries.is_empty() {
                return Some(entries[(random >> 32) as usize % entries.len()]);
            }
        }
        None
    }

    /// Address of the first array of buckets and number of all primary ones, for [`bucket_at`].
    pub(crate) fn first_buckets(&self) -> (*mut u8, u32) {
        let first = if self.is_small() { std::ptr::null_mut() } else { self.primary.first() };
        (first, self.primary.len())
    }

    #[inline]
    pub(crate) fn prefetch_bucket(&self, hash: u32) {
        if !self.is_small() {
            prefetch(self.primary.get(self.address(hash).1));
        }
    }

    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: u32) {
        if self.is_small() {
            let small = self.small.view();
            (0..small.len()).for_each(|index| small.entry(index).prefetch());
        } else {
            let Primary(bucket) = self.primary.get(self.address(hash).1);
            let view = bucket.view();
            let mut is_likely_here = false;
            find_tag(&bucket.tags, tag_of(hash), |index| {
                view.entry(index).prefetch();
                is_likely_here = true;
                false
            });
            if !is_likely_here && bucket.next != 0 {
                prefetch(self.overflow.get(bucket.next - 1));
            }
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.len != 0 {
            self.for_each(&mut Entry::free);
        }
    }
}

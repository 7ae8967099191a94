// SPDX-License-Identifier: BSD-3-Clause
//! Expire buckets of one table: hashes of keys, grouped by the time at which they fall due.
//!
//! A radix heap: a bucket covers 8^level ticks, level 0 is one tick of 16 ms; the farther from `base`, the coarser. When
//! time reaches a coarse bucket its records are looked up and put into finer ones. A record is only a hash: what it
//! meant may be gone or have another TTL by now, so whoever works it off asks the table. Records that mean nothing are
//! dropped when a bucket would have to grow and they are in the majority.
//!
//! All buckets lie in one array, the soonest at its end. A record is added to a bucket by moving one record of each
//! sooner bucket from its front to its back, so there is one allocation, and nothing is lost to many small ones.
//!
//! An entry falls due when its key does or, for a hash, when its first field does: there is one record for either.
//!
//! Invariant: every volatile entry has a record in a bucket that covers its due time. Called by `slot`.

use crate::entry::Entry;
use crate::table::{Table, hash_key};
use smallvec::SmallVec;

const TICK_BITS: u32 = 4;
const DIGIT_BITS: u32 = 3;
const SORTED_LEN_MAX: usize = 1 << 15;

#[inline]
fn tick_of(ms: u64) -> u64 {
    ms >> TICK_BITS
}

/// First tick and level of a bucket. In the low byte 255 - level: coarser sorts first, so that it is emptied before its
/// parts.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Default)]
struct Span(u64);

impl Span {
    fn start(self) -> u64 {
        self.0 >> 8
    }

    fn covers(self, tick: u64) -> bool {
        let shift = (255 - (self.0 & 255) as u32) * DIGIT_BITS;
        tick >> shift == self.start() >> shift
    }
}

/// Twelve bytes, because there are many slots.
#[derive(Copy, Clone)]
#[repr(C, packed(4))]
struct Bucket {
    span: Span,
    /// Where its records end; they begin where those of the bucket before it end.
    end: u32,
}

/// A bucket that was taken out to be emptied.
#[derive(Default)]
struct Emptying {
    span: Span,
    hashes: Vec<u32>,
}

#[derive(Default)]
pub(crate) struct Expiry {
    /// Farthest first; none is empty.
    buckets: Vec<Bucket>,
    hashes: Vec<u32>,
    base: u64,
    emptying: Option<Box<Emptying>>,
}

/// The capacity that follows on `capacity` in steps of jemalloc's size classes: four for each doubling.
fn grown(capacity: usize) -> usize {
    let step = capacity.checked_ilog2().map_or(4, |log| (1usize << log) / 4).max(4);
    capacity + step
}

impl Expiry {
    fn span_of(&self, tick: u64) -> Span {
        let tick = tick.max(self.base).min(u64::MAX >> 8);
        let level = match tick ^ self.base {
            0 => 0,
            differing => (63 - differing.leading_zeros()) / DIGIT_BITS,
        };
        let start = tick >> (level * DIGIT_BITS) << (level * DIGIT_BITS);
        Span(start << 8 | u64::from(255 - level))
    }

    fn first_start(&self) -> Option<u64> {
        let emptying = self.emptying.as_ref().map(|emptying| emptying.span.start());
        emptying.or_else(|| self.buckets.last().map(|bucket| { bucket.span }.start()))
    }

    /// When the first bucket wants work.
    pub(crate) fn next_due_ms(&self) -> u64 {
        self.first_start().map_or(u64::MAX, |start| (start + 1) << TICK_BITS)
    }

    pub(crate) fn bytes(&self) -> usize {
        let emptying =
            self.emptying.as_ref().map_or(0, |it| size_of::<Emptying>() + it.hashes.capacity() * size_of::<u32>());
        self.buckets.capacity() * size_of::<Bucket>() + self.hashes.capacity() * size_of::<u32>() + emptying
    }

    fn start_of(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.buckets[index - 1].end as usize }
    }

    /// Records that the key's entry is due at `due_ms`. `old_due_ms` is what it was before; `volatile` counts entries
    /// that have a record.
    pub(crate) fn add(
        &mut self,
        hash: u32,
        due_ms: u64,
        old_due_ms: Option<u64>,
        now_ms: u64,
        volatile: usize,
        table: &Table,
    ) {
        // Time may pass while all buckets are far: measure from now, or the new record would land in a coarse bucket.
        let first = self.first_start().unwrap_or(u64::MAX);
        self.base = self.base.max(tick_of(now_ms).min(first));
        let span = self.span_of(tick_of(due_ms));
        // A record that is already in the right bucket serves for the new time too.
        if old_due_ms.is_some_and(|old| self.span_of(tick_of(old)) == span) {
            return;
        }
        self.push(span, hash, volatile, Some(table));
    }

    fn push(&mut self, span: Span, hash: u32, volatile: usize, table: Option<&Table>) {
        let index = match self.buckets.binary_search_by(|bucket| span.cmp(&{ bucket.span })) {
            Ok(index) => index,
            Err(index) => {
                if self.buckets.len() == self.buckets.capacity() {
                    self.buckets.reserve_exact(self.buckets.len() / 4 + 1);
                }
                let end = self.start_of(index) as u32;
                self.buckets.insert(index, Bucket { span, end });
                index
            }
        };
        if self.hashes.len() == self.hashes.capacity() {
            if let Some(table) = table
                && self.hashes.len() > volatile * 2 + 32
            {
                self.compact(index, table);
            }
            if self.hashes.len() == self.hashes.capacity() {
                self.hashes.reserve_exact(grown(self.hashes.capacity()) - self.hashes.len());
            }
        }
        // The gap at the end of the array wanders to the end of the bucket.
        self.hashes.push(hash);
        let mut gap = self.hashes.len() - 1;
        for sooner in (index + 1..self.buckets.len()).rev() {
            let front = self.start_of(sooner);
            self.hashes[gap] = self.hashes[front];
            self.buckets[sooner].end += 1;
            gap = front;
        }
        self.hashes[gap] = hash;
        self.buckets[index].end += 1;
    }

    /// Drops the bucket's records that stand for nothing.
    fn compact(&mut self, index: usize, table: &Table) {
        let (start, end, span) = (self.start_of(index), self.buckets[index].end as usize, self.buckets[index].span);
        let records = &mut self.hashes[start..end];
        records.sort_unstable();
        let (mut kept, mut last) = (0, None);
        for at in 0..records.len() {
            let hash = records[at];
            let stands = |entry: Entry| entry.due_ms().is_some_and(|due| span.covers(tick_of(due)));
            if last.replace(hash) != Some(hash) && table.find_by(hash, stands).is_some() {
                records[kept] = hash;
                kept += 1;
            }
        }
        self.hashes.drain(start + kept..end);
        let dropped = (end - start - kept) as u32;
        self.buckets[index..].iter_mut().for_each(|bucket| bucket.end -= dropped);
    }

    /// Takes one record that wants work: the caller removes the entries with `hash` that are past due, then calls
    /// `keep` for it.
    pub(crate) fn pop(&mut self, now_ms: u64) -> Option<Record> {
        let now = tick_of(now_ms);
        loop {
            if let Some(emptying) = &mut self.emptying {
                if let Some(hash) = emptying.hashes.pop() {
                    while emptying.hashes.pop_if(|next| *next == hash).is_some() {}
                    return Some(Record { hash, span: emptying.span });
                }
                self.emptying = None;
            }
            let first = { self.buckets.last()?.span };
            if first.start() >= now {
                return None;
            }
            self.base = self.base.max(first.start());
            self.buckets.pop();
            let mut hashes = self.hashes.split_off(self.buckets.last().map_or(0, |bucket| bucket.end as usize));
            // Sorted, equal hashes leave together, and `keep` stays at one record for each entry. A huge bucket is not
            // sorted, because that would hold the slot for too long; colliding keys then cost a few records more.
            if hashes.len() <= SORTED_LEN_MAX {
                hashes.sort_unstable();
            }
            if self.hashes.capacity() > 16 && self.hashes.len() < self.hashes.capacity() / 4 {
                self.hashes.shrink_to(self.hashes.capacity() / 2);
            }
            self.emptying = Some(Box::new(Emptying { span: first, hashes }));
        }
    }

    /// Visits up to `count` records next to each other: of those that fall due first, or from a place that `random`
    /// chooses. Some may stand for nothing.
    pub(crate) fn sample(&self, random: u64, count: usize, first_due: bool, visit: &mut dyn FnMut(u32)) {
        if self.hashes.is_empty() {
            return;
        }
        if !first_due {
            let start = (random % self.hashes.len() as u64) as usize;
            for index in 0..self.hashes.len().min(count) {
                visit(self.hashes[(start + index) % self.hashes.len()]);
            }
            return;
        }
        let (mut left, offset) = (count, (random >> 40) as usize);
        // The soonest bucket is the last; within one, no record is due before another as far as this knows.
        for index in (0..self.buckets.len()).rev() {
            let records = &self.hashes[self.start_of(index)..self.buckets[index].end as usize];
            for at in 0..records.len().min(left) {
                visit(records[(offset + at) % records.len()]);
            }
            left -= records.len().min(left);
            if left == 0 {
                return;
            }
        }
    }

    /// Puts a record of a coarse bucket into finer ones for the entries that are due later in the bucket's time, and for
    /// those that have more to do now.
    pub(crate) fn keep(&mut self, record: Record, now_ms: u64, table: &Table) {
        let mut dues = SmallVec::<[u64; 2]>::new();
        // Goes through all: two keys may have one hash.
        table.find_by(record.hash, |entry: Entry| {
            if let Some(due) = entry.due_ms()
                && record.serves(due, now_ms)
                && hash_key(entry.key()) == record.hash
            {
                dues.push(due);
            }
            false
        });
        for due in dues {
            self.push(self.span_of(tick_of(due)), record.hash, 0, None);
        }
    }
}

/// One popped record.
#[derive(Copy, Clone)]
pub(crate) struct Record {
    pub(crate) hash: u32,
    span: Span,
}

impl Record {
    /// Whether `keep` keeps it for an entry that wants to be worked on at this time.
    pub(crate) fn serves(&self, due_ms: u64, now_ms: u64) -> bool {
        self.span.covers(tick_of(due_ms)) || due_ms <= now_ms
    }
}

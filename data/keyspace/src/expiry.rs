// SPDX-License-Identifier: BSD-3-Clause
//! Expire buckets of one table: hashes of keys, grouped by the time at which they fall due.
//!
//! A radix heap: a bucket covers 8^level ticks, level 0 is one tick of 16 ms; the farther from `base`, the coarser. When
//! time reaches a coarse bucket its records are looked up and put into finer ones. A record is only a hash: what it
//! meant may be gone or have another TTL by now, so whoever works it off asks the table. Records that mean nothing are
//! dropped when a bucket would have to grow and they are in the majority.
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

struct Bucket {
    /// First tick, and in the low byte 255 - level: coarser sorts first, so that it is emptied before its parts.
    order: u64,
    hashes: Vec<u32>,
}

impl Bucket {
    fn start(&self) -> u64 {
        self.order >> 8
    }

    fn covers(&self, tick: u64) -> bool {
        let shift = (255 - (self.order & 255) as u32) * DIGIT_BITS;
        tick >> shift == self.start() >> shift
    }
}

#[derive(Default)]
pub(crate) struct Expiry {
    buckets: Vec<Bucket>,
    base: u64,
    records: usize,
    /// The bucket that is being emptied.
    emptying: u64,
}

impl Expiry {
    fn order_of(&self, tick: u64) -> u64 {
        let tick = tick.max(self.base).min(u64::MAX >> 8);
        let level = match tick ^ self.base {
            0 => 0,
            differing => (63 - differing.leading_zeros()) / DIGIT_BITS,
        };
        let start = tick >> (level * DIGIT_BITS) << (level * DIGIT_BITS);
        start << 8 | u64::from(255 - level)
    }

    /// When the first bucket wants work.
    pub(crate) fn next_due_ms(&self) -> u64 {
        self.buckets.first().map_or(u64::MAX, |bucket| (bucket.start() + 1) << TICK_BITS)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
            + self.buckets.iter().map(|bucket| bucket.hashes.capacity() * size_of::<u32>()).sum::<usize>()
    }

    /// Records that the key's entry is due at `due_ms`. `old_due_ms` is what it was before; `volatile` counts entries
    /// with a TTL.
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
        let first = self.buckets.first().map_or(u64::MAX, Bucket::start);
        self.base = self.base.max(tick_of(now_ms).min(first));
        let order = self.order_of(tick_of(due_ms));
        // A record that is already in the right bucket serves for the new time too.
        if old_due_ms.is_some_and(|old| self.order_of(tick_of(old)) == order) {
            return;
        }
        self.push(order, hash, volatile, Some(table));
    }

    fn push(&mut self, order: u64, hash: u32, volatile: usize, table: Option<&Table>) {
        let index = match self.buckets.binary_search_by_key(&order, |bucket| bucket.order) {
            Ok(index) => index,
            Err(index) => {
                if self.buckets.len() == self.buckets.capacity() {
                    self.buckets.reserve_exact(self.buckets.len() / 4 + 1);
                }
                self.buckets.insert(index, Bucket { order, hashes: Vec::new() });
                index
            }
        };
        if self.buckets[index].hashes.len() == self.buckets[index].hashes.capacity() {
            if let Some(table) = table
                && self.records > volatile * 2 + 32
            {
                self.compact(index, table);
            }
            let hashes = &mut self.buckets[index].hashes;
            if hashes.len() == hashes.capacity() {
                hashes.reserve_exact(hashes.len() / 8 + 4);
            }
        }
        self.buckets[index].hashes.push(hash);
        self.records += 1;
    }

    /// Drops the bucket's records that stand for nothing.
    fn compact(&mut self, index: usize, table: &Table) {
        let bucket = &mut self.buckets[index];
        let mut hashes = std::mem::take(&mut bucket.hashes);
        self.records -= hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.retain(|&hash| {
            let stands = |entry: Entry| entry.expire_at().is_some_and(|due| bucket.covers(tick_of(due)));
            table.find_by(hash, stands).is_some()
        });
        self.records += hashes.len();
        bucket.hashes = hashes;
    }

    /// Takes one record that wants work: the caller removes the entries with `hash` that are past due, then calls
    /// `keep` for it.
    pub(crate) fn pop(&mut self, now_ms: u64) -> Option<Record> {
        let now = tick_of(now_ms);
        loop {
            let bucket = self.buckets.first_mut()?;
            if bucket.start() >= now {
                return None;
            }
            self.base = self.base.max(bucket.start());
            let order = bucket.order;
            // Sorted, equal hashes leave together, and `keep` stays at one record for each entry. A huge bucket is not
            // sorted, because that would hold the slot for too long; colliding keys then cost a few records more.
            if std::mem::replace(&mut self.emptying, order) != order && bucket.hashes.len() <= SORTED_LEN_MAX {
                bucket.hashes.sort_unstable();
            }
            if let Some(hash) = bucket.hashes.pop() {
                self.records -= 1;
                while bucket.hashes.pop_if(|next| *next == hash).is_some() {
                    self.records -= 1;
                }
                return Some(Record { hash, order });
            }
            self.buckets.remove(0);
        }
    }

    /// Visits up to `count` records next to each other: of those that fall due first, or from a place that `random`
    /// chooses. Some may stand for nothing.
    pub(crate) fn sample(&self, random: u64, count: usize, first_due: bool, visit: &mut dyn FnMut(u32)) {
        let mut at = if first_due { 0 } else { (random % self.records.max(1) as u64) as usize };
        let (mut left, mut offset) = (count, (random >> 40) as usize);
        for bucket in &self.buckets {
            let len = bucket.hashes.len();
            if at >= len {
                at -= len;
                continue;
            }
            if !first_due {
                offset = at;
            }
            for index in 0..len.min(left) {
                visit(bucket.hashes[(offset + index) % len]);
            }
            left -= len.min(left);
            at = 0;
            offset = 0;
            if left == 0 {
                return;
            }
        }
    }

    /// Puts a record of a coarse bucket into finer ones for the entries that are due later in the bucket's time.
    pub(crate) fn keep(&mut self, record: Record, table: &Table) {
        let bucket = Bucket { order: record.order, hashes: Vec::new() };
        let mut dues = SmallVec::<[u64; 2]>::new();
        // Goes through all: two keys may have one hash.
        table.find_by(record.hash, |entry: Entry| {
            if let Some(due) = entry.expire_at()
                && bucket.covers(tick_of(due))
                && hash_key(entry.key()) == record.hash
            {
                dues.push(due);
            }
            false
        });
        for due in dues {
            self.push(self.order_of(tick_of(due)), record.hash, 0, None);
        }
    }
}

/// One popped record.
#[derive(Copy, Clone)]
pub(crate) struct Record {
    pub(crate) hash: u32,
    order: u64,
}

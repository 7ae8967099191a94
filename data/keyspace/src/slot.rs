// SPDX-License-Identifier: BSD-3-Clause
//! One slot: its lock, its databases, its watchers, its counts.
//!
//! Invariant: `data` is reached only by a holder of `lock`. Not here: which slots a command locks (`locked`).

use crate::blocked::Blocked;
use crate::entry::{Entry, FieldTimes, prefetch};
use crate::expiry::Expiry;
use crate::lock::SlotLock;
use crate::table::{Table, bucket_at};
use crate::watch::Watchers;
use crate::{DbIndex, SlotUsage};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

/// In this order, so that what a lookup reads is in the first cache line of the slot.
#[derive(Default)]
#[repr(C)]
pub(crate) struct DbData {
    pub(crate) table: Table,
    /// Entries with a TTL, and below the sum of their due times.
    pub(crate) volatile: u32,
    /// Hashes with fields that have a time.
    pub(crate) with_volatile_fields: u32,
    pub(crate) entry_bytes: usize,
    /// Slots without anything that falls due have none.
    expiry: Option<Box<Expiry>>,
    /// In halves, because a `u128` would push the table out of the first cache line.
    due_sum: [u64; 2],
}

impl DbData {
    pub(crate) fn bytes(&self) -> usize {
        self.entry_bytes + self.table.bytes() + self.expiry_bytes()
    }

    /// Bytes of the expire buckets.
    pub(crate) fn expiry_bytes(&self) -> usize {
        self.expiry.as_ref().map_or(0, |expiry| size_of::<Expiry>() + expiry.bytes())
    }

    /// The expire buckets.
    pub(crate) fn expiry(&self) -> Option<&Expiry> {
        self.expiry.as_deref()
    }

    /// The expire buckets, and the table that their records mean.
    #[inline]
    pub(crate) fn expiry_and_table(&mut self) -> Option<(&mut Expiry, &Table)> {
        Some((self.expiry.as_deref_mut()?, &self.table))
    }

    pub(crate) fn due_sum(&self) -> u128 {
        u128::from(self.due_sum[1]) << 64 | u128::from(self.due_sum[0])
    }

    pub(crate) fn change_due_sum(&mut self, more: u64, less: u64) {
        let sum = self.due_sum() + u128::from(more) - u128::from(less);
        self.due_sum = [sum as u64, (sum >> 64) as u64];
    }

    pub(crate) fn count_in(&mut self, entry: Entry) {
        self.entry_bytes += entry.bytes();
        if let Some(due) = entry.expire_at() {
            self.volatile += 1;
            self.change_due_sum(due, 0);
        }
        self.with_volatile_fields += u32::from(entry.has_volatile_fields());
    }

    pub(crate) fn count_out(&mut self, entry: Entry) {
        self.entry_bytes -= entry.bytes();
        if let Some(due) = entry.expire_at() {
            self.volatile -= 1;
            self.change_due_sum(0, due);
            self.drop_idle_expiry();
        }
        if entry.has_volatile_fields() {
            self.with_volatile_fields -= 1;
            self.drop_idle_expiry();
        }
    }

    /// A hash in the table was changed.
    pub(crate) fn count_fields(&mut self, before: FieldTimes, after: FieldTimes) {
        match (before.are_volatile, after.are_volatile) {
            (false, true) => self.with_volatile_fields += 1,
            (true, false) => {
                self.with_volatile_fields -= 1;
                self.drop_idle_expiry();
            }
            _ => {}
        }
    }

    /// Entries that may fall due, or a field of theirs.
    pub(crate) fn expiring(&self) -> usize {
        self.volatile as usize + self.with_volatile_fields as usize
    }

    /// Without entries that fall due no record stands for anything.
    pub(crate) fn drop_idle_expiry(&mut self) {
        if self.expiring() == 0 {
            self.expiry = None;
        }
    }

    /// Sees to it that the entry has an expire record, if it falls due. `old_due_ms` is what that of its record was.
    #[inline]
    pub(crate) fn record_due(&mut self, hash: u32, entry: Entry, old_due_ms: Option<u64>, now_ms: u64) {
        if let Some(due_ms) = entry.due_ms() {
            self.add_record(hash, due_ms, old_due_ms, now_ms);
        }
    }

    /// Adds an expire record; `old_due_ms` as for `record_due`.
    pub(crate) fn add_record(&mut self, hash: u32, due_ms: u64, old_due_ms: Option<u64>, now_ms: u64) {
        let expiring = self.expiring();
        let expiry = self.expiry.get_or_insert_default();
        expiry.add(hash, due_ms, old_due_ms, now_ms, expiring, &self.table);
    }
}

#[derive(Default)]
#[repr(C)]
pub(crate) struct SlotData {
    /// The counters have to be published before the lock is released.
    pub(crate) is_dirty: bool,
    pub(crate) db0: DbData,
    /// What the keyspace's counters know of this slot's bytes.
    pub(crate) published_bytes: u64,
    pub(crate) others: Vec<(DbIndex, Box<DbData>)>,
    pub(crate) write_offset: u64,
    pub(crate) watchers: Option<Box<Watchers>>,
    pub(crate) blocked: Option<Box<Blocked>>,
    pub(crate) usage: SlotUsage,
}

impl SlotData {
    #[inline]
    pub(crate) fn db(&self, db: DbIndex) -> Option<&DbData> {
        if db == 0 {
            return Some(&self.db0);
        }
        self.others.iter().find(|(index, _)| *index == db).map(|(_, data)| &**data)
    }

    #[inline]
    pub(crate) fn db_mut(&mut self, db: DbIndex) -> &mut DbData {
        if db == 0 {
            return &mut self.db0;
        }
        let at = match self.others.iter().position(|(index, _)| *index == db) {
            Some(at) => at,
            None => {
                self.others.push((db, Box::default()));
                self.others.len() - 1
            }
        };
        &mut self.others[at].1
    }

    pub(crate) fn dbs(&self) -> impl Iterator<Item = (DbIndex, &DbData)> {
        std::iter::once((0, &self.db0)).chain(self.others.iter().map(|(index, data)| (*index, &**data)))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.dbs().map(|(_, data)| data.bytes() as u64).sum()
    }

    pub(crate) fn next_due_ms(&self) -> u64 {
        self.dbs().filter_map(|(_, data)| Some(data.expiry.as_ref()?.next_due_ms())).min().unwrap_or(u64::MAX)
    }
}

#[repr(C, align(64))]
pub(crate) struct SlotCell {
    lock: SlotLock,
    /// Where the first buckets of database 0 are and how many it has, for prefetching without the lock. They may be
    /// out of date and not fit each other: nothing is ever read there.
    hint_len: AtomicU32,
    hint_first: AtomicPtr<u8>,
    data: UnsafeCell<SlotData>,
}
// There are 16384 of them. What a lookup reads comes first.
const _: () = assert!(size_of::<SlotCell>() <= 256);
const _: () = assert!(std::mem::offset_of!(SlotCell, data) == 16);

// SAFETY: `data` is reached under `lock` only; what it owns (entries in the slab, boxes) may change threads.
unsafe impl Sync for SlotCell {}
// SAFETY: as above.
unsafe impl Send for SlotCell {}

impl SlotCell {
    pub(crate) fn new() -> Self {
        Self {
            lock: SlotLock::default(),
            hint_len: AtomicU32::new(0),
            hint_first: AtomicPtr::default(),
            data: UnsafeCell::new(SlotData::default()),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) {
        self.lock.lock();
    }

    /// # Safety
    /// The caller holds the lock and gives it up.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        self.lock.unlock();
    }

    /// Brings the hints up to date; `data` is this slot's.
    pub(crate) fn publish_hints(&self, data: &SlotData) {
        let (first, len) = data.db0.table.first_buckets();
        if self.hint_first.load(Relaxed) != first || self.hint_len.load(Relaxed) != len {
            self.hint_first.store(first, Relaxed);
            self.hint_len.store(len, Relaxed);
        }
    }

    /// Brings what a lookup reads of the slot itself into the cache.
    #[inline]
    pub(crate) fn prefetch(&self) {
        let start: *const u8 = std::ptr::from_ref(self).cast();
        prefetch(start);
        prefetch(start.wrapping_add(64));
    }

    /// Brings the bucket of `hash` into the cache. Takes the lock only where the hints do not tell; then never waits.
    #[inline]
    pub(crate) fn prefetch_bucket(&self, db: DbIndex, hash: u32) {
        if db == 0
            && let Some(bucket) = bucket_at(self.hint_first.load(Relaxed), self.hint_len.load(Relaxed), hash)
        {
            return prefetch(bucket);
        }
        self.try_with_db(db, |data| data.table.prefetch_bucket(hash));
    }

    /// Brings the entries that `hash` may mean into the cache, unless the slot is locked.
    #[inline]
    pub(crate) fn prefetch_entry(&self, db: DbIndex, hash: u32) {
        self.try_with_db(db, |data| data.table.prefetch_entry(hash));
    }

    #[inline]
    fn try_with_db(&self, db: DbIndex, work: impl FnOnce(&DbData)) {
        if !self.lock.try_lock() {
            return;
        }
        // SAFETY: the lock was just taken and is released below; no reference leaves this block.
        if let Some(data) = unsafe { self.data() }.db(db) {
            work(data);
        }
        self.lock.unlock();
    }

    /// # Safety
    /// The caller holds the lock for the result's lifetime and has no other reference to the data.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn data(&self) -> &mut SlotData {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.data.get() }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! One slot: its lock, its databases, its watchers, its counts.
//!
//! Invariant: `data` is reached only by a holder of `lock`. Not here: which slots a command locks (`locked`).

use crate::blocked::Blocked;
use crate::entry::Entry;
use crate::expiry::Expiry;
use crate::table::Table;
use crate::watch::Watchers;
use crate::{DbIndex, SlotUsage};
use parking_lot::RawMutex;
use parking_lot::lock_api::RawMutex as _;
use std::cell::UnsafeCell;

/// In this order, so that what a lookup reads is in the first cache line of the slot.
#[derive(Default)]
#[repr(C)]
pub(crate) struct DbData {
    pub(crate) table: Table,
    /// Entries with a TTL, and the sum of their due times.
    pub(crate) volatile: usize,
    pub(crate) entry_bytes: usize,
    pub(crate) expiry: Expiry,
    pub(crate) due_sum: u128,
}

impl DbData {
    pub(crate) fn bytes(&self) -> usize {
        self.entry_bytes + self.table.bytes() + self.expiry.bytes()
    }

    pub(crate) fn count_in(&mut self, entry: Entry) {
        self.entry_bytes += entry.bytes();
        if let Some(due) = entry.expire_at() {
            self.volatile += 1;
            self.due_sum += u128::from(due);
        }
    }

    pub(crate) fn count_out(&mut self, entry: Entry) {
        self.entry_bytes -= entry.bytes();
        if let Some(due) = entry.expire_at() {
            self.volatile -= 1;
            self.due_sum -= u128::from(due);
            if self.volatile == 0 {
                self.expiry = Expiry::default();
            }
        }
    }
}

#[derive(Default)]
#[repr(C)]
pub(crate) struct SlotData {
    /// The counters have to be published before the lock is released.
    pub(crate) is_dirty: bool,
    pub(crate) db0: DbData,
    pub(crate) others: Vec<(DbIndex, Box<DbData>)>,
    pub(crate) watchers: Option<Box<Watchers>>,
    pub(crate) blocked: Option<Box<Blocked>>,
    pub(crate) write_offset: u64,
    pub(crate) usage: SlotUsage,
    /// What the keyspace's counters know of this slot's bytes.
    pub(crate) published_bytes: u64,
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
        self.dbs().map(|(_, data)| data.expiry.next_due_ms()).min().unwrap_or(u64::MAX)
    }
}

#[repr(C, align(64))]
pub(crate) struct SlotCell {
    lock: RawMutex,
    data: UnsafeCell<SlotData>,
}

// SAFETY: `data` is reached under `lock` only; what it owns (entries in the slab, boxes) may change threads.
unsafe impl Sync for SlotCell {}
// SAFETY: as above.
unsafe impl Send for SlotCell {}

impl SlotCell {
    pub(crate) fn new() -> Self {
        Self { lock: RawMutex::INIT, data: UnsafeCell::new(SlotData::default()) }
    }

    #[inline]
    pub(crate) fn lock(&self) {
        self.lock.lock();
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.lock.try_lock()
    }

    /// # Safety
    /// The caller holds the lock and gives it up.
    #[inline]
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.lock.unlock() }
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

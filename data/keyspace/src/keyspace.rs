// SPDX-License-Identifier: BSD-3-Clause
//! The keyspace as a whole: the array of slots, the counters that are read without locks, prefetching.
//!
//! The counters are published when a slot's lock is released after a change. Not here: what is done under the locks
//! (`locked`, `db`). Called by the server, the session and the replication.

use crate::clock::AccessPolicy;
use crate::locked::LockedSlots;
use crate::slot::{SlotCell, SlotData};
use crate::walk::WalkShared;
use crate::{DbIndex, DbStats, Garbage, HashedKey, KeyspaceConfig};
use pando_slab as slab;
use pando_topology::{SLOT_COUNT, Slot};
use parking_lot::RawRwLock;
use parking_lot::lock_api::RawRwLock as _;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst, fence,
};
use std::sync::{Arc, OnceLock};

const SHARDS: usize = 64;

#[repr(align(64))]
struct Shard {
    used: AtomicI64,
    /// More than this sets off the alarm of [`Keyspace::arm_memory_alarm`].
    alarm: AtomicI64,
}

/// All keys of a process. `Send` and `Sync`; every method may be called from any thread.
pub struct Keyspace {
    pub(crate) slots: Box<[SlotCell]>,
    /// Shared: holders of several slots, which lock in ascending order. Exclusive: who locks as it goes.
    pub(crate) multi: RawRwLock,
    pub(crate) walk: Arc<WalkShared>,
    databases: DbIndex,
    lfu: AtomicBool,
    lfu_log_factor: AtomicU32,
    lfu_decay_minutes: AtomicU32,
    /// By database and slot: keys.
    counts: Box<[OnceLock<Box<[AtomicU32]>>]>,
    /// By slot: bytes.
    bytes: Box<[AtomicU64]>,
    /// By slot: when its expire buckets want work.
    due: Box<[AtomicU64]>,
    used: Box<[Shard]>,
    memory_alarm: AtomicBool,
    /// Until when whoever removes what is past due sleeps; a nearer due time calls `on_nearer_due`.
    armed_ms: AtomicU64,
    on_nearer_due: OnceLock<Box<dyn Fn() + Send + Sync>>,
    pub(crate) on_ready: OnceLock<Box<dyn Fn(Slot) + Send + Sync>>,
    /// Of waiters; see `blocked`.
    pub(crate) last_ticket: AtomicU64,
    pub(crate) blocking_keys: AtomicU64,
    pub(crate) blocking_keys_when_gone: AtomicU64,
    free_later: OnceLock<Box<dyn Fn(Vec<Garbage>) + Send + Sync>>,
    /// Where the next `expire_step` begins.
    pub(crate) expire_from: AtomicUsize,
}

impl Keyspace {
    /// An empty keyspace.
    pub fn new(config: KeyspaceConfig) -> Self {
        slab::init();
        Self {
            slots: (0..SLOT_COUNT).map(|_| SlotCell::new()).collect(),
            multi: RawRwLock::INIT,
            walk: Arc::default(),
            databases: config.databases,
            lfu: AtomicBool::new(config.lfu),
            lfu_log_factor: AtomicU32::new(config.lfu_log_factor),
            lfu_decay_minutes: AtomicU32::new(config.lfu_decay_minutes),
            counts: (0..config.databases.max(1)).map(|_| OnceLock::new()).collect(),
            bytes: (0..SLOT_COUNT).map(|_| AtomicU64::new(0)).collect(),
            due: (0..SLOT_COUNT).map(|_| AtomicU64::new(u64::MAX)).collect(),
            used: (0..SHARDS).map(|_| Shard { used: AtomicI64::new(0), alarm: AtomicI64::new(i64::MAX) }).collect(),
            memory_alarm: AtomicBool::new(false),
            armed_ms: AtomicU64::new(0),
            on_nearer_due: OnceLock::new(),
            on_ready: OnceLock::new(),
            last_ticket: AtomicU64::new(0),
            blocking_keys: AtomicU64::new(0),
            blocking_keys_when_gone: AtomicU64::new(0),
            free_later: OnceLock::new(),
            expire_from: AtomicUsize::new(0),
        }
    }

    /// How many databases there are.
    pub fn databases(&self) -> DbIndex {
        self.databases
    }

    /// Changes how accesses are recorded (`maxmemory-policy`, `lfu-*`).
    pub fn set_lfu(&self, lfu: bool, log_factor: u32, decay_minutes: u32) {
        self.lfu.store(lfu, Relaxed);
        self.lfu_log_factor.store(log_factor, Relaxed);
        self.lfu_decay_minutes.store(decay_minutes, Relaxed);
    }

    pub(crate) fn policy(&self) -> AccessPolicy {
        AccessPolicy {
            lfu: self.lfu.load(Relaxed),
            lfu_log_factor: self.lfu_log_factor.load(Relaxed),
            lfu_decay_minutes: self.lfu_decay_minutes.load(Relaxed),
        }
    }

    /// Publishes a slot's counters; its lock is held.
    pub(crate) fn publish(&self, slot: usize, data: &mut SlotData) {
        data.is_dirty = false;
        self.slots[slot].publish_hints(data);
        let bytes = data.bytes();
        let change = bytes.wrapping_sub(data.published_bytes) as i64;
        if change != 0 {
            data.published_bytes = bytes;
            self.bytes[slot].store(bytes, Relaxed);
            let shard = &self.used[slot % SHARDS];
            let used = shard.used.fetch_add(change, Relaxed) + change;
            if change > 0 && used > shard.alarm.load(Relaxed) && !self.memory_alarm.load(Relaxed) {
                self.memory_alarm.store(true, Relaxed);
            }
        }
        for (db, of_db) in data.dbs() {
            let len = of_db.table.len() as u32;
            if let Some(cell) = self.counts.get(usize::from(db))
                && (len != 0 || cell.get().is_some())
            {
                let counts = cell.get_or_init(|| (0..SLOT_COUNT).map(|_| AtomicU32::new(0)).collect());
                counts[slot].store(len, Relaxed);
            }
        }
        let due = data.next_due_ms();
        let before = self.due[slot].load(Relaxed);
        if due != before {
            self.due[slot].store(due, Relaxed);
            if due < before {
                self.due_came_nearer(due);
            }
        }
    }

    fn due_came_nearer(&self, due: u64) {
        // Pairs with `arm`: either it sees the slot's due time or we see its.
        fence(SeqCst);
        if due < self.armed_ms.load(Relaxed)
            && self.armed_ms.fetch_min(due, Relaxed) > due
            && let Some(call) = self.on_nearer_due.get()
        {
            call();
        }
    }

    /// What is called, under a slot's lock, when a key falls due earlier than [`Keyspace::arm`] said. Only the first
    /// call counts.
    pub fn on_nearer_due(&self, call: Box<dyn Fn() + Send + Sync>) {
        let _ = self.on_nearer_due.set(call);
    }

    /// The time until which the caller may sleep: see [`Keyspace::next_due_ms`]. A nearer one that comes up later calls
    /// `on_nearer_due`, once.
    pub fn arm(&self) -> Option<u64> {
        self.armed_ms.store(u64::MAX, Relaxed);
        fence(SeqCst);
        let due = self.next_due_ms();
        self.armed_ms.fetch_min(due.unwrap_or(u64::MAX), Relaxed);
        due
    }

    /// Has large values that were removed or overwritten given to `free`, after the locks are released. Without it they
    /// are freed by the thread that removed them. Only the first call has an effect.
    pub fn on_garbage(&self, free: Box<dyn Fn(Vec<Garbage>) + Send + Sync>) {
        let _ = self.free_later.set(free);
    }

    #[cold]
    pub(crate) fn free_later(&self, garbage: Vec<Garbage>) {
        match self.free_later.get() {
            Some(free) => free(garbage),
            None => drop(garbage),
        }
    }

    /// Keys of the slot in the database, as of the last unlocking.
    pub(crate) fn count(&self, slot: usize, db: DbIndex) -> u32 {
        self.counts.get(usize::from(db)).and_then(OnceLock::get).map_or(0, |counts| counts[slot].load(Relaxed))
    }

    pub(crate) fn due_ms(&self, slot: usize) -> u64 {
        self.due[slot].load(Relaxed)
    }

    /// Keys in the database (`DBSIZE`), past-due ones included.
    pub fn len(&self, db: DbIndex) -> u64 {
        let counts = self.counts.get(usize::from(db)).and_then(OnceLock::get);
        counts.map_or(0, |counts| counts.iter().map(|count| u64::from(count.load(Relaxed))).sum())
    }

    /// Whether the database has no keys.
    pub fn is_empty(&self, db: DbIndex) -> bool {
        self.len(db) == 0
    }

    /// Numbers for `INFO keyspace`. Locks slot by slot, and none of a database that was never used.
    pub fn db_stats(&self, db: DbIndex, now_ms: u64) -> DbStats {
        let (mut volatile, mut due_sum, mut with_volatile_fields) = (0u64, 0u128, 0u64);
        let mut guard = self.lock_none();
        let counts = self.counts.get(usize::from(db)).and_then(OnceLock::get);
        let used = counts.into_iter().flat_map(|counts| Slot::all().zip(counts.iter()));
        for (slot, _) in used.filter(|(_, count)| count.load(Relaxed) != 0) {
            guard.with_slot(slot, |data| {
                if let Some(data) = data.db(db) {
                    volatile += u64::from(data.volatile);
                    due_sum += data.due_sum();
                    with_volatile_fields += u64::from(data.with_volatile_fields);
                }
            });
        }
        let avg_due = due_sum.checked_div(u128::from(volatile)).unwrap_or(0) as u64;
        DbStats { keys: self.len(db), volatile, avg_ttl_ms: avg_due.saturating_sub(now_ms), with_volatile_fields }
    }

    /// Keys with a TTL. Locks slot by slot; see [`Keyspace::db_stats`].
    pub fn volatile_len(&self, db: DbIndex) -> u64 {
        self.db_stats(db, 0).volatile
    }

    /// Mean remaining time of keys with a TTL. Locks slot by slot; see [`Keyspace::db_stats`].
    pub fn avg_ttl_ms(&self, db: DbIndex, now_ms: u64) -> u64 {
        self.db_stats(db, now_ms).avg_ttl_ms
    }

    /// Keys of one slot.
    pub fn slot_len(&self, slot: Slot, db: DbIndex) -> u64 {
        u64::from(self.count(slot.index(), db))
    }

    /// Bytes of all entries, tables and expire buckets. Exact but for commands in progress; cheap.
    pub fn used_bytes(&self) -> u64 {
        self.used.iter().map(|shard| shard.used.load(Relaxed)).sum::<i64>().max(0) as u64
    }

    /// Sets off an alarm before the keyspace has grown by more than `room` bytes: each counter gets its part of the room,
    /// so that writers compare with their own only, and nobody adds up all of them for each write.
    pub fn arm_memory_alarm(&self, room: u64) {
        self.memory_alarm.store(false, Relaxed);
        let part = (room / SHARDS as u64).min(i64::MAX as u64 / 2) as i64;
        for shard in &self.used {
            shard.alarm.store(shard.used.load(Relaxed) + part, Relaxed);
        }
    }

    /// Whether the alarm went off since it was armed.
    #[inline]
    pub fn memory_alarm(&self) -> bool {
        self.memory_alarm.load(Relaxed)
    }

    /// Bytes of the slab's blocks that are handed out, for all keyspaces of the process.
    pub fn slab_block_bytes(&self) -> u64 {
        slab::block_bytes() as u64
    }

    /// Bytes of the slab's pages, for all keyspaces of the process: what entries use, and what is free between them.
    pub fn slab_page_bytes(&self) -> u64 {
        slab::page_bytes() as u64
    }

    /// Bytes of all entries and what they point to, without tables and expire buckets. Locks slot by slot.
    pub fn entry_bytes(&self) -> u64 {
        let mut guard = self.lock_none();
        let of_slot =
            |slot| guard.with_slot(slot, |data| data.dbs().map(|(_, of_db)| of_db.entry_bytes as u64).sum::<u64>());
        Slot::all().map(of_slot).sum()
    }

    /// Bytes of a database's tables and of its expire buckets. Locks slot by slot.
    pub fn table_bytes(&self, db: DbIndex) -> (u64, u64) {
        let (mut tables, mut expires) = (0, 0);
        let mut guard = self.lock_none();
        for slot in Slot::all().filter(|slot| self.count(slot.index(), db) != 0) {
            guard.with_slot(slot, |data| {
                if let Some(data) = data.db(db) {
                    tables += data.table.bytes() as u64;
                    expires += data.expiry_bytes() as u64;
                }
            });
        }
        (tables, expires)
    }

    /// What clients did in the slot. Locks it.
    pub fn slot_usage(&self, slot: Slot) -> crate::SlotUsage {
        self.lock_one(slot).with_slot(slot, |data| data.usage)
    }

    /// Bytes of one slot.
    pub fn slot_bytes(&self, slot: Slot) -> u64 {
        self.bytes[slot.index()].load(Relaxed)
    }

    /// The earliest time at which [`Keyspace::expire_step`] has work.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.iter().map(|due| due.load(Relaxed)).min().filter(|&due| due != u64::MAX)
    }

    /// Brings what a batch of commands will touch into the cache: slots, then buckets, then entries. Never waits: a slot
    /// that is locked is left out.
    pub fn prefetch<'h>(&self, db: DbIndex, keys: impl Iterator<Item = &'h HashedKey> + Clone) {
        for key in keys.clone() {
            self.slots[key.slot().index()].prefetch();
        }
        for key in keys.clone() {
            self.slots[key.slot().index()].prefetch_bucket(db, key.hash());
        }
        for key in keys {
            self.slots[key.slot().index()].prefetch_entry(db, key.hash());
        }
    }

    /// Empties one database or all; see [`LockedSlots::flush`].
    pub fn flush(&self, db: Option<DbIndex>) -> Garbage {
        self.lock_all().flush(db)
    }

    /// Exchanges two databases; see [`LockedSlots::swap`].
    pub fn swap(&self, a: DbIndex, b: DbIndex) {
        self.lock_all().swap(a, b);
    }

    /// Locks one slot.
    #[inline]
    pub fn lock_one(&self, slot: Slot) -> LockedSlots<'_> {
        LockedSlots::one(self, slot)
    }

    /// Locks several slots, which must be ascending and distinct.
    pub fn lock(&self, slots: &[Slot]) -> LockedSlots<'_> {
        LockedSlots::some(self, slots)
    }

    /// Locks all slots.
    pub fn lock_all(&self) -> LockedSlots<'_> {
        LockedSlots::all(self)
    }

    /// Holds nothing at first. Whole-keyspace methods then lock slot by slot; methods on keys lock the slots that they
    /// meet and keep them, while all other holders of several slots are shut out.
    pub fn lock_none(&self) -> LockedSlots<'_> {
        LockedSlots::none(self)
    }
}

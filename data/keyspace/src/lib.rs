// SPDX-License-Identifier: BSD-3-Clause
//! The keyspace: 16384 independently locked slots and everything that is stored in them.
//!
//! Skeleton: signatures only, bodies follow.
#![allow(clippy::unimplemented, unused_variables, missing_docs)]

use pando_topology::Slot;
pub use pando_values::{Encoding, IntText, StrHint, Typed, Value, ValueRef, ValueType};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Number of a database.
pub type DbIndex = u16;

#[derive(Clone, Debug)]
pub struct KeyspaceConfig {
    pub databases: DbIndex,
    /// LFU instead of LRU access clocks (`maxmemory-policy *-lfu`).
    pub lfu: bool,
    pub lfu_log_factor: u32,
    pub lfu_decay_minutes: u32,
}
impl Default for KeyspaceConfig {
    fn default() -> Self {
        Self { databases: 16, lfu: false, lfu_log_factor: 10, lfu_decay_minutes: 1 }
    }
}

/// What a write does with the key's TTL.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Ttl {
    Keep,
    Clear,
    /// Unix milliseconds.
    At(u64),
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct SetOutcome {
    /// A live key was there before.
    pub existed: bool,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Meta {
    pub type_: ValueType,
    pub encoding: Encoding,
    pub expire_at: Option<u64>,
    pub idle_s: u64,
    pub lfu_freq: u8,
    /// Bytes of entry, value and table share (`MEMORY USAGE`).
    pub bytes: usize,
}

/// A value that was taken out of (or copied from) the keyspace, with what moves along.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedEntry {
    pub value: Value,
    pub expire_at: Option<u64>,
    pub access: u32,
}

#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct DbStats {
    pub keys: u64,
    pub volatile: u64,
    pub avg_ttl_ms: u64,
}

#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct ExpireStep {
    pub expired: usize,
    /// When to call again; in the past when the budget ran out.
    pub next_due_ms: Option<u64>,
}

/// Set when a watched key changes; one per client in MULTI/WATCH.
#[derive(Debug, Default)]
pub struct WatchFlag(AtomicBool);
impl WatchFlag {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }
    pub fn is_dirty(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
    pub fn touch(&self) {
        self.0.store(true, Ordering::Release);
    }
    pub fn reset(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What a flush took out; dropping it frees the memory (do that on a background thread).
#[must_use]
pub struct Garbage {
    pub keys: u64,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct WalkBusy;

pub struct Keyspace;
pub struct LockedSlots<'a>(&'a Keyspace);
pub struct Db<'g>(&'g Keyspace);
/// A point-in-time walk over all databases.
pub struct Walk(());

impl Keyspace {
    pub fn new(config: KeyspaceConfig) -> Self { unimplemented!() }
    pub fn databases(&self) -> DbIndex { unimplemented!() }
    pub fn set_lfu(&self, lfu: bool, log_factor: u32, decay_minutes: u32) { unimplemented!() }
    pub fn lock_one(&self, slot: Slot) -> LockedSlots<'_> { unimplemented!() }
    /// `slots` ascending, without duplicates.
    pub fn lock(&self, slots: &[Slot]) -> LockedSlots<'_> { unimplemented!() }
    pub fn lock_all(&self) -> LockedSlots<'_> { unimplemented!() }
    /// Holds nothing; `Db` methods lock (and keep) the slots they touch, excluding every other multi-slot holder;
    /// whole-keyspace methods lock slot by slot.
    pub fn lock_none(&self) -> LockedSlots<'_> { unimplemented!() }
    pub fn len(&self, db: DbIndex) -> u64 { unimplemented!() }
    pub fn is_empty(&self, db: DbIndex) -> bool { unimplemented!() }
    pub fn db_stats(&self, db: DbIndex, now_ms: u64) -> DbStats { unimplemented!() }
    pub fn volatile_len(&self, db: DbIndex) -> u64 { unimplemented!() }
    pub fn avg_ttl_ms(&self, db: DbIndex, now_ms: u64) -> u64 { unimplemented!() }
    pub fn slot_len(&self, slot: Slot, db: DbIndex) -> u64 { unimplemented!() }
    pub fn used_bytes(&self) -> u64 { unimplemented!() }
    pub fn slot_bytes(&self, slot: Slot) -> u64 { unimplemented!() }
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = (Slot, DbIndex, &'k [u8])>) { unimplemented!() }
    /// `deleted` runs after the key is gone, under its slot's lock.
    pub fn expire_step(&self, now_ms: u64, budget: usize, deleted: &mut dyn FnMut(Slot, DbIndex, &[u8], &mut LockedSlots<'_>)) -> ExpireStep { unimplemented!() }
    pub fn next_due_ms(&self) -> Option<u64> { unimplemented!() }
    pub fn flush(&self, db: Option<DbIndex>) -> Garbage { unimplemented!() }
    pub fn swap(&self, a: DbIndex, b: DbIndex) { unimplemented!() }
    pub fn begin_walk(&self, at_cut: &mut dyn FnMut()) -> Result<Walk, WalkBusy> { unimplemented!() }
}

impl Walk {
    /// Emits about `budget_bytes`; true when all is out. Point in time. The sink runs under a slot's lock.
    pub fn step(&mut self, keyspace: &Keyspace, budget_bytes: usize, sink: &mut dyn FnMut(DbIndex, &[u8], ValueRef<'_>, Option<u64>)) -> bool { unimplemented!() }
    pub fn is_aborted(&self) -> bool { unimplemented!() }
    /// Bytes of pre-images waiting to be emitted.
    pub fn pending_bytes(&self) -> usize { unimplemented!() }
}

impl<'a> LockedSlots<'a> {
    pub fn keyspace(&self) -> &'a Keyspace { unimplemented!() }
    pub fn now_ms(&self) -> u64 { unimplemented!() }
    /// The time that decides which keys are live. Call it once per command.
    pub fn set_now(&mut self, now_ms: u64) { unimplemented!() }
    /// Reads through this guard do not count as accesses (`CLIENT NO-TOUCH`).
    pub fn set_no_touch(&mut self, no_touch: bool) { unimplemented!() }
    pub fn db(&mut self, db: DbIndex) -> Db<'_> { unimplemented!() }
    pub fn holds(&self, slot: Slot) -> bool { unimplemented!() }

    pub fn watch(&mut self, slot: Slot, db: DbIndex, key: &[u8], flag: Arc<WatchFlag>) { unimplemented!() }
    pub fn unwatch(&mut self, slot: Slot, db: DbIndex, key: &[u8], flag: &Arc<WatchFlag>) { unimplemented!() }
    /// Marks every watcher of the key dirty; cheap when the slot has none.
    pub fn touch_watchers(&mut self, slot: Slot, db: DbIndex, key: &[u8]) { unimplemented!() }
    /// Log offset after the last write of the slot (0: none).
    pub fn write_offset(&mut self, slot: Slot) -> u64 { unimplemented!() }
    pub fn set_write_offset(&mut self, slot: Slot, offset: u64) { unimplemented!() }

    // Whole-keyspace methods: with the guard of lock_all under its locks, with that of lock_none slot by slot.
    pub fn len(&self, db: DbIndex) -> u64 { unimplemented!() }
    pub fn is_empty(&self, db: DbIndex) -> bool { unimplemented!() }
    pub fn flush(&mut self, db: Option<DbIndex>) -> Garbage { unimplemented!() }
    pub fn swap(&mut self, a: DbIndex, b: DbIndex) { unimplemented!() }
    /// Valkey's guarantees; 0 starts and ends; low 14 bits are the slot. Expired keys are not emitted.
    pub fn scan(&mut self, cursor: u64, db: DbIndex, count: usize, emit: &mut dyn FnMut(&[u8], Meta)) -> u64 { unimplemented!() }
    /// Same, but only one slot: 0 when that slot is done.
    pub fn scan_slot(&mut self, slot: Slot, cursor: u64, db: DbIndex, count: usize, emit: &mut dyn FnMut(&[u8], Meta)) -> u64 { unimplemented!() }
    pub fn keys_in_slot(&mut self, slot: Slot, db: DbIndex, max: usize) -> Vec<Box<[u8]>> { unimplemented!() }
    pub fn random_key(&mut self, db: DbIndex) -> Option<Box<[u8]>> { unimplemented!() }
    pub fn for_each(&mut self, db: DbIndex, visit: &mut dyn FnMut(&[u8], Meta)) { unimplemented!() }
}

impl Db<'_> {
    pub fn index(&self) -> DbIndex { unimplemented!() }
    /// The live value; counts as an access.
    pub fn get(&mut self, key: &[u8]) -> Option<ValueRef<'_>> { unimplemented!() }
    /// The live value; does not count as an access.
    pub fn peek(&mut self, key: &[u8]) -> Option<ValueRef<'_>> { unimplemented!() }
    pub fn contains(&mut self, key: &[u8]) -> bool { unimplemented!() }
    pub fn meta(&mut self, key: &[u8]) -> Option<Meta> { unimplemented!() }
    /// Physically there, but past due.
    pub fn is_expired(&mut self, key: &[u8]) -> bool { unimplemented!() }
    /// Counts as an access; false when the key is not live.
    pub fn touch(&mut self, key: &[u8]) -> bool { unimplemented!() }
    /// Sets the access clock (RESTORE IDLETIME / FREQ).
    pub fn set_idle(&mut self, key: &[u8], idle_s: u64) -> bool { unimplemented!() }
    pub fn set_freq(&mut self, key: &[u8], freq: u8) -> bool { unimplemented!() }
    /// Removes the key, live or past due.
    pub fn remove(&mut self, key: &[u8]) -> bool { unimplemented!() }
    pub fn set_str(&mut self, key: &[u8], value: &[u8], ttl: Ttl, hint: StrHint) -> SetOutcome { unimplemented!() }
    /// Stores an integer (INCR) ; same as set_str with its text.
    pub fn set_int(&mut self, key: &[u8], value: i64, ttl: Ttl) -> SetOutcome { unimplemented!() }
    /// Edits the string in place, made `raw` and zero-extended to `len_min` first; creates it when absent. TTL stays.
    /// The new length, or `None` when the key holds another type.
    pub fn edit_str(&mut self, key: &[u8], len_min: usize, edit: &mut dyn FnMut(&mut [u8])) -> Option<usize> { unimplemented!() }
    /// Appends; creates when absent. The new length, or `None` when the key holds another type.
    pub fn append(&mut self, key: &[u8], suffix: &[u8]) -> Option<usize> { unimplemented!() }
    /// `None`: no live key; `Some(None)`: no TTL.
    pub fn expire_at(&mut self, key: &[u8]) -> Option<Option<u64>> { unimplemented!() }
    /// False when there is no live key.
    pub fn set_expire(&mut self, key: &[u8], at_ms: Option<u64>) -> bool { unimplemented!() }
    /// Moves the value out (live or past due), O(1) for big ones; the key is gone.
    pub fn take_value(&mut self, key: &[u8]) -> Option<OwnedEntry> { unimplemented!() }
    /// Copies the live value (COPY).
    pub fn copy_value(&mut self, key: &[u8]) -> Option<OwnedEntry> { unimplemented!() }
    /// Stores an owned value with its TTL, replacing what is there.
    pub fn put_value(&mut self, key: &[u8], entry: OwnedEntry) -> SetOutcome { unimplemented!() }
}

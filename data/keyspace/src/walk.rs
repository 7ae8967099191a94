// SPDX-License-Identifier: BSD-3-Clause
//! The walk: all entries as they were at one instant, without a fork and without stopping writers.
//!
//! The cut flips the epoch under all locks. An entry of the old epoch has not been walked: whoever changes or removes it
//! first hands over a copy. The walk visits slot by slot and moves what it emits to the new epoch.
//! ```text
//! idle ── begin ──► walking ── all slots visited ──► idle
//!                      └─ flush, swapdb, drop ──► mixed epochs ── next begin evens them out ──► walking
//! ```
//! Not here: file formats, sockets. Called by snapshots and full syncs.

use crate::entry::Entry;
use crate::{DbIndex, Keyspace};
use pando_topology::{SLOT_COUNT, Slot};
use pando_values::{Value, ValueRef};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed, Ordering::Release};

const EPOCH: u8 = 1;
const ACTIVE: u8 = 2;
/// Entries that one hold of a slot's lock may cost.
const ENTRIES_PER_LOCK: usize = 256;

struct PreImage {
    db: DbIndex,
    key: Box<[u8]>,
    value: Value,
    expire_at: Option<u64>,
    access: u32,
}

/// What writers and the walk share. `flags` change only under all slot locks, and so are constant under any.
#[derive(Default)]
pub(crate) struct WalkShared {
    flags: AtomicU8,
    is_busy: AtomicBool,
    is_aborted: AtomicBool,
    /// A walk ended early: entries of both epochs are about.
    is_mixed: AtomicBool,
    pending: Mutex<Vec<PreImage>>,
    pending_bytes: AtomicUsize,
}

impl WalkShared {
    /// The epoch of new entries.
    #[inline]
    pub(crate) fn epoch(&self) -> bool {
        self.flags.load(Relaxed) & EPOCH != 0
    }

    /// Must be called before an entry is changed or removed; the slot is locked.
    #[inline]
    pub(crate) fn before_change(&self, db: DbIndex, entry: Entry) {
        let flags = self.flags.load(Relaxed);
        if flags & ACTIVE != 0 && entry.epoch() != (flags & EPOCH != 0) {
            self.hand_over(db, entry);
        }
    }

    #[cold]
    fn hand_over(&self, db: DbIndex, entry: Entry) {
        let image = PreImage {
            db,
            key: entry.key().into(),
            value: entry.value().to_value(entry.encoding()),
            expire_at: entry.expire_at(),
            access: entry.access(),
        };
        entry.set_epoch(self.epoch());
        self.pending_bytes.fetch_add(image.key.len() + image.value.heap_bytes() + size_of::<PreImage>(), Relaxed);
        self.pending.lock().push(image);
    }

    /// Ends a running walk; all slots are locked.
    pub(crate) fn abort(&self) {
        if self.flags.load(Relaxed) & ACTIVE != 0 {
            self.flags.fetch_and(!ACTIVE, Relaxed);
            self.is_mixed.store(true, Relaxed);
            self.is_aborted.store(true, Relaxed);
            self.pending.lock().clear();
            self.pending_bytes.store(0, Relaxed);
        }
    }
}

/// Another walk is running.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct WalkBusy;

impl std::fmt::Display for WalkBusy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("another walk over the keyspace is running")
    }
}

impl std::error::Error for WalkBusy {}

/// A key that a walk emits.
#[derive(Copy, Clone, Debug)]
pub struct Walked<'a> {
    /// The database.
    pub db: DbIndex,
    /// The key.
    pub key: &'a [u8],
    /// What it held at the cut.
    pub value: ValueRef<'a>,
    /// When it is due, in Unix milliseconds.
    pub expire_at: Option<u64>,
    /// Its access clock; see [`Keyspace::usage`].
    pub access: u32,
}

/// Receives what a walk emits. It runs under a slot's lock.
pub type WalkSink<'s> = dyn FnMut(Walked<'_>) + 's;

/// A walk over all databases as of its cut.
pub struct Walk {
    shared: Arc<WalkShared>,
    slot: usize,
    db: DbIndex,
    cursor: u32,
    is_done: bool,
}

impl Keyspace {
    /// What an access clock says: seconds without access under LRU, the counter of accesses under LFU.
    pub fn usage(&self, access: u32, now_ms: u64) -> (u64, u8) {
        let policy = self.policy();
        (policy.idle_s(access, now_ms), policy.freq(access, now_ms))
    }

    /// Cuts: locks all slots for an instant, runs `at_cut`, and starts a walk over what is there. After a walk that ended
    /// early this first goes over all entries once, slot by slot.
    pub fn begin_walk(&self, at_cut: &mut dyn FnMut()) -> Result<Walk, WalkBusy> {
        let shared = &self.walk;
        if shared.is_busy.swap(true, AcqRel) {
            return Err(WalkBusy);
        }
        if shared.is_mixed.swap(false, Relaxed) {
            self.even_out();
        }
        let guard = self.lock_all();
        shared.flags.fetch_xor(EPOCH, Relaxed);
        shared.flags.fetch_or(ACTIVE, Relaxed);
        shared.is_aborted.store(false, Relaxed);
        shared.pending.lock().clear();
        shared.pending_bytes.store(0, Relaxed);
        at_cut();
        drop(guard);
        Ok(Walk { shared: Arc::clone(shared), slot: 0, db: 0, cursor: 0, is_done: false })
    }

    fn even_out(&self) {
        for db in 0..self.databases() {
            for slot in Slot::all().filter(|slot| self.count(slot.index(), db) != 0) {
                let mut cursor = 0;
                loop {
                    let epoch = self.walk.epoch();
                    self.lock_none().with_slot(slot, |data| {
                        let Some(data) = data.db(db) else { return };
                        for _ in 0..ENTRIES_PER_LOCK / 8 {
                            cursor = data.table.scan(cursor, &mut |entry| entry.set_epoch(epoch));
                            if cursor == 0 {
                                break;
                            }
                        }
                    });
                    if cursor == 0 {
                        break;
                    }
                }
            }
        }
    }
}

impl Walk {
    /// Emits entries of about `budget_bytes`; true when all are out (or the walk was aborted: ask `is_aborted`). Each
    /// entry that was there at the cut is emitted once, as it was then, also if it is past due.
    pub fn step(&mut self, keyspace: &Keyspace, budget_bytes: usize, sink: &mut WalkSink<'_>) -> bool {
        let mut emitted = self.drain(sink);
        while !self.is_done && emitted < budget_bytes {
            if self.is_aborted() {
                self.is_done = true;
                break;
            }
            if self.slot == SLOT_COUNT {
                // Every entry is of the new epoch now, so nobody hands over any more.
                keyspace.lock_all().keyspace().walk.flags.fetch_and(!ACTIVE, Relaxed);
                self.drain(sink);
                self.is_done = true;
                break;
            }
            emitted += self.visit(keyspace, budget_bytes - emitted, sink);
        }
        self.is_done
    }

    fn drain(&mut self, sink: &mut WalkSink<'_>) -> usize {
        let images = std::mem::take(&mut *self.shared.pending.lock());
        let mut bytes = 0;
        for image in images {
            bytes += image.key.len() + image.value.heap_bytes() + size_of::<PreImage>();
            let PreImage { db, key, value, expire_at, access } = &image;
            sink(Walked { db: *db, key, value: value.as_ref(), expire_at: *expire_at, access: *access });
        }
        if bytes != 0 {
            let _ = self.shared.pending_bytes.fetch_update(Relaxed, Relaxed, |all| Some(all.saturating_sub(bytes)));
        }
        bytes
    }

    /// Works on the current slot under its lock for a bounded time.
    fn visit(&mut self, keyspace: &Keyspace, budget: usize, sink: &mut WalkSink<'_>) -> usize {
        let (mut emitted, mut entries) = (0, 0);
        let Some(slot) = Slot::new(self.slot as u16) else { return 0 };
        let mut guard = keyspace.lock_one(slot);
        let data = guard.state.data(keyspace, self.slot);
        // Set under all locks, so this lock's holder sees it.
        if self.shared.is_aborted.load(Relaxed) {
            return 0;
        }
        let epoch = self.shared.epoch();
        while entries < ENTRIES_PER_LOCK && emitted < budget {
            if let Some(of_db) = data.db(self.db) {
                let db = self.db;
                self.cursor = of_db.table.scan(self.cursor, &mut |entry| {
                    entries += 1;
                    if entry.epoch() != epoch {
                        entry.set_epoch(epoch);
                        emitted += entry.bytes();
                        let (key, value, expire_at) = (entry.key(), entry.value(), entry.expire_at());
                        sink(Walked { db, key, value, expire_at, access: entry.access() });
                    }
                });
            }
            if self.cursor == 0 {
                match data.dbs().map(|(db, _)| db).filter(|db| *db > self.db).min() {
                    Some(next) => self.db = next,
                    None => {
                        self.db = 0;
                        self.slot += 1;
                        break;
                    }
                }
            }
        }
        emitted
    }

    /// Whether a flush or an exchange of databases ended the walk.
    pub fn is_aborted(&self) -> bool {
        self.shared.is_aborted.load(Relaxed)
    }

    /// Bytes of old values that wait to be emitted.
    pub fn pending_bytes(&self) -> usize {
        self.shared.pending_bytes.load(Relaxed)
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if !self.is_done && !self.is_aborted() {
            // Writers that have yet to see this hand over a few more copies, which the next walk must not emit; see
            // `begin_walk`, which clears them under all locks.
            self.shared.flags.fetch_and(!ACTIVE, Relaxed);
            self.shared.is_mixed.store(true, Relaxed);
        }
        // Release: the next walk must see what this one left.
        self.shared.is_busy.store(false, Release);
    }
}

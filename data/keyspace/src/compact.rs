// SPDX-License-Identifier: BSD-3-Clause
//! Compaction, slot by slot: entries move out of sparse pages of the slab, and what they and their tables have on the heap
//! moves out of memory that the caller calls sparse, so that the pages go back to the system.
//!
//! Not here: when and how fast (the server's cron), the pages (`slab`), the allocator. One compaction at a time, on one
//! thread, whose fresh allocations should not come from what it just freed.

use crate::DbIndex;
use crate::keyspace::Keyspace;
use crate::table::hash_key;
use pando_slab as slab;
use pando_topology::{SLOT_COUNT, Slot};
use pando_values::Mover;

/// Entries and allocations that one hold of a slot's lock may look at.
const STEPS_PER_LOCK: usize = 64;
/// Allocations of a collection that are looked at together with its neighbours in the table.
const STEPS_PER_ENTRY: usize = 8;

/// A collection with more to look at.
struct Unfinished {
    slot: usize,
    db: DbIndex,
    key: Box<[u8]>,
    part: usize,
}

/// One pass over all entries. Dropping it ends it early.
pub struct Compaction {
    slot: usize,
    db: DbIndex,
    cursor: u32,
    unfinished: Vec<Unfinished>,
    /// Entries and allocations that were moved.
    pub moved: u64,
    /// Those that stayed.
    pub kept: u64,
}

impl Keyspace {
    /// Starts a pass. Entries themselves are moved in classes that have more than `slack_percent` more pages than they
    /// need; `None` when there is no such class, unless something else is to be moved.
    pub fn begin_compaction(&self, slack_percent: usize, heap_is_sparse: bool) -> Option<Compaction> {
        let pages = slab::begin_compaction(slack_percent);
        let start = Compaction { slot: 0, db: 0, cursor: 0, unfinished: Vec::new(), moved: 0, kept: 0 };
        (pages > 0 || heap_is_sparse).then_some(start)
    }
}

impl Compaction {
    /// Looks at about `budget` entries and allocations; true when all were looked at. `is_sparse` tells for the address
    /// of an allocation whether it should be moved.
    pub fn step(&mut self, keyspace: &Keyspace, budget: usize, is_sparse: &mut dyn FnMut(*const u8) -> bool) -> bool {
        let end = self.moved + self.kept + budget as u64;
        while self.moved + self.kept < end {
            if let Some(unfinished) = self.unfinished.pop() {
                self.resume(keyspace, unfinished, is_sparse);
                continue;
            }
            if self.slot == SLOT_COUNT {
                break;
            }
            if keyspace.count(self.slot, self.db) == 0 {
                self.cursor = 0;
            } else {
                self.visit(keyspace, is_sparse);
            }
            if self.cursor == 0 {
                self.db += 1;
                if self.db >= keyspace.databases() {
                    (self.db, self.slot) = (0, self.slot + 1);
                }
            }
        }
        self.slot == SLOT_COUNT && self.unfinished.is_empty()
    }

    /// Looks at some entries of the slot at hand.
    fn visit(&mut self, keyspace: &Keyspace, is_sparse: &mut dyn FnMut(*const u8) -> bool) {
        let Some(slot) = Slot::new(self.slot as u16) else { return };
        let mut guard = keyspace.lock_one(slot);
        let data = guard.state.data(keyspace, self.slot);
        if self.cursor == 0 {
            // Buckets that move have another address, which others have hints of.
            data.is_dirty = true;
            let mut mover = Mover::new(is_sparse, STEPS_PER_LOCK);
            data.db_mut(self.db).table.relocate_buckets(&mut mover);
            self.count(&mover);
        }
        let table = &mut data.db_mut(self.db).table;
        let start = self.moved + self.kept;
        while self.moved + self.kept - start < STEPS_PER_LOCK as u64 {
            self.cursor = table.relocate(self.cursor, &mut |entry| {
                let moved = entry.relocate();
                if moved.is_some() {
                    self.moved += 1;
                } else {
                    self.kept += 1;
                }
                let entry = moved.unwrap_or(entry);
                let mut mover = Mover::new(is_sparse, STEPS_PER_ENTRY);
                // SAFETY: the slot is locked, and nothing of the entry is borrowed.
                let part = unsafe { entry.relocate_heap(0, &mut mover) };
                self.moved += mover.moved;
                self.kept += mover.kept;
                if part != 0 {
                    self.unfinished.push(Unfinished { slot: self.slot, db: self.db, key: entry.key().into(), part });
                }
                moved
            });
            if self.cursor == 0 {
                break;
            }
        }
    }

    /// Goes on with a collection, if it is still there.
    fn resume(&mut self, keyspace: &Keyspace, mut at: Unfinished, is_sparse: &mut dyn FnMut(*const u8) -> bool) {
        let Some(slot) = Slot::new(at.slot as u16) else { return };
        let mut guard = keyspace.lock_one(slot);
        let table = &mut guard.state.data(keyspace, at.slot).db_mut(at.db).table;
        let Some(place) = table.find(hash_key(&at.key), &at.key) else { return };
        let mut mover = Mover::new(is_sparse, STEPS_PER_LOCK);
        // SAFETY: the slot is locked, and nothing of the entry is borrowed.
        at.part = unsafe { table.entry(place).relocate_heap(at.part, &mut mover) };
        self.count(&mover);
        if at.part != 0 {
            self.unfinished.push(at);
        }
    }

    fn count(&mut self, mover: &Mover<'_>) {
        self.moved += mover.moved;
        self.kept += mover.kept;
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        slab::end_compaction();
    }
}

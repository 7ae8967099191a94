// SPDX-License-Identifier: BSD-3-Clause
//! Compaction: entries move out of sparse pages of the slab, slot by slot, so that the pages go back to the system.
//!
//! Not here: when and how fast (the server's cron), the pages (`slab`). One compaction at a time, on one thread.

use crate::DbIndex;
use crate::keyspace::Keyspace;
use pando_slab as slab;
use pando_topology::{SLOT_COUNT, Slot};

/// Entries that one hold of a slot's lock may look at.
const ENTRIES_PER_LOCK: usize = 64;

/// One pass over all entries. Dropping it ends it early.
pub struct Compaction {
    slot: usize,
    db: DbIndex,
    cursor: u32,
    /// Entries that were moved.
    pub moved: u64,
    /// Entries that stayed.
    pub kept: u64,
}

impl Keyspace {
    /// Starts a pass; `None` when no class of entries has more than `slack_percent` more pages than it needs.
    pub fn begin_compaction(&self, slack_percent: usize) -> Option<Compaction> {
        let pages = slab::begin_compaction(slack_percent);
        (pages > 0).then_some(Compaction { slot: 0, db: 0, cursor: 0, moved: 0, kept: 0 })
    }
}

impl Compaction {
    /// Looks at about `budget` entries; true when all were looked at.
    pub fn step(&mut self, keyspace: &Keyspace, budget: usize) -> bool {
        let end = self.moved + self.kept + budget as u64;
        while self.moved + self.kept < end && self.slot < SLOT_COUNT {
            if keyspace.count(self.slot, self.db) == 0 {
                self.cursor = 0;
            } else {
                self.visit(keyspace);
            }
            if self.cursor == 0 {
                self.db += 1;
                if self.db >= keyspace.databases() {
                    (self.db, self.slot) = (0, self.slot + 1);
                }
            }
        }
        self.slot == SLOT_COUNT
    }

    fn visit(&mut self, keyspace: &Keyspace) {
        let Some(slot) = Slot::new(self.slot as u16) else { return };
        let mut guard = keyspace.lock_one(slot);
        let table = &mut guard.state.data(keyspace, self.slot).db_mut(self.db).table;
        let mut seen = 0;
        while seen < ENTRIES_PER_LOCK {
            self.cursor = table.relocate(self.cursor, &mut |entry| {
                seen += 1;
                let moved = entry.relocate();
                if moved.is_some() {
                    self.moved += 1
                } else {
                    self.kept += 1
                }
                moved
            });
            if self.cursor == 0 {
                break;
            }
        }
    }
}

impl Drop for Compaction {
    fn drop(&mut self) {
        slab::end_compaction();
    }
}

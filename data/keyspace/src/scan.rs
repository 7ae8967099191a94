// SPDX-License-Identifier: BSD-3-Clause
//! Going through keys: cursors, all keys of a slot, a random key, active expiry.
//!
//! A cursor's low 14 bits are the slot, the others the table's own cursor. Not here: patterns and types (`SCAN`'s
//! options). Called by the commands and, for expiry, by a background thread.

use crate::clock::random;
use crate::db::meta_of;
use crate::entry::Entry;
use crate::expiry::Record;
use crate::keyspace::Keyspace;
use crate::locked::LockedSlots;
use crate::table::hash_key;
use crate::{DbIndex, ExpireStep, Meta};
use pando_topology::{SLOT_COUNT, Slot};
use std::sync::atomic::Ordering::Relaxed;

const SLOT_BITS: u32 = 14;
/// Entries that one hold of a slot's lock may remove for expiry.
const EXPIRED_PER_LOCK: usize = 64;

/// What expired.
#[derive(Copy, Clone, Debug)]
pub enum Expired<'a> {
    /// A key.
    Key(&'a [u8]),
    /// Fields of a hash.
    Fields {
        /// The hash.
        key: &'a [u8],
        /// Names of the fields.
        names: &'a [Box<[u8]>],
        /// No field is left, so the key is gone too.
        is_key_removed: bool,
    },
}

/// Told of what expired, after it is gone, under its slot's lock.
pub type ExpiredSink<'s> = dyn FnMut(Slot, DbIndex, Expired<'_>, &mut LockedSlots<'_>) + 's;

impl LockedSlots<'_> {
    /// Emits keys, past-due ones too, about `count` of them, and returns the next cursor; zero starts and ends. Every key
    /// that is there from start to end is emitted at least once. With all slots held, or slot by slot when locking on
    /// demand.
    pub fn scan(&mut self, cursor: u64, db: DbIndex, count: usize, emit: &mut dyn FnMut(&[u8], Meta)) -> u64 {
        let mut slot = (cursor & ((1 << SLOT_BITS) - 1)) as usize;
        let mut within = cursor >> SLOT_BITS;
        let mut emitted = 0;
        loop {
            if let Some(number) = Slot::new(slot as u16)
                && (self.keyspace.count(slot, db) != 0 || self.holds(number))
            {
                within =
                    self.scan_all_of(number, within, db, count.saturating_sub(emitted).max(1), &mut |key, meta| {
                        emitted += 1;
                        emit(key, meta);
                    });
            } else {
                within = 0;
            }
            if within == 0 {
                slot += 1;
                if slot == SLOT_COUNT {
                    return 0;
                }
            }
            if emitted >= count.max(1) {
                return within << SLOT_BITS | slot as u64;
            }
        }
    }

    /// As `scan`, within one slot, with a cursor of its own, and live keys only.
    pub fn scan_slot(
        &mut self,
        slot: Slot,
        cursor: u64,
        db: DbIndex,
        count: usize,
        emit: &mut dyn FnMut(&[u8], Meta),
    ) -> u64 {
        let now_ms = self.state.now_ms;
        self.scan_all_of(slot, cursor, db, count, &mut |key, meta| {
            if !meta.is_due(now_ms) {
                emit(key, meta);
            }
        })
    }

    fn scan_all_of(
        &mut self,
        slot: Slot,
        cursor: u64,
        db: DbIndex,
        count: usize,
        emit: &mut dyn FnMut(&[u8], Meta),
    ) -> u64 {
        let (keyspace, now_ms) = (self.keyspace, self.state.now_ms);
        self.with_slot(slot, |data| {
            let Some(data) = data.db(db) else { return 0 };
            let (mut seen, mut cursor) = (0, cursor as u32);
            loop {
                cursor = data.table.scan(cursor, &mut |entry| {
                    seen += 1;
                    emit(entry.key(), meta_of(keyspace, entry, now_ms));
                });
                if cursor == 0 || seen >= count {
                    return u64::from(cursor);
                }
            }
        })
    }

    /// Up to `max` keys of one slot, past-due ones included.
    pub fn keys_in_slot(&mut self, slot: Slot, db: DbIndex, max: usize) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        self.with_slot(slot, |data| {
            let Some(data) = data.db(db) else { return };
            let mut cursor = 0;
            while keys.len() < max {
                cursor = data.table.scan(cursor, &mut |entry| {
                    if keys.len() < max {
                        keys.push(entry.key().into());
                    }
                });
                if cursor == 0 {
                    break;
                }
            }
        });
        keys
    }

    /// A live key, each about as likely as any other. `None` when there is none, or only past-due ones were met; those are
    /// added to `past_due`.
    pub fn random_key(&mut self, db: DbIndex, past_due: &mut Vec<Box<[u8]>>) -> Option<Box<[u8]>> {
        let now_ms = self.state.now_ms;
        for _ in 0..100 {
            let all = self.keyspace.len(db);
            if all == 0 {
                return None;
            }
            let mut rest = random() % all;
            for slot in Slot::all() {
                let count = u64::from(self.keyspace.count(slot.index(), db));
                if rest >= count {
                    rest -= count;
                    continue;
                }
                let met = self.with_slot(slot, |data| {
                    let entry = data.db(db)?.table.random(random())?;
                    Some((Box::from(entry.key()), entry.is_due(now_ms)))
                });
                match met {
                    Some((key, false)) => return Some(key),
                    Some((key, true)) => past_due.push(key),
                    None => {}
                }
                break;
            }
        }
        None
    }

    /// Visits all live keys, slot by slot. Each slot is locked as long as it takes.
    pub fn for_each(&mut self, db: DbIndex, visit: &mut dyn FnMut(&[u8], Meta)) {
        for slot in Slot::all() {
            if self.holds(slot) || self.keyspace.count(slot.index(), db) != 0 {
                self.scan_slot(slot, 0, db, usize::MAX, visit);
            }
        }
    }
}

impl Keyspace {
    /// Removes keys and fields that are past due, and does the upkeep of expire buckets, `budget` records at most. `deleted` is told
    /// of each. Ends as soon as `may_go_on`, which is asked under each lock before anything is removed, says no.
    pub fn expire_step(
        &self,
        now_ms: u64,
        budget: usize,
        may_go_on: &dyn Fn() -> bool,
        deleted: &mut ExpiredSink<'_>,
    ) -> ExpireStep {
        let mut step = ExpireStep::default();
        let mut left = budget;
        let first = self.expire_from.load(Relaxed);
        for number in (first..SLOT_COUNT).chain(0..first) {
            let Some(slot) = Slot::new(number as u16) else { continue };
            if left == 0 {
                // The next step goes on from here, so that no slot waits for all the others.
                self.expire_from.store(number, Relaxed);
                step.has_more = true;
                break;
            }
            while left > 0 && self.due_ms(slot.index()) <= now_ms {
                let mut guard = self.lock_one(slot);
                if !may_go_on() {
                    return step;
                }
                guard.set_now(now_ms);
                let worked = expire_in(&mut guard, slot, left.min(EXPIRED_PER_LOCK), &mut step, deleted);
                guard.state.data(self, slot.index()).is_dirty = true;
                left = left.saturating_sub(worked.max(1));
            }
        }
        step.has_more |= left == 0;
        step
    }
}

fn expire_in(
    guard: &mut LockedSlots<'_>,
    slot: Slot,
    budget: usize,
    step: &mut ExpireStep,
    deleted: &mut ExpiredSink<'_>,
) -> usize {
    let (keyspace, now_ms) = (guard.keyspace, guard.state.now_ms);
    let dbs: Vec<DbIndex> = guard.state.data(keyspace, slot.index()).dbs().map(|(db, _)| db).collect();
    let mut worked = 0;
    for db in dbs {
        while worked < budget {
            let data = guard.state.data(keyspace, slot.index()).db_mut(db);
            let Some(record) = data.expiry_and_table().and_then(|(expiry, _)| expiry.pop(now_ms)) else { break };
            worked += 1;
            // More than one: a second key with the same tag may be past due as well.
            loop {
                let table = &guard.state.data(keyspace, slot.index()).db_mut(db).table;
                let Some(place) = table.find_by(record.hash, |entry| entry.is_due(now_ms)) else { break };
                let entry = table.entry(place);
                let lag_ms = entry.expire_at().map_or(0, |due| now_ms.saturating_sub(due));
                let key: Box<[u8]> = entry.key().into();
                guard.db(db).remove(&key);
                step.expired += 1;
                step.lag_max_ms = step.lag_max_ms.max(lag_ms);
                step.lag_sum_ms += lag_ms;
                worked += 1;
                // Whoever is told of the deletion finds it counted.
                keyspace.publish(slot.index(), guard.state.data(keyspace, slot.index()));
                deleted(slot, db, Expired::Key(&key), guard);
            }
            worked += expire_fields_in(guard, (slot, db), record, budget.saturating_sub(worked).max(1), step, deleted);
            let data = guard.state.data(keyspace, slot.index()).db_mut(db);
            if let Some((expiry, table)) = data.expiry_and_table() {
                expiry.keep(record, now_ms, table);
            }
        }
    }
    worked
}

/// Removes fields of hashes with the record's hash that are past due, `budget` at most.
fn expire_fields_in(
    guard: &mut LockedSlots<'_>,
    (slot, db): (Slot, DbIndex),
    record: Record,
    budget: usize,
    step: &mut ExpireStep,
    deleted: &mut ExpiredSink<'_>,
) -> usize {
    let (keyspace, now_ms) = (guard.keyspace, guard.state.now_ms);
    let mut worked = 0;
    while worked < budget {
        let data = guard.state.data(keyspace, slot.index()).db_mut(db);
        if data.with_volatile_fields == 0 {
            break;
        }
        let is_due = |entry: Entry| entry.field_due().is_some_and(|due| due <= now_ms);
        let Some(place) = data.table.find_by(record.hash, is_due) else { break };
        let key: Box<[u8]> = data.table.entry(place).key().into();
        let expired = guard.db(db).expire_fields(&key, budget - worked);
        worked += expired.names.len().max(1);
        step.expired_fields += expired.names.len();
        step.lag_max_ms = step.lag_max_ms.max(expired.lag_ms);
        step.lag_sum_ms += expired.lag_ms;
        let data = guard.state.data(keyspace, slot.index()).db_mut(db);
        if let Some(due) = expired.next_due_ms
            && !record.serves(due, now_ms)
        {
            data.add_record(hash_key(&key), due, None, now_ms);
        }
        keyspace.publish(slot.index(), guard.state.data(keyspace, slot.index()));
        deleted(
            slot,
            db,
            Expired::Fields { key: &key, names: &expired.names, is_key_removed: expired.is_emptied },
            guard,
        );
    }
    worked
}

// SPDX-License-Identifier: BSD-3-Clause
//! `LockedSlots`: the slots that a command holds, and what may be done with them.
//!
//! Lock order: several slots in ascending order under the shared side of `multi`; who locks as it goes has its exclusive
//! side, so that everyone else holds at most one slot and waits for none. Not here: keys (`db`), cursors (`scan`).

use crate::entry::Entry;
use crate::keyspace::Keyspace;
use crate::slot::{DbData, SlotData};
use crate::watch::{WatchFlag, Watcher};
use crate::{Db, DbIndex, HashedKey, entry, table::hash_key};
use pando_topology::{SLOT_COUNT, Slot};
use pando_values::Value;
use parking_lot::lock_api::RawRwLock as _;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

enum Held {
    One(u16),
    Some(SmallVec<[u16; 8]>),
    All,
    OnDemand(SmallVec<[u16; 8]>),
}

/// What is held, without the keyspace that it belongs to.
pub(crate) struct State {
    held: Held,
    pub(crate) now_ms: u64,
    pub(crate) no_touch: bool,
    hashed: HashedKey,
    /// Values that are freed after the slots are released.
    pub(crate) garbage: Vec<Garbage>,
    /// Slots with awaited keys that changed under this guard: see `blocked`.
    pub(crate) ready: VecDeque<u16>,
}

impl State {
    /// Frees an entry that no table holds any more; a large one later.
    #[inline]
    pub(crate) fn dispose(&mut self, entry: Entry) {
        if entry.is_heavy() {
            self.garbage.push(Garbage::of_value(entry.into_value()));
        } else {
            entry.free();
        }
    }
}

/// Slots that are locked until this is dropped.
pub struct LockedSlots<'a> {
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) state: State,
}

impl State {
    /// The slot's data; on demand it is locked first. Panics when the slot is neither held nor to be had on demand.
    #[inline]
    pub(crate) fn data<'s>(&'s mut self, keyspace: &'s Keyspace, slot: usize) -> &'s mut SlotData {
        match &mut self.held {
            Held::One(held) => assert_eq!(usize::from(*held), slot, "the slot is not locked"),
            Held::Some(held) => assert!(held.binary_search(&(slot as u16)).is_ok(), "the slot is not locked"),
            Held::All => {}
            Held::OnDemand(held) => {
                if !held.contains(&(slot as u16)) {
                    if held.is_empty() {
                        keyspace.multi.lock_exclusive();
                    }
                    keyspace.slots[slot].lock();
                    held.push(slot as u16);
                }
            }
        }
        // SAFETY: the lock is held as checked above, by this state, which is borrowed for the result's lifetime.
        unsafe { keyspace.slots[slot].data() }
    }

    #[inline]
    pub(crate) fn hash_of(&self, key: &[u8]) -> u32 {
        self.hashed.hash_of(key)
    }

    /// The slot of a key, without computing it when only one is held.
    #[inline]
    pub(crate) fn slot_of(&self, key: &[u8]) -> usize {
        match self.held {
            Held::One(slot) => {
                debug_assert_eq!(usize::from(slot), Slot::of_key(key).index(), "the key is of another slot");
                usize::from(slot)
            }
            _ => Slot::of_key(key).index(),
        }
    }
}

impl<'a> LockedSlots<'a> {
    fn new(keyspace: &'a Keyspace, held: Held) -> Self {
        Self {
            keyspace,
            state: State {
                held,
                now_ms: 0,
                no_touch: false,
                hashed: HashedKey::NONE,
                garbage: Vec::new(),
                ready: VecDeque::new(),
            },
        }
    }

    #[inline]
    pub(crate) fn one(keyspace: &'a Keyspace, slot: Slot) -> Self {
        keyspace.slots[slot.index()].lock();
        Self::new(keyspace, Held::One(slot.number()))
    }

    pub(crate) fn some(keyspace: &'a Keyspace, slots: &[Slot]) -> Self {
        if let [slot] = slots {
            return Self::one(keyspace, *slot);
        }
        assert!(slots.is_sorted_by(|a, b| a < b), "slots are locked in ascending order");
        keyspace.multi.lock_shared();
        slots.iter().for_each(|slot| keyspace.slots[slot.index()].lock());
        Self::new(keyspace, Held::Some(slots.iter().map(|slot| slot.number()).collect()))
    }

    pub(crate) fn all(keyspace: &'a Keyspace) -> Self {
        keyspace.multi.lock_exclusive();
        for (number, cell) in keyspace.slots.iter().enumerate() {
            if let Some(ahead) = keyspace.slots.get(number + 16) {
                entry::prefetch(ahead);
            }
            cell.lock();
        }
        Self::new(keyspace, Held::All)
    }

    pub(crate) fn none(keyspace: &'a Keyspace) -> Self {
        Self::new(keyspace, Held::OnDemand(SmallVec::new()))
    }

    /// Locks what is missing, where that cannot deadlock: with everything or with slots on demand.
    pub(crate) fn hold_all(&mut self) {
        match &self.state.held {
            Held::All => {}
            Held::OnDemand(held) => {
                if held.is_empty() {
                    self.keyspace.multi.lock_exclusive();
                }
                for (number, cell) in self.keyspace.slots.iter().enumerate() {
                    if !held.contains(&(number as u16)) {
                        cell.lock();
                    }
                }
                self.state.held = Held::All;
            }
            Held::One(_) | Held::Some(_) => panic!("a command on the whole keyspace needs all slots or none"),
        }
    }

    /// The keyspace that the slots belong to.
    pub fn keyspace(&self) -> &'a Keyspace {
        self.keyspace
    }

    /// The time that decides which keys are live.
    pub fn now_ms(&self) -> u64 {
        self.state.now_ms
    }

    /// Sets the time that decides which keys are live. Without it no key is past due.
    pub fn set_now(&mut self, now_ms: u64) {
        self.state.now_ms = now_ms;
    }

    /// Tells what was computed of a key of the command already.
    #[inline]
    pub fn set_hashed(&mut self, key: HashedKey) {
        self.state.hashed = key;
    }

    /// Whether reads through this guard leave the access clocks alone (`CLIENT NO-TOUCH`).
    pub fn set_no_touch(&mut self, no_touch: bool) {
        self.state.no_touch = no_touch;
    }

    /// One database in the held slots.
    #[inline]
    pub fn db(&mut self, db: DbIndex) -> Db<'_> {
        Db { keyspace: self.keyspace, state: &mut self.state, db }
    }

    /// Whether the slot is locked by this guard.
    pub fn holds(&self, slot: Slot) -> bool {
        match &self.state.held {
            Held::One(held) => *held == slot.number(),
            Held::Some(held) | Held::OnDemand(held) => held.contains(&slot.number()),
            Held::All => true,
        }
    }

    /// Runs `work` on a slot that is held, or locks it for that long.
    pub(crate) fn with_slot<R>(&mut self, slot: Slot, work: impl FnOnce(&mut SlotData) -> R) -> R {
        if self.holds(slot) {
            return work(self.state.data(self.keyspace, slot.index()));
        }
        assert!(matches!(self.state.held, Held::OnDemand(_)), "the slot is not locked");
        let mut other = Self::one(self.keyspace, slot);
        work(other.state.data(self.keyspace, slot.index()))
    }

    /// Has `flag` touched when the key changes.
    pub fn watch(&mut self, slot: Slot, db: DbIndex, key: &[u8], flag: Arc<WatchFlag>) {
        let was_expired = self.db(db).is_expired(key);
        let data = self.state.data(self.keyspace, slot.index());
        let of_slot = data.watchers.get_or_insert_default();
        of_slot.0.entry(key.into()).or_default().push(Watcher { db, flag, was_expired });
    }

    /// Undoes `watch`.
    pub fn unwatch(&mut self, slot: Slot, db: DbIndex, key: &[u8], flag: &Arc<WatchFlag>) {
        let data = self.state.data(self.keyspace, slot.index());
        if let Some(watchers) = &mut data.watchers {
            if let Some(of_key) = watchers.0.get_mut(key) {
                of_key.retain(|watcher| !(watcher.db == db && Arc::ptr_eq(&watcher.flag, flag)));
                if of_key.is_empty() {
                    watchers.0.remove(key);
                }
            }
            if watchers.0.is_empty() {
                data.watchers = None;
            }
        }
    }

    /// Marks every watcher of the key dirty. A key that was past due when watched and is merely gone now did not change.
    #[inline]
    pub fn touch_watchers(&mut self, slot: Slot, db: DbIndex, key: &[u8]) {
        let data = self.state.data(self.keyspace, slot.index());
        let Some(mut watchers) = data.watchers.take() else { return };
        if let Some(of_key) = watchers.0.get_mut(key) {
            let is_there = data.db(db).is_some_and(|of_db| of_db.table.find(hash_key(key), key).is_some());
            for watcher in of_key.iter_mut().filter(|watcher| watcher.db == db) {
                if std::mem::take(&mut watcher.was_expired) && !is_there {
                    continue;
                }
                watcher.flag.touch();
            }
        }
        data.watchers = Some(watchers);
    }

    /// The offset that was last set for the slot.
    pub fn write_offset(&mut self, slot: Slot) -> u64 {
        self.state.data(self.keyspace, slot.index()).write_offset
    }

    /// Remembers the log's offset after the slot's last write.
    pub fn set_write_offset(&mut self, slot: Slot, offset: u64) {
        self.state.data(self.keyspace, slot.index()).write_offset = offset;
    }

    /// Counts what a command did in the slot.
    pub fn add_usage(&mut self, slot: Slot, more: crate::SlotUsage) {
        let usage = &mut self.state.data(self.keyspace, slot.index()).usage;
        usage.cpu_us += more.cpu_us;
        usage.bytes_in += more.bytes_in;
        usage.bytes_out += more.bytes_out;
    }

    /// Keys in the database; exact when all slots are held.
    pub fn len(&mut self, db: DbIndex) -> u64 {
        let keyspace = self.keyspace;
        match self.state.held {
            Held::All => (0..SLOT_COUNT)
                .map(|slot| self.state.data(keyspace, slot).db(db).map_or(0, |of_db| of_db.table.len() as u64))
                .sum(),
            _ => keyspace.len(db),
        }
    }

    /// Whether the database has no keys.
    pub fn is_empty(&mut self, db: DbIndex) -> bool {
        self.len(db) == 0
    }

    /// Empties one database or all; locks all slots. Aborts a walk; touches the watchers of keys that were there.
    pub fn flush(&mut self, db: Option<DbIndex>) -> Garbage {
        self.hold_all();
        self.keyspace.walk.abort();
        let mut garbage = Garbage { keys: 0, tables: Vec::new(), value: None };
        for slot in 0..SLOT_COUNT {
            let data = self.state.data(self.keyspace, slot);
            touch_all(data, db);
            let data = self.state.data(self.keyspace, slot);
            data.is_dirty = true;
            let mut take = |of_db: &mut DbData| {
                garbage.keys += of_db.table.len() as u64;
                if of_db.table.len() != 0 {
                    garbage.tables.push(std::mem::take(of_db));
                }
            };
            if db.is_none_or(|db| db == 0) {
                take(&mut data.db0);
            }
            for (index, of_db) in &mut data.others {
                if db.is_none_or(|db| db == *index) {
                    take(of_db);
                }
            }
            let noted =
                data.blocked.as_deref_mut().map_or(0, |blocked| blocked.note_all(|it| db.is_none_or(|db| db == it)));
            self.state.ready.extend(std::iter::repeat_n(slot as u16, noted));
        }
        garbage
    }

    /// Exchanges two databases; locks all slots. Aborts a walk; touches the watchers of keys that are in either.
    pub fn swap(&mut self, a: DbIndex, b: DbIndex) {
        if a == b {
            return;
        }
        self.hold_all();
        self.keyspace.walk.abort();
        let now_ms = self.state.now_ms;
        for slot in 0..SLOT_COUNT {
            let data = self.state.data(self.keyspace, slot);
            touch_swapped(data, a, b, now_ms);
            if data.dbs().all(|(db, of_db)| (db != a && db != b) || of_db.table.len() == 0) {
                continue;
            }
            let of_a = std::mem::take(data.db_mut(a));
            let of_b = std::mem::replace(data.db_mut(b), of_a);
            *data.db_mut(a) = of_b;
            data.is_dirty = true;
            let noted = data.blocked.as_deref_mut().map_or(0, |blocked| blocked.note_all(|db| db == a || db == b));
            self.state.ready.extend(std::iter::repeat_n(slot as u16, noted));
        }
    }
}

fn is_live_change(of_db: Option<&DbData>, key: &[u8], watcher: &Watcher) -> bool {
    !watcher.was_expired && of_db.is_some_and(|data| data.table.find(hash_key(key), key).is_some())
}

/// A key that was there, or is afterwards, changed. A past-due one that comes where none was is no change, nor is it one
/// when it goes.
fn touch_swapped(data: &mut SlotData, a: DbIndex, b: DbIndex, now_ms: u64) {
    let Some(mut watchers) = data.watchers.take() else { return };
    for (key, of_key) in &mut watchers.0 {
        for watcher in of_key.iter_mut().filter(|watcher| watcher.db == a || watcher.db == b) {
            let other = if watcher.db == a { b } else { a };
            let met = data.db(other).and_then(|of_db| {
                let place = of_db.table.find(hash_key(key), key)?;
                Some(of_db.table.entry(place).is_due(now_ms))
            });
            if is_live_change(data.db(watcher.db), key, watcher) || met == Some(false) {
                watcher.flag.touch();
            }
            watcher.was_expired = met == Some(true);
        }
    }
    data.watchers = Some(watchers);
}

/// Touches the watchers of keys that are there, in one database or in all.
fn touch_all(data: &mut SlotData, db: Option<DbIndex>) {
    let Some(watchers) = data.watchers.take() else { return };
    for (key, of_key) in &watchers.0 {
        for watcher in of_key.iter().filter(|watcher| db.is_none_or(|db| db == watcher.db)) {
            if is_live_change(data.db(watcher.db), key, watcher) {
                watcher.flag.touch();
            }
        }
    }
    data.watchers = Some(watchers);
}

impl Drop for LockedSlots<'_> {
    #[inline]
    fn drop(&mut self) {
        let release = |slot: usize| {
            let cell = &self.keyspace.slots[slot];
            // SAFETY: this guard holds the slot's lock, gives it up here, and nothing borrows from it any more.
            unsafe {
                let data = cell.data();
                if data.is_dirty {
                    self.keyspace.publish(slot, data);
                }
                cell.unlock();
            }
        };
        match &self.state.held {
            Held::One(slot) => release(usize::from(*slot)),
            Held::Some(slots) => {
                slots.iter().for_each(|slot| release(usize::from(*slot)));
                // SAFETY: `some` took the shared side.
                unsafe { self.keyspace.multi.unlock_shared() };
            }
            Held::All => {
                (0..SLOT_COUNT).for_each(release);
                // SAFETY: `all` and `hold_all` took the exclusive side.
                unsafe { self.keyspace.multi.unlock_exclusive() };
            }
            Held::OnDemand(slots) if slots.is_empty() => {}
            Held::OnDemand(slots) => {
                slots.iter().for_each(|slot| release(usize::from(*slot)));
                // SAFETY: the first slot on demand took the exclusive side.
                unsafe { self.keyspace.multi.unlock_exclusive() };
            }
        }
        if !self.state.ready.is_empty() {
            self.keyspace.ready_left(&mut self.state.ready);
        }
        if !self.state.garbage.is_empty() {
            self.keyspace.free_later(std::mem::take(&mut self.state.garbage));
        }
    }
}

/// What a flush took out. Dropping it frees the memory, which takes a while: drop it on a background thread.
#[must_use]
pub struct Garbage {
    /// Keys that were there.
    pub keys: u64,
    #[allow(dead_code, reason = "held to be dropped")]
    tables: Vec<DbData>,
    #[allow(dead_code, reason = "held to be dropped")]
    value: Option<Value>,
}

impl Garbage {
    /// One large value.
    #[cold]
    pub(crate) fn of_value(value: Value) -> Self {
        Garbage { keys: 1, tables: Vec::new(), value: Some(value) }
    }
}

impl std::fmt::Debug for Garbage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Garbage").field("keys", &self.keys).finish_non_exhaustive()
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! WATCH: which keys a client watches, and who watches anything at all.
//!
//! The keyspace keeps, per slot, the flags to set when a key changes. This file keeps the client's
//! side, and a list of all watchers for changes of the whole keyspace (FLUSHALL, SWAPDB).

use crate::engine::Engine;
use crate::ports::ClientId;
use crate::session::Session;
use pando_commands::{CommandError, WholeChange};
use pando_keyspace::{DbIndex, LockedSlots, WatchFlag};
use pando_resp::Args;
use pando_topology::Slot;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// By database and name.
type WatchedKeys = HashMap<(DbIndex, Box<[u8]>), Watched>;

#[derive(Copy, Clone, Debug)]
struct Watched {
    slot: Slot,
    /// There was a live key. If not, emptying the database does not change anything for it.
    existed: bool,
    /// It was there, past due: that it goes away is no change.
    was_expired: bool,
}

/// The keys that one client watches.
pub(crate) struct WatchSet {
    flag: Arc<WatchFlag>,
    keys: Arc<Mutex<WatchedKeys>>,
}

struct Watcher {
    flag: Arc<WatchFlag>,
    keys: Arc<Mutex<WatchedKeys>>,
}

/// All clients that watch something.
#[derive(Default)]
pub(crate) struct Watchers {
    /// Raised before the first key is registered under its slot's lock, so that a writer that holds
    /// the lock later sees it.
    count: AtomicUsize,
    all: Mutex<HashMap<ClientId, Watcher>>,
}

impl Watchers {
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.count.load(Acquire) > 0
    }

    /// Whether a key that this client watches changed.
    pub(crate) fn is_dirty(&self, client: ClientId) -> bool {
        self.all.lock().get(&client).is_some_and(|watcher| watcher.flag.is_dirty())
    }

    /// Marks the watchers that a change of the whole keyspace concerns. Called after the change,
    /// with all slots locked.
    pub(crate) fn whole_changed(&self, change: WholeChange, locked: &mut LockedSlots<'_>) {
        for watcher in self.all.lock().values() {
            let mut keys = watcher.keys.lock();
            if keys.iter().any(|((db, key), watched)| is_concerned(*db, key, watched, change, locked)) {
                watcher.flag.touch();
            } else if let WholeChange::Swap(a, b) = change {
                // No key was replaced by a stale one: nothing has changed, now or when the stale one goes.
                for ((db, key), watched) in keys.iter_mut().filter(|((db, _), _)| *db == a || *db == b) {
                    watched.was_expired |= locked.db(*db).is_expired(key);
                }
            }
        }
    }
}

fn is_concerned(db: DbIndex, key: &[u8], watched: &Watched, change: WholeChange, locked: &mut LockedSlots<'_>) -> bool {
    match change {
        WholeChange::FlushAll => watched.existed,
        WholeChange::FlushDb(flushed) => flushed == db && watched.existed,
        WholeChange::Swap(a, b) if db == a || db == b => watched.existed || locked.db(db).contains(key),
        WholeChange::Swap(..) => false,
    }
}

impl WatchSet {
    /// Appends the slots of the watched keys.
    pub(crate) fn slots(&self, slots: &mut Vec<Slot>) {
        slots.extend(self.keys.lock().values().map(|watched| watched.slot));
    }

    /// Whether the transaction must fail. Called with the slots of all watched keys locked.
    pub(crate) fn is_broken(&self, locked: &mut LockedSlots<'_>) -> bool {
        self.flag.is_dirty()
            || self
                .keys
                .lock()
                .iter()
                .any(|((db, key), watched)| !watched.was_expired && locked.db(*db).is_expired(key))
    }
}

impl Session {
    /// Watches the keys `args` (not the name).
    pub(crate) fn watch(&mut self, engine: &Engine, now_ms: u64, keys: Args<'_>) -> Result<(), CommandError> {
        if self.watching.is_none() {
            let set = WatchSet { flag: WatchFlag::new(), keys: Arc::default() };
            engine.watchers.count.fetch_add(1, Release);
            let watcher = Watcher { flag: set.flag.clone(), keys: set.keys.clone() };
            engine.watchers.all.lock().insert(self.shared.id, watcher);
            self.watching = Some(set);
        }
        let Some(set) = &self.watching else { return Ok(()) };
        for key in keys {
            let name = (self.db, Box::from(*key));
            if set.keys.lock().contains_key(&name) {
                continue;
            }
            let slot = Slot::of_key(key);
            let mut locked = engine.keyspace.lock_one(slot);
            locked.set_now(now_ms);
            let mut db = locked.db(self.db);
            let existed = db.contains(key);
            let was_expired = !existed && db.is_expired(key);
            locked.watch(slot, self.db, key, set.flag.clone());
            set.keys.lock().insert(name, Watched { slot, existed, was_expired });
        }
        self.shared.watched.store(set.keys.lock().len() as u32, Relaxed);
        Ok(())
    }

    /// Forgets all watched keys. Takes their slots' locks.
    pub(crate) fn unwatch_all(&mut self, engine: &Engine) {
        let Some(set) = self.forget_watches(engine) else { return };
        for ((db, key), watched) in set.keys.lock().drain() {
            let mut locked = engine.keyspace.lock_one(watched.slot);
            locked.unwatch(watched.slot, db, &key, &set.flag);
        }
    }

    /// Like [`Session::unwatch_all`] with the locks of all watched keys held.
    pub(crate) fn unwatch_all_locked(&mut self, engine: &Engine, locked: &mut LockedSlots<'_>) {
        let Some(set) = self.forget_watches(engine) else { return };
        for ((db, key), watched) in set.keys.lock().drain() {
            locked.unwatch(watched.slot, db, &key, &set.flag);
        }
    }

    fn forget_watches(&mut self, engine: &Engine) -> Option<WatchSet> {
        let set = self.watching.take()?;
        engine.watchers.all.lock().remove(&self.shared.id);
        engine.watchers.count.fetch_sub(1, Release);
        self.shared.watched.store(0, Relaxed);
        Some(set)
    }
}

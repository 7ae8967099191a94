// SPDX-License-Identifier: BSD-3-Clause
//! Who waits for a key to hold something (BLPOP and its like), and which of these keys changed.
//!
//! ```text
//!   SlotData.blocked ─► queue per (db, key): waiters by ticket, oldest first, by what they wait for
//!        └ ready: keys that were changed ◄── noted by Db on every way in, as long as somebody waits in the slot
//! ```
//! A waiter is in the queues of all its keys, under one ticket. Whoever serves it or gives it up claims it first, so that
//! only one does. Lock order: slots, then one waiter. Not here: what a waiter wants to execute and who serves it
//! (data/session). Called by `db` and `locked`, and through `LockedSlots` by the session.

use crate::{DbIndex, Keyspace, LockedSlots};
use pando_topology::Slot;
use pando_values::ValueType;
use parking_lot::{Mutex, MutexGuard};
use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Type of value that a waiter waits for.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Awaited {
    /// A list.
    List,
    /// A sorted set.
    ZSet,
    /// A stream.
    Stream,
}

/// One suspended request.
pub struct Waiter {
    /// Number in the order of arrival; never reused.
    pub ticket: u64,
    /// Database of its keys.
    pub db: DbIndex,
    /// What it waits for.
    pub awaited: Awaited,
    /// It also wants to know when a key goes away or changes its type.
    pub when_gone: bool,
    /// What the session knows of it.
    pub request: Box<dyn Any + Send + Sync>,
    is_over: Mutex<bool>,
}

impl Waiter {
    /// The right to answer the waiter, held until it is dropped; `None` when it has been answered or given up.
    pub fn claim(&self) -> Option<Claim<'_>> {
        let is_over = self.is_over.lock();
        (!*is_over).then_some(Claim(is_over))
    }

    /// Gives the waiter up. False when it was answered before: the answer is on its way.
    pub fn end(&self) -> bool {
        self.claim().map(Claim::finish).is_some()
    }
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter").field("ticket", &self.ticket).field("awaited", &self.awaited).finish_non_exhaustive()
    }
}

/// See [`Waiter::claim`].
pub struct Claim<'w>(MutexGuard<'w, bool>);

impl Claim<'_> {
    /// The waiter has its answer: nobody can claim it any more. Without this it goes on waiting.
    pub fn finish(mut self) {
        *self.0 = true;
    }
}

/// A key that changed while somebody waited for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadyKey {
    /// Its slot, which is held.
    pub slot: Slot,
    /// Its database.
    pub db: DbIndex,
    /// The key.
    pub key: Box<[u8]>,
    /// Waiters up to this ticket have been looked at; 0 for none.
    pub after: u64,
}

/// Queues by `Awaited`; the last one holds streams' waiters that want to know when the key goes away.
const QUEUES: usize = 4;
const WHEN_GONE: usize = 3;

impl Waiter {
    fn queue(&self) -> usize {
        if self.when_gone { WHEN_GONE } else { self.awaited as usize }
    }
}

#[derive(Default)]
struct Queue {
    waiters: [BTreeMap<u64, Arc<Waiter>>; QUEUES],
    /// In `ready` from its first waiter on.
    is_ready: bool,
    /// A waiter that is being served by its own worker, with more locks than the others have. Those behind it wait.
    stalled: Option<u64>,
    /// The key changed again since.
    is_stale: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.waiters.iter().all(BTreeMap::is_empty)
    }

    fn first_after(&self, queue: usize, after: u64) -> Option<(u64, &Arc<Waiter>)> {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        self.waiters[queue].range(range).next().map(|(ticket, waiter)| (*ticket, waiter))
    }

    /// The oldest waiter behind `after` whom a value of this type concerns.
    fn next(&self, holds: Option<ValueType>, after: u64) -> Option<&Arc<Waiter>> {
        let by_type = match holds {
            Some(ValueType::List) => self.first_after(Awaited::List as usize, after),
            Some(ValueType::ZSet) => self.first_after(Awaited::ZSet as usize, after),
            Some(ValueType::Stream) => self.first_after(Awaited::Stream as usize, after),
            _ => None,
        };
        let when_gone = self.first_after(WHEN_GONE, after);
        let oldest = match (by_type, when_gone) {
            (Some(a), Some(b)) => Some(if a.0 < b.0 { a } else { b }),
            (a, b) => a.or(b),
        };
        oldest.map(|(_, waiter)| waiter)
    }
}

struct Noted {
    db: DbIndex,
    key: Box<[u8]>,
    after: u64,
}

/// The waiters of one slot. There is none while nobody waits.
#[derive(Default)]
pub(crate) struct Blocked {
    queues: HashMap<Box<[u8]>, Vec<(DbIndex, Queue)>, foldhash::fast::RandomState>,
    ready: VecDeque<Noted>,
}

impl Blocked {
    fn queue_mut(&mut self, db: DbIndex, key: &[u8]) -> Option<&mut Queue> {
        self.queues.get_mut(key)?.iter_mut().find(|(index, _)| *index == db).map(|(_, queue)| queue)
    }

    fn queue(&self, db: DbIndex, key: &[u8]) -> Option<&Queue> {
        self.queues.get(key)?.iter().find(|(index, _)| *index == db).map(|(_, queue)| queue)
    }

    /// The key changed in some way; true if that is news to somebody.
    pub(crate) fn note(&mut self, db: DbIndex, key: &[u8]) -> bool {
        let Some(queue) = self.queue_mut(db, key) else { return false };
        if queue.stalled.is_some() {
            queue.is_stale = true;
            return false;
        }
        if std::mem::replace(&mut queue.is_ready, true) {
            return false;
        }
        self.ready.push_back(Noted { db, key: key.into(), after: 0 });
        true
    }

    /// Notes all awaited keys of these databases; returns how many.
    pub(crate) fn note_all(&mut self, concerns: impl Fn(DbIndex) -> bool) -> usize {
        let all = self.queues.iter().flat_map(|(key, of_dbs)| of_dbs.iter().map(move |(db, _)| (*db, key.clone())));
        let concerned: Vec<(DbIndex, Box<[u8]>)> = all.filter(|(db, _)| concerns(*db)).collect();
        concerned.into_iter().filter(|(db, key)| self.note(*db, key)).count()
    }

    fn resume(&mut self, db: DbIndex, key: &[u8], ticket: u64) -> bool {
        let Some(queue) = self.queue_mut(db, key).filter(|queue| queue.stalled == Some(ticket)) else { return false };
        queue.stalled = None;
        let after = if std::mem::take(&mut queue.is_stale) { 0 } else { ticket };
        queue.is_ready |= after == 0;
        self.ready.push_back(Noted { db, key: key.into(), after });
        true
    }
}

impl Keyspace {
    /// Keys that somebody waits for, and keys that somebody wants to see go away.
    pub fn blocking_keys(&self) -> (u64, u64) {
        (self.blocking_keys.load(Relaxed), self.blocking_keys_when_gone.load(Relaxed))
    }

    /// A new waiter. Called under the locks of its keys, so that tickets are in order for each key.
    pub fn waiter(
        &self,
        db: DbIndex,
        awaited: Awaited,
        when_gone: bool,
        request: Box<dyn Any + Send + Sync>,
    ) -> Arc<Waiter> {
        let ticket = self.last_ticket.fetch_add(1, Relaxed) + 1;
        Arc::new(Waiter { ticket, db, awaited, when_gone, request, is_over: Mutex::new(false) })
    }

    /// What is called when a slot is released although keys became ready which nobody has looked at. Only the first call
    /// counts.
    pub fn on_ready(&self, call: Box<dyn Fn(Slot) + Send + Sync>) {
        let _ = self.on_ready.set(call);
    }

    #[cold]
    pub(crate) fn ready_left(&self, slots: &mut VecDeque<u16>) {
        let Some(call) = self.on_ready.get() else { return };
        let slots = slots.make_contiguous();
        slots.sort_unstable();
        let mut last = None;
        for slot in slots.iter().filter_map(|slot| Slot::new(*slot)) {
            if last.replace(slot) != Some(slot) {
                call(slot);
            }
        }
    }
}

impl LockedSlots<'_> {
    fn blocked(&mut self, slot: Slot) -> &mut Option<Box<Blocked>> {
        &mut self.state.data(self.keyspace, slot.index()).blocked
    }

    /// Adds the waiter to the queue of one of its keys.
    pub fn block(&mut self, key: &[u8], waiter: &Arc<Waiter>) {
        let keyspace = self.keyspace;
        let blocked = self.blocked(Slot::of_key(key)).get_or_insert_default();
        let of_dbs = blocked.queues.entry(key.into()).or_default();
        let at = of_dbs.iter().position(|(db, _)| *db == waiter.db).unwrap_or_else(|| {
            of_dbs.push((waiter.db, Queue::default()));
            keyspace.blocking_keys.fetch_add(1, Relaxed);
            of_dbs.len() - 1
        });
        let queue = &mut of_dbs[at].1.waiters[waiter.queue()];
        if waiter.when_gone && queue.is_empty() {
            keyspace.blocking_keys_when_gone.fetch_add(1, Relaxed);
        }
        queue.insert(waiter.ticket, waiter.clone());
    }

    /// Undoes `block`; nothing happens when that has been done. Those behind a waiter that kept them waiting go on.
    pub fn unblock(&mut self, key: &[u8], waiter: &Waiter) {
        let slot = Slot::of_key(key);
        self.resume_queue(key, waiter);
        let keyspace = self.keyspace;
        let Some(blocked) = self.blocked(slot).as_deref_mut() else { return };
        let Some(of_dbs) = blocked.queues.get_mut(key) else { return };
        let Some(at) = of_dbs.iter().position(|(db, _)| *db == waiter.db) else { return };
        let queue = &mut of_dbs[at].1;
        let was_there = queue.waiters[waiter.queue()].remove(&waiter.ticket).is_some();
        if was_there && waiter.when_gone && queue.waiters[WHEN_GONE].is_empty() {
            keyspace.blocking_keys_when_gone.fetch_sub(1, Relaxed);
        }
        if !queue.is_empty() {
            return;
        }
        of_dbs.swap_remove(at);
        keyspace.blocking_keys.fetch_sub(1, Relaxed);
        if of_dbs.is_empty() {
            blocked.queues.remove(key);
        }
        if blocked.queues.is_empty() {
            *self.blocked(slot) = None;
        }
    }

    /// The waiter is served by its own worker from now on: nobody behind it is, until `resume_queue` or `unblock`.
    pub fn stall_queue(&mut self, key: &[u8], waiter: &Waiter) {
        if let Some(blocked) = self.blocked(Slot::of_key(key))
            && let Some(queue) = blocked.queue_mut(waiter.db, key)
        {
            queue.stalled = Some(waiter.ticket);
        }
    }

    /// Undoes `stall_queue`, if it was for this waiter: those behind it are to be looked at.
    pub fn resume_queue(&mut self, key: &[u8], waiter: &Waiter) {
        let slot = Slot::of_key(key);
        if let Some(blocked) = self.blocked(slot)
            && blocked.resume(waiter.db, key, waiter.ticket)
        {
            self.state.ready.push_back(slot.number());
        }
    }

    /// Whether somebody waits for the key who is served before anybody who comes now.
    pub fn is_contended(&mut self, db: DbIndex, key: &[u8]) -> bool {
        let Some(blocked) = self.blocked(Slot::of_key(key)) else { return false };
        blocked.queue(db, key).is_some_and(|queue| queue.stalled.is_some() || queue.is_ready)
            || blocked.ready.iter().any(|noted| noted.db == db && *noted.key == *key && noted.after > 0)
    }

    /// Whether awaited keys changed under this guard that nobody has looked at.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.state.ready.is_empty()
    }

    /// Has `take_ready` return what earlier holders of the slot left.
    pub fn renew_ready(&mut self, slot: Slot) {
        let count = self.blocked(slot).as_ref().map_or(0, |blocked| blocked.ready.len());
        self.state.ready.extend(std::iter::repeat_n(slot.number(), count));
    }

    /// The next awaited key that changed, in the order in which they did. Who takes it looks at its waiters, or gives it
    /// back with `put_ready`.
    pub fn take_ready(&mut self) -> Option<ReadyKey> {
        while let Some(slot) = self.state.ready.pop_front() {
            let Some(slot) = Slot::new(slot) else { continue };
            let Some(blocked) = self.blocked(slot) else { continue };
            let Some(Noted { db, key, after }) = blocked.ready.pop_front() else { continue };
            let Some(queue) = blocked.queue_mut(db, &key) else { continue };
            if after == 0 {
                queue.is_ready = false;
            }
            if queue.stalled.is_some() {
                queue.is_stale = true;
                continue;
            }
            return Some(ReadyKey { slot, db, key, after });
        }
        None
    }

    /// Leaves a key for later: see [`Keyspace::on_ready`].
    pub fn put_ready(&mut self, ready: ReadyKey) {
        let ReadyKey { slot, db, key, after } = ready;
        let Some(blocked) = self.blocked(slot) else { return };
        let Some(queue) = blocked.queue_mut(db, &key) else { return };
        if after == 0 && std::mem::replace(&mut queue.is_ready, true) {
            return;
        }
        blocked.ready.push_front(Noted { db, key, after });
        self.state.ready.push_front(slot.number());
    }

    /// What `take_ready` has to return, without forgetting it when this guard is dropped: another guard takes it over.
    pub fn move_ready(&mut self) -> VecDeque<u16> {
        std::mem::take(&mut self.state.ready)
    }

    /// Takes over what `move_ready` gave; the slots are held.
    pub fn adopt_ready(&mut self, slots: VecDeque<u16>) {
        self.state.ready.extend(slots);
    }

    /// The next waiter for a ready key whom its present value concerns; `ready.after` advances.
    pub fn next_waiter(&mut self, ready: &mut ReadyKey) -> Option<Arc<Waiter>> {
        let holds = self.db(ready.db).peek(&ready.key).map(|value| value.type_());
        let queue = self.blocked(ready.slot).as_deref()?.queue(ready.db, &ready.key)?;
        let waiter = queue.next(holds, ready.after)?.clone();
        ready.after = waiter.ticket;
        Some(waiter)
    }
}

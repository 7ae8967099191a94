// SPDX-License-Identifier: BSD-3-Clause
//! Keys of one database in the held slots: look up, store, edit, remove.
//!
//! A key past due is not live: reads do not see it, but it stays until somebody removes it. Nothing here touches
//! watchers, the log or statistics: that is the commands' business. Called by `pando-commands`.

use crate::clock::idle_since;
use crate::entry::{Entry, FieldTimes, Header, Source, fields_of};
use crate::keyspace::Keyspace;
use crate::locked::State;
use crate::slot::SlotData;
use crate::table::Place;
use crate::{DbIndex, EditedTyped, Meta, OwnedEntry, SetOutcome, Ttl};
use pando_values::{
    Collection, Encoding, IntText, StrForm, StrHint, StreamId, Typed, Value, ValueRef, ValueType, encode_str,
};
use smallvec::SmallVec;

/// Strings that grow by appending get this much room ahead at most, as in Valkey.
const APPEND_ROOM_MAX: usize = 1 << 20;

/// One database in the slots that a guard holds.
pub struct Db<'g> {
    pub(crate) keyspace: &'g Keyspace,
    pub(crate) state: &'g mut State,
    pub(crate) db: DbIndex,
}

struct Found {
    place: Place,
    entry: Entry,
}

impl Db<'_> {
    /// The database's number.
    pub fn index(&self) -> DbIndex {
        self.db
    }

    #[inline]
    fn slot(&mut self, key: &[u8]) -> &mut SlotData {
        let slot = self.state.slot_of(key);
        self.state.data(self.keyspace, slot)
    }

    #[inline]
    fn find(&mut self, hash: u32, key: &[u8]) -> Option<Found> {
        let db = self.db;
        let table = &self.slot(key).db(db)?.table;
        let place = table.find(hash, key)?;
        Some(Found { place, entry: table.entry(place) })
    }

    #[inline]
    fn find_live(&mut self, key: &[u8]) -> Option<Entry> {
        let found = self.find(self.state.hash_of(key), key)?;
        (!found.entry.is_due(self.state.now_ms)).then_some(found.entry)
    }

    #[inline]
    fn record_access(&self, entry: Entry) {
        if !self.state.no_touch {
            let (before, now) = (entry.access(), self.keyspace.policy().touched(entry.access(), self.state.now_ms));
            // Within one second it is the same: then readers on several cores do not take the entry from each other.
            if now != before {
                entry.set_access(now);
            }
        }
    }

    /// The live value. Counts as an access.
    #[inline]
    pub fn get(&mut self, key: &[u8]) -> Option<ValueRef<'_>> {
        let entry = self.find_live(key)?;
        self.record_access(entry);
        Some(entry.value())
    }

    /// The live value. Does not count as an access.
    pub fn peek(&mut self, key: &[u8]) -> Option<ValueRef<'_>> {
        Some(self.find_live(key)?.value())
    }

    /// Whether the key is live. Does not count as an access.
    pub fn contains(&mut self, key: &[u8]) -> bool {
        self.find_live(key).is_some()
    }

    /// What is known about a live key. Does not count as an access.
    pub fn meta(&mut self, key: &[u8]) -> Option<Meta> {
        let entry = self.find_live(key)?;
        Some(meta_of(self.keyspace, entry, self.state.now_ms))
    }

    /// Whether the key is there, but past due.
    pub fn is_expired(&mut self, key: &[u8]) -> bool {
        let (now_ms, db) = (self.state.now_ms, self.db);
        // Most slots have no key that could be, which spares a lookup before each write.
        if self.slot(key).db(db).is_none_or(|data| data.volatile == 0) {
            return false;
        }
        self.find(self.state.hash_of(key), key).is_some_and(|found| found.entry.is_due(now_ms))
    }

    /// Counts as an access; false when the key is not live.
    pub fn touch(&mut self, key: &[u8]) -> bool {
        self.find_live(key).inspect(|&entry| self.record_access(entry)).is_some()
    }

    /// Sets the time since the last access; false when the key is not live.
    pub fn set_idle(&mut self, key: &[u8], idle_s: u64) -> bool {
        let access = idle_since(idle_s, self.state.now_ms);
        self.find_live(key).inspect(|entry| entry.set_access(access)).is_some()
    }

    /// Sets the LFU counter; false when the key is not live.
    pub fn set_freq(&mut self, key: &[u8], freq: u8) -> bool {
        let minutes = (self.state.now_ms / 60_000) as u32 & 0xffff;
        self.find_live(key).inspect(|entry| entry.set_access(minutes << 8 | u32::from(freq))).is_some()
    }

    /// Removes the key, live or past due; false when it was not there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.detach(key).map(|entry| self.state.dispose(entry)).is_some()
    }

    fn detach(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = self.state.hash_of(key);
        let found = self.find(hash, key)?;
        self.keyspace.walk.before_change(self.db, found.entry);
        let db = self.db;
        let slot = self.slot(key);
        slot.is_dirty = true;
        let data = slot.db_mut(db);
        data.count_out(found.entry);
        let entry = data.table.remove(found.place);
        self.note_change(key);
        Some(entry)
    }

    /// The key came, went or changed: somebody may be waiting for that.
    #[inline]
    fn note_change(&mut self, key: &[u8]) {
        if self.slot(key).blocked.is_some() {
            self.note_awaited(key);
        }
    }

    #[cold]
    fn note_awaited(&mut self, key: &[u8]) {
        let (db, slot) = (self.db, self.state.slot_of(key));
        if self.slot(key).blocked.as_deref_mut().is_some_and(|blocked| blocked.note(db, key)) {
            self.state.ready.push_back(slot as u16);
        }
    }

    /// Stores a string.
    pub fn set_str(&mut self, key: &[u8], value: &[u8], ttl: Ttl, hint: StrHint) -> SetOutcome {
        let hash = self.state.hash_of(key);
        let found = self.find(hash, key);
        let live = found.as_ref().filter(|found| !found.entry.is_due(self.state.now_ms));
        let due = self.new_due(live, ttl);
        let source = match encode_str(value, hint, key.len(), due.is_some()) {
            StrForm::Int(int) => Source::Int(int),
            StrForm::Bytes(encoding) => Source::Bytes(value, encoding),
        };
        self.store(hash, key, found, due, source)
    }

    /// Stores an integer, as `set_str` does with its text.
    pub fn set_int(&mut self, key: &[u8], value: i64, ttl: Ttl) -> SetOutcome {
        let hash = self.state.hash_of(key);
        let found = self.find(hash, key);
        let due = self.new_due(found.as_ref().filter(|found| !found.entry.is_due(self.state.now_ms)), ttl);
        self.store(hash, key, found, due, Source::Int(value))
    }

    /// Stores a collection. An empty one that is no stream must not be stored: remove the key instead.
    pub fn put_typed(&mut self, key: &[u8], value: Typed, ttl: Ttl) -> SetOutcome {
        let hash = self.state.hash_of(key);
        let found = self.find(hash, key);
        let due = self.new_due(found.as_ref().filter(|found| !found.entry.is_due(self.state.now_ms)), ttl);
        self.store(hash, key, found, due, Source::Owned(Value::Typed(value)))
    }

    fn new_due(&self, live: Option<&Found>, ttl: Ttl) -> Option<u64> {
        match ttl {
            Ttl::Keep => live.and_then(|found| found.entry.expire_at()),
            Ttl::Clear => None,
            Ttl::At(due) => Some(due),
        }
    }

    fn store(
        &mut self,
        hash: u32,
        key: &[u8],
        found: Option<Found>,
        due: Option<u64>,
        source: Source<'_>,
    ) -> SetOutcome {
        let (db, now_ms, policy) = (self.db, self.state.now_ms, self.keyspace.policy());
        let epoch = self.keyspace.walk.epoch();
        let Some(Found { place, entry: old }) = found else {
            let entry = Entry::new(key, Header { expire_at: due, access: policy.fresh(now_ms), epoch }, source);
            self.attach(hash, key, entry);
            return SetOutcome { existed: false };
        };
        let existed = !old.is_due(now_ms);
        self.keyspace.walk.before_change(db, old);
        let old_due = old.expire_at();
        let access = if existed { policy.touched(old.access(), now_ms) } else { policy.fresh(now_ms) };
        if old_due == due && old.try_overwrite(&source) {
            old.set_access(access);
            return SetOutcome { existed };
        }
        let entry = Entry::new(key, Header { expire_at: due, access, epoch }, source);
        self.exchange(hash, key, place, old, entry);
        self.state.dispose(old);
        SetOutcome { existed }
    }

    fn attach(&mut self, hash: u32, key: &[u8], entry: Entry) {
        let (db, now_ms) = (self.db, self.state.now_ms);
        let slot = self.slot(key);
        slot.is_dirty = true;
        let data = slot.db_mut(db);
        data.table.insert(hash, entry);
        data.count_in(entry);
        data.record_due(hash, entry, None, now_ms);
        self.note_change(key);
    }

    /// Puts `entry` in the place of `old`, which the caller disposes of.
    fn exchange(&mut self, hash: u32, key: &[u8], place: Place, old: Entry, entry: Entry) {
        let (db, now_ms) = (self.db, self.state.now_ms);
        let slot = self.slot(key);
        slot.is_dirty = true;
        let data = slot.db_mut(db);
        data.table.replace(place, entry);
        // In before out: a single volatile key must not lose its expire record in between.
        data.count_in(entry);
        data.count_out(old);
        data.record_due(hash, entry, old.due_ms(), now_ms);
        self.note_change(key);
    }

    /// Edits the string in place, made `raw` and zero-extended to `len_min` first; creates it when it is absent or past
    /// due. The TTL stays. The new length, or `None` when the key holds another type.
    pub fn edit_str(&mut self, key: &[u8], len_min: usize, edit: &mut dyn FnMut(&mut [u8])) -> Option<usize> {
        if let Some(entry) = self.find_live(key)
            && entry.is_embedded(len_min)
        {
            self.keyspace.walk.before_change(self.db, entry);
            self.record_access(entry);
            return entry.try_edit_embedded(len_min, edit);
        }
        self.edit(key, 0, &mut |bytes| {
            if bytes.len() < len_min {
                bytes.resize(len_min, 0);
            }
            edit(bytes);
        })
    }

    /// Appends to the string, made `raw`; creates it when it is absent or past due. The TTL stays. The new length, or
    /// `None` when the key holds another type.
    pub fn append(&mut self, key: &[u8], suffix: &[u8]) -> Option<usize> {
        if !self.contains(key) {
            self.set_str(key, suffix, Ttl::Clear, StrHint::Auto);
            return Some(suffix.len());
        }
        self.edit(key, suffix.len(), &mut |bytes| bytes.extend_from_slice(suffix))
    }

    /// Lets `edit` change the string, made `raw`, as it likes; creates it when it is absent or past due. The TTL stays. The
    /// new length, or `None` when the key holds another type.
    pub fn edit_string(&mut self, key: &[u8], edit: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        self.edit(key, 0, edit)
    }

    /// Lets `edit` change the string as a vector, which probably grows by `more` bytes.
    fn edit(&mut self, key: &[u8], more: usize, edit: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let hash = self.state.hash_of(key);
        let (db, now_ms) = (self.db, self.state.now_ms);
        let Some(Found { place, entry: old }) = self.find(hash, key).filter(|found| !found.entry.is_due(now_ms)) else {
            let mut bytes = Vec::new();
            edit(&mut bytes);
            let len = bytes.len();
            let found = self.find(hash, key);
            self.store(hash, key, found, None, Source::Bytes(&bytes, Encoding::Raw));
            return Some(len);
        };
        if old.type_() != ValueType::String {
            return None;
        }
        self.keyspace.walk.before_change(db, old);
        self.record_access(old);
        let before = old.bytes();
        let mut len = 0;
        let on_heap = old.try_edit_heap(&mut |bytes| {
            if bytes.len() + more > bytes.capacity() {
                bytes.reserve_exact(more + (bytes.len() + more).min(APPEND_ROOM_MAX));
            }
            edit(bytes);
            len = bytes.len();
        });
        if on_heap {
            let slot = self.slot(key);
            slot.is_dirty = true;
            let data = slot.db_mut(db);
            data.entry_bytes = data.entry_bytes + old.bytes() - before;
            return Some(len);
        }
        let mut text = IntText::new();
        let value = old.value();
        let mut bytes = Vec::with_capacity(value.str_len() + more);
        bytes.extend_from_slice(value.as_bytes(&mut text));
        edit(&mut bytes);
        len = bytes.len();
        let source = Source::Bytes(&bytes, Encoding::Raw);
        if !old.try_overwrite(&source) {
            let header = Header { expire_at: old.expire_at(), access: old.access(), epoch: self.keyspace.walk.epoch() };
            let entry = Entry::new(key, header, source);
            self.exchange(hash, key, place, old, entry);
            self.state.dispose(old);
        }
        Some(len)
    }

    /// `None`: not live; `Some(None)`: live without a TTL. Does not count as an access.
    pub fn expire_at(&mut self, key: &[u8]) -> Option<Option<u64>> {
        Some(self.find_live(key)?.expire_at())
    }

    /// Sets or clears the TTL; false when the key is not live.
    pub fn set_expire(&mut self, key: &[u8], at_ms: Option<u64>) -> bool {
        let hash = self.state.hash_of(key);
        let (db, now_ms) = (self.db, self.state.now_ms);
        let Some(Found { place, entry: old }) = self.find(hash, key).filter(|found| !found.entry.is_due(now_ms)) else {
            return false;
        };
        if old.expire_at() == at_ms {
            return true;
        }
        self.keyspace.walk.before_change(db, old);
        let old_record_due = old.due_ms();
        if let (Some(due), Some(old_due)) = (at_ms, old.expire_at())
            && old.try_set_due(due)
        {
            let slot = self.slot(key);
            slot.is_dirty = true;
            let data = slot.db_mut(db);
            data.change_due_sum(due, old_due);
            data.record_due(hash, old, old_record_due, now_ms);
            return true;
        }
        // The layout changes: the value moves to a new entry (a pointer when it is on the heap).
        let header = Header { expire_at: at_ms, access: old.access(), epoch: self.keyspace.walk.epoch() };
        let slot = self.slot(key);
        slot.is_dirty = true;
        let data = slot.db_mut(db);
        data.count_out(old);
        let entry = Entry::new(key, header, Source::Owned(old.into_value()));
        data.table.replace(place, entry);
        data.count_in(entry);
        data.record_due(hash, entry, None, now_ms);
        true
    }

    /// Moves the value out, live or past due; the key is gone. O(1) for values on the heap.
    pub fn take_value(&mut self, key: &[u8]) -> Option<OwnedEntry> {
        let entry = self.detach(key)?;
        let (expire_at, access) = (entry.expire_at(), entry.access());
        Some(OwnedEntry { value: entry.into_value(), expire_at, access })
    }

    /// Copies the live value.
    pub fn copy_value(&mut self, key: &[u8]) -> Option<OwnedEntry> {
        let entry = self.find_live(key)?;
        let value = entry.value().to_value(entry.encoding());
        Some(OwnedEntry { value, expire_at: entry.expire_at(), access: entry.access() })
    }

    /// Stores an owned value with its TTL and access clock, in place of what is there.
    pub fn put_value(&mut self, key: &[u8], entry: OwnedEntry) -> SetOutcome {
        let now_ms = self.state.now_ms;
        let mut existed = false;
        if let Some(old) = self.detach(key) {
            existed = !old.is_due(now_ms);
            self.state.dispose(old);
        }
        let header = Header { expire_at: entry.expire_at, access: entry.access, epoch: self.keyspace.walk.epoch() };
        let value: Value = entry.value;
        self.attach(self.state.hash_of(key), key, Entry::new(key, header, Source::Owned(value)));
        SetOutcome { existed }
    }

    /// Lets `edit` change a live collection in place; `None` when the key is not live or holds a string. A collection
    /// that is empty afterwards is removed, unless it is a stream. Counts as an access.
    pub fn edit_typed<R>(&mut self, key: &[u8], edit: impl FnOnce(&mut Typed) -> R) -> Option<EditedTyped<R>> {
        let entry = self.find_live(key)?;
        entry.typed()?;
        self.keyspace.walk.before_change(self.db, entry);
        self.record_access(entry);
        let before = entry.bytes();
        // SAFETY: this guard has the slot, `&mut self` excludes other references to its values, and `edit` cannot reach
        // the keyspace.
        let typed = unsafe { entry.typed_mut() }?;
        let fields_before = fields_of(typed);
        let awaited_before = awaited_of(typed);
        let result = edit(typed);
        let is_emptied = typed.is_empty() && typed.type_() != ValueType::Stream;
        let fields = fields_of(typed);
        let is_awaited = awaited_of(typed) != awaited_before;
        let (db, now_ms) = (self.db, self.state.now_ms);
        let hash = (fields != fields_before).then(|| self.state.hash_of(key));
        let slot = self.slot(key);
        slot.is_dirty = true;
        let data = slot.db_mut(db);
        data.entry_bytes = data.entry_bytes + entry.bytes() - before;
        if let Some(hash) = hash {
            data.count_fields(fields_before, fields);
            let earlier = |field: Option<u64>| [field, entry.expire_at()].into_iter().flatten().min();
            data.record_due(hash, entry, earlier(fields_before.due_ms), now_ms);
        }
        if is_emptied {
            self.remove(key);
        } else if is_awaited {
            self.note_change(key);
        }
        Some(EditedTyped { result, is_emptied })
    }
}

impl Db<'_> {
    /// Removes up to `max` fields of a hash that are past due, and the hash when none is left. The caller sees to its
    /// expire record.
    pub(crate) fn expire_fields(&mut self, key: &[u8], max: usize) -> ExpiredFields {
        let mut expired = ExpiredFields::default();
        let (db, now_ms) = (self.db, self.state.now_ms);
        let Some(Found { entry, .. }) = self.find(self.state.hash_of(key), key) else { return expired };
        expired.lag_ms = entry.field_due().map_or(0, |due| now_ms.saturating_sub(due));
        self.keyspace.walk.before_change(db, entry);
        let before = entry.bytes();
        // SAFETY: as in `edit_typed`.
        let Some(Typed::Hash(hash)) = (unsafe { entry.typed_mut() }) else { return expired };
        let times_before = FieldTimes { are_volatile: hash.is_volatile(), due_ms: None };
        hash.expire(now_ms, max, &mut |name| expired.names.push(name.into()));
        let times = FieldTimes { are_volatile: hash.is_volatile(), due_ms: None };
        expired.is_emptied = hash.is_empty();
        let slot = self.slot(key);
        slot.is_dirty = true;
        let data = slot.db_mut(db);
        data.entry_bytes = data.entry_bytes + entry.bytes() - before;
        data.count_fields(times_before, times);
        if expired.is_emptied {
            self.remove(key);
        } else {
            expired.next_due_ms = entry.due_ms();
        }
        expired
    }
}

/// What [`Db::expire_fields`] did.
#[derive(Default)]
pub(crate) struct ExpiredFields {
    /// The fields that are gone.
    pub(crate) names: Vec<Box<[u8]>>,
    /// The hash is gone too.
    pub(crate) is_emptied: bool,
    /// How long after its due time the first one went.
    pub(crate) lag_ms: u64,
    /// When the hash wants to be worked on next.
    pub(crate) next_due_ms: Option<u64>,
}

impl<'g> Db<'g> {
    /// Live values of several keys at once. Counts as accesses.
    pub fn get_many(mut self, keys: &[&[u8]]) -> SmallVec<[Option<ValueRef<'g>>; 8]> {
        let mut values = SmallVec::with_capacity(keys.len());
        for key in keys {
            let entry = self.find_live(key);
            values.push(entry.map(|entry| {
                self.record_access(entry);
                // Nothing changes a value while the result borrows the guard; an access clock is not part of one.
                entry.value()
            }));
        }
        values
    }
}

pub(crate) fn meta_of(keyspace: &Keyspace, entry: Entry, now_ms: u64) -> Meta {
    let policy = keyspace.policy();
    Meta {
        type_: entry.type_(),
        encoding: entry.encoding(),
        expire_at: entry.expire_at(),
        idle_s: policy.idle_s(entry.access(), now_ms),
        lfu_freq: policy.freq(entry.access(), now_ms),
        // The table's share of one key at its usual load.
        bytes: entry.bytes() + 8,
    }
}

/// What of a value in place may be what somebody waits for: a stream's last entry, and its groups, which may go away. A
/// list or a sorted set is waited for only while it is not there.
fn awaited_of(typed: &Typed) -> Option<(StreamId, usize)> {
    match typed {
        Typed::Stream(stream) => Some((stream.entries().last_id(), stream.groups().len())),
        _ => None,
    }
}

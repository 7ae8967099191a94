// SPDX-License-Identifier: BSD-3-Clause
//! How handlers reach values: lookups that delete or hide expired keys, and the recording of what happened. Every handler
//! goes through here, so the rules for expiry, hit counts and events are in one place.

use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use pando_keyspace::{Db, DbIndex, StrHint, Ttl, ValueRef, ValueType};
use pando_resp::{Args, ReplyBuf};

/// Whether a lookup counts as a hit or miss of a reader.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Counts a hit or miss, and emits `keymiss`.
    Read,
    /// Counts nothing.
    Write,
}

/// Whether a lookup moves the key's access time.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// It does.
    Touch,
    /// It does not (TTL, TYPE, OBJECT, EXISTS).
    Peek,
}

impl<'k> Ctx<'_, 'k> {
    /// The client's database.
    #[inline]
    pub(crate) fn current(&mut self) -> Db<'_> {
        self.slots.db(self.db)
    }

    /// Looks `key` up in the client's database and hands its live value to `then`. Deletes an expired key on a primary.
    #[inline]
    pub(crate) fn with_value<R>(
        &mut self,
        key: &[u8],
        intent: Intent,
        access: Access,
        then: impl FnOnce(Option<ValueRef<'_>>, &mut ReplyBuf) -> R,
    ) -> R {
        {
            let mut db = self.slots.db(self.db);
            let found = if access == Access::Touch { db.get(key) } else { db.peek(key) };
            if let Some(value) = found {
                if intent == Intent::Read {
                    self.effects.hits += 1;
                }
                return then(Some(value), self.reply);
            }
        }
        self.missed(self.db, key, intent);
        then(None, self.reply)
    }

    /// [`Ctx::with_value`] for strings read by a reader; another type is refused.
    #[inline]
    pub(crate) fn read_string<R>(
        &mut self,
        key: &[u8],
        then: impl FnOnce(Option<ValueRef<'_>>, &mut ReplyBuf) -> Result<R, CommandError>,
    ) -> Result<R, CommandError> {
        self.with_value(key, Intent::Read, Access::Touch, |value, reply| {
            require_string(value)?;
            then(value, reply)
        })
    }

    /// [`Ctx::with_value`] for strings about to be changed; another type is refused.
    #[inline]
    pub(crate) fn write_string<R>(
        &mut self,
        key: &[u8],
        then: impl FnOnce(Option<ValueRef<'_>>, &mut ReplyBuf) -> Result<R, CommandError>,
    ) -> Result<R, CommandError> {
        self.with_value(key, Intent::Write, Access::Touch, |value, reply| {
            require_string(value)?;
            then(value, reply)
        })
    }

    /// True when the key is live in `db`; deletes it when it is past due. Does not touch it.
    pub(crate) fn exists_in(&mut self, db: DbIndex, key: &[u8]) -> bool {
        if self.slots.db(db).contains(key) {
            return true;
        }
        self.missed(db, key, Intent::Write);
        false
    }

    /// The key was not found: deletes it when it is merely past due, counts a reader's miss.
    #[cold]
    fn missed(&mut self, db: DbIndex, key: &[u8], intent: Intent) {
        self.delete_if_expired(db, key);
        if intent == Intent::Read {
            self.effects.misses += 1;
            self.notify_in(EventClass::KEY_MISS, "keymiss", db, key);
        }
    }

    /// On a primary, deletes a key past due: logged ahead of the command, `expired` event, counter. True when it did.
    #[inline]
    pub(crate) fn delete_if_expired(&mut self, db: DbIndex, key: &[u8]) -> bool {
        if !self.may_delete_expired() || !self.slots.db(db).is_expired(key) {
            return false;
        }
        self.slots.db(db).remove(key);
        self.effects.expired += 1;
        let verb = self.expire_verb();
        if self.env.log {
            self.effects.propagate_before(db, &[verb, key]);
        }
        self.notify_in(EventClass::EXPIRED, "expired", db, key);
        self.modified_in(db, key);
        true
    }

    /// Whether expired keys that are met are deleted, and not just hidden.
    pub(crate) fn may_delete_expired(&self) -> bool {
        self.env.is_primary && !self.env.is_applying && !self.env.keeps_expired
    }

    /// A past expire time was given to a live key of a primary: it goes at once, and the deletion replaces the command.
    pub(crate) fn delete_as_expired(&mut self, key: &[u8]) {
        self.current().remove(key);
        self.effects.expired += 1;
        self.effects.dirty += 1;
        let verb = self.expire_verb();
        self.rewrite(&[verb, key]);
        self.modified(key);
        self.notify(EventClass::EXPIRED, "expired", key);
    }

    /// True when a key with this expire time must not be stored but removed.
    pub(crate) fn is_past(&self, at_ms: u64) -> bool {
        self.env.is_primary && !self.env.is_applying && at_ms <= self.now_ms
    }

    fn expire_verb(&self) -> &'static [u8] {
        if self.env.lazy_expire { b"UNLINK" } else { b"DEL" }
    }

    /// Stores a string under `key`, whatever was there, and emits `new` for a new key. Not yet dirty or modified.
    #[inline]
    pub(crate) fn store_string(&mut self, key: &[u8], value: &[u8], ttl: Ttl) {
        self.store_string_as(key, value, ttl, StrHint::Auto);
    }

    /// [`Ctx::store_string`] with an encoding that the command asks for.
    #[inline]
    pub(crate) fn store_string_as(&mut self, key: &[u8], value: &[u8], ttl: Ttl, hint: StrHint) {
        let outcome = self.slots.db(self.db).set_str(key, value, ttl, hint);
        if !outcome.existed {
            self.notify(EventClass::NEW, "new", key);
        }
    }

    /// Counts one change of `key`, tells watchers, and emits an event.
    #[inline]
    pub(crate) fn changed(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        self.effects.dirty += 1;
        self.modified(key);
        self.notify(class, event, key);
    }

    /// Tells watchers and trackers that `key` changed.
    #[inline]
    pub fn modified(&mut self, key: &[u8]) {
        self.modified_in(self.db, key);
    }

    /// [`Ctx::modified`] for a key of another database.
    #[inline]
    pub fn modified_in(&mut self, db: DbIndex, key: &[u8]) {
        if self.env.record_modified {
            self.effects.modify(db, key);
        }
    }

    /// Records a keyspace event, when its class is asked for.
    #[inline]
    pub fn notify(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        self.notify_in(class, event, self.db, key);
    }

    /// [`Ctx::notify`] for a key of another database.
    #[inline]
    pub fn notify_in(&mut self, class: EventClass, event: &'static str, db: DbIndex, key: &[u8]) {
        if self.env.notify.has(class) {
            self.effects.event(class, event, db, key);
        }
    }

    /// Counts changes.
    pub fn dirty(&mut self, count: u64) {
        self.effects.dirty += count;
    }

    /// Logs `args` in place of the command. Nothing is encoded when there is no log.
    #[inline]
    pub(crate) fn rewrite(&mut self, args: Args<'_>) {
        if self.env.log {
            self.effects.propagate(self.db, args);
        }
    }

    /// Refuses a string that a client must not build.
    pub(crate) fn check_string_len(&self, size: u64, append: u64) -> Result<(), CommandError> {
        if self.env.is_applying {
            return Ok(());
        }
        match size.checked_add(append) {
            Some(total) if total <= self.env.proto_max_bulk_len => Ok(()),
            _ => Err(CommandError::StringTooLong),
        }
    }
}

/// Refuses a value that is not a string.
#[inline]
pub(crate) fn require_string(value: Option<ValueRef<'_>>) -> Result<(), CommandError> {
    match value {
        Some(value) if value.type_() != ValueType::String => Err(CommandError::WrongType),
        _ => Ok(()),
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! How handlers reach collections: the rules for types, expiry, hit counts and empty keys in one place, for every type.
//! Strings go through `lookup.rs`.

use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lookup::{Access, Intent};
use pando_keyspace::{Ttl, ValueRef};
use pando_resp::ReplyBuf;
use pando_values::{Limits, TypedValue};
use smallvec::SmallVec;

/// What a change of a collection came to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Edited<R> {
    /// What the change returned.
    pub(crate) result: R,
    /// The key was not there before (and may be gone again: see `is_removed`).
    pub(crate) is_created: bool,
    /// Nothing was left, so the key is gone. The handler emits `del` after its own event.
    pub(crate) is_removed: bool,
}

/// What a change may use besides the collection.
pub(crate) struct EditCx<'a> {
    /// Where the reply goes.
    pub(crate) reply: &'a mut ReplyBuf,
    /// Up to which sizes values stay packed.
    pub(crate) limits: &'a Limits,
    /// Time of the command, Unix milliseconds.
    pub(crate) now_ms: u64,
}

fn collection<T: TypedValue>(value: Option<ValueRef<'_>>) -> Result<Option<&T>, CommandError> {
    match value {
        None => Ok(None),
        Some(ValueRef::Typed(typed)) => T::of(typed).map(Some).ok_or(CommandError::WrongType),
        Some(_) => Err(CommandError::WrongType),
    }
}

impl Ctx<'_, '_> {
    /// A reader's lookup of a collection: counts a hit or miss; another type is refused.
    #[inline]
    pub(crate) fn read<T: TypedValue, R>(
        &mut self,
        key: &[u8],
        then: impl FnOnce(Option<&T>, &mut ReplyBuf) -> Result<R, CommandError>,
    ) -> Result<R, CommandError> {
        self.with_value(key, Intent::Read, Access::Touch, |value, reply| then(collection(value)?, reply))
    }

    /// A writer's look at a collection before it changes anything: counts nothing; another type is refused.
    #[inline]
    pub(crate) fn inspect<T: TypedValue, R>(
        &mut self,
        key: &[u8],
        then: impl FnOnce(Option<&T>) -> Result<R, CommandError>,
    ) -> Result<R, CommandError> {
        self.with_value(key, Intent::Write, Access::Touch, |value, _| then(collection(value)?))
    }

    /// Changes a collection in place; `None` when the key does not exist. `edit` changes nothing when it returns an error.
    #[inline]
    pub(crate) fn edit<T: TypedValue, R>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut T, &mut EditCx<'_>) -> Result<R, CommandError>,
    ) -> Result<Option<Edited<R>>, CommandError> {
        self.delete_if_expired(self.db, key);
        let (reply, limits, now_ms) = (&mut *self.reply, &self.env.limits, self.now_ms);
        let mut db = self.slots.db(self.db);
        let edited = db.edit_typed(key, |typed| {
            let value = T::of_mut(typed).ok_or(CommandError::WrongType)?;
            edit(value, &mut EditCx { reply, limits, now_ms })
        });
        match edited {
            Some(edited) => {
                Ok(Some(Edited { result: edited.result?, is_created: false, is_removed: edited.is_emptied }))
            }
            None if db.contains(key) => Err(CommandError::WrongType),
            None => Ok(None),
        }
    }

    /// Changes a collection in place, or makes one: a new key emits `new`. A new collection that stays empty is not
    /// stored, unless it is a stream, and neither is one whose `edit` fails.
    #[inline]
    pub(crate) fn edit_or_create<T: TypedValue, R>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut T, &mut EditCx<'_>) -> Result<R, CommandError>,
    ) -> Result<Edited<R>, CommandError> {
        let mut edit = Some(edit);
        // At most one of the two calls happens: a key that is there is edited, one that is not is made.
        let edited = self.edit(key, |value: &mut T, cx| match edit.take() {
            Some(edit) => edit(value, cx),
            None => Err(CommandError::WrongType),
        })?;
        if let Some(edited) = edited {
            return Ok(edited);
        }
        let Some(edit) = edit else { return Err(CommandError::WrongType) };
        let mut value = T::empty();
        let mut cx = EditCx { reply: self.reply, limits: &self.env.limits, now_ms: self.now_ms };
        let result = edit(&mut value, &mut cx)?;
        let is_removed = value.is_empty() && T::TYPE != pando_keyspace::ValueType::Stream;
        if !is_removed {
            self.slots.db(self.db).put_typed(key, value.into_typed(), Ttl::Clear);
            self.notify(EventClass::NEW, "new", key);
        }
        Ok(Edited { result, is_created: true, is_removed })
    }

    /// Stores the result of a STORE command, whatever was there; an empty one removes the key. Returns whether the key
    /// existed before. Emits `new`, but no other event, and counts no change.
    pub(crate) fn put<T: TypedValue>(&mut self, key: &[u8], value: T) -> bool {
        self.delete_if_expired(self.db, key);
        if value.is_empty() {
            return self.slots.db(self.db).remove(key);
        }
        let existed = self.slots.db(self.db).put_typed(key, value.into_typed(), Ttl::Clear).existed;
        if !existed {
            self.notify(EventClass::NEW, "new", key);
        }
        existed
    }

    /// A reader's lookup of several keys at once: counts hits and misses, deletes expired keys.
    pub(crate) fn values(&mut self, keys: &[&[u8]]) -> SmallVec<[Option<ValueRef<'_>>; 8]> {
        for key in keys {
            self.with_value(key, Intent::Read, Access::Peek, |_, _| ());
        }
        self.slots.db(self.db).get_many(keys)
    }
}

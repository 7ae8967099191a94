// SPDX-License-Identifier: BSD-3-Clause
//! Keys that change name or database with value and expire time: RENAME, RENAMENX, COPY, MOVE.

use crate::args::{is_word, small_integer};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lookup::{Access, Intent};
use crate::registry::{Row, row};
use pando_keyspace::DbIndex;
use pando_resp::Args;

pub(crate) const TABLE: &[Row] =
    &[row("rename", rename), row("renamenx", renamenx), row("copy", copy), row("move", move_key)];

const SAME_OBJECT: CommandError = CommandError::text("ERR source and destination objects are the same");

fn rename(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    rename_to(ctx, args[1], args[2], true)?;
    ctx.reply.ok();
    Ok(())
}

fn renamenx(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let renamed = rename_to(ctx, args[1], args[2], false)?;
    ctx.reply.int(i64::from(renamed));
    Ok(())
}

/// True when the key has (now) the new name and had another before.
fn rename_to(ctx: &mut Ctx<'_, '_>, from: &[u8], to: &[u8], replace: bool) -> Result<bool, CommandError> {
    if !ctx.with_value(from, Intent::Write, Access::Touch, |value, _| value.is_some()) {
        return Err(CommandError::NoSuchKey);
    }
    if from == to {
        return Ok(false);
    }
    let replaces = ctx.exists_in(ctx.db, to);
    if replaces && !replace {
        return Ok(false);
    }
    let entry = ctx.current().take_value(from).ok_or(CommandError::NoSuchKey)?;
    ctx.current().put_value(to, entry);
    if !replaces {
        ctx.notify(EventClass::NEW, "new", to);
    }
    ctx.modified(from);
    ctx.modified(to);
    ctx.notify(EventClass::GENERIC, "rename_from", from);
    ctx.notify(EventClass::GENERIC, "rename_to", to);
    ctx.dirty(1);
    Ok(true)
}

/// A database number as an argument.
fn db_number(ctx: &Ctx<'_, '_>, text: &[u8]) -> Result<DbIndex, CommandError> {
    let number = small_integer(text)?;
    DbIndex::try_from(number).ok().filter(|db| *db < ctx.env.databases).ok_or(CommandError::DbOutOfRange)
}

/// COPY source destination [DB n] [REPLACE]
fn copy(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (from, to) = (args[1], args[2]);
    let mut db = ctx.db;
    let mut replace = false;
    let mut at = 3;
    while at < args.len() {
        if is_word(args[at], "REPLACE") {
            replace = true;
        } else if is_word(args[at], "DB") && at + 1 < args.len() {
            db = db_number(ctx, args[at + 1])?;
            at += 1;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    if db == ctx.db && from == to {
        return Err(SAME_OBJECT);
    }
    let found = ctx.with_value(from, Intent::Read, Access::Touch, |value, _| value.is_some());
    let replaces = found && ctx.exists_in(db, to);
    if !found || (replaces && !replace) {
        ctx.reply.int(0);
        return Ok(());
    }
    let entry = ctx.current().copy_value(from).ok_or(CommandError::NoSuchKey)?;
    ctx.slots.db(db).put_value(to, entry);
    if !replaces {
        ctx.notify_in(EventClass::NEW, "new", db, to);
    }
    ctx.modified_in(db, to);
    ctx.notify_in(EventClass::GENERIC, "copy_to", db, to);
    ctx.dirty(1);
    ctx.reply.int(1);
    Ok(())
}

/// MOVE key db
fn move_key(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let db = db_number(ctx, args[2])?;
    if db == ctx.db {
        return Err(SAME_OBJECT);
    }
    let found = ctx.with_value(key, Intent::Write, Access::Touch, |value, _| value.is_some());
    if !found || ctx.exists_in(db, key) {
        ctx.reply.int(0);
        return Ok(());
    }
    let entry = ctx.current().take_value(key).ok_or(CommandError::NoSuchKey)?;
    ctx.slots.db(db).put_value(key, entry);
    ctx.notify_in(EventClass::NEW, "new", db, key);
    ctx.modified(key);
    ctx.modified_in(db, key);
    ctx.notify(EventClass::GENERIC, "move_from", key);
    ctx.notify_in(EventClass::GENERIC, "move_to", db, key);
    ctx.dirty(1);
    ctx.reply.int(1);
    Ok(())
}

// SPDX-License-Identifier: BSD-3-Clause
//! Whole strings without options: GET, MGET, GETSET, GETDEL, MSET, MSETNX, DELIFEQ, STRLEN. SET is in `set.rs`.

use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lookup::{Access, Intent, require_string};
use crate::registry::{Row, row};
use pando_keyspace::{IntText, Ttl};
use pando_resp::Args;

pub(crate) const TABLE: &[Row] = &[
    row("get", get),
    row("mget", mget),
    row("getset", getset),
    row("getdel", getdel),
    row("mset", mset),
    row("msetnx", msetnx),
    row("delifeq", delifeq),
    row("strlen", strlen),
];

fn get(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_value(ctx, args[1])?;
    Ok(())
}

/// Replies with the string at `key` or null; true when it was there.
fn reply_value(ctx: &mut Ctx<'_, '_>, key: &[u8]) -> Result<bool, CommandError> {
    ctx.read_string(key, |value, reply| {
        match value {
            Some(value) => reply.bulk(value.as_bytes(&mut IntText::new())),
            None => reply.null(),
        }
        Ok(value.is_some())
    })
}

fn mget(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.reply.array(args.len() - 1);
    for key in &args[1..] {
        ctx.with_value(key, Intent::Read, Access::Touch, |value, reply| match value {
            Some(value) if require_string(Some(value)).is_ok() => reply.bulk(value.as_bytes(&mut IntText::new())),
            _ => reply.null(),
        });
    }
    Ok(())
}

fn getset(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_value(ctx, args[1])?;
    ctx.store_string(args[1], args[2], Ttl::Clear);
    ctx.changed(EventClass::STRING, "set", args[1]);
    ctx.rewrite(&[b"SET", args[1], args[2]]);
    Ok(())
}

fn getdel(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    if reply_value(ctx, args[1])? {
        delete_and_log(ctx, args[1]);
    }
    Ok(())
}

/// DELIFEQ key value
fn delifeq(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let equal = ctx.write_string(args[1], |value, _| {
        Ok(value.is_some_and(|value| value.as_bytes(&mut IntText::new()) == args[2]))
    })?;
    if equal {
        delete_and_log(ctx, args[1]);
    }
    ctx.reply.int(i64::from(equal));
    Ok(())
}

/// Removes a live key; the log gets `DEL key` in place of the command.
fn delete_and_log(ctx: &mut Ctx<'_, '_>, key: &[u8]) {
    ctx.current().remove(key);
    ctx.rewrite(&[b"DEL", key]);
    ctx.changed(EventClass::GENERIC, "del", key);
}

fn mset(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::Arity("mset"));
    }
    store_pairs(ctx, args);
    ctx.reply.ok();
    Ok(())
}

fn msetnx(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::Arity("msetnx"));
    }
    for key in args[1..].iter().step_by(2) {
        if ctx.exists_in(ctx.db, key) {
            ctx.reply.int(0);
            return Ok(());
        }
    }
    store_pairs(ctx, args);
    ctx.reply.int(1);
    Ok(())
}

fn store_pairs(ctx: &mut Ctx<'_, '_>, args: Args<'_>) {
    for pair in args[1..].chunks_exact(2) {
        ctx.delete_if_expired(ctx.db, pair[0]);
        ctx.store_string(pair[0], pair[1], Ttl::Clear);
        ctx.changed(EventClass::STRING, "set", pair[0]);
    }
}

fn strlen(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read_string(args[1], |value, reply| {
        reply.int(value.map_or(0, |value| value.str_len()) as i64);
        Ok(())
    })
}

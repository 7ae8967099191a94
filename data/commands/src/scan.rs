// SPDX-License-Identifier: BSD-3-Clause
//! Walking all keys: KEYS, SCAN, RANDOMKEY, DBSIZE. They use the keyspace's slot-by-slot helpers, so other clients go on
//! between two slots; in MULTI every slot is locked already and the same calls see one moment.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::glob;
use crate::registry::{Row, row};
use pando_keyspace::ValueType;
use pando_resp::{Args, num};

pub(crate) const TABLE: &[Row] =
    &[row("keys", keys), row("scan", scan), row("randomkey", randomkey), row("dbsize", dbsize)];

fn keys(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let pattern = args[1];
    let all = pattern == b"*";
    let reply = &mut *ctx.reply;
    let mark = reply.array_deferred();
    let mut count = 0;
    ctx.slots.for_each(ctx.db, &mut |key, _| {
        if all || glob::matches(pattern, key) {
            reply.bulk(key);
            count += 1;
        }
    });
    reply.finish_array(mark, count);
    Ok(())
}

/// Names that SCAN TYPE takes; those of types that this keyspace cannot hold match nothing.
const TYPE_NAMES: [&str; 7] = ["string", "list", "set", "zset", "hash", "stream", "module"];

/// SCAN cursor [MATCH pattern] [COUNT n] [TYPE name]
fn scan(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let cursor = scan_cursor(args[1])?;
    let mut pattern: Option<&[u8]> = None;
    let mut type_name: Option<&'static str> = None;
    let mut count = 10;
    let mut at = 2;
    while at < args.len() {
        let value = args.get(at + 1).ok_or(CommandError::Syntax)?;
        if is_word(args[at], "COUNT") {
            count = integer(value)?;
            if count < 1 {
                return Err(CommandError::Syntax);
            }
        } else if is_word(args[at], "MATCH") {
            pattern = (*value != b"*").then_some(value);
        } else if is_word(args[at], "TYPE") {
            let known = TYPE_NAMES.into_iter().find(|name| is_word(value, name));
            let unknown =
                || CommandError::format(format!("ERR unknown type name '{}'", String::from_utf8_lossy(value)));
            type_name = Some(known.ok_or_else(unknown)?);
        } else {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    // The next cursor comes first in the reply and is known last, so the keys are gathered first.
    let mut found: Vec<u8> = Vec::new();
    let mut ends: Vec<usize> = Vec::new();
    let mut past_due = Vec::new();
    let now_ms = ctx.now_ms;
    let wanted = |of: ValueType| type_name.is_none_or(|name| of.name() == name);
    let next = ctx.slots.scan(cursor, ctx.db, usize::try_from(count).unwrap_or(usize::MAX), &mut |key, meta| {
        if wanted(meta.type_) && pattern.is_none_or(|pattern| glob::matches(pattern, key)) {
            if meta.is_due(now_ms) {
                past_due.push(key.into());
                return;
            }
            found.extend_from_slice(key);
            ends.push(found.len());
        }
    });
    delete_met(ctx, &past_due);
    let reply = &mut *ctx.reply;
    reply.array(2);
    let mut digits = pando_keyspace::IntText::new();
    reply.bulk(digits.format(next).as_bytes());
    reply.array(ends.len());
    let mut start = 0;
    for end in ends {
        reply.bulk(&found[start..end]);
        start = end;
    }
    Ok(())
}

/// Past-due keys that one walk deletes; their slots stay locked until it is logged. Others are left to the expire cycle.
const DELETED_MAX: usize = 256;

fn delete_met(ctx: &mut Ctx<'_, '_>, past_due: &[Box<[u8]>]) {
    ctx.effects.separate_records();
    for key in past_due.iter().take(DELETED_MAX) {
        ctx.delete_if_expired(ctx.db, key);
    }
}

/// A cursor as C's `strtoull` reads it, without a negative one.
pub(crate) fn scan_cursor(text: &[u8]) -> Result<u64, CommandError> {
    let trimmed = text.trim_ascii_start();
    let digits = trimmed.strip_prefix(b"+").unwrap_or(trimmed);
    let significant = &digits[digits.iter().take_while(|byte| **byte == b'0').count()..];
    let parsed = match (digits, significant) {
        ([], _) => None,
        (_, []) => Some(0),
        (_, significant) => num::parse_u64(significant),
    };
    parsed.ok_or(CommandError::text("ERR invalid cursor"))
}

fn randomkey(ctx: &mut Ctx<'_, '_>, _args: Args<'_>) -> Result<(), CommandError> {
    let mut past_due = Vec::new();
    let key = ctx.slots.random_key(ctx.db, &mut past_due);
    delete_met(ctx, &past_due);
    // Where nothing may be deleted Valkey shows a past-due key rather than to look for others forever.
    let key = key.or_else(|| past_due.pop().filter(|_| !ctx.may_delete_expired()));
    match key {
        Some(key) => ctx.reply.bulk(&key),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn dbsize(ctx: &mut Ctx<'_, '_>, _args: Args<'_>) -> Result<(), CommandError> {
    ctx.reply.int(ctx.slots.len(ctx.db) as i64);
    Ok(())
}

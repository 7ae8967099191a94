// SPDX-License-Identifier: BSD-3-Clause
//! Strings as numbers: INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT.

use crate::args::integer;
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use pando_keyspace::{IntText, StrHint, Ttl, ValueRef};
use pando_resp::{Args, LongDouble};

pub(crate) const TABLE: &[Row] = &[
    row("incr", incr),
    row("decr", decr),
    row("incrby", incrby),
    row("decrby", decrby),
    row("incrbyfloat", incrbyfloat),
];

fn incr(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    add(ctx, args[1], 1)
}

fn decr(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    add(ctx, args[1], -1)
}

fn incrby(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    add(ctx, args[1], integer(args[2])?)
}

fn decrby(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let amount = integer(args[2])?.checked_neg().ok_or(CommandError::text("ERR decrement would overflow"))?;
    add(ctx, args[1], amount)
}

fn add(ctx: &mut Ctx<'_, '_>, key: &[u8], amount: i64) -> Result<(), CommandError> {
    let (old, existed) = ctx.write_string(key, |value, _| match value {
        None => Ok((0, false)),
        Some(ValueRef::Int(int)) => Ok((int, true)),
        Some(value) => Ok((integer(value.as_bytes(&mut IntText::new()))?, true)),
    })?;
    let new = old.checked_add(amount).ok_or(CommandError::text("ERR increment or decrement would overflow"))?;
    ctx.current().set_int(key, new, Ttl::Keep);
    if !existed {
        ctx.notify(EventClass::NEW, "new", key);
    }
    ctx.changed(EventClass::STRING, "incrby", key);
    ctx.reply.int(new);
    Ok(())
}

/// Logged as `SET key result KEEPTTL`, so that no replica repeats the arithmetic.
fn incrbyfloat(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let old = ctx.write_string(key, |value, _| match value {
        None => Ok(LongDouble::parse(b"0")),
        Some(value) => Ok(Some(LongDouble::parse(value.as_bytes(&mut IntText::new())).ok_or(CommandError::NotFloat)?)),
    })?;
    let old = old.ok_or(CommandError::NotFloat)?;
    let amount = match LongDouble::parse(args[2]) {
        Some(amount) => amount,
        // Infinity is a number, and then the sum is not.
        None if is_infinity(args[2]) => return Err(NOT_FINITE),
        None => return Err(CommandError::NotFloat),
    };
    let sum = old.checked_add(amount).ok_or(NOT_FINITE)?;
    let mut text = Vec::with_capacity(32);
    sum.format(&mut text);
    ctx.store_string_as(key, &text, Ttl::Keep, StrHint::Text);
    ctx.changed(EventClass::STRING, "incrbyfloat", key);
    ctx.rewrite(&[b"SET", key, &text, b"KEEPTTL"]);
    ctx.reply.bulk(&text);
    Ok(())
}

const NOT_FINITE: CommandError = CommandError::text("ERR increment would produce NaN or Infinity");

fn is_infinity(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity")
}

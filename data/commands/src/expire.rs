// SPDX-License-Identifier: BSD-3-Clause
//! Expire times: EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT, TTL, PTTL, EXPIRETIME, PEXPIRETIME, PERSIST. Deleting what is past
//! due happens in `lookup.rs` (on access) and in the keyspace's expire step.
//!
//! Log: every form becomes PEXPIREAT with its options, or the deletion when the time is past.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lookup::{Access, Intent};
use crate::registry::{Row, row};
use pando_keyspace::IntText;
use pando_resp::Args;

pub(crate) const TABLE: &[Row] = &[
    row("expire", expire),
    row("pexpire", pexpire),
    row("expireat", expireat),
    row("pexpireat", pexpireat),
    row("ttl", ttl),
    row("pttl", pttl),
    row("expiretime", expiretime),
    row("pexpiretime", pexpiretime),
    row("persist", persist),
];

#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
}

#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    Now,
    Epoch,
}

fn expire(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    expire_with(ctx, args, Base::Now, Unit::Seconds, "expire")
}

fn pexpire(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    expire_with(ctx, args, Base::Now, Unit::Milliseconds, "pexpire")
}

fn expireat(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    expire_with(ctx, args, Base::Epoch, Unit::Seconds, "expireat")
}

fn pexpireat(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    expire_with(ctx, args, Base::Epoch, Unit::Milliseconds, "pexpireat")
}

/// When a time may be replaced by another: of a key or of a field.
#[derive(Copy, Clone, Default)]
pub(crate) struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    pub(crate) fn read(args: &[&[u8]]) -> Result<Conditions, CommandError> {
        let mut given = Conditions::default();
        for word in args {
            if is_word(word, "NX") {
                given.nx = true;
            } else if is_word(word, "XX") {
                given.xx = true;
            } else if is_word(word, "GT") {
                given.gt = true;
            } else if is_word(word, "LT") {
                given.lt = true;
            } else {
                return Err(CommandError::format(format!("ERR Unsupported option {}", String::from_utf8_lossy(word))));
            }
        }
        if given.nx && (given.xx || given.gt || given.lt) {
            return Err(CommandError::text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if given.gt && given.lt {
            return Err(CommandError::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(given)
    }

    /// A key without an expire time counts as one that lives for ever.
    pub(crate) fn allow(self, current: Option<u64>, new: u64) -> bool {
        !(self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|current| new <= current)
            || self.lt && current.is_some_and(|current| new >= current))
    }
}

fn expire_with(
    ctx: &mut Ctx<'_, '_>,
    args: Args<'_>,
    base: Base,
    unit: Unit,
    command: &'static str,
) -> Result<(), CommandError> {
    let key = args[1];
    let conditions = Conditions::read(&args[3..])?;
    let amount = integer(args[2])?;
    let scaled = if unit == Unit::Seconds { amount.checked_mul(1000) } else { Some(amount) };
    let absolute = match base {
        Base::Now => scaled.and_then(|scaled| scaled.checked_add_unsigned(ctx.now_ms)),
        Base::Epoch => scaled,
    };
    // Times before the epoch are as past as the epoch.
    let at_ms = absolute.ok_or(CommandError::InvalidExpire(command))?.max(0).cast_unsigned();
    if !ctx.with_value(key, Intent::Write, Access::Touch, |value, _| value.is_some()) {
        ctx.reply.int(0);
        return Ok(());
    }
    let current = ctx.current().expire_at(key).flatten();
    if !conditions.allow(current, at_ms) {
        ctx.reply.int(0);
        return Ok(());
    }
    if ctx.is_past(at_ms) {
        ctx.delete_as_expired(key);
        ctx.reply.int(1);
        return Ok(());
    }
    ctx.current().set_expire(key, Some(at_ms));
    ctx.changed(EventClass::GENERIC, "expire", key);
    if base != Base::Epoch || unit != Unit::Milliseconds {
        let mut digits = IntText::new();
        let mut logged: Vec<&[u8]> = args.to_vec();
        logged[0] = b"PEXPIREAT";
        logged[2] = digits.format(at_ms).as_bytes();
        ctx.rewrite(&logged);
    }
    ctx.reply.int(1);
    Ok(())
}

fn ttl(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let now_ms = ctx.now_ms;
    reply_time(ctx, args[1], |at_ms| (at_ms.saturating_sub(now_ms) + 500) / 1000)
}

fn pttl(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let now_ms = ctx.now_ms;
    reply_time(ctx, args[1], |at_ms| at_ms.saturating_sub(now_ms))
}

fn expiretime(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_time(ctx, args[1], |at_ms| (at_ms + 500) / 1000)
}

fn pexpiretime(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_time(ctx, args[1], |at_ms| at_ms)
}

/// `shown` of the expire time, -1 without one, -2 without a key.
fn reply_time(ctx: &mut Ctx<'_, '_>, key: &[u8], shown: impl FnOnce(u64) -> u64) -> Result<(), CommandError> {
    let found = ctx.with_value(key, Intent::Read, Access::Peek, |value, _| value.is_some());
    let answer = match found.then(|| ctx.current().expire_at(key).flatten()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => shown(at_ms) as i64,
    };
    ctx.reply.int(answer);
    Ok(())
}

fn persist(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let found = ctx.with_value(key, Intent::Write, Access::Touch, |value, _| value.is_some());
    let persists = found && ctx.current().expire_at(key).flatten().is_some();
    if persists {
        ctx.current().set_expire(key, None);
        ctx.changed(EventClass::GENERIC, "persist", key);
    }
    ctx.reply.int(i64::from(persists));
    Ok(())
}

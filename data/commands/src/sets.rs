// SPDX-License-Identifier: BSD-3-Clause
//! Sets: SADD, SREM, SMOVE, SISMEMBER, SMISMEMBER, SCARD, SMEMBERS, SSCAN, and random members: SPOP, SRANDMEMBER. Several
//! sets at once are in `set_algebra.rs`.

use crate::args::integer;
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lists::reply_element;
use crate::registry::{Row, row};
use crate::scan_values::scan_collection;
use pando_resp::{Args, ReplyBuf};
use pando_values::{Collection, Element, Limits, Set};

pub(crate) const TABLE: &[Row] = &[
    row("sadd", sadd),
    row("srem", srem),
    row("smove", smove),
    row("sismember", sismember),
    row("smismember", smismember),
    row("scard", scard),
    row("smembers", smembers),
    row("sscan", sscan),
    row("spop", spop),
    row("srandmember", srandmember),
];

/// Members that one SREM in the log takes out on behalf of an SPOP.
const LOG_BATCH: usize = 1024;
/// Longest reply that a negative count of SRANDMEMBER may ask for; Valkey goes on until memory runs out.
const REPLY_BYTES_MAX: usize = 1 << 30;

/// Adds a member; a new set takes the form for it.
fn add_one(set: &mut Set, member: &[u8], limits: &Limits) -> bool {
    if set.is_empty() {
        *set = Set::new_for(member, 1, limits);
    }
    set.add(member, limits)
}

fn sadd(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, members) = (args[1], &args[2..]);
    let edited = ctx.edit_or_create(key, |set: &mut Set, cx| {
        if set.is_empty() {
            *set = Set::new_for(members[0], members.len(), cx.limits);
        } else {
            set.expect(members.len(), cx.limits);
        }
        Ok(members.iter().filter(|member| set.add(member, cx.limits)).count())
    })?;
    if edited.result > 0 {
        ctx.dirty(edited.result as u64 - 1);
        ctx.changed(EventClass::SET, "sadd", key);
    }
    ctx.reply.int(edited.result as i64);
    Ok(())
}

fn srem(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, members) = (args[1], &args[2..]);
    let edited = ctx.edit(key, |set: &mut Set, _| Ok(members.iter().filter(|member| set.remove(member)).count()))?;
    let removed = edited.map_or(0, |edited| edited.result);
    if removed > 0 {
        ctx.dirty(removed as u64 - 1);
        ctx.changed(EventClass::SET, "srem", key);
        if edited.is_some_and(|edited| edited.is_removed) {
            ctx.notify(EventClass::GENERIC, "del", key);
        }
    }
    ctx.reply.int(removed as i64);
    Ok(())
}

/// SMOVE source destination member
fn smove(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (from, to, member) = (args[1], args[2], args[3]);
    // Without a source the destination's type does not matter.
    let Some(is_member) = ctx.inspect(from, |set: Option<&Set>| Ok(set.map(|set| set.contains(member))))? else {
        ctx.reply.int(0);
        return Ok(());
    };
    ctx.inspect(to, |_: Option<&Set>| Ok(()))?;
    if from == to || !is_member {
        ctx.reply.int(i64::from(is_member));
        return Ok(());
    }
    let taken = ctx.edit(from, |set: &mut Set, _| Ok(set.remove(member)))?;
    ctx.changed(EventClass::SET, "srem", from);
    if taken.is_some_and(|taken| taken.is_removed) {
        ctx.notify(EventClass::GENERIC, "del", from);
    }
    if ctx.edit_or_create(to, |set: &mut Set, cx| Ok(add_one(set, member, cx.limits)))?.result {
        ctx.changed(EventClass::SET, "sadd", to);
    }
    ctx.reply.int(1);
    Ok(())
}

fn sismember(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |set: Option<&Set>, reply| {
        reply.int(i64::from(set.is_some_and(|set| set.contains(args[2]))));
        Ok(())
    })
}

fn smismember(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |set: Option<&Set>, reply| {
        reply.array(args.len() - 2);
        for member in &args[2..] {
            reply.int(i64::from(set.is_some_and(|set| set.contains(member))));
        }
        Ok(())
    })
}

fn scard(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |set: Option<&Set>, reply| {
        reply.int(set.map_or(0, Set::len) as i64);
        Ok(())
    })
}

fn smembers(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |set: Option<&Set>, reply| {
        reply_members(reply, set);
        Ok(())
    })
}

/// Replies all members as a set.
fn reply_members(reply: &mut ReplyBuf, set: Option<&Set>) {
    reply.set(set.map_or(0, Set::len));
    if let Some(set) = set {
        set.iter().for_each(|member| reply_element(reply, member));
    }
}

fn sscan(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    scan_collection(ctx, args, |set: &Set, cursor, count, found| {
        set.scan(cursor, count, &mut |member| {
            found.key(member);
        })
    })
}

/// SPOP key [count]
fn spop(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    match args {
        [_, key] => spop_one(ctx, key),
        [_, key, count] => {
            let count = integer(count).ok().and_then(|count| usize::try_from(count).ok());
            spop_count(ctx, key, count.ok_or(CommandError::MustBePositive)?)
        }
        _ => Err(CommandError::Syntax),
    }
}

fn spop_one(ctx: &mut Ctx<'_, '_>, key: &[u8]) -> Result<(), CommandError> {
    let popped = ctx.edit(key, |set: &mut Set, _| Ok(set.pop()))?;
    let Some((member, is_removed)) = popped.and_then(|edited| Some((edited.result?, edited.is_removed))) else {
        ctx.reply.null();
        return Ok(());
    };
    ctx.changed(EventClass::SET, "spop", key);
    ctx.rewrite(&[b"SREM", key, &member]);
    ctx.reply.bulk(&member);
    if is_removed {
        ctx.notify(EventClass::GENERIC, "del", key);
    }
    Ok(())
}

fn spop_count(ctx: &mut Ctx<'_, '_>, key: &[u8], count: usize) -> Result<(), CommandError> {
    let Some(len) = ctx.inspect(key, |set: Option<&Set>| Ok(set.map(Set::len)))?.filter(|_| count > 0) else {
        ctx.reply.set(0);
        return Ok(());
    };
    if count >= len {
        ctx.read(key, |set: Option<&Set>, reply| {
            reply_members(reply, set);
            Ok(())
        })?;
        ctx.dirty(len as u64 - 1);
        ctx.changed(EventClass::SET, "spop", key);
        ctx.current().remove(key);
        ctx.notify(EventClass::GENERIC, "del", key);
        ctx.rewrite(&[if ctx.env.lazy_server_del { b"UNLINK" } else { b"DEL" }, key]);
        return Ok(());
    }
    let is_logged = ctx.env.log;
    let mut taken: Vec<Vec<u8>> = Vec::new();
    ctx.edit(key, |set: &mut Set, cx| {
        cx.reply.set(count);
        set.pop_many(count, cx.limits, &mut |member| {
            reply_element(cx.reply, member);
            if is_logged {
                taken.push(member.to_vec());
            }
        });
        Ok(())
    })?;
    ctx.dirty(count as u64 - 1);
    ctx.changed(EventClass::SET, "spop", key);
    for batch in taken.chunks(LOG_BATCH) {
        let mut record: Vec<&[u8]> = vec![b"SREM", key];
        record.extend(batch.iter().map(Vec::as_slice));
        ctx.rewrite(&record);
    }
    Ok(())
}

/// SRANDMEMBER key [count]; a negative count allows repetition.
fn srandmember(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let count = match args {
        [_, _] => None,
        [_, _, count] => Some(integer(count)?),
        _ => return Err(CommandError::Syntax),
    };
    if count == Some(i64::MIN) {
        return Err(CommandError::format(format!(
            "ERR value is out of range, value must between {} and {}",
            -i64::MAX,
            i64::MAX
        )));
    }
    ctx.read(args[1], |set: Option<&Set>, reply| match (set, count) {
        (None, None) => {
            reply.null();
            Ok(())
        }
        (None, Some(_)) | (_, Some(0)) => {
            reply.array(0);
            Ok(())
        }
        (Some(set), None) => {
            reply_element(reply, set.random().unwrap_or(Element::Str(&[])));
            Ok(())
        }
        (Some(set), Some(count @ 1..)) => {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            reply.array(count.min(set.len()));
            set.sample(count, &mut |member| reply_element(reply, member));
            Ok(())
        }
        (Some(set), Some(count)) => {
            let count = count.unsigned_abs();
            reply.array(count as usize);
            for _ in 0..count {
                if reply.len() > REPLY_BYTES_MAX {
                    return Err(CommandError::text("ERR the reply is longer than one gigabyte"));
                }
                reply_element(reply, set.random().unwrap_or(Element::Str(&[])));
            }
            Ok(())
        }
    })
}

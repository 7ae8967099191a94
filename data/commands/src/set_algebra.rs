// SPDX-License-Identifier: BSD-3-Clause
//! Several sets at once: SINTER, SUNION, SDIFF, their STORE forms, SINTERCARD.
//!
//! A result that is stored passes through the same forms as in Valkey, because its encoding remembers on which way it came
//! to be: whether a difference was built up or whittled down, whether an intersection started from a listpack.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lists::reply_element;
use crate::registry::{Row, row};
use pando_resp::{Args, ReplyBuf};
use pando_values::{Collection, Element, Limits, Set, SetForm, TypedValue, ValueRef};
use smallvec::SmallVec;
use std::cmp::Reverse;

pub(crate) const TABLE: &[Row] = &[
    row("sinter", sinter),
    row("sinterstore", sinterstore),
    row("sintercard", sintercard),
    row("sunion", sunion),
    row("sunionstore", sunionstore),
    row("sdiff", sdiff),
    row("sdiffstore", sdiffstore),
];

type Sets<'a> = SmallVec<[Option<&'a Set>; 8]>;

/// Hands the sets of the keys to `then`, `None` for a key that does not exist; another type is refused.
fn with_sets<R>(
    ctx: &mut Ctx<'_, '_>,
    keys: &[&[u8]],
    then: impl FnOnce(&mut Sets<'_>, &mut ReplyBuf) -> Result<R, CommandError>,
) -> Result<R, CommandError> {
    // The sets borrow the context, so its reply is taken out meanwhile.
    let mut reply = std::mem::take(ctx.reply);
    let values = ctx.values(keys);
    let sets: Result<Sets<'_>, CommandError> = values
        .iter()
        .map(|value| match value {
            None => Ok(None),
            Some(ValueRef::Typed(typed)) => Set::of(typed).map(Some).ok_or(CommandError::WrongType),
            Some(_) => Err(CommandError::WrongType),
        })
        .collect();
    let result = sets.and_then(|mut sets| then(&mut sets, &mut reply));
    drop(values);
    *ctx.reply = reply;
    result
}

/// Stores a result, replies its size.
fn store(ctx: &mut Ctx<'_, '_>, target: &[u8], result: Set, event: &'static str) {
    let len = result.len();
    let existed = ctx.put(target, result);
    if len > 0 {
        ctx.changed(EventClass::SET, event, target);
    } else if existed {
        ctx.changed(EventClass::GENERIC, "del", target);
    }
    ctx.reply.int(len as i64);
}

/// Hands the members that are in all sets to `take`, until it returns false.
fn intersect<'a>(sets: &mut Sets<'a>, mut take: impl FnMut(Element<'a>) -> bool) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<SmallVec<[&'a Set; 8]>>>() else { return };
    sets.sort_by_key(|set| set.len());
    let Some((first, others)) = sets.split_first() else { return };
    for member in first.iter() {
        let is_in_all = others.iter().all(|other| std::ptr::eq(*other, *first) || other.contains_element(member));
        if is_in_all && !take(member) {
            return;
        }
    }
}

fn sinter(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    with_sets(ctx, &args[1..], |sets, reply| {
        let mark = reply.array_deferred();
        let mut count = 0;
        intersect(sets, |member| {
            reply_element(reply, member);
            count += 1;
            true
        });
        reply.finish_set(mark, count);
        Ok(())
    })
}

/// SINTERSTORE destination key [key ...]
fn sinterstore(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let limits = &ctx.env.limits;
    let result = with_sets(ctx, &args[2..], |sets, _| {
        let smallest = sets.iter().flatten().min_by_key(|set| set.len());
        let from_ints = smallest.is_some_and(|set| matches!(set.form(), SetForm::Ints(_)));
        let mut result = if from_ints { Set::new() } else { Set::new_pack() };
        let mut only_ints = true;
        intersect(sets, |member| {
            only_ints = only_ints && member.as_int().is_some();
            result.add_element(member, limits);
            true
        });
        if only_ints && !result.is_empty() {
            result.make_ints(limits);
        }
        Ok(result)
    })?;
    store(ctx, args[1], result, "sinterstore");
    Ok(())
}

/// SINTERCARD numkeys key [key ...] [LIMIT limit]
fn sintercard(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let keys = integer(args[1]).ok().filter(|keys| *keys > 0);
    let keys = keys.ok_or(CommandError::text("ERR numkeys should be greater than 0"))?;
    let keys = usize::try_from(keys).ok().filter(|keys| *keys <= args.len() - 2);
    let keys = keys.ok_or(CommandError::text("ERR Number of keys can't be greater than number of args"))?;
    let mut limit = 0;
    let mut rest = &args[2 + keys..];
    while let [word, more @ ..] = rest {
        let [number, more @ ..] = more else { return Err(CommandError::Syntax) };
        if !is_word(word, "LIMIT") {
            return Err(CommandError::Syntax);
        }
        let number = integer(number).ok().and_then(|number| usize::try_from(number).ok());
        limit = number.ok_or(CommandError::text("ERR LIMIT can't be negative"))?;
        rest = more;
    }
    with_sets(ctx, &args[2..2 + keys], |sets, reply| {
        let mut count = 0;
        intersect(sets, |_| {
            count += 1;
            count != limit
        });
        reply.int(count as i64);
        Ok(())
    })
}

fn unite(sets: &Sets<'_>, result: &mut Set, limits: &Limits) {
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        result.add_element(member, limits);
    }
}

/// What is in the first set and in no other.
fn subtract(sets: &mut Sets<'_>, result: &mut Set, limits: &Limits) {
    let Some((Some(first), others)) = sets.split_first_mut() else { return };
    let first = *first;
    if others.iter().flatten().any(|other| std::ptr::eq(*other, first)) {
        return;
    }
    // Looking every member up in every other set, or going through all sets once: whichever is less work.
    let present = 1 + others.iter().flatten().count();
    let total = first.len() + others.iter().flatten().map(|set| set.len()).sum::<usize>();
    if present.saturating_mul(first.len()) / 2 <= total {
        // In large sets it is likelier to find a member, and to be done with it.
        others.sort_by_key(|set| Reverse(set.map_or(0, Set::len)));
        for member in first.iter() {
            if !others.iter().flatten().any(|other| other.contains_element(member)) {
                result.add_element(member, limits);
            }
        }
        return;
    }
    first.iter().for_each(|member| {
        result.add_element(member, limits);
    });
    for other in others.iter().flatten() {
        if result.is_empty() {
            return;
        }
        other.iter().for_each(|member| {
            result.remove_element(member);
        });
    }
}

/// Where a result that is only replied is gathered: integers sort themselves, anything else is best kept in a table.
fn scratch(sets: &Sets<'_>) -> Set {
    let only_ints = sets.iter().flatten().all(|set| matches!(set.form(), SetForm::Ints(_)));
    if only_ints { Set::new() } else { Set::new_table() }
}

fn reply_set(reply: &mut ReplyBuf, result: &Set) {
    reply.set(result.len());
    result.iter().for_each(|member| reply_element(reply, member));
}

fn sunion(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let limits = &ctx.env.limits;
    with_sets(ctx, &args[1..], |sets, reply| {
        let mut result = scratch(sets);
        unite(sets, &mut result, limits);
        reply_set(reply, &result);
        Ok(())
    })
}

/// SUNIONSTORE destination key [key ...]
fn sunionstore(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let limits = &ctx.env.limits;
    let result = with_sets(ctx, &args[2..], |sets, _| {
        let mut result = Set::new();
        unite(sets, &mut result, limits);
        Ok(result)
    })?;
    store(ctx, args[1], result, "sunionstore");
    Ok(())
}

fn sdiff(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let limits = &ctx.env.limits;
    with_sets(ctx, &args[1..], |sets, reply| {
        let mut result = scratch(sets);
        subtract(sets, &mut result, limits);
        reply_set(reply, &result);
        Ok(())
    })
}

/// SDIFFSTORE destination key [key ...]
fn sdiffstore(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let limits = &ctx.env.limits;
    let result = with_sets(ctx, &args[2..], |sets, _| {
        let mut result = Set::new();
        subtract(sets, &mut result, limits);
        Ok(result)
    })?;
    store(ctx, args[1], result, "sdiffstore");
    Ok(())
}

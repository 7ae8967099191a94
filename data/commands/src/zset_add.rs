// SPDX-License-Identifier: BSD-3-Clause
//! Sorted sets: ZADD, ZINCRBY, ZREM.

use crate::args::is_word;
use crate::collections::EditCx;
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::zset_args::{removed, score};
use pando_resp::Args;
use pando_values::{Collection, ZSet};
use smallvec::SmallVec;

pub(crate) const TABLE: &[Row] = &[row("zadd", zadd), row("zincrby", zincrby), row("zrem", zrem)];

/// Which elements are set.
#[derive(Copy, Clone, Default)]
pub(crate) struct AddFlags {
    /// Only new ones.
    pub(crate) nx: bool,
    /// Only those that are there.
    pub(crate) xx: bool,
    /// Of those that are there, only to a greater score.
    pub(crate) gt: bool,
    /// Of those that are there, only to a lesser score.
    pub(crate) lt: bool,
    /// Replies what changed, not what is new.
    pub(crate) ch: bool,
    /// Adds to the score, and replies the sum.
    pub(crate) incr: bool,
}

/// ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member ...
fn zadd(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let mut flags = AddFlags::default();
    let mut rest = &args[2..];
    while let [word, more @ ..] = rest {
        let flag = [
            ("nx", &mut flags.nx),
            ("xx", &mut flags.xx),
            ("ch", &mut flags.ch),
            ("incr", &mut flags.incr),
            ("gt", &mut flags.gt),
            ("lt", &mut flags.lt),
        ]
        .into_iter()
        .find(|(name, _)| is_word(word, name));
        let Some((_, flag)) = flag else { break };
        *flag = true;
        rest = more;
    }
    add(ctx, args[1], flags, rest)
}

fn zincrby(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    add(ctx, args[1], AddFlags { incr: true, ..AddFlags::default() }, &args[2..])
}

/// What came of an addition.
#[derive(Default)]
struct Added {
    new: usize,
    updated: usize,
    /// The score in the end, when the element was not left alone.
    score: Option<f64>,
}

fn add(ctx: &mut Ctx<'_, '_>, key: &[u8], flags: AddFlags, pairs: &[&[u8]]) -> Result<(), CommandError> {
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    if flags.nx && flags.xx {
        return Err(CommandError::text("ERR XX and NX options at the same time are not compatible"));
    }
    if [flags.gt, flags.lt, flags.nx].into_iter().filter(|set| *set).count() > 1 {
        return Err(CommandError::text("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if flags.incr && pairs.len() > 2 {
        return Err(CommandError::text("ERR INCR option supports a single increment-element pair"));
    }
    let mut elements: SmallVec<[(f64, &[u8]); 8]> = SmallVec::with_capacity(pairs.len() / 2);
    for pair in pairs.chunks_exact(2) {
        elements.push((score(pair[0])?, pair[1]));
    }
    add_elements(ctx, key, flags, &elements)
}

/// Adds the elements, replies, and tells everybody. Nothing changes when it refuses.
pub(crate) fn add_elements(
    ctx: &mut Ctx<'_, '_>,
    key: &[u8],
    flags: AddFlags,
    elements: &[(f64, &[u8])],
) -> Result<(), CommandError> {
    let change = |set: &mut ZSet, cx: &mut EditCx<'_>| {
        let longest = elements.iter().map(|(_, member)| member.len()).max().unwrap_or(0);
        set.prepare(elements.len(), longest, cx.limits);
        let mut added = Added::default();
        for (score, member) in elements {
            add_element(set, cx, flags, *score, member, &mut added)?;
        }
        Ok(added)
    };
    let added = if flags.xx {
        ctx.edit(key, change)?.map(|edited| edited.result).unwrap_or_default()
    } else {
        ctx.edit_or_create(key, change)?.result
    };
    let changed = added.new + added.updated;
    if changed > 0 {
        ctx.dirty(changed as u64);
        ctx.modified(key);
        ctx.notify(EventClass::ZSET, if flags.incr { "zincr" } else { "zadd" }, key);
    }
    match added.score {
        Some(score) if flags.incr => ctx.reply.double(score),
        None if flags.incr => ctx.reply.null(),
        _ => ctx.reply.int(if flags.ch { changed } else { added.new } as i64),
    }
    Ok(())
}

#[inline]
fn add_element(
    set: &mut ZSet,
    cx: &EditCx<'_>,
    flags: AddFlags,
    score: f64,
    member: &[u8],
    added: &mut Added,
) -> Result<(), CommandError> {
    let mut is_nan = false;
    set.update(member, cx.limits, |old| {
        let Some(old) = old else {
            if flags.xx {
                return None;
            }
            added.new += 1;
            added.score = Some(score);
            return Some(score);
        };
        if flags.nx {
            return None;
        }
        let score = if flags.incr { old + score } else { score };
        if score.is_nan() {
            is_nan = true;
            return None;
        }
        if (flags.lt && score >= old) || (flags.gt && score <= old) {
            return None;
        }
        added.score = Some(score);
        added.updated += usize::from(score != old);
        Some(score)
    });
    if is_nan { Err(CommandError::text("ERR resulting score is not a number (NaN)")) } else { Ok(()) }
}

fn zrem(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let edited = ctx.edit(args[1], |set: &mut ZSet, _| {
        let before = set.len();
        for member in &args[2..] {
            set.remove(member);
        }
        Ok(before - set.len())
    })?;
    let count = edited.map_or(0, |edited| edited.result);
    removed(ctx, args[1], "zrem", count, edited.is_some_and(|edited| edited.is_removed));
    ctx.reply.int(count as i64);
    Ok(())
}

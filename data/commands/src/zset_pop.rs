// SPDX-License-Identifier: BSD-3-Clause
//! Sorted sets: ZPOPMIN, ZPOPMAX, ZMPOP, and the removal from one key that the blocking forms use too.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::zset_args::{removed, reply_member};
use pando_resp::{Args, Proto};
use pando_values::{Collection, IntText, ZSet};

pub(crate) const TABLE: &[Row] = &[row("zpopmin", zpopmin), row("zpopmax", zpopmax), row("zmpop", zmpop)];

/// Which end elements are taken from.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Min,
    Max,
}

impl End {
    /// The word of ZMPOP and BZMPOP.
    pub(crate) fn parse(word: &[u8]) -> Result<End, CommandError> {
        if is_word(word, "MIN") {
            Ok(End::Min)
        } else if is_word(word, "MAX") {
            Ok(End::Max)
        } else {
            Err(CommandError::Syntax)
        }
    }

    fn event(self) -> &'static str {
        match self {
            End::Min => "zpopmin",
            End::Max => "zpopmax",
        }
    }

    /// The command that the removal is logged as, where the client's own is not.
    pub(crate) fn logged(self) -> &'static [u8] {
        match self {
            End::Min => b"ZPOPMIN",
            End::Max => b"ZPOPMAX",
        }
    }
}

/// How popped elements are replied.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum PopReply {
    /// Members and scores in turn.
    Flat,
    /// Pairs of member and score.
    Pairs,
    /// The key, then member and score in turn (BZPOPMIN).
    KeyFlat,
    /// The key and an array of pairs (ZMPOP).
    KeyPairs,
}

/// Takes up to `count` elements, at least one, from an end of the set at `key`, replies them and tells everybody. False,
/// with no reply, when there is no such key. `logged_as_pop`: what is logged is ZPOPMIN or ZPOPMAX with the count.
pub(crate) fn pop(
    ctx: &mut Ctx<'_, '_>,
    key: &[u8],
    end: End,
    count: usize,
    shape: PopReply,
    logged_as_pop: bool,
) -> Result<bool, CommandError> {
    let edited = ctx.edit(key, |set: &mut ZSet, cx| {
        let count = count.min(set.len());
        let reply = &mut *cx.reply;
        match shape {
            PopReply::Flat => reply.array(count * 2),
            PopReply::Pairs => reply.array(count),
            PopReply::KeyFlat => {
                reply.array(count * 2 + 1);
                reply.bulk(key);
            }
            PopReply::KeyPairs => {
                reply.array(2);
                reply.bulk(key);
                reply.array(count);
            }
        }
        let ranks = if end == End::Min { 0..count } else { set.len() - count..set.len() };
        for (member, score) in set.range(ranks.clone(), end == End::Max) {
            match shape {
                PopReply::Flat | PopReply::KeyFlat => reply_member(reply, member),
                PopReply::Pairs | PopReply::KeyPairs => {
                    reply.array(2);
                    reply_member(reply, member);
                }
            }
            reply.double(score);
        }
        set.remove_ranks(ranks);
        Ok(count)
    })?;
    let Some(edited) = edited else { return Ok(false) };
    removed(ctx, key, end.event(), edited.result, edited.is_removed);
    if logged_as_pop {
        ctx.rewrite(&[end.logged(), key, IntText::new().format(edited.result).as_bytes()]);
    }
    Ok(true)
}

fn zpopmin(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    pop_one_key(ctx, args, End::Min)
}

fn zpopmax(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    pop_one_key(ctx, args, End::Max)
}

/// ZPOPMIN key [count]
fn pop_one_key(ctx: &mut Ctx<'_, '_>, args: Args<'_>, end: End) -> Result<(), CommandError> {
    let (count, shape) = match &args[2..] {
        [] => (1, PopReply::Flat),
        [count] => {
            let count = integer(count).ok().and_then(|count| usize::try_from(count).ok());
            let count = count.ok_or(CommandError::MustBePositive)?;
            (count, if ctx.reply.proto() == Proto::Resp3 { PopReply::Pairs } else { PopReply::Flat })
        }
        _ => return Err(CommandError::Syntax),
    };
    let popped = if count == 0 {
        // The type is checked all the same.
        ctx.inspect(args[1], |_: Option<&ZSet>| Ok(()))?;
        false
    } else {
        pop(ctx, args[1], end, count, shape, false)?
    };
    if !popped {
        ctx.reply.array(0);
    }
    Ok(())
}

/// What ZMPOP and BZMPOP share: `numkeys key ... MIN | MAX [COUNT count]`.
pub(crate) struct PopQuery<'a> {
    pub(crate) keys: &'a [&'a [u8]],
    pub(crate) end: End,
    pub(crate) count: usize,
}

impl<'a> PopQuery<'a> {
    pub(crate) fn parse(args: &'a [&'a [u8]]) -> Result<PopQuery<'a>, CommandError> {
        const NUMKEYS: CommandError = CommandError::text("ERR numkeys should be greater than 0");
        const COUNT: CommandError = CommandError::text("ERR count should be greater than 0");
        let positive = |arg: &[u8], refused: CommandError| match integer(arg) {
            Ok(number) if number > 0 => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
            _ => Err(refused),
        };
        let key_count = positive(args[0], NUMKEYS)?;
        let Some((keys, [end, options @ ..])) = args[1..].split_at_checked(key_count) else {
            return Err(CommandError::Syntax);
        };
        let end = End::parse(end)?;
        let count = match options {
            [] => 1,
            [word, count, rest @ ..] if is_word(word, "COUNT") => {
                let count = positive(count, COUNT)?;
                if !rest.is_empty() {
                    return Err(CommandError::Syntax);
                }
                count
            }
            _ => return Err(CommandError::Syntax),
        };
        Ok(PopQuery { keys, end, count })
    }
}

fn zmpop(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let query = PopQuery::parse(&args[1..])?;
    for key in query.keys {
        if pop(ctx, key, query.end, query.count, PopReply::KeyPairs, true)? {
            return Ok(());
        }
    }
    ctx.reply.null_array();
    Ok(())
}

// SPDX-License-Identifier: BSD-3-Clause
//! Sorted sets, readers of elements and counts: ZCARD, ZCOUNT, ZLEXCOUNT, ZSCORE, ZMSCORE, ZRANK, ZREVRANK, ZRANDMEMBER,
//! ZSCAN.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::scan_values::scan_collection;
use crate::zset_args::{lex_range, reply_element, reply_elements, reply_header, reply_member, score_range};
use pando_resp::num::FloatBuf;
use pando_resp::{Args, ReplyBuf};
use pando_values::{Collection, IntText, ZSet, random_below};
use std::collections::HashSet;

pub(crate) const TABLE: &[Row] = &[
    row("zcard", zcard),
    row("zcount", zcount),
    row("zlexcount", zlexcount),
    row("zscore", zscore),
    row("zmscore", zmscore),
    row("zrank", zrank),
    row("zrevrank", zrevrank),
    row("zrandmember", zrandmember),
    row("zscan", zscan),
];

fn zcard(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        reply.int(set.map_or(0, |set| set.len()) as i64);
        Ok(())
    })
}

fn zcount(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let range = score_range(args[2], args[3])?;
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        reply.int(set.map_or(0, |set| set.ranks_by_score(&range).len()) as i64);
        Ok(())
    })
}

fn zlexcount(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let range = lex_range(args[2], args[3])?;
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        reply.int(set.map_or(0, |set| set.ranks_by_lex(&range).len()) as i64);
        Ok(())
    })
}

fn reply_score(reply: &mut ReplyBuf, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

fn zscore(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        reply_score(reply, set.and_then(|set| set.score(args[2])));
        Ok(())
    })
}

fn zmscore(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        reply.array(args.len() - 2);
        for member in &args[2..] {
            reply_score(reply, set.and_then(|set| set.score(member)));
        }
        Ok(())
    })
}

fn zrank(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    rank(ctx, args, "zrank", |rank, _| rank)
}

fn zrevrank(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    rank(ctx, args, "zrevrank", |rank, len| len - 1 - rank)
}

/// ZRANK key member [WITHSCORE]
fn rank(
    ctx: &mut Ctx<'_, '_>,
    args: Args<'_>,
    name: &'static str,
    shown: impl FnOnce(usize, usize) -> usize,
) -> Result<(), CommandError> {
    let with_score = match &args[3..] {
        [] => false,
        [word] if is_word(word, "WITHSCORE") => true,
        [_] => return Err(CommandError::Syntax),
        _ => return Err(CommandError::Arity(name)),
    };
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        let found = set.and_then(|set| set.rank(args[2]).map(|(rank, score)| (shown(rank, set.len()), score)));
        match found {
            None if with_score => reply.null_array(),
            None => reply.null(),
            Some((rank, score)) => {
                if with_score {
                    reply.array(2);
                }
                reply.int(rank as i64);
                if with_score {
                    reply.double(score);
                }
            }
        }
        Ok(())
    })
}

fn zscan(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    scan_collection(ctx, args, |set: &ZSet, cursor, count, found| {
        let mut digits = IntText::new();
        let mut text = FloatBuf::new();
        set.scan(cursor, count, &mut |member, score| {
            if found.key(member.as_bytes(&mut digits)) {
                found.value(text.format(score).as_bytes());
            }
        })
    })
}

/// No reply is made of more repeated elements than this: it would not fit into memory.
const REPEATED_MAX: i64 = 1 << 31;

/// ZRANDMEMBER key [count [WITHSCORES]]; a negative count may repeat elements.
fn zrandmember(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let Some(count) = args.get(2) else {
        return ctx.read(args[1], |set: Option<&ZSet>, reply| {
            match set.and_then(|set| set.at(random_below(set.len()))) {
                Some((member, _)) => reply_member(reply, member),
                None => reply.null(),
            }
            Ok(())
        });
    };
    let count = integer(count)?;
    if count == i64::MIN {
        return Err(CommandError::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let with_scores = match &args[3..] {
        [] => false,
        [word] if is_word(word, "WITHSCORES") => true,
        _ => return Err(CommandError::Syntax),
    };
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CommandError::OutOfRange);
    }
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        match set {
            Some(_) if count < -REPEATED_MAX => return Err(CommandError::OutOfRange),
            Some(set) if count < 0 => random_elements(reply, set, wanted, with_scores),
            Some(set) if wanted >= set.len() => {
                reply_elements(reply, set.range(0..set.len(), true), set.len(), with_scores)
            }
            Some(set) if wanted > 0 => random_sample(reply, set, wanted, with_scores),
            _ => reply.array(0),
        }
        Ok(())
    })
}

/// Elements that may repeat.
fn random_elements(reply: &mut ReplyBuf, set: &ZSet, count: usize, with_scores: bool) {
    reply_header(reply, count, with_scores);
    for _ in 0..count {
        if let Some((member, score)) = set.at(random_below(set.len())) {
            reply_element(reply, member, score, with_scores);
        }
    }
}

/// Different elements, fewer than there are.
fn random_sample(reply: &mut ReplyBuf, set: &ZSet, count: usize, with_scores: bool) {
    reply_header(reply, count, with_scores);
    if count.saturating_mul(8) > set.len() {
        // One pass: each element is taken with the chance that still fills the sample.
        let mut wanted = count;
        for (rank, (member, score)) in set.iter().enumerate() {
            if random_below(set.len() - rank) < wanted {
                wanted -= 1;
                reply_element(reply, member, score, with_scores);
            }
        }
        return;
    }
    let mut taken = HashSet::with_capacity(count);
    while taken.len() < count {
        let rank = random_below(set.len());
        if taken.insert(rank)
            && let Some((member, score)) = set.at(rank)
        {
            reply_element(reply, member, score, with_scores);
        }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Sorted sets, ranges: ZRANGE and its older forms, ZRANGESTORE, ZREMRANGEBYRANK, ZREMRANGEBYSCORE, ZREMRANGEBYLEX. Every
//! range is one of ranks in the end.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::zset_args::{lex_range, rank_range, removed, reply_elements, score_range, store};
use pando_resp::Args;
use pando_values::{Collection, Encoding, IntText, LexRange, ScoreRange, ZSet};
use std::ops::Range;

pub(crate) const TABLE: &[Row] = &[
    row("zrange", zrange),
    row("zrangestore", zrangestore),
    row("zrevrange", zrevrange),
    row("zrangebyscore", zrangebyscore),
    row("zrevrangebyscore", zrevrangebyscore),
    row("zrangebylex", zrangebylex),
    row("zrevrangebylex", zrevrangebylex),
    row("zremrangebyrank", zremrangebyrank),
    row("zremrangebyscore", zremrangebyscore),
    row("zremrangebylex", zremrangebylex),
];

/// What the ends of a range are.
#[derive(Copy, Clone, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A parsed range.
enum Bounds<'a> {
    Rank(i64, i64),
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

impl<'a> Bounds<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Self, CommandError> {
        Ok(match by {
            By::Rank => Bounds::Rank(integer(min)?, integer(max)?),
            By::Score => Bounds::Score(score_range(min, max)?),
            By::Lex => Bounds::Lex(lex_range(min, max)?),
        })
    }

    fn ranks(&self, set: &ZSet) -> Range<usize> {
        match self {
            Bounds::Rank(start, stop) => rank_range(*start, *stop, set.len()),
            Bounds::Score(range) => set.ranks_by_score(range),
            Bounds::Lex(range) => set.ranks_by_lex(range),
        }
    }
}

/// `min max [BYSCORE | BYLEX] [REV] [WITHSCORES] [LIMIT offset count]`
struct Query<'a> {
    bounds: Bounds<'a>,
    reverse: bool,
    with_scores: bool,
    offset: i64,
    /// Negative for all.
    limit: i64,
}

/// What of a query the command's name says already.
#[derive(Copy, Clone, Default)]
struct Given {
    by: Option<By>,
    reverse: Option<bool>,
    stores: bool,
}

impl<'a> Query<'a> {
    fn parse(args: &[&'a [u8]], given: Given) -> Result<Self, CommandError> {
        let (mut by, mut reverse) = (given.by, given.reverse);
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        let mut rest = &args[2..];
        while let [word, more @ ..] = rest {
            rest = match more {
                _ if !given.stores && is_word(word, "WITHSCORES") => {
                    with_scores = true;
                    more
                }
                [from, count, more @ ..] if is_word(word, "LIMIT") => {
                    offset = integer(from)?;
                    limit = integer(count)?;
                    more
                }
                _ if reverse.is_none() && is_word(word, "REV") => {
                    reverse = Some(true);
                    more
                }
                _ if by.is_none() && is_word(word, "BYLEX") => {
                    by = Some(By::Lex);
                    more
                }
                _ if by.is_none() && is_word(word, "BYSCORE") => {
                    by = Some(By::Score);
                    more
                }
                _ => return Err(CommandError::Syntax),
            };
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(CommandError::text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(CommandError::text("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        // Backwards, the upper end comes first.
        let (min, max) = if reverse && by != By::Rank { (args[1], args[0]) } else { (args[0], args[1]) };
        Ok(Query { bounds: Bounds::parse(by, min, max)?, reverse, with_scores, offset, limit })
    }

    /// The ranks that answer the query.
    fn ranks(&self, set: &ZSet) -> Range<usize> {
        if let Bounds::Rank(start, stop) = self.bounds {
            let ranks = rank_range(start, stop, set.len());
            return if self.reverse { set.len() - ranks.end..set.len() - ranks.start } else { ranks };
        }
        let ranks = self.bounds.ranks(set);
        let len = ranks.len();
        // A negative offset counts from the end in a large set, and finds nothing in a small one, as with Valkey.
        let skipped = match usize::try_from(self.offset) {
            Ok(offset) => offset.min(len),
            Err(_) if set.encoding() == Encoding::ListPack => len,
            Err(_) => {
                let back = usize::try_from(self.offset.unsigned_abs()).unwrap_or(usize::MAX);
                if back > len { len } else { len - back }
            }
        };
        let count = usize::try_from(self.limit).map_or(len - skipped, |limit| limit.min(len - skipped));
        if self.reverse {
            let end = ranks.end - skipped;
            end - count..end
        } else {
            let start = ranks.start + skipped;
            start..start + count
        }
    }
}

fn reply_query(ctx: &mut Ctx<'_, '_>, args: Args<'_>, given: Given) -> Result<(), CommandError> {
    let query = Query::parse(&args[2..], given)?;
    ctx.read(args[1], |set: Option<&ZSet>, reply| {
        let Some(set) = set else {
            reply.array(0);
            return Ok(());
        };
        let ranks = query.ranks(set);
        let count = ranks.len();
        reply_elements(reply, set.range(ranks, query.reverse), count, query.with_scores);
        Ok(())
    })
}

fn zrange(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_query(ctx, args, Given::default())
}

fn zrevrange(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_query(ctx, args, Given { by: Some(By::Rank), reverse: Some(true), stores: false })
}

fn zrangebyscore(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_query(ctx, args, Given { by: Some(By::Score), reverse: Some(false), stores: false })
}

fn zrevrangebyscore(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_query(ctx, args, Given { by: Some(By::Score), reverse: Some(true), stores: false })
}

fn zrangebylex(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_query(ctx, args, Given { by: Some(By::Lex), reverse: Some(false), stores: false })
}

fn zrevrangebylex(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_query(ctx, args, Given { by: Some(By::Lex), reverse: Some(true), stores: false })
}

/// ZRANGESTORE destination source min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]
fn zrangestore(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let query = Query::parse(&args[3..], Given { stores: true, ..Given::default() })?;
    let limits = ctx.env.limits;
    let result = ctx.read(args[2], |set: Option<&ZSet>, _| {
        let Some(set) = set else { return Ok(ZSet::new()) };
        let ranks = query.ranks(set);
        let mut result = ZSet::for_size(ranks.len(), 0, &limits);
        let mut digits = IntText::new();
        for (member, score) in set.range(ranks, false) {
            result.add(score, member.as_bytes(&mut digits), &limits);
        }
        Ok(result)
    })?;
    store(ctx, args[1], result, "zrangestore");
    Ok(())
}

fn remove_range(ctx: &mut Ctx<'_, '_>, args: Args<'_>, by: By, event: &'static str) -> Result<(), CommandError> {
    let bounds = Bounds::parse(by, args[2], args[3])?;
    let edited = ctx.edit(args[1], |set: &mut ZSet, _| {
        let ranks = bounds.ranks(set);
        set.remove_ranks(ranks.clone());
        Ok(ranks.len())
    })?;
    let count = edited.map_or(0, |edited| edited.result);
    removed(ctx, args[1], event, count, edited.is_some_and(|edited| edited.is_removed));
    ctx.reply.int(count as i64);
    Ok(())
}

fn zremrangebyrank(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    remove_range(ctx, args, By::Rank, "zremrangebyrank")
}

fn zremrangebyscore(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    remove_range(ctx, args, By::Score, "zremrangebyscore")
}

fn zremrangebylex(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    remove_range(ctx, args, By::Lex, "zremrangebylex")
}

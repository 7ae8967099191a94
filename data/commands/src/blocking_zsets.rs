// SPDX-License-Identifier: BSD-3-Clause
//! Sorted sets that are waited for: BZPOPMIN, BZPOPMAX, BZMPOP. What is taken, and how, is in `zset_pop`; what waiting is,
//! in `blocking`. In the log they are the commands that do not wait.

use crate::blocking::{Block, timeout_of_seconds};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::zset_pop::{End, PopQuery, PopReply, pop};
use pando_keyspace::Awaited;
use pando_resp::Args;

pub(crate) const TABLE: &[Row] = &[
    row("bzpopmin", |ctx, args| pop_one(ctx, args, End::Min)),
    row("bzpopmax", |ctx, args| pop_one(ctx, args, End::Max)),
    row("bzmpop", bzmpop),
];

/// BZPOPMIN key [key ...] timeout
fn pop_one(ctx: &mut Ctx<'_, '_>, args: Args<'_>, end: End) -> Result<(), CommandError> {
    let Some((timeout, keys)) = args[1..].split_last() else { return Err(CommandError::Syntax) };
    let timeout_ms = timeout_of_seconds(timeout, ctx.now_ms)?;
    for key in keys {
        if ctx.is_at_hand(key) && pop(ctx, key, end, 1, PopReply::KeyFlat, false)? {
            ctx.rewrite(&[end.logged(), key]);
            return Ok(());
        }
    }
    wait_for_any(ctx, keys, timeout_ms);
    Ok(())
}

/// BZMPOP timeout numkeys key [key ...] MIN|MAX [COUNT count]
fn bzmpop(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let query = PopQuery::parse(&args[2..])?;
    let timeout_ms = timeout_of_seconds(args[1], ctx.now_ms)?;
    for key in query.keys {
        if ctx.is_at_hand(key) && pop(ctx, key, query.end, query.count, PopReply::KeyPairs, true)? {
            return Ok(());
        }
    }
    wait_for_any(ctx, query.keys, timeout_ms);
    Ok(())
}

fn wait_for_any(ctx: &mut Ctx<'_, '_>, keys: Args<'_>, timeout_ms: Option<u64>) {
    if !ctx.block(Block::on(Awaited::ZSet, keys, timeout_ms)) {
        ctx.reply.null_array();
    }
}

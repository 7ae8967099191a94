// SPDX-License-Identifier: BSD-3-Clause
//! Databases as a whole: FLUSHDB, FLUSHALL, SWAPDB. What was removed is handed back in `Effects::garbage`, to be freed off
//! the worker: ASYNC and SYNC differ in nothing a client can see.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::WholeChange;
use crate::error::CommandError;
use crate::registry::{Row, row};
use pando_keyspace::DbIndex;
use pando_resp::Args;

pub(crate) const TABLE: &[Row] = &[row("flushdb", flushdb), row("flushall", flushall), row("swapdb", swapdb)];

fn flushdb(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    flush(ctx, args, Some(ctx.db))
}

fn flushall(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    flush(ctx, args, None)
}

/// Logged even when there was nothing to remove: a replica may hold keys that expired here.
fn flush(ctx: &mut Ctx<'_, '_>, args: Args<'_>, db: Option<DbIndex>) -> Result<(), CommandError> {
    match &args[1..] {
        [] => {}
        [option] if is_word(option, "ASYNC") || is_word(option, "SYNC") => {}
        _ => return Err(CommandError::Syntax),
    }
    let garbage = ctx.slots.flush(db);
    ctx.effects.garbage.push(garbage);
    ctx.effects.whole = Some(db.map_or(WholeChange::FlushAll, WholeChange::FlushDb));
    ctx.dirty(1);
    ctx.reply.ok();
    Ok(())
}

/// SWAPDB index index
fn swapdb(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    if ctx.env.cluster_enabled {
        return Err(CommandError::text("ERR SWAPDB is not allowed in cluster mode"));
    }
    let first = integer(args[1]).map_err(|_| CommandError::text("ERR invalid first DB index"))?;
    let second = integer(args[2]).map_err(|_| CommandError::text("ERR invalid second DB index"))?;
    let in_range = |number: i64| {
        DbIndex::try_from(number).ok().filter(|db| *db < ctx.env.databases).ok_or(CommandError::DbOutOfRange)
    };
    let (first, second) = (in_range(first)?, in_range(second)?);
    if first != second {
        ctx.slots.swap(first, second);
        ctx.effects.whole = Some(WholeChange::Swap(first, second));
    }
    ctx.dirty(1);
    ctx.reply.ok();
    Ok(())
}

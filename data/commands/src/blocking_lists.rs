// SPDX-License-Identifier: BSD-3-Clause
//! Lists that are waited for: BLPOP, BRPOP, BLMPOP, BLMOVE, BRPOPLPUSH. What is taken, and how, is in `list_pops`; what
//! waiting is, in `blocking`. In the log they are the commands that do not wait.

use crate::blocking::{Block, timeout_of_seconds};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::list_pops::{PopFrom, parse_side, pop_command};
use crate::registry::{Row, row};
use pando_keyspace::Awaited;
use pando_resp::Args;
use pando_values::Side;

pub(crate) const TABLE: &[Row] = &[
    row("blpop", |ctx, args| pop(ctx, args, Side::Left)),
    row("brpop", |ctx, args| pop(ctx, args, Side::Right)),
    row("blmpop", blmpop),
    row("blmove", blmove),
    row("brpoplpush", brpoplpush),
];

/// BLPOP key [key ...] timeout
fn pop(ctx: &mut Ctx<'_, '_>, args: Args<'_>, side: Side) -> Result<(), CommandError> {
    let Some((timeout, keys)) = args[1..].split_last() else { return Err(CommandError::Syntax) };
    let timeout_ms = timeout_of_seconds(timeout, ctx.now_ms)?;
    for key in keys {
        if !ctx.is_at_hand(key) {
            continue;
        }
        let is_popped = ctx.pop_element(key, side, |reply| {
            reply.array(2);
            reply.bulk(key);
        })?;
        if is_popped {
            ctx.rewrite(&[pop_command(side), key]);
            return Ok(());
        }
    }
    wait_for_any(ctx, keys, timeout_ms);
    Ok(())
}

fn wait_for_any(ctx: &mut Ctx<'_, '_>, keys: Args<'_>, timeout_ms: Option<u64>) {
    if !ctx.block(Block::on(Awaited::List, keys, timeout_ms)) {
        ctx.reply.null_array();
    }
}

/// BLMPOP timeout numkeys key [key ...] LEFT|RIGHT [COUNT count]
fn blmpop(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let from = PopFrom::parse(&args[2..])?;
    let timeout_ms = timeout_of_seconds(args[1], ctx.now_ms)?;
    for key in from.keys {
        if ctx.is_at_hand(key) && ctx.pop_named_elements(key, from.side, from.count)? {
            return Ok(());
        }
    }
    wait_for_any(ctx, from.keys, timeout_ms);
    Ok(())
}

/// BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout
fn blmove(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (from_side, to_side) = (parse_side(args[3])?, parse_side(args[4])?);
    let log = [b"LMOVE".as_slice(), args[1], args[2], args[3], args[4]];
    move_or_wait(ctx, &log, from_side, to_side, args[5])
}

/// BRPOPLPUSH source destination timeout
fn brpoplpush(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    move_or_wait(ctx, &[b"RPOPLPUSH", args[1], args[2]], Side::Right, Side::Left, args[3])
}

/// `log`: the command that does not wait, with the keys behind its name.
fn move_or_wait(
    ctx: &mut Ctx<'_, '_>,
    log: Args<'_>,
    from_side: Side,
    to_side: Side,
    timeout: &[u8],
) -> Result<(), CommandError> {
    let (from, to) = (log[1], log[2]);
    let timeout_ms = timeout_of_seconds(timeout, ctx.now_ms)?;
    if ctx.is_at_hand(from) && ctx.move_element(from, from_side, to, to_side)? {
        ctx.rewrite(log);
        return Ok(());
    }
    let block = Block { needs_all: true, ..Block::on(Awaited::List, &[from], timeout_ms) };
    if !ctx.block(block) {
        ctx.reply.null();
    }
    Ok(())
}

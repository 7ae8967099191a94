// SPDX-License-Identifier: BSD-3-Clause
//! Reading one stream: XLEN, XRANGE, XREVRANGE.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::stream_ids::{interval_end, interval_start, reply_entries};
use pando_resp::Args;
use pando_values::Stream;

pub(crate) const TABLE: &[Row] = &[row("xlen", xlen), row("xrange", xrange), row("xrevrange", xrevrange)];

fn xlen(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |stream: Option<&Stream>, reply| {
        reply.int(stream.map_or(0, |stream| stream.entries().len() as i64));
        Ok(())
    })
}

#[derive(Copy, Clone)]
enum Direction {
    Forward,
    Back,
}

/// XRANGE key start end [COUNT n]
fn xrange(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    range(ctx, args, args[2], args[3], Direction::Forward)
}

/// XREVRANGE key end start [COUNT n]
fn xrevrange(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    range(ctx, args, args[3], args[2], Direction::Back)
}

fn range(
    ctx: &mut Ctx<'_, '_>,
    args: Args<'_>,
    start: &[u8],
    end: &[u8],
    direction: Direction,
) -> Result<(), CommandError> {
    let (start, end) = (interval_start(start)?, interval_end(end)?);
    let mut count = None;
    let mut at = 4;
    while at < args.len() {
        if !is_word(args[at], "COUNT") || at + 1 >= args.len() {
            return Err(CommandError::Syntax);
        }
        count = Some(usize::try_from(integer(args[at + 1])?).unwrap_or(0));
        at += 2;
    }
    ctx.read(args[1], |stream: Option<&Stream>, reply| {
        let Some(entries) = stream.map(Stream::entries) else {
            reply.array(0);
            return Ok(());
        };
        let (available, limit) = (entries.len_if_all_within(start, end), count.unwrap_or(0));
        match direction {
            _ if count == Some(0) => reply.null_array(),
            Direction::Forward => reply_entries(reply, entries.range(start, end), limit, available),
            Direction::Back => reply_entries(reply, entries.range_back(start, end), limit, available),
        }
        Ok(())
    })
}

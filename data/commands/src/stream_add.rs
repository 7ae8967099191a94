// SPDX-License-Identifier: BSD-3-Clause
//! Adding to a stream and taking from it: XADD, XDEL, XSETID. An id that XADD chose is logged as it came out.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::stream_ids::{NewId, strict_id, strict_ids};
use crate::stream_trim::{self, For};
use pando_resp::Args;
use pando_values::{AppendError, Stream, StreamId, StreamIdText};

pub(crate) const TABLE: &[Row] = &[row("xadd", xadd), row("xdel", xdel), row("xsetid", xsetid)];

const ID_TOO_SMALL: CommandError =
    CommandError::text("ERR The ID specified in XADD is equal or smaller than the target stream top item");

/// XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT n]] *|id field value [field value ...]
fn xadd(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let options = stream_trim::parse(ctx, args, For::Xadd)?;
    let pairs = args.get(options.id_at + 1..).unwrap_or_default();
    if pairs.len() < 2 || pairs.len() % 2 == 1 {
        return Err(CommandError::Arity("xadd"));
    }
    if options.id == NewId::Exact(StreamId::MIN) {
        return Err(CommandError::text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let now_ms = ctx.now_ms;
    let add = |stream: &mut Stream, limits: &_| {
        let id = next_id(options.id, stream.entries().last_id(), now_ms)?;
        stream.append(id, pairs, limits).map_err(|error| match error {
            AppendError::IdTooSmall => ID_TOO_SMALL,
            AppendError::TooLarge => CommandError::text("ERR Elements are too large to be stored"),
        })?;
        let trimmed = options.trim.as_ref().map(|trim| (trim.run(stream), trim.outcome(stream)));
        Ok((id, trimmed))
    };
    let result = if options.no_mkstream {
        ctx.edit(key, |stream: &mut Stream, cx| add(stream, cx.limits))?.map(|edited| edited.result)
    } else {
        Some(ctx.edit_or_create(key, |stream: &mut Stream, cx| add(stream, cx.limits))?.result)
    };
    let Some((id, trimmed)) = result else {
        ctx.reply.null();
        return Ok(());
    };
    let mut text: StreamIdText = [0; 41];
    let text = id.text(&mut text);
    ctx.changed(EventClass::STREAM, "xadd", key);
    ctx.reply.bulk(text);
    if matches!(trimmed, Some((1.., _))) {
        ctx.notify(EventClass::STREAM, "xtrim", key);
    }
    let is_chosen = !matches!(options.id, NewId::Exact(_));
    let outcome = trimmed.and_then(|(_, outcome)| outcome);
    stream_trim::rewrite(ctx, args, outcome.as_ref(), is_chosen.then_some((options.id_at, text)));
    Ok(())
}

/// The id that a new entry gets.
fn next_id(wanted: NewId, last: StreamId, now_ms: u64) -> Result<StreamId, CommandError> {
    let next = last
        .next()
        .ok_or(CommandError::text("ERR The stream has exhausted the last possible ID, unable to add more items"))?;
    match wanted {
        NewId::Exact(id) => Ok(id),
        NewId::Auto if now_ms > last.ms => Ok(StreamId::new(now_ms, 0)),
        NewId::Auto => Ok(next),
        NewId::InMs(ms) if ms != last.ms => Ok(StreamId::new(ms, 0)),
        NewId::InMs(_) if last.seq == u64::MAX => Err(ID_TOO_SMALL),
        NewId::InMs(_) => Ok(next),
    }
}

/// XDEL key id [id ...]
fn xdel(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    // Only where there is a stream are the ids looked at.
    let edited = ctx.edit(key, |stream: &mut Stream, _| Ok(stream.delete(&strict_ids(&args[2..])?)))?;
    let deleted = edited.map_or(0, |edited| edited.result);
    if deleted > 0 {
        ctx.modified(key);
        ctx.notify(EventClass::STREAM, "xdel", key);
        ctx.dirty(deleted);
    }
    ctx.reply.int(deleted as i64);
    Ok(())
}

/// XSETID key id [ENTRIESADDED n] [MAXDELETEDID id]
fn xsetid(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let id = strict_id(args[2], 0)?;
    let (mut added, mut max_deleted) = (None, StreamId::MIN);
    let mut at = 3;
    while at < args.len() {
        let has_more = at + 1 < args.len();
        if has_more && is_word(args[at], "ENTRIESADDED") {
            let count = u64::try_from(integer(args[at + 1])?);
            added = Some(count.map_err(|_| CommandError::text("ERR entries_added must be positive"))?);
        } else if has_more && is_word(args[at], "MAXDELETEDID") {
            max_deleted = strict_id(args[at + 1], 0)?;
            if id < max_deleted {
                return Err(CommandError::text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
        } else {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    let edited = ctx.edit(key, |stream: &mut Stream, _| {
        let counters = stream.entries().counters();
        if id < counters.max_deleted_id {
            return Err(CommandError::text(
                "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
            ));
        }
        if stream.entries().last_live_id().is_some_and(|last| id < last) {
            return Err(CommandError::text(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if counters.len > 0 && added.is_some_and(|added| added < counters.len) {
            return Err(CommandError::text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
        stream.set_counters(id, added, (!max_deleted.is_zero()).then_some(max_deleted));
        Ok(())
    })?;
    if edited.is_none() {
        return Err(CommandError::NoSuchKey);
    }
    ctx.dirty(1);
    ctx.notify(EventClass::STREAM, "xsetid", key);
    ctx.reply.ok();
    Ok(())
}

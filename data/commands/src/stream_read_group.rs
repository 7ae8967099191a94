// SPDX-License-Identifier: BSD-3-Clause
//! XREADGROUP: new entries for one consumer of a group, or again those that it has not acknowledged. What it did is logged
//! entry by entry (`stream_log.rs`); reading history again is not logged, as in the reference server.

use crate::blocking::{Awaited, Block};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::stream_ids::{Ids, reply_entry, reply_id, shown, strict_id};
use crate::stream_log::{Claimed, Position, log_claim, log_consumer, log_position};
use crate::stream_read::{ReadOptions, Reader, StreamsReply, is_locked, parse};
use pando_resp::{Args, ReplyBuf};
use pando_values::{ConsumerId, GroupMut, Pending, Stream, StreamId};

pub(crate) const TABLE: &[Row] = &[row("xreadgroup", xreadgroup)];

/// `>`: what no consumer got yet.
const NEW: StreamId = StreamId::MAX;

/// What reading one stream came to.
struct Outcome {
    is_created: bool,
    is_served: bool,
    claimed: Vec<Claimed>,
    /// The group's position, when it moved.
    moved: Option<Position>,
}

/// XREADGROUP GROUP group consumer [COUNT n] [BLOCK ms] [NOACK] STREAMS key [key ...] id [id ...]
fn xreadgroup(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let options = parse(args, Reader::Xreadgroup, ctx.now_ms)?;
    let Some((group, consumer)) = options.group else {
        return Err(CommandError::text("ERR Missing GROUP option for XREADGROUP"));
    };
    let mut ids = Ids::new();
    for (key, id) in options.keys.iter().zip(options.ids) {
        if is_locked(ctx, key) {
            let has_group = ctx.read(key, |stream: Option<&Stream>, _| {
                Ok(stream.is_some_and(|stream| stream.group(group).is_some()))
            })?;
            if !has_group {
                return Err(CommandError::format(format!(
                    "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option",
                    shown(key),
                    shown(group)
                )));
            }
        }
        ids.push(after(id)?);
    }
    ctx.effects.propagate_nothing();
    let mut streams = StreamsReply::new();
    for (key, id) in options.keys.iter().zip(&ids) {
        if !is_locked(ctx, key) {
            continue;
        }
        // Clients that wait for the same entries come first.
        let may_take = options.block.is_none() || ctx.is_at_hand(key);
        let is_logged = ctx.env.log;
        let edited = ctx.edit(key, |stream: &mut Stream, cx| {
            let Some(mut own) = stream.group_mut(group) else { return Ok(None) };
            let is_served =
                *id != NEW || (may_take && own.entries.last_live_id().is_some_and(|last| last > own.last_id));
            let found = own.find_consumer(consumer);
            let is_created = found.is_none();
            let Some(number) = found.or_else(|| own.create_consumer(consumer, cx.now_ms)) else { return Ok(None) };
            if let Some(consumer) = own.consumer_mut(number) {
                consumer.seen_at_ms = cx.now_ms as i64;
            }
            let mut outcome = Outcome { is_created, is_served, claimed: Vec::new(), moved: None };
            if is_served {
                streams.start(cx.reply, key);
                if *id == NEW {
                    deliver(&mut own, number, &options, is_logged, cx.now_ms, cx.reply, &mut outcome);
                } else {
                    repeat(&mut own, number, id.next().unwrap_or_default(), options.count, cx.now_ms, cx.reply);
                }
            }
            Ok(Some(outcome))
        })?;
        let Some(outcome) = edited.and_then(|edited| edited.result) else { continue };
        ctx.effects.hits += 1;
        if outcome.is_created {
            ctx.dirty(1);
            ctx.notify(EventClass::STREAM, "xgroup-createconsumer", key);
            if options.no_ack {
                log_consumer(ctx, key, group, consumer);
            }
        }
        for claimed in &outcome.claimed {
            log_claim(ctx, key, group, claimed);
        }
        if let Some(position) = outcome.moved {
            log_position(ctx, key, group, position);
        }
        ctx.dirty(u64::from(outcome.is_served));
    }
    if !streams.is_empty() {
        streams.finish(ctx.reply);
        return Ok(());
    }
    if let Some(timeout_ms) = options.block {
        let mut block = Block::on(Awaited::Stream, options.keys, timeout_ms);
        block.when_gone = true;
        if ctx.block(block) {
            return Ok(());
        }
    }
    ctx.reply.null_array();
    Ok(())
}

/// The id after which the consumer's history is read, or [`NEW`].
fn after(id: &[u8]) -> Result<StreamId, CommandError> {
    match id {
        b"$" => Err(CommandError::text(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
             specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
        )),
        b"+" => Err(CommandError::text(
            "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by \
             specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set.",
        )),
        b">" => Ok(NEW),
        id => strict_id(id, 0),
    }
}

/// Gives the consumer what comes after the group's position.
fn deliver(
    group: &mut GroupMut<'_>,
    consumer: ConsumerId,
    options: &ReadOptions<'_>,
    is_logged: bool,
    now_ms: u64,
    reply: &mut ReplyBuf,
    outcome: &mut Outcome,
) {
    let entries = group.entries;
    let start = group.last_id.next().unwrap_or_default();
    let mark = reply.array_deferred();
    let mut len = 0;
    for entry in entries.range(start, StreamId::MAX) {
        if entry.id > group.last_id {
            group.advance(entry.id, entries);
        }
        reply_entry(reply, &entry);
        if !options.no_ack {
            let state = Pending { delivered_at_ms: now_ms as i64, deliveries: 1, consumer };
            group.set_pending(entry.id, state);
            if is_logged {
                let consumer = group.consumer(consumer).map(|own| own.name().to_vec()).unwrap_or_default();
                outcome.claimed.push(Claimed { id: entry.id, state, last_id: group.last_id, consumer });
            }
        }
        len += 1;
        if len == options.count {
            break;
        }
    }
    if len > 0 {
        outcome.moved = Some(Position::of(group));
        if !options.no_ack
            && let Some(consumer) = group.consumer_mut(consumer)
        {
            consumer.active_at_ms = now_ms as i64;
        }
    }
    reply.finish_array(mark, len);
}

/// Gives the consumer again what it has not acknowledged; what is no longer in the stream as an id without fields.
fn repeat(
    group: &mut GroupMut<'_>,
    consumer: ConsumerId,
    start: StreamId,
    count: usize,
    now_ms: u64,
    reply: &mut ReplyBuf,
) {
    let limit = if count == 0 { usize::MAX } else { count };
    let ids: Vec<StreamId> =
        group.consumer(consumer).map(|own| own.pending_from(start).take(limit).collect()).unwrap_or_default();
    reply.array(ids.len());
    for id in ids {
        match group.entries.get(id) {
            None => {
                reply.array(2);
                reply_id(reply, id);
                reply.null_array();
            }
            Some(entry) => {
                reply_entry(reply, &entry);
                if let Some(state) = group.pending(id) {
                    let deliveries = state.deliveries.wrapping_add(1);
                    group.set_pending(id, Pending { delivered_at_ms: now_ms as i64, deliveries, ..state });
                }
            }
        }
    }
}

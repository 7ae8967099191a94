// SPDX-License-Identifier: BSD-3-Clause
//! Looking at streams, groups and consumers: XINFO.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::object::reply_help;
use crate::registry::{Row, row};
use crate::stream_ids::{reply_entries, reply_entry, reply_id, shown, subcommand_syntax};
use pando_resp::{Args, ReplyBuf};
use pando_values::{Consumer, Group, Stream, StreamEntries, StreamId};

pub(crate) const TABLE: &[Row] = &[
    row("xinfo|stream", stream),
    row("xinfo|groups", groups),
    row("xinfo|consumers", consumers),
    row("xinfo|help", help),
];

/// Entries that XINFO STREAM FULL shows of everything without COUNT.
const FULL_COUNT: usize = 10;

/// XINFO STREAM key [FULL [COUNT n]]
fn stream(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[2], |stream: Option<&Stream>, reply| {
        let stream = stream.ok_or(CommandError::NoSuchKey)?;
        let count = match &args[3..] {
            [] => {
                summary(stream, reply);
                return Ok(());
            }
            [full] if is_word(full, "FULL") => FULL_COUNT,
            [full, count, number] if is_word(full, "FULL") && is_word(count, "COUNT") => {
                usize::try_from(integer(number)?).unwrap_or(FULL_COUNT)
            }
            _ => return Err(subcommand_syntax(args[0], args[1])),
        };
        full(stream, count, reply);
        Ok(())
    })
}

/// What both forms begin with: seven pairs.
fn counters(entries: &StreamEntries, reply: &mut ReplyBuf) {
    let counters = entries.counters();
    for (name, value) in [
        ("length", counters.len),
        ("radix-tree-keys", entries.node_count() as u64),
        ("radix-tree-nodes", entries.radix_tree_nodes() as u64),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(value as i64);
    }
    reply.bulk(b"last-generated-id");
    reply_id(reply, counters.last_id);
    reply.bulk(b"max-deleted-entry-id");
    reply_id(reply, counters.max_deleted_id);
    reply.bulk(b"entries-added");
    reply.int(counters.entries_added as i64);
    reply.bulk(b"recorded-first-entry-id");
    reply_id(reply, counters.first_id);
}

fn summary(stream: &Stream, reply: &mut ReplyBuf) {
    let entries = stream.entries();
    reply.map(10);
    counters(entries, reply);
    reply.bulk(b"groups");
    reply.int(stream.groups().len() as i64);
    let first = entries.range(StreamId::MIN, StreamId::MAX).next();
    let last = entries.range_back(StreamId::MIN, StreamId::MAX).next();
    for (name, entry) in [("first-entry", first), ("last-entry", last)] {
        reply.bulk(name.as_bytes());
        match entry {
            Some(entry) => reply_entry(reply, &entry),
            None => reply.null(),
        }
    }
}

fn full(stream: &Stream, count: usize, reply: &mut ReplyBuf) {
    let entries = stream.entries();
    reply.map(9);
    counters(entries, reply);
    reply.bulk(b"entries");
    reply_entries(reply, entries.range(StreamId::MIN, StreamId::MAX), count, Some(entries.len()));
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        position(group, entries, reply);
        reply.bulk(b"pel-count");
        reply.int(group.pending_len() as i64);
        reply.bulk(b"pending");
        full_pending(group, count, reply);
        reply.bulk(b"consumers");
        reply.array(group.consumer_len());
        for (_, consumer) in group.consumers() {
            full_consumer(group, consumer, count, reply);
        }
    }
}

/// The group's last id, entries-read and lag.
fn position(group: &Group, entries: &StreamEntries, reply: &mut ReplyBuf) {
    reply.bulk(b"last-delivered-id");
    reply_id(reply, group.last_id);
    for (name, value) in [("entries-read", group.entries_read), ("lag", group.lag(entries))] {
        reply.bulk(name.as_bytes());
        match value {
            Some(value) => reply.int(value),
            None => reply.null(),
        }
    }
}

fn limit(count: usize) -> usize {
    if count == 0 { usize::MAX } else { count }
}

fn full_pending(group: &Group, count: usize, reply: &mut ReplyBuf) {
    reply.array(group.pending_len().min(limit(count)));
    for (id, pending) in group.pending_from(StreamId::MIN).take(limit(count)) {
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(group.consumer(pending.consumer).map_or(b"", |consumer| consumer.name()));
        reply.int(pending.delivered_at_ms);
        reply.int(pending.deliveries as i64);
    }
}

fn full_consumer(group: &Group, consumer: &Consumer, count: usize, reply: &mut ReplyBuf) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    for (name, value) in [
        ("seen-time", consumer.seen_at_ms),
        ("active-time", consumer.active_at_ms),
        ("pel-count", consumer.pending_len() as i64),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(value);
    }
    reply.bulk(b"pending");
    reply.array(consumer.pending_len().min(limit(count)));
    for id in consumer.pending_from(StreamId::MIN).take(limit(count)) {
        let (time, deliveries) = group.pending(id).map_or((0, 0), |own| (own.delivered_at_ms, own.deliveries));
        reply.array(3);
        reply_id(reply, id);
        reply.int(time);
        reply.int(deliveries as i64);
    }
}

/// XINFO GROUPS key
fn groups(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[2], |stream: Option<&Stream>, reply| {
        let stream = stream.ok_or(CommandError::NoSuchKey)?;
        reply.array(stream.groups().len());
        for (name, group) in stream.groups() {
            reply.map(6);
            reply.bulk(b"name");
            reply.bulk(name);
            reply.bulk(b"consumers");
            reply.int(group.consumer_len() as i64);
            reply.bulk(b"pending");
            reply.int(group.pending_len() as i64);
            position(group, stream.entries(), reply);
        }
        Ok(())
    })
}

/// XINFO CONSUMERS key group
fn consumers(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[2], args[3]);
    let now_ms = ctx.now_ms as i64;
    ctx.read(key, |stream: Option<&Stream>, reply| {
        let group = stream.ok_or(CommandError::NoSuchKey)?.group(name).ok_or_else(|| {
            CommandError::format(format!(
                "NOGROUP No such consumer group '{}' for key name '{}'",
                shown(name),
                shown(key)
            ))
        })?;
        reply.array(group.consumer_len());
        for (_, consumer) in group.consumers() {
            let inactive = if consumer.active_at_ms == -1 { -1 } else { now_ms.wrapping_sub(consumer.active_at_ms) };
            reply.map(4);
            reply.bulk(b"name");
            reply.bulk(consumer.name());
            for (name, value) in [
                ("pending", consumer.pending_len() as i64),
                ("idle", now_ms.wrapping_sub(consumer.seen_at_ms).max(0)),
                ("inactive", inactive),
            ] {
                reply.bulk(name.as_bytes());
                reply.int(value);
            }
        }
        Ok(())
    })
}

fn help(ctx: &mut Ctx<'_, '_>, _args: Args<'_>) -> Result<(), CommandError> {
    reply_help(
        ctx.reply,
        "XINFO",
        &[
            "CONSUMERS <key> <groupname>",
            "    Show consumers of <groupname>.",
            "GROUPS <key>",
            "    Show the stream consumer groups.",
            "STREAM <key> [FULL [COUNT <count>]",
            "    Show information about the stream.",
        ],
    );
    Ok(())
}

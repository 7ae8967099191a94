// SPDX-License-Identifier: BSD-3-Clause
//! XPENDING: what was delivered to a group's consumers and not acknowledged.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::stream_ids::{interval_end, interval_start, reply_id, shown};
use pando_resp::{Args, ReplyBuf};
use pando_values::{Group, Pending, Stream, StreamId};

pub(crate) const TABLE: &[Row] = &[row("xpending", xpending)];

/// Which entries.
struct Wanted<'a> {
    /// Not delivered for at least this long, milliseconds.
    idle_min: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

fn parse<'a>(args: Args<'a>) -> Result<Wanted<'a>, CommandError> {
    let (mut at, mut idle_min) = (3, 0);
    if is_word(args[3], "IDLE") {
        idle_min = integer(args[4])?;
        if args.len() < 8 {
            return Err(CommandError::Syntax);
        }
        at = 5;
    }
    let count = usize::try_from(integer(args[at + 2])?).unwrap_or(0);
    let (start, end) = (interval_start(args[at])?, interval_end(args[at + 1])?);
    Ok(Wanted { idle_min, start, end, count, consumer: args.get(at + 3).copied() })
}

/// XPENDING key group [[IDLE ms] start end count [consumer]]
fn xpending(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[1], args[2]);
    let wanted = match args.len() {
        3 => None,
        6..=9 => Some(parse(args)?),
        _ => return Err(CommandError::Syntax),
    };
    let now_ms = ctx.now_ms as i64;
    ctx.read(key, |stream: Option<&Stream>, reply| {
        let group = stream.and_then(|stream| stream.group(name)).ok_or_else(|| no_key_or_group(key, name))?;
        match wanted {
            None => summary(group, reply),
            Some(wanted) => list(group, &wanted, now_ms, reply),
        }
        Ok(())
    })
}

pub(crate) fn no_key_or_group(key: &[u8], group: &[u8]) -> CommandError {
    CommandError::format(format!("NOGROUP No such key '{}' or consumer group '{}'", shown(key), shown(group)))
}

fn summary(group: &Group, reply: &mut ReplyBuf) {
    reply.array(4);
    reply.int(group.pending_len() as i64);
    let Some((first, last)) = group.pending_edges() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply_id(reply, first);
    reply_id(reply, last);
    let mark = reply.array_deferred();
    let mut len = 0;
    for (_, consumer) in group.consumers().filter(|(_, consumer)| consumer.pending_len() > 0) {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_int(consumer.pending_len() as i64);
        len += 1;
    }
    reply.finish_array(mark, len);
}

fn list(group: &Group, wanted: &Wanted<'_>, now_ms: i64, reply: &mut ReplyBuf) {
    let mark = reply.array_deferred();
    let mut len = 0;
    let mut write = |id: StreamId, pending: &Pending| {
        let idle = now_ms.wrapping_sub(pending.delivered_at_ms);
        if wanted.idle_min == 0 || idle >= wanted.idle_min {
            reply.array(4);
            reply_id(reply, id);
            reply.bulk(group.consumer(pending.consumer).map_or(b"", |consumer| consumer.name()));
            reply.int(idle.max(0));
            reply.int(pending.deliveries as i64);
            len += 1;
        }
        len < wanted.count
    };
    let start = wanted.start;
    match wanted.consumer {
        _ if wanted.count == 0 => {}
        None => {
            let mut own = group.pending_from(start).take_while(|(id, _)| *id <= wanted.end);
            own.all(|(id, pending)| write(id, pending));
        }
        Some(name) => {
            let consumer = group.find_consumer(name).and_then(|id| group.consumer(id));
            let ids = consumer.into_iter().flat_map(|consumer| consumer.pending_from(start));
            let mut own = ids.take_while(|id| *id <= wanted.end).filter_map(|id| Some((id, group.pending(id)?)));
            own.all(|(id, pending)| write(id, &pending));
        }
    }
    reply.finish_array(mark, len);
}

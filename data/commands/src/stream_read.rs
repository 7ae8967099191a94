// SPDX-License-Identifier: BSD-3-Clause
//! Reading several streams, now or when something comes: the options of XREAD and XREADGROUP, and XREAD itself.
//! XREADGROUP is in `stream_read_group.rs`.

use crate::args::{integer, is_word};
use crate::blocking::{Awaited, Block, owned_args, timeout_of_ms};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::stream_ids::{Ids, reply_entries, strict_id};
use pando_resp::{Args, Mark, Proto, ReplyBuf};
use pando_topology::Slot;
use pando_values::{Stream, StreamId};

pub(crate) const TABLE: &[Row] = &[row("xread", xread)];

/// Which of the two reads.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) enum Reader {
    Xread,
    Xreadgroup,
}

/// The options.
pub(crate) struct ReadOptions<'a> {
    pub(crate) keys: &'a [&'a [u8]],
    pub(crate) ids: &'a [&'a [u8]],
    /// Entries of each stream, zero for all.
    pub(crate) count: usize,
    /// Milliseconds to wait, where the client wants to wait; the inner `None` is forever.
    pub(crate) block: Option<Option<u64>>,
    /// Group and consumer.
    pub(crate) group: Option<(&'a [u8], &'a [u8])>,
    pub(crate) no_ack: bool,
}

/// Reads everything but the ids.
pub(crate) fn parse<'a>(args: Args<'a>, reader: Reader, now_ms: u64) -> Result<ReadOptions<'a>, CommandError> {
    let mut options = ReadOptions { keys: &[], ids: &[], count: 0, block: None, group: None, no_ack: false };
    let mut at = 1;
    while at < args.len() {
        let word = args[at];
        let left = args.len() - at - 1;
        if left >= 1 && is_word(word, "BLOCK") {
            at += 1;
            options.block = Some(timeout_of_ms(args[at], now_ms)?);
        } else if left >= 1 && is_word(word, "COUNT") {
            at += 1;
            options.count = usize::try_from(integer(args[at])?).unwrap_or(0);
        } else if left >= 1 && is_word(word, "STREAMS") {
            if !left.is_multiple_of(2) {
                let (name, symbol) = match reader {
                    Reader::Xread => ("xread", '$'),
                    Reader::Xreadgroup => ("xreadgroup", '>'),
                };
                return Err(CommandError::format(format!(
                    "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{symbol}' must be specified."
                )));
            }
            (options.keys, options.ids) = args[at + 1..].split_at(left / 2);
            break;
        } else if left >= 2 && is_word(word, "GROUP") {
            if reader == Reader::Xread {
                return Err(CommandError::text(
                    "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                ));
            }
            options.group = Some((args[at + 1], args[at + 2]));
            at += 2;
        } else if is_word(word, "NOACK") {
            if reader == Reader::Xread {
                return Err(CommandError::text(
                    "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                ));
            }
            options.no_ack = true;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    if options.keys.is_empty() {
        return Err(CommandError::Syntax);
    }
    Ok(options)
}

/// The reply: streams by key, those without entries left out.
pub(crate) struct StreamsReply {
    mark: Option<Mark>,
    len: usize,
}

impl StreamsReply {
    pub(crate) fn new() -> StreamsReply {
        StreamsReply { mark: None, len: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Starts a stream; its entries follow.
    pub(crate) fn start(&mut self, reply: &mut ReplyBuf, key: &[u8]) {
        if self.mark.is_none() {
            self.mark = Some(reply.array_deferred());
        }
        self.len += 1;
        if reply.proto() == Proto::Resp2 {
            reply.array(2);
        }
        reply.bulk(key);
    }

    pub(crate) fn finish(self, reply: &mut ReplyBuf) {
        match (self.mark, reply.proto()) {
            (None, _) => {}
            (Some(mark), Proto::Resp2) => reply.finish_array(mark, self.len),
            (Some(mark), Proto::Resp3) => reply.finish_map(mark, self.len),
        }
    }
}

/// Whether the key's slot is locked: when a command that waited is called again, not all need be.
pub(crate) fn is_locked(ctx: &mut Ctx<'_, '_>, key: &[u8]) -> bool {
    !ctx.env.is_woken || ctx.slots.holds(Slot::of_key(key))
}

/// XREAD [COUNT n] [BLOCK ms] STREAMS key [key ...] id [id ...]
fn xread(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let options = parse(args, Reader::Xread, ctx.now_ms)?;
    let mut ids = Ids::new();
    for (key, id) in options.keys.iter().zip(options.ids) {
        let id = if is_locked(ctx, key) {
            ctx.read(key, |stream: Option<&Stream>, _| after(stream, id))?
        } else {
            StreamId::MAX
        };
        ids.push(id);
    }
    let mut streams = StreamsReply::new();
    for (key, id) in options.keys.iter().zip(&ids) {
        if !is_locked(ctx, key) {
            continue;
        }
        ctx.read(key, |stream: Option<&Stream>, reply| {
            let entries = stream.map(Stream::entries);
            let Some(entries) = entries.filter(|entries| entries.last_live_id().is_some_and(|last| last > *id)) else {
                return Ok(());
            };
            streams.start(reply, key);
            let start = id.next().unwrap_or_default();
            let available = entries.len_if_all_within(start, StreamId::MAX);
            reply_entries(reply, entries.range(start, StreamId::MAX), options.count, available);
            Ok(())
        })?;
    }
    if !streams.is_empty() {
        streams.finish(ctx.reply);
        return Ok(());
    }
    if let Some(timeout_ms) = options.block {
        let mut block = Block::on(Awaited::Stream, options.keys, timeout_ms);
        block.args = resolved(args, options.ids.len(), &ids);
        if ctx.block(block) {
            return Ok(());
        }
    }
    ctx.reply.null_array();
    Ok(())
}

/// The id after which XREAD reads.
fn after(stream: Option<&Stream>, id: &[u8]) -> Result<StreamId, CommandError> {
    let entries = stream.map(Stream::entries);
    match id {
        b"$" => Ok(entries.map_or(StreamId::MIN, |entries| entries.last_id())),
        b"+" => match entries.filter(|entries| !entries.is_empty()) {
            // The last entry, or what would be there.
            Some(entries) => {
                entries.last_id().prev().ok_or(CommandError::text("ERR the stream last element ID is 0-0"))
            }
            None => Ok(StreamId::MIN),
        },
        b">" => Err(CommandError::text(
            "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
        )),
        id => strict_id(id, 0),
    }
}

/// The arguments with each `$` replaced by what it means now; `None` when there is none.
fn resolved(args: Args<'_>, streams: usize, ids: &[StreamId]) -> Option<Vec<Vec<u8>>> {
    let first = args.len() - streams;
    args[first..].iter().any(|id| *id == b"$").then(|| {
        let mut args = owned_args(args);
        for (arg, id) in args[first..].iter_mut().zip(ids) {
            if arg == b"$" {
                *arg = id.to_string().into_bytes();
            }
        }
        args
    })
}

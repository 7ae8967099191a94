// SPDX-License-Identifier: BSD-3-Clause
//! Taking over what another consumer did not acknowledge: XCLAIM and XAUTOCLAIM. Entries that are no longer in the stream
//! stop being pending on the way. Each change is logged as an XCLAIM of its own (`stream_log.rs`).

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::stream_ids::{Ids, interval_start, reply_entry, reply_id, strict_id};
use crate::stream_log::{Claimed, Position, log_claim, log_position};
use crate::stream_pending::no_key_or_group;
use pando_resp::{Args, ReplyBuf, num};
use pando_values::{ConsumerId, Group, GroupMut, Pending, Stream, StreamId};

pub(crate) const TABLE: &[Row] = &[row("xclaim", xclaim), row("xautoclaim", xautoclaim)];

/// Pending entries that XAUTOCLAIM looks at for each that it may return.
const ATTEMPTS_FACTOR: usize = 10;
/// Ids of deleted entries that the reference server would still find memory for.
const DELETED_IDS_MAX: i64 = 1 << 42;

/// What a command changed.
#[derive(Default)]
struct Outcome {
    is_created: bool,
    claimed: Vec<Claimed>,
    /// Entries whose state changed.
    changed: u64,
    /// The group's position, where no entry's record tells it.
    moved: Option<Position>,
}

impl Outcome {
    fn note(&mut self, group: &Group, id: StreamId, state: Pending, is_logged: bool) {
        self.changed += 1;
        self.moved = None;
        if is_logged {
            let consumer = group.consumer(state.consumer).map(|own| own.name().to_vec()).unwrap_or_default();
            self.claimed.push(Claimed { id, state, last_id: group.last_id, consumer });
        }
    }

    /// Logs and counts.
    fn publish(self, ctx: &mut Ctx<'_, '_>, key: &[u8], group: &[u8]) {
        ctx.effects.propagate_nothing();
        if self.is_created {
            ctx.notify(EventClass::STREAM, "xgroup-createconsumer", key);
        }
        for claimed in &self.claimed {
            log_claim(ctx, key, group, claimed);
        }
        if let Some(position) = self.moved {
            log_position(ctx, key, group, position);
        }
        ctx.dirty(self.changed + u64::from(self.is_created) + u64::from(self.moved.is_some()));
    }
}

/// The consumer with this name, made if need be, and whether it was.
fn consumer_of(group: &mut GroupMut<'_>, name: &[u8], now_ms: u64) -> Option<(ConsumerId, bool)> {
    let found = group.find_consumer(name);
    let id = found.or_else(|| group.create_consumer(name, now_ms))?;
    group.consumer_mut(id)?.seen_at_ms = now_ms as i64;
    Some((id, found.is_none()))
}

fn integer_or(arg: &[u8], refusal: &'static str) -> Result<i64, CommandError> {
    num::parse_i64(arg).ok_or(CommandError::text(refusal))
}

/// Counts a reader's lookup and refuses when there is no such group.
fn require_group(ctx: &mut Ctx<'_, '_>, key: &[u8], name: &[u8]) -> Result<(), CommandError> {
    ctx.read(key, |stream: Option<&Stream>, _| {
        let group = stream.and_then(|stream| stream.group(name));
        group.map(|_| ()).ok_or_else(|| no_key_or_group(key, name))
    })
}

/// Options of XCLAIM.
#[derive(Default)]
struct ClaimOptions {
    idle_min: i64,
    ids: Ids,
    delivered_at_ms: Option<i64>,
    retry_count: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

fn parse_claim(args: Args<'_>, now_ms: i64) -> Result<ClaimOptions, CommandError> {
    let mut options = ClaimOptions {
        idle_min: integer_or(args[4], "ERR Invalid min-idle-time argument for XCLAIM")?.max(0),
        ..ClaimOptions::default()
    };
    let mut at = 5;
    // What is no id begins the options.
    while let Some(id) = args.get(at).and_then(|arg| strict_id(arg, 0).ok()) {
        options.ids.push(id);
        at += 1;
    }
    while at < args.len() {
        let has_more = at + 1 < args.len();
        let word = args[at];
        if is_word(word, "FORCE") {
            options.force = true;
        } else if is_word(word, "JUSTID") {
            options.just_id = true;
        } else if has_more && is_word(word, "IDLE") {
            at += 1;
            let idle = integer_or(args[at], "ERR Invalid IDLE option argument for XCLAIM")?;
            options.delivered_at_ms = Some(now_ms.wrapping_sub(idle));
        } else if has_more && is_word(word, "TIME") {
            at += 1;
            options.delivered_at_ms = Some(integer_or(args[at], "ERR Invalid TIME option argument for XCLAIM")?);
        } else if has_more && is_word(word, "RETRYCOUNT") {
            at += 1;
            let count = integer_or(args[at], "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
            options.retry_count = u64::try_from(count).ok();
        } else if has_more && is_word(word, "LASTID") {
            at += 1;
            options.last_id = strict_id(args[at], 0)?;
        } else {
            return Err(CommandError::format(format!(
                "ERR Unrecognized XCLAIM option '{}'",
                crate::stream_ids::shown(word)
            )));
        }
        at += 1;
    }
    Ok(options)
}

/// XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-ms] [RETRYCOUNT n] [FORCE] [JUSTID] [LASTID id]
fn xclaim(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[1], args[2]);
    require_group(ctx, key, name)?;
    let now_ms = ctx.now_ms as i64;
    let options = parse_claim(args, now_ms)?;
    // A time in the future or before 1970 counts as now; one in the log is as it was.
    let is_plausible = |time: &i64| *time >= 0 && (*time <= now_ms || ctx.env.is_applying);
    let delivered_at_ms = options.delivered_at_ms.filter(is_plausible).unwrap_or(now_ms);
    let is_logged = ctx.env.log;
    let edited = ctx.edit(key, |stream: &mut Stream, cx| {
        let mut outcome = Outcome::default();
        let Some(mut group) = stream.group_mut(name) else { return Ok(outcome) };
        if options.last_id > group.last_id {
            group.last_id = options.last_id;
            outcome.moved = Some(Position::of(&group));
        }
        let Some((consumer, is_created)) = consumer_of(&mut group, args[3], cx.now_ms) else { return Ok(outcome) };
        outcome.is_created = is_created;
        let mark = cx.reply.array_deferred();
        let mut len = 0;
        for &id in &options.ids {
            let before = group.pending(id);
            let Some(entry) = group.entries.get(id) else {
                if let Some(state) = before {
                    outcome.note(&group, id, state, is_logged);
                    group.remove_pending(id);
                }
                continue;
            };
            let deliveries = match before {
                None if !options.force => continue,
                None => 1,
                Some(state)
                    if options.idle_min > 0 && now_ms.wrapping_sub(state.delivered_at_ms) < options.idle_min =>
                {
                    continue;
                }
                Some(state) => state.deliveries,
            };
            let deliveries = match options.retry_count {
                Some(count) => count,
                None => deliveries.wrapping_add(u64::from(!options.just_id)),
            };
            let state = Pending { delivered_at_ms, deliveries, consumer };
            group.set_pending(id, state);
            if options.just_id {
                reply_id(cx.reply, id);
            } else {
                reply_entry(cx.reply, &entry);
            }
            len += 1;
            set_active(&mut group, consumer, now_ms);
            outcome.note(&group, id, state, is_logged);
        }
        cx.reply.finish_array(mark, len);
        Ok(outcome)
    })?;
    if let Some(edited) = edited {
        edited.result.publish(ctx, key, name);
    }
    Ok(())
}

fn set_active(group: &mut GroupMut<'_>, consumer: ConsumerId, now_ms: i64) {
    if let Some(consumer) = group.consumer_mut(consumer) {
        consumer.active_at_ms = now_ms;
    }
}

/// XAUTOCLAIM key group consumer min-idle-time start [COUNT n] [JUSTID]
fn xautoclaim(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[1], args[2]);
    let idle_min = integer_or(args[4], "ERR Invalid min-idle-time argument for XAUTOCLAIM")?.max(0);
    let start = interval_start(args[5])?;
    let (mut count, mut just_id) = (100, false);
    let mut at = 6;
    while at < args.len() {
        if is_word(args[at], "COUNT") && at + 1 < args.len() {
            at += 1;
            count = integer(args[at])
                .ok()
                .filter(|count| (1..=i64::MAX / 16).contains(count))
                .ok_or(CommandError::text("ERR COUNT must be > 0"))?;
        } else if is_word(args[at], "JUSTID") {
            just_id = true;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    require_group(ctx, key, name)?;
    if count > DELETED_IDS_MAX {
        return Err(CommandError::text("ERR Insufficient memory, failed allocating transient memory, COUNT too high."));
    }
    let is_logged = ctx.env.log;
    let edited = ctx.edit(key, |stream: &mut Stream, cx| {
        let mut outcome = Outcome::default();
        let Some(mut group) = stream.group_mut(name) else { return Ok(outcome) };
        let Some((consumer, is_created)) = consumer_of(&mut group, args[3], cx.now_ms) else { return Ok(outcome) };
        outcome.is_created = is_created;
        let mut sweep = Sweep { consumer, idle_min, just_id, is_logged, now_ms: cx.now_ms as i64, outcome };
        sweep.run(&mut group, start, count as usize, cx.reply);
        Ok(sweep.outcome)
    })?;
    if let Some(edited) = edited {
        edited.result.publish(ctx, key, name);
    }
    Ok(())
}

/// XAUTOCLAIM's way through the pending entries.
struct Sweep {
    consumer: ConsumerId,
    idle_min: i64,
    just_id: bool,
    is_logged: bool,
    now_ms: i64,
    outcome: Outcome,
}

impl Sweep {
    /// Writes the whole reply: where to go on, what was claimed, what was gone.
    fn run(&mut self, group: &mut GroupMut<'_>, start: StreamId, count: usize, reply: &mut ReplyBuf) {
        let mut claimed = ReplyBuf::new(reply.proto());
        let (mut len, mut gone) = (0, Ids::new());
        let mut next = Some(start);
        let mut attempts = count.saturating_mul(ATTEMPTS_FACTOR);
        while attempts > 0 && len + gone.len() < count {
            attempts -= 1;
            let Some((id, &state)) = next.and_then(|next| group.pending_from(next).next()) else { break };
            next = id.next();
            let Some(entry) = group.entries.get(id) else {
                self.outcome.note(group, id, state, self.is_logged);
                group.remove_pending(id);
                gone.push(id);
                continue;
            };
            if self.idle_min > 0 && self.now_ms.wrapping_sub(state.delivered_at_ms) < self.idle_min {
                continue;
            }
            let deliveries = state.deliveries.wrapping_add(u64::from(!self.just_id));
            let state = Pending { delivered_at_ms: self.now_ms, deliveries, consumer: self.consumer };
            group.set_pending(id, state);
            if self.just_id {
                reply_id(&mut claimed, id);
            } else {
                reply_entry(&mut claimed, &entry);
            }
            len += 1;
            set_active(group, self.consumer, self.now_ms);
            self.outcome.note(group, id, state, self.is_logged);
        }
        let cursor = next.and_then(|next| group.pending_from(next).next()).map(|(id, _)| id);
        reply.array(3);
        reply_id(reply, cursor.unwrap_or_default());
        reply.array(len);
        reply.raw(claimed.as_slice());
        reply.array(gone.len());
        for id in gone {
            reply_id(reply, id);
        }
    }
}

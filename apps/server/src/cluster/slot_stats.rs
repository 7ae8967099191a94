// SPDX-License-Identifier: BSD-3-Clause
//! CLUSTER SLOT-STATS. Key counts always; time and traffic only with `cluster-slot-stats-enabled`, as in Valkey.

use pando_commands::CommandError;
use pando_resp::{Args, num};
use pando_session::{Next, SessionCx};
use pando_topology::{SLOT_COUNT, Slot};

use super::commands::view;

/// A column of the reply.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Metric {
    KeyCount,
    CpuUsec,
    NetworkBytesIn,
    NetworkBytesOut,
}

const METRICS: [(&str, Metric); 4] = [
    ("key-count", Metric::KeyCount),
    ("cpu-usec", Metric::CpuUsec),
    ("network-bytes-in", Metric::NetworkBytesIn),
    ("network-bytes-out", Metric::NetworkBytesOut),
];

const UNKNOWN: CommandError =
    CommandError::text("ERR unknown subcommand or wrong number of arguments for 'slot-stats'. Try CLUSTER HELP.");
const BAD_SLOT: CommandError = CommandError::text("ERR Invalid or out of range slot");
const BAD_LIMIT: CommandError =
    CommandError::text("ERR Limit has to lie in between 1 and 16384 (maximum number of slots).");

fn value(cx: &SessionCx<'_>, slot: Slot, metric: Metric) -> u64 {
    let usage = cx.engine.keyspace.slot_usage(slot);
    match metric {
        Metric::KeyCount => cx.engine.keyspace.slot_len(slot, 0),
        Metric::CpuUsec => usage.cpu_us,
        Metric::NetworkBytesIn => usage.bytes_in,
        Metric::NetworkBytesOut => usage.bytes_out,
    }
}

fn slot_of(arg: &[u8]) -> Result<Slot, CommandError> {
    let number = num::parse_i64(arg).and_then(|number| u16::try_from(number).ok());
    number.and_then(Slot::new).ok_or(BAD_SLOT)
}

pub(super) fn slot_stats(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let view = view(cx)?;
    let mine = |slot: &Slot| view.shard_owns(*slot);
    let counts_usage = cx.engine.settings.load().cluster_slot_stats;
    let shown = if counts_usage { &METRICS[..] } else { &METRICS[..1] };
    let slots: Vec<Slot> = if args[2].eq_ignore_ascii_case(b"slotsrange") && args.len() == 5 {
        let (first, last) = (slot_of(args[3])?, slot_of(args[4])?);
        if first > last {
            let text =
                format!("ERR Start slot number {} is greater than end slot number {}", first.number(), last.number());
            return Err(CommandError::Custom(text.into()));
        }
        Slot::all().filter(|slot| (first..=last).contains(slot) && mine(slot)).collect()
    } else if args[2].eq_ignore_ascii_case(b"orderby") && args.len() >= 4 {
        ordered(cx, args, shown, Slot::all().filter(mine).collect())?
    } else {
        return Err(UNKNOWN);
    };
    cx.reply.array(slots.len());
    for slot in slots {
        cx.reply.array(2);
        cx.reply.int(i64::from(slot.number()));
        cx.reply.map(shown.len());
        for (name, metric) in shown {
            cx.reply.bulk(name.as_bytes());
            let value = value(cx, slot, *metric);
            cx.reply.int(value as i64);
        }
    }
    Ok(Next::Continue)
}

/// ORDERBY metric [LIMIT limit] [ASC | DESC]
fn ordered(
    cx: &SessionCx<'_>,
    args: Args<'_>,
    shown: &[(&str, Metric)],
    slots: Vec<Slot>,
) -> Result<Vec<Slot>, CommandError> {
    let metric = shown.iter().find(|(name, _)| args[3].eq_ignore_ascii_case(name.as_bytes()));
    let (_, metric) = *metric.ok_or(CommandError::text("ERR Unrecognized sort metric for ORDERBY."))?;
    let (mut limit, mut ascending) = (None, None);
    let mut at = 4;
    while at < args.len() {
        let is = |word: &[u8]| args[at].eq_ignore_ascii_case(word);
        if is(b"limit") && at + 1 < args.len() {
            let number = num::parse_i64(args[at + 1]).and_then(|number| usize::try_from(number).ok());
            let number = number.filter(|number| (1..=SLOT_COUNT).contains(number)).ok_or(BAD_LIMIT)?;
            if limit.replace(number).is_some() {
                return Err(CommandError::text("ERR Multiple filters of the same type are disallowed."));
            }
            at += 1;
        } else if is(b"asc") || is(b"desc") {
            if ascending.replace(is(b"asc")).is_some() {
                return Err(CommandError::text("ERR Multiple filters of the same type are disallowed."));
            }
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    let mut rows: Vec<(u64, Slot)> = slots.into_iter().map(|slot| (value(cx, slot, metric), slot)).collect();
    // Slots with the same value come in ascending order either way.
    rows.sort_by(|a, b| if ascending == Some(true) { a.0.cmp(&b.0) } else { b.0.cmp(&a.0) });
    Ok(rows.into_iter().map(|(_, slot)| slot).take(limit.unwrap_or(SLOT_COUNT)).collect())
}

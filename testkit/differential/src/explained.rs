// SPDX-License-Identifier: BSD-3-Clause
//! The differences that are allowed, each with its reason. The list may only shrink.

use pando_resp::decode::Value;

use crate::Words;

/// Replies may differ by this much where they tell a time in milliseconds: the two servers are asked one after the other.
const TIME_TOLERANCE_MS: i64 = 5000;

/// Whether two replies to a command count as the same.
pub fn same(command: &Words, pando: &Value, valkey: &Value) -> bool {
    if pando == valkey {
        return true;
    }
    let name = command.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
    match (name.as_slice(), pando, valkey) {
        // Times: read a moment apart. Seconds round, so they may differ by one more.
        (b"TTL" | b"EXPIRETIME", Value::Int(ours), Value::Int(theirs)) => {
            *ours >= 0 && *theirs >= 0 && (ours - theirs).abs() <= TIME_TOLERANCE_MS / 1000 + 1
        }
        (b"PTTL" | b"PEXPIRETIME", Value::Int(ours), Value::Int(theirs)) => {
            *ours >= 0 && *theirs >= 0 && (ours - theirs).abs() <= TIME_TOLERANCE_MS
        }
        (b"HTTL", Value::Array(Some(ours)), Value::Array(Some(theirs))) => {
            all_near(ours, theirs, TIME_TOLERANCE_MS / 1000 + 1)
        }
        (b"HPTTL" | b"HEXPIRETIME" | b"HPEXPIRETIME", Value::Array(Some(ours)), Value::Array(Some(theirs))) => {
            all_near(ours, theirs, TIME_TOLERANCE_MS)
        }
        (b"XPENDING" | b"XINFO", ours, theirs) => same_but_times(ours, theirs),
        // Order: Valkey promises none.
        (b"HKEYS" | b"HVALS", Value::Array(Some(ours)), Value::Array(Some(theirs))) => sorted(ours) == sorted(theirs),
        (b"HGETALL", Value::Map(ours), Value::Map(theirs)) => sorted_pairs(ours) == sorted_pairs(theirs),
        (b"HGETALL", Value::Array(Some(ours)), Value::Array(Some(theirs))) => {
            sorted_chunks(ours) == sorted_chunks(theirs)
        }
        (b"HRANDFIELD", Value::Array(Some(ours)), Value::Array(Some(theirs))) => {
            let is_flat = command.len() > 3 && matches!(ours.first(), Some(Value::Bulk(_)));
            if is_flat { sorted_chunks(ours) == sorted_chunks(theirs) } else { sorted(ours) == sorted(theirs) }
        }
        (b"HSCAN", Value::Array(Some(ours)), Value::Array(Some(theirs))) => match (&ours[..], &theirs[..]) {
            ([_, Value::Array(Some(ours))], [_, Value::Array(Some(theirs))]) if ours.len() % 2 == 0 => {
                sorted_chunks(ours) == sorted_chunks(theirs) || sorted(ours) == sorted(theirs)
            }
            ([_, Value::Array(Some(ours))], [_, Value::Array(Some(theirs))]) => sorted(ours) == sorted(theirs),
            _ => false,
        },
        (b"KEYS", Value::Array(Some(ours)), Value::Array(Some(theirs))) => sorted(ours) == sorted(theirs),
        (b"SMEMBERS" | b"SUNION" | b"SDIFF" | b"SINTER" | b"SPOP" | b"SRANDMEMBER", ours, theirs)
            if same_in_any_order(ours, theirs) =>
        {
            true
        }
        (b"SSCAN", Value::Array(Some(ours)), Value::Array(Some(theirs))) => match (&ours[..], &theirs[..]) {
            ([our_cursor, ours], [their_cursor, theirs]) => {
                our_cursor == their_cursor && same_in_any_order(ours, theirs)
            }
            _ => false,
        },
        // Chance: as many, whichever they are. Such keys are asked nothing else.
        (b"SPOP" | b"SRANDMEMBER", ours, theirs) if command.get(1).is_some_and(|key| key.starts_with(b"r:")) => {
            match (ours, theirs) {
                (Value::Bulk(Some(_)), Value::Bulk(Some(_))) => true,
                (Value::Array(Some(ours)), Value::Array(Some(theirs))) | (Value::Set(ours), Value::Set(theirs)) => {
                    ours.len() == theirs.len()
                }
                _ => false,
            }
        }
        _ => false,
    }
}

fn same_in_any_order(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(Some(ours)), Value::Array(Some(theirs))) | (Value::Set(ours), Value::Set(theirs)) => {
            sorted(ours) == sorted(theirs)
        }
        _ => false,
    }
}

fn all_near(ours: &[Value], theirs: &[Value], tolerance: i64) -> bool {
    let near = |(ours, theirs): (&Value, &Value)| match (ours, theirs) {
        (Value::Int(ours), Value::Int(theirs)) => {
            ours == theirs || (*ours >= 0 && *theirs >= 0 && (ours - theirs).abs() <= tolerance)
        }
        _ => false,
    };
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(near)
}

fn sorted_pairs(pairs: &[(Value, Value)]) -> Vec<String> {
    let mut texts: Vec<String> = pairs.iter().map(|pair| format!("{pair:?}")).collect();
    texts.sort();
    texts
}

/// Pairs of neighbours.
fn sorted_chunks(values: &[Value]) -> Vec<String> {
    let mut texts: Vec<String> = values.chunks(2).map(|pair| format!("{pair:?}")).collect();
    texts.sort();
    texts
}

/// Names of pairs that tell a time or how long ago it was.
const TIMES: [&[u8]; 4] = [b"idle", b"inactive", b"seen-time", b"active-time"];
/// Later than this is a Unix time in milliseconds, not a count.
const UNIX_MS_MIN: i64 = 1_000_000_000_000;

/// The same, but for the times of consumers and pending entries.
fn same_but_times(ours: &Value, theirs: &Value) -> bool {
    let near = |ours: i64, theirs: i64| (ours - theirs).abs() <= TIME_TOLERANCE_MS;
    let is_time = |name: &Value| matches!(name, Value::Bulk(Some(name)) if TIMES.contains(&name.as_slice()));
    let same_pair = |name: &Value, ours: &Value, theirs: &Value| match (ours, theirs) {
        (Value::Int(ours), Value::Int(theirs)) if is_time(name) => near(*ours, *theirs) && (*ours < 0) == (*theirs < 0),
        _ => same_but_times(ours, theirs),
    };
    match (ours, theirs) {
        (Value::Int(ours), Value::Int(theirs)) if *ours > UNIX_MS_MIN && *theirs > UNIX_MS_MIN => near(*ours, *theirs),
        (Value::Array(Some(ours)), Value::Array(Some(theirs))) => {
            // XPENDING: id, consumer, idle time, deliveries.
            let is_pending = matches!(ours.as_slice(), [Value::Bulk(_), Value::Bulk(_), Value::Int(_), Value::Int(_)]);
            let is_idle = |at: usize| at == 2 && is_pending;
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).enumerate().all(|(at, (own, other))| match (own, other) {
                    (Value::Int(own), Value::Int(other)) if is_idle(at) => near(*own, *other),
                    _ if at > 0 => same_pair(&ours[at - 1], own, other),
                    _ => same_but_times(own, other),
                })
        }
        (Value::Map(ours), Value::Map(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(own, other)| own.0 == other.0 && same_pair(&own.0, &own.1, &other.1))
        }
        _ => ours == theirs,
    }
}

fn sorted(values: &[Value]) -> Vec<String> {
    let mut texts: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    texts.sort();
    texts
}

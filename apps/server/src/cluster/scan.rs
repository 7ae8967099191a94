// SPDX-License-Identifier: BSD-3-Clause
//! CLUSTERSCAN: one walk over the keys of all nodes. A cursor names the slot that it stands in by a key of that slot, so the
//! usual redirections bring the client to the right node.
//!
//! ```text
//! FINGERPRINT-{TAG}-CURSOR      a fingerprint that is not this process's (0 for none): the slot begins anew
//! ```

use super::arguments;
use pando_commands::{CommandError, glob};
use pando_keyspace::ValueType;
use pando_resp::{Args, num};
use pando_session::{Next, SessionCx};
use pando_topology::{SLOT_COUNT, Slot};
use std::sync::OnceLock;

const SLOT_BITS: u32 = 14;
const COUNT_DEFAULT: usize = 10;
const FINGERPRINT_LEN: usize = 6;
const TYPE_NAMES: [&str; 7] = ["string", "list", "set", "zset", "hash", "stream", "module"];

/// Says where keys lie in the tables of this process; another process has another.
fn fingerprint() -> &'static str {
    static OWN: OnceLock<String> = OnceLock::new();
    OWN.get_or_init(|| {
        let seed = pando_values::random();
        // Six bits each, from '0' on: neither '-' nor braces.
        (0..FINGERPRINT_LEN).map(|at| char::from(b'0' + (seed >> (6 * at)) as u8 % 64)).collect()
    })
}

/// A short key of the slot.
fn tag_of(slot: Slot) -> &'static str {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    let tags = TAGS.get_or_init(|| {
        let mut tags = vec![String::new(); SLOT_COUNT];
        let mut missing = SLOT_COUNT;
        for number in 0u32.. {
            let tag = format!("{number:x}");
            let known = &mut tags[Slot::of_key(tag.as_bytes()).index()];
            if known.is_empty() {
                *known = tag;
                missing -= 1;
            }
            if missing == 0 {
                break;
            }
        }
        tags
    });
    &tags[slot.index()]
}

/// The slot of all keys that can match a pattern, if it is one.
fn slot_of_pattern(pattern: &[u8]) -> Option<Slot> {
    let tag = pattern.iter().position(|byte| *byte == b'{').and_then(|open| {
        let len = pattern[open + 1..].iter().position(|byte| *byte == b'}')?;
        (len > 0).then_some(open + 1..open + 1 + len)
    });
    let fixed = &pattern[..tag.as_ref().map_or(pattern.len(), |tag| tag.end)];
    let is_fixed = !fixed.iter().any(|byte| b"*?[\\".contains(byte));
    is_fixed.then(|| Slot::of_key(&pattern[tag.unwrap_or(0..pattern.len())]))
}

#[derive(Default)]
struct Options<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    type_name: Option<&'static str>,
    slot: Option<Slot>,
    pattern_slot: Option<Slot>,
}

fn options<'a>(args: &[&'a [u8]]) -> Result<Options<'a>, CommandError> {
    let mut options = Options { count: COUNT_DEFAULT, ..Options::default() };
    for pair in args.chunks(2) {
        let &[word, value] = pair else { return Err(CommandError::Syntax) };
        match word.to_ascii_lowercase().as_slice() {
            b"count" => {
                let count = num::parse_i64(value).ok_or(CommandError::NotInteger)?;
                options.count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(CommandError::Syntax)?;
            }
            b"match" => {
                options.pattern = (value != b"*").then_some(value);
                options.pattern_slot = options.pattern.and_then(slot_of_pattern);
            }
            b"type" => {
                let known = TYPE_NAMES.into_iter().find(|name| value.eq_ignore_ascii_case(name.as_bytes()));
                let value = String::from_utf8_lossy(value);
                let unknown = || CommandError::format(format!("ERR unknown type name '{value}'"));
                options.type_name = Some(known.ok_or_else(unknown)?);
            }
            b"slot" if options.slot.is_some() => {
                return Err(CommandError::text("ERR SLOT option can only be specified once"));
            }
            b"slot" => options.slot = Some(arguments::slot(value)?),
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(options)
}

/// Slot and place in it; the place is zero where it was made by another process.
fn cursor(word: &[u8]) -> Option<(Slot, u64)> {
    let mut parts = word.splitn(3, |byte| *byte == b'-');
    let (of, tag, place) = (parts.next()?, parts.next()?, parts.next()?);
    let slot = Slot::of_key(tag);
    let place = num::parse_u64(place)?;
    let is_own = of == fingerprint().as_bytes() && place & ((1 << SLOT_BITS) - 1) == slot.index() as u64;
    Some((slot, if is_own { place >> SLOT_BITS } else { 0 }))
}

fn start_of(slot: Slot) -> String {
    format!("0-{{{}}}-0", tag_of(slot))
}

/// CLUSTERSCAN cursor [MATCH pattern] [COUNT n] [TYPE name] [SLOT n]
pub(super) fn clusterscan(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    if !cx.engine.settings.load().cluster_enabled {
        return Err(CommandError::text("ERR This instance has cluster support disabled"));
    }
    let options = options(&args[2..])?;
    let is_impossible = matches!((options.slot, options.pattern_slot), (Some(one), Some(other)) if one != other);
    if args[1] == b"0" {
        let first = options.slot.or(options.pattern_slot).or_else(|| Slot::all().next());
        let next = first.filter(|_| !is_impossible).map_or("0".to_owned(), start_of);
        return reply(cx, &next, &[]);
    }
    let (slot, mut place) = cursor(args[1]).ok_or(CommandError::text("ERR Invalid cursor"))?;
    if options.slot.is_some_and(|wanted| wanted != slot) {
        return Err(CommandError::text("ERR Cursor slot mismatch with SLOT argument"));
    }
    if let Some(wanted) = options.pattern_slot.filter(|wanted| *wanted != slot) {
        // Forwards only: what lies behind was seen.
        let next = if !is_impossible && wanted > slot { start_of(wanted) } else { "0".to_owned() };
        return reply(cx, &next, &[]);
    }
    let is_single = options.slot.is_some() || options.pattern_slot.is_some();
    let view = cx.engine.cluster.load_full();
    let is_ours = |slot: &Slot| view.as_ref().is_some_and(|view| view.shard_owns(*slot));
    let range = Slot::all().skip(slot.index()).take(if is_single { 1 } else { SLOT_COUNT });
    let range = range.take_while(|other| *other == slot || is_ours(other));
    let (db, mut keys, mut last) = (cx.session.db(), Vec::new(), slot);
    // Keys that were looked at, whether or not they are wanted: the work of one call is bounded by these.
    let (mut next, mut sampled) = (None, 0);
    let mut locked = cx.engine.keyspace.lock_none();
    locked.set_now(cx.worker.now_ms());
    for slot in range {
        last = slot;
        if sampled >= options.count {
            next = Some(start_of(slot));
            break;
        }
        if cx.engine.keyspace.slot_len(slot, db) == 0 {
            continue;
        }
        let wanted = |of: ValueType| options.type_name.is_none_or(|name| of.name() == name);
        let count = options.count - sampled;
        place = locked.scan_slot(slot, std::mem::take(&mut place), db, count, &mut |key, meta| {
            sampled += 1;
            if wanted(meta.type_) && options.pattern.is_none_or(|pattern| glob::matches(pattern, key)) {
                keys.push(key.to_vec());
            }
        });
        if place != 0 {
            let place = place << SLOT_BITS | slot.index() as u64;
            next = Some(format!("{}-{{{}}}-{place}", fingerprint(), tag_of(slot)));
            break;
        }
    }
    drop(locked);
    let after = Slot::all().nth(last.index() + 1).filter(|_| !is_single);
    let next = next.or_else(|| after.map(start_of)).unwrap_or_else(|| "0".to_owned());
    reply(cx, &next, &keys)
}

fn reply(cx: &mut SessionCx<'_>, cursor: &str, keys: &[Vec<u8>]) -> Result<Next, CommandError> {
    cx.reply.array(2);
    cx.reply.bulk(cursor.as_bytes());
    cx.reply.array(keys.len());
    keys.iter().for_each(|key| cx.reply.bulk(key));
    Ok(Next::Continue)
}

#[cfg(test)]
mod tests {
    use super::{cursor, fingerprint, slot_of_pattern, start_of, tag_of};
    use pando_topology::Slot;

    #[test]
    fn every_slot_has_a_tag_and_a_cursor() {
        for slot in Slot::all() {
            assert_eq!(Slot::of_key(tag_of(slot).as_bytes()), slot);
            assert_eq!(cursor(start_of(slot).as_bytes()), Some((slot, 0)));
        }
        let slot = Slot::of_key(b"a");
        let own = |place: usize| format!("{}-{{a}}-{place}", fingerprint());
        assert_eq!(cursor(own(7 << 14 | slot.index()).as_bytes()), Some((slot, 7)));
        assert_eq!(cursor(own(7 << 14).as_bytes()), Some((slot, 0)), "a place in another slot");
        for bad in ["", "abc", "0-{a}", "0-{a}-", "0-{a}-x", "0-{a}--1"] {
            assert_eq!(cursor(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn patterns_of_one_slot() {
        for (pattern, key) in [
            ("{a}*", Some("a")),
            ("x{a}b*", Some("a")),
            ("abc", Some("abc")),
            ("a*", None),
            ("*{a}", None),
            ("a\\b", None),
            ("{a", Some("{a")),
        ] {
            assert_eq!(slot_of_pattern(pattern.as_bytes()), key.map(|key| Slot::of_key(key.as_bytes())), "{pattern}");
        }
    }
}

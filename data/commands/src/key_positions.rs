// SPDX-License-Identifier: BSD-3-Clause
//! Which arguments of a command are keys: the key specs of `commands.json` interpreted, plus the few commands whose specs
//! do not say it all (SORT, MIGRATE, GEORADIUS with two stores, SET without GET, BITFIELD without writes). Used for locking, routing,
//! ACL and COMMAND GETKEYS. Only called with an argument count that satisfies the arity.

use crate::spec::{BeginSearch, CommandSpec, FindKeys, Flags, KeyFlags, KeySpec};
use pando_resp::Args;
use smallvec::SmallVec;

/// One key: its index in the arguments and how it is used.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct KeyPosition {
    /// Index in `args`.
    pub index: u32,
    /// Use of the key.
    pub flags: KeyFlags,
}

/// Keys of one command.
pub type KeyVec = SmallVec<[KeyPosition; 8]>;

/// Why the keys cannot be told.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// A count of keys is not a number or does not fit the arguments.
    #[error("ERR Invalid arguments specified for command")]
    InvalidArguments,
}

/// Where the key is, for commands of the overwhelmingly common shape: one key at a fixed place.
#[inline]
pub fn sole_key(spec: &CommandSpec) -> Option<usize> {
    match spec.key_specs {
        [
            KeySpec {
                begin_search: BeginSearch::Index(index),
                find_keys: FindKeys::Range { last_key: 0, .. },
                flags,
                ..
            },
        ] if !flags.has(KeyFlags::NOT_KEY) => Some(*index as usize),
        _ => None,
    }
}

/// Appends the keys of `args` to `keys`. Positions outside the arguments are an error; channels are not keys.
#[inline]
pub fn keys_of(spec: &CommandSpec, args: Args<'_>, keys: &mut KeyVec) -> Result<(), KeyError> {
    // The overwhelmingly common shape, one key at a fixed place, must not pay for the general one.
    if let [
        KeySpec {
            begin_search: BeginSearch::Index(index), find_keys: FindKeys::Range { last_key: 0, .. }, flags, ..
        },
    ] = spec.key_specs
    {
        if flags.has(KeyFlags::NOT_KEY) {
            return Ok(());
        }
        let flags = if flags.has(KeyFlags::VARIABLE_FLAGS) { variable_flags(spec, args, *flags) } else { *flags };
        keys.push(KeyPosition { index: *index as u32, flags });
        return Ok(());
    }
    general(spec, args, keys)
}

fn general(spec: &CommandSpec, args: Args<'_>, keys: &mut KeyVec) -> Result<(), KeyError> {
    match spec.name {
        "sort" | "sort_ro" => return sort_keys(args, keys),
        "migrate" => return migrate_keys(args, keys),
        "georadius" | "georadiusbymember" => {
            georadius_keys(args, keys);
            return Ok(());
        }
        "xread" | "xreadgroup" => {
            xread_keys(spec, args, keys);
            return Ok(());
        }
        _ => {}
    }
    for key_spec in spec.key_specs {
        if key_spec.flags.has(KeyFlags::NOT_KEY) {
            continue;
        }
        by_spec(key_spec, spec, args, keys)?;
    }
    Ok(())
}

fn by_spec(key_spec: &KeySpec, spec: &CommandSpec, args: Args<'_>, keys: &mut KeyVec) -> Result<(), KeyError> {
    let Some(start) = start_of(&key_spec.begin_search, args) else { return Ok(()) };
    let flags = if key_spec.flags.has(KeyFlags::VARIABLE_FLAGS) {
        variable_flags(spec, args, key_spec.flags)
    } else {
        key_spec.flags
    };
    let argc = args.len() as i64;
    let (first, last, step) = match key_spec.find_keys {
        FindKeys::Unknown => return Ok(()),
        FindKeys::Range { last_key, step, limit } => {
            let last = match last_key {
                forward if forward >= 0 => start + i64::from(forward),
                backward if limit <= 1 => argc + i64::from(backward),
                backward => start + (argc - start) / i64::from(limit) + i64::from(backward),
            };
            (start, last, i64::from(step))
        }
        FindKeys::KeyNum { key_num_index, first_key, step } => {
            let at = start + i64::from(key_num_index);
            let count = usize::try_from(at)
                .ok()
                .and_then(|at| args.get(at))
                .and_then(|text| pando_resp::num::parse_i64(text))
                .filter(|count| *count >= i64::from(!spec.flags.has(Flags::NO_MANDATORY_KEYS)))
                .ok_or(KeyError::InvalidArguments)?;
            let first = start + i64::from(first_key);
            let last = (count - 1).checked_mul(i64::from(step)).and_then(|span| span.checked_add(first));
            (first, last.ok_or(KeyError::InvalidArguments)?, i64::from(step))
        }
    };
    if last >= argc || (first <= last && first < 1) {
        return Err(KeyError::InvalidArguments);
    }
    let mut at = first;
    while at <= last {
        keys.push(KeyPosition { index: at as u32, flags });
        at += step;
    }
    Ok(())
}

fn start_of(begin: &BeginSearch, args: Args<'_>) -> Option<i64> {
    match *begin {
        BeginSearch::Index(index) => Some(i64::from(index)),
        BeginSearch::Unknown => None,
        BeginSearch::Keyword { keyword, start_from } => {
            let found = |at: &usize| args[*at].eq_ignore_ascii_case(keyword.as_bytes());
            // The keyword cannot be the last argument: something has to follow it.
            let end = args.len().saturating_sub(1);
            let at = if start_from > 0 {
                (start_from as usize..end).find(found)
            } else {
                (1..=args.len().saturating_sub(usize::from(start_from.unsigned_abs()))).rev().find(found)
            };
            at.map(|at| at as i64 + 1)
        }
    }
}

/// Flags that depend on the arguments: SET reads only with GET, BITFIELD writes unless every operation is GET.
fn variable_flags(spec: &CommandSpec, args: Args<'_>, flags: KeyFlags) -> KeyFlags {
    let without_variable = KeyFlags(flags.0 & !KeyFlags::VARIABLE_FLAGS.0);
    match spec.name {
        "set" => {
            if args.iter().skip(3).any(|arg| arg.eq_ignore_ascii_case(b"get")) {
                KeyFlags(KeyFlags::RW.0 | KeyFlags::ACCESS.0 | KeyFlags::UPDATE.0)
            } else {
                KeyFlags(KeyFlags::OW.0 | KeyFlags::UPDATE.0)
            }
        }
        "bitfield" => {
            if bitfield_is_read_only(args) {
                KeyFlags(KeyFlags::RO.0 | KeyFlags::ACCESS.0)
            } else {
                KeyFlags(KeyFlags::RW.0 | KeyFlags::ACCESS.0 | KeyFlags::UPDATE.0)
            }
        }
        _ => without_variable,
    }
}

fn bitfield_is_read_only(args: Args<'_>) -> bool {
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args[at].eq_ignore_ascii_case(b"get") && left >= 2 {
            at += 3;
        } else if args[at].eq_ignore_ascii_case(b"overflow") && left >= 1 {
            at += 2;
        } else {
            return false;
        }
    }
    true
}

/// GEORADIUS and GEORADIUSBYMEMBER: the source, and the last of STORE and STOREDIST.
fn georadius_keys(args: Args<'_>, keys: &mut KeyVec) {
    keys.push(KeyPosition { index: 1, flags: KeyFlags(KeyFlags::RO.0 | KeyFlags::ACCESS.0) });
    let mut store = None;
    let mut at = 5;
    while at + 1 < args.len() {
        if args[at].eq_ignore_ascii_case(b"store") || args[at].eq_ignore_ascii_case(b"storedist") {
            at += 1;
            store = Some(at);
        }
        at += 1;
    }
    if let Some(index) = store {
        keys.push(KeyPosition { index: index as u32, flags: KeyFlags(KeyFlags::OW.0 | KeyFlags::UPDATE.0) });
    }
}

/// XREAD and XREADGROUP: the first half of what follows STREAMS, the option; a group, consumer or key may have that name
/// too. Nothing when the command is refused anyway.
fn xread_keys(spec: &CommandSpec, args: Args<'_>, keys: &mut KeyVec) {
    let mut at = 1;
    while at < args.len() && !args[at].eq_ignore_ascii_case(b"streams") {
        at += match args[at] {
            word if word.eq_ignore_ascii_case(b"group") => 3,
            word if word.eq_ignore_ascii_case(b"noack") => 1,
            // BLOCK and COUNT; anything else is refused.
            _ => 2,
        };
    }
    let streams = args.len().saturating_sub(at + 1) / 2;
    let flags = spec.key_specs.first().map_or(KeyFlags(0), |key_spec| key_spec.flags);
    keys.extend((at + 1..at + 1 + streams).map(|index| KeyPosition { index: index as u32, flags }));
}

/// Options of SORT before STORE and how many arguments follow each.
const SORT_OPTIONS: [(&[u8], usize); 3] = [(b"limit", 2), (b"get", 1), (b"by", 1)];

/// SORT key [BY p] [LIMIT a b] [GET p ...] [STORE dst]: the source and the last STORE.
fn sort_keys(args: Args<'_>, keys: &mut KeyVec) -> Result<(), KeyError> {
    keys.push(KeyPosition { index: 1, flags: KeyFlags(KeyFlags::RO.0 | KeyFlags::ACCESS.0) });
    let mut store = None;
    let mut at = 2;
    while at < args.len() {
        let skip = SORT_OPTIONS.iter().find(|(word, _)| args[at].eq_ignore_ascii_case(word));
        if let Some((_, skip)) = skip {
            at += skip;
        } else if args[at].eq_ignore_ascii_case(b"store") && at + 1 < args.len() {
            store = Some(at + 1);
        }
        at += 1;
    }
    if let Some(index) = store {
        keys.push(KeyPosition { index: index as u32, flags: KeyFlags(KeyFlags::OW.0 | KeyFlags::UPDATE.0) });
    }
    Ok(())
}

/// Whether the command reads keys that no argument names: SORT with BY or GET. Conservative: a word that is an operand of
/// another option counts as well.
pub fn reads_unnamed_keys(spec: &CommandSpec, args: Args<'_>) -> bool {
    let is_pattern_option = |arg: &&[u8]| arg.eq_ignore_ascii_case(b"by") || arg.eq_ignore_ascii_case(b"get");
    matches!(spec.name, "sort" | "sort_ro") && args.iter().skip(2).any(is_pattern_option)
}

/// MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH p] [AUTH2 u p] [KEYS k ...]
fn migrate_keys(args: Args<'_>, keys: &mut KeyVec) -> Result<(), KeyError> {
    let flags = KeyFlags(KeyFlags::RW.0 | KeyFlags::ACCESS.0 | KeyFlags::DELETE.0);
    let mut at = 6;
    while at < args.len() {
        let word = args[at];
        if word.eq_ignore_ascii_case(b"keys") {
            if args[3].is_empty() {
                keys.extend((at + 1..args.len()).map(|index| KeyPosition { index: index as u32, flags }));
                return Ok(());
            }
            break;
        }
        at += if word.eq_ignore_ascii_case(b"auth") {
            2
        } else if word.eq_ignore_ascii_case(b"auth2") {
            3
        } else {
            1
        };
    }
    keys.push(KeyPosition { index: 3, flags });
    Ok(())
}

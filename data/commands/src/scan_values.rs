// SPDX-License-Identifier: BSD-3-Clause
//! What SSCAN, HSCAN and ZSCAN share: cursor, options, the reply.
//!
//! Not here: how a collection is walked (its own `scan`, given as a function), SCAN over keys. Called by the families of
//! sets, hashes and sorted sets.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::glob;
use crate::scan::scan_cursor;
use pando_resp::Args;
use pando_values::{IntText, TypedValue, ValueType};

/// Takes what a walk meets: members or fields that the pattern wants, with their values unless only keys are asked for.
pub(crate) struct Found<'a> {
    pattern: Option<&'a [u8]>,
    only_keys: bool,
    /// All items, one behind the other.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Found<'_> {
    /// Takes a member or field, if the pattern wants it. Returns whether its value or score is to follow.
    pub(crate) fn key(&mut self, key: &[u8]) -> bool {
        if self.pattern.is_some_and(|pattern| !glob::matches(pattern, key)) {
            return false;
        }
        self.push(key);
        !self.only_keys
    }

    /// Takes the value of the key before.
    pub(crate) fn value(&mut self, value: &[u8]) {
        self.push(value);
    }

    fn push(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.ends.push(self.bytes.len());
    }
}

/// The handler of `xSCAN key cursor [MATCH pattern] [COUNT n] [NOVALUES | NOSCORES]`. `walk` is given the collection, the
/// cursor, about how many elements to hand over, and where to; it returns the next cursor. Small forms hand all over and
/// return zero, whatever the cursor.
pub(crate) fn scan_collection<T: TypedValue>(
    ctx: &mut Ctx<'_, '_>,
    args: Args<'_>,
    walk: impl FnOnce(&T, u64, usize, &mut Found<'_>) -> u64,
) -> Result<(), CommandError> {
    let cursor = scan_cursor(args[2])?;
    ctx.read(args[1], |value: Option<&T>, reply| {
        // Options of a key that does not exist are not looked at.
        let Some(value) = value else {
            reply.array(2);
            reply.bulk(b"0");
            reply.array(0);
            return Ok(());
        };
        let (mut found, count) = options(&args[3..], T::TYPE)?;
        let next = walk(value, cursor, count, &mut found);
        reply.array(2);
        reply.bulk(IntText::new().format(next.cast_signed()).as_bytes());
        reply.array(found.ends.len());
        let mut start = 0;
        for &end in &found.ends {
            reply.bulk(&found.bytes[start..end]);
            start = end;
        }
        Ok(())
    })
}

fn options<'a>(args: &[&'a [u8]], of: ValueType) -> Result<(Found<'a>, usize), CommandError> {
    let mut found = Found { pattern: None, only_keys: false, bytes: Vec::new(), ends: Vec::new() };
    let mut count = 10;
    let mut rest = args;
    while let [word, more @ ..] = rest {
        rest = match more {
            [number, more @ ..] if is_word(word, "COUNT") => {
                count = integer(number)?;
                if count < 1 {
                    return Err(CommandError::Syntax);
                }
                more
            }
            [pattern, more @ ..] if is_word(word, "MATCH") => {
                found.pattern = (*pattern != b"*").then_some(pattern);
                more
            }
            _ if is_word(word, "NOVALUES") => {
                if of != ValueType::Hash {
                    return Err(CommandError::text("ERR NOVALUES option can only be used in HSCAN"));
                }
                found.only_keys = true;
                more
            }
            _ if is_word(word, "NOSCORES") => {
                if of != ValueType::ZSet {
                    return Err(CommandError::text("ERR NOSCORES option can only be used in ZSCAN"));
                }
                found.only_keys = true;
                more
            }
            _ => return Err(CommandError::Syntax),
        };
    }
    Ok((found, usize::try_from(count).unwrap_or(usize::MAX)))
}

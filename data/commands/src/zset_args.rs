// SPDX-License-Identifier: BSD-3-Clause
//! What the families of sorted set commands share: bounds of ranges as text, and how elements are replied.

use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use pando_resp::{Proto, ReplyBuf, num};
use pando_values::{Element, LexBound, LexRange, ScoreRange, ZSet, ZSetIter};

/// A score, as arguments give it: NaN is refused.
pub(crate) fn score(arg: &[u8]) -> Result<f64, CommandError> {
    num::parse_f64(arg).ok_or(CommandError::NotFloat)
}

/// `min max` of a range of scores; `(` in front leaves the end itself out.
pub(crate) fn score_range(min: &[u8], max: &[u8]) -> Result<ScoreRange, CommandError> {
    const REFUSED: CommandError = CommandError::text("ERR min or max is not a float");
    let end = |text: &[u8]| {
        let (text, excluded) = text.strip_prefix(b"(").map_or((text, false), |rest| (rest, true));
        Some((lenient_float(text)?, excluded))
    };
    let (min, min_excluded) = end(min).ok_or(REFUSED)?;
    let (max, max_excluded) = end(max).ok_or(REFUSED)?;
    Ok(ScoreRange { min, min_excluded, max, max_excluded })
}

/// A number as the reference server reads it where it does not look for range errors: nothing is zero, too much is
/// infinite, and a zero byte ends the text.
fn lenient_float(text: &[u8]) -> Option<f64> {
    let text = text.split(|byte| *byte == 0).next().unwrap_or(text);
    if text.is_empty() {
        return Some(0.0);
    }
    num::parse_f64(text).or_else(|| {
        let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
        let is_number = digits.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.');
        if is_number { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
    })
}

/// `min max` of a range of members.
pub(crate) fn lex_range<'a>(min: &'a [u8], max: &'a [u8]) -> Result<LexRange<'a>, CommandError> {
    const REFUSED: CommandError = CommandError::text("ERR min or max not valid string range item");
    let end = |text: &'a [u8]| match text {
        [b'-'] | [b'-', 0, ..] => Some(LexBound::Lowest),
        [b'+'] | [b'+', 0, ..] => Some(LexBound::Highest),
        [b'[', member @ ..] => Some(LexBound::Included(member)),
        [b'(', member @ ..] => Some(LexBound::Excluded(member)),
        _ => None,
    };
    Ok(LexRange { min: end(min).ok_or(REFUSED)?, max: end(max).ok_or(REFUSED)? })
}

/// Ranks from `start` to `stop`, both included, negative from the end; an empty range when they name nothing.
pub(crate) fn rank_range(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    let (start, stop) = (from_end(start).max(0), from_end(stop));
    if start > stop || start >= len {
        return 0..0;
    }
    start as usize..stop.min(len - 1) as usize + 1
}

/// A member, whichever way it is stored.
#[inline]
pub(crate) fn reply_member(reply: &mut ReplyBuf, member: Element<'_>) {
    match member {
        Element::Str(bytes) => reply.bulk(bytes),
        Element::Int(int) => reply.bulk_int(int),
    }
}

/// Header of a reply of `count` elements, which are pairs in RESP3 and flat in RESP2 when they come with scores.
pub(crate) fn reply_header(reply: &mut ReplyBuf, count: usize, with_scores: bool) {
    reply.array(if with_scores && reply.proto() == Proto::Resp2 { count * 2 } else { count });
}

/// One element beneath [`reply_header`].
#[inline]
pub(crate) fn reply_element(reply: &mut ReplyBuf, member: Element<'_>, score: f64, with_scores: bool) {
    if with_scores && reply.proto() == Proto::Resp3 {
        reply.array(2);
    }
    reply_member(reply, member);
    if with_scores {
        reply.double(score);
    }
}

/// `count` elements with their header.
pub(crate) fn reply_elements(reply: &mut ReplyBuf, elements: ZSetIter<'_>, count: usize, with_scores: bool) {
    reply_header(reply, count, with_scores);
    for (member, score) in elements {
        reply_element(reply, member, score, with_scores);
    }
}

/// Puts a result under its key, replies its length, and tells everybody: the end of every STORE command.
pub(crate) fn store(ctx: &mut Ctx<'_, '_>, key: &[u8], result: ZSet, event: &'static str) {
    use pando_values::Collection;
    let len = result.len();
    let existed = ctx.put(key, result);
    if len > 0 {
        ctx.changed(EventClass::ZSET, event, key);
    } else if existed {
        ctx.changed(EventClass::GENERIC, "del", key);
    }
    ctx.reply.int(len as i64);
}

/// Counts the removal of `count` elements, tells watchers, and emits `event`, and `del` when none are left.
pub(crate) fn removed(ctx: &mut Ctx<'_, '_>, key: &[u8], event: &'static str, count: usize, is_emptied: bool) {
    if count == 0 {
        return;
    }
    ctx.dirty(count as u64);
    ctx.modified(key);
    ctx.notify(EventClass::ZSET, event, key);
    if is_emptied {
        ctx.notify(EventClass::GENERIC, "del", key);
    }
}

#[cfg(test)]
mod tests {
    use super::{lenient_float, rank_range};

    #[test]
    fn ends_of_score_ranges() {
        for (text, expected) in [
            ("", Some(0.0)),
            ("1.5", Some(1.5)),
            ("+1", Some(1.0)),
            ("5.", Some(5.0)),
            ("1e400", Some(f64::INFINITY)),
            ("-1e400", Some(f64::NEG_INFINITY)),
            ("1e-400", Some(0.0)),
            ("-InF", Some(f64::NEG_INFINITY)),
            ("1\0x", Some(1.0)),
            ("nan", None),
            ("0x1", None),
            (" 1", None),
            ("1e", None),
            ("++1", None),
            ("x", None),
        ] {
            assert_eq!(lenient_float(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn ranks_from_both_ends() {
        for ((start, stop, len), expected) in [
            ((0, -1, 3), 0..3),
            ((1, 1, 3), 1..2),
            ((-2, 100, 3), 1..3),
            ((-100, 0, 3), 0..1),
            ((3, 5, 3), 0..0),
            ((2, 1, 3), 0..0),
            ((0, -4, 3), 0..0),
            ((i64::MIN, i64::MAX, 3), 0..3),
        ] {
            assert_eq!(rank_range(start, stop, len), expected, "{start} {stop} {len}");
        }
    }
}

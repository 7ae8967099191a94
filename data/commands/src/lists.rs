// SPDX-License-Identifier: BSD-3-Clause
//! Lists: LPUSH, RPUSH, LPUSHX, RPUSHX, LLEN, LINDEX, LRANGE, LSET, LINSERT, LREM, LTRIM, LPOS. What takes elements out at
//! an end is in `list_pops.rs`.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use pando_resp::{Args, ReplyBuf};
use pando_values::{Collection, Element, LIST_ELEMENT_BYTES_MAX, List, Side, parse_canonical_i64};

pub(crate) const TABLE: &[Row] = &[
    row("lpush", lpush),
    row("rpush", rpush),
    row("lpushx", lpushx),
    row("rpushx", rpushx),
    row("llen", llen),
    row("lindex", lindex),
    row("lrange", lrange),
    row("lset", lset),
    row("linsert", linsert),
    row("lrem", lrem),
    row("ltrim", ltrim),
    row("lpos", lpos),
];

/// Replies an element as a bulk string.
#[inline]
pub(crate) fn reply_element(reply: &mut ReplyBuf, element: Element<'_>) {
    match element {
        Element::Int(int) => reply.bulk_int(int),
        Element::Str(bytes) => reply.bulk(bytes),
    }
}

/// Whether a command wants its key to exist already.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Key {
    MayBeNew,
    MustExist,
}

fn lpush(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    push(ctx, args, Side::Left, Key::MayBeNew)
}

fn rpush(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    push(ctx, args, Side::Right, Key::MayBeNew)
}

fn lpushx(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    push(ctx, args, Side::Left, Key::MustExist)
}

fn rpushx(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    push(ctx, args, Side::Right, Key::MustExist)
}

/// Packed forms cannot hold it. Valkey can, when proto-max-bulk-len was raised above one gigabyte.
pub(crate) fn check_element(element: &[u8]) -> Result<(), CommandError> {
    if element.len() > LIST_ELEMENT_BYTES_MAX {
        return Err(CommandError::StringTooLong);
    }
    Ok(())
}

fn push(ctx: &mut Ctx<'_, '_>, args: Args<'_>, side: Side, key_rule: Key) -> Result<(), CommandError> {
    let (key, elements) = (args[1], &args[2..]);
    let mut bytes = 0;
    for element in elements {
        check_element(element)?;
        bytes += element.len();
    }
    let len = match key_rule {
        Key::MayBeNew => {
            ctx.edit_or_create(key, |list: &mut List, cx| {
                list.make_room(bytes, elements.len(), cx.limits);
                for element in elements {
                    list.push(side, element, cx.limits);
                }
                Ok(list.len())
            })?
            .result
        }
        Key::MustExist => {
            let edited = ctx.edit(key, |list: &mut List, cx| {
                list.make_room(bytes, elements.len(), cx.limits);
                for element in elements {
                    list.push(side, element, cx.limits);
                }
                Ok(list.len())
            })?;
            let Some(edited) = edited else {
                ctx.reply.int(0);
                return Ok(());
            };
            edited.result
        }
    };
    ctx.dirty(elements.len() as u64 - 1);
    ctx.changed(EventClass::LIST, push_event(side), key);
    ctx.reply.int(len as i64);
    Ok(())
}

/// The event of an element added on this side.
pub(crate) fn push_event(side: Side) -> &'static str {
    match side {
        Side::Left => "lpush",
        Side::Right => "rpush",
    }
}

fn llen(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |list: Option<&List>, reply| {
        reply.int(list.map_or(0, |list| list.len() as i64));
        Ok(())
    })
}

/// The place that an index means, which counts from the end when negative; it may be beyond the end.
fn position(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(len as i64)? } else { index };
    usize::try_from(index).ok()
}

/// The first and last index that an inclusive range means in a list of `len` elements; `None` when it is empty.
fn span(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let first = if start < 0 { start.saturating_add(len as i64).max(0) as usize } else { start as usize };
    let last = position(end, len)?.min(len.checked_sub(1)?);
    (first <= last).then_some((first, last))
}

/// LINDEX key index. The index is looked at only when there is a list.
fn lindex(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |list: Option<&List>, reply| {
        let Some(list) = list else {
            reply.null();
            return Ok(());
        };
        match position(integer(args[2])?, list.len()).and_then(|index| list.get(index)) {
            Some(element) => reply_element(reply, element),
            None => reply.null(),
        }
        Ok(())
    })
}

fn lrange(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (start, end) = (integer(args[2])?, integer(args[3])?);
    ctx.read(args[1], |list: Option<&List>, reply| {
        let range = list.and_then(|list| Some((list, span(start, end, list.len())?)));
        let Some((list, (first, last))) = range else {
            reply.array(0);
            return Ok(());
        };
        reply_range(reply, list, first, last - first + 1, Side::Right);
        Ok(())
    })
}

/// Replies `count` elements from `start` on, which the list must have.
pub(crate) fn reply_range(reply: &mut ReplyBuf, list: &List, start: usize, count: usize, towards: Side) {
    reply.array(count);
    for element in list.iter_from(start, towards).take(count) {
        reply_element(reply, element);
    }
}

/// LSET key index element
fn lset(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, element) = (args[1], args[3]);
    check_element(element)?;
    ctx.edit(key, |list: &mut List, cx| {
        // Valkey keeps the low 32 bits of the index, so that 4294967295 is the last element.
        let index = i64::from(integer(args[2])? as i32);
        list.make_room(element.len(), 1, cx.limits);
        let is_set = position(index, list.len()).is_some_and(|index| list.set(index, element, cx.limits));
        if !is_set {
            return Err(CommandError::IndexOutOfRange);
        }
        list.settle_smaller(cx.limits);
        Ok(())
    })?
    .ok_or(CommandError::NoSuchKey)?;
    ctx.changed(EventClass::LIST, "lset", key);
    ctx.reply.ok();
    Ok(())
}

/// LINSERT key BEFORE|AFTER pivot element
fn linsert(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, pivot, element) = (args[1], args[3], args[4]);
    let side = if is_word(args[2], "AFTER") {
        Side::Right
    } else if is_word(args[2], "BEFORE") {
        Side::Left
    } else {
        return Err(CommandError::Syntax);
    };
    check_element(element)?;
    let edited = ctx.edit(key, |list: &mut List, cx| {
        list.make_room(element.len(), 1, cx.limits);
        Ok(list.insert(pivot, side, element, cx.limits).then(|| list.len()))
    })?;
    match edited.map(|edited| edited.result) {
        None => ctx.reply.int(0),
        Some(None) => ctx.reply.int(-1),
        Some(Some(len)) => {
            ctx.changed(EventClass::LIST, "linsert", key);
            ctx.reply.int(len as i64);
        }
    }
    Ok(())
}

/// An integer that has a negative counterpart.
fn symmetric_integer(arg: &[u8]) -> Result<i64, CommandError> {
    match integer(arg)? {
        i64::MIN => Err(CommandError::format(format!(
            "ERR value is out of range, value must between {} and {}",
            -i64::MAX,
            i64::MAX
        ))),
        value => Ok(value),
    }
}

/// LREM key count element: a negative count begins at the end, zero means all.
fn lrem(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let count = symmetric_integer(args[2])?;
    let side = if count < 0 { Side::Right } else { Side::Left };
    let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let edited = ctx.edit(key, |list: &mut List, cx| {
        let removed = list.remove_matching(args[3], side, limit);
        if removed > 0 {
            list.settle_smaller(cx.limits);
        }
        Ok(removed)
    })?;
    let removed = edited.as_ref().map_or(0, |edited| edited.result);
    if removed > 0 {
        ctx.dirty(removed as u64);
        ctx.modified(key);
        ctx.notify(EventClass::LIST, "lrem", key);
        if edited.is_some_and(|edited| edited.is_removed) {
            ctx.notify(EventClass::GENERIC, "del", key);
        }
    }
    ctx.reply.int(removed as i64);
    Ok(())
}

/// LTRIM key start stop
fn ltrim(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let (start, end) = (integer(args[2])?, integer(args[3])?);
    let edited = ctx.edit(key, |list: &mut List, cx| {
        let len = list.len();
        let (left, right) = match span(start, end, len) {
            Some((first, last)) => (first, len - 1 - last),
            None => (len, 0),
        };
        list.remove_range(len - right, right);
        list.remove_range(0, left);
        list.settle_smaller(cx.limits);
        Ok(left + right)
    })?;
    if let Some(edited) = edited {
        // The event comes even when nothing was trimmed.
        ctx.notify(EventClass::LIST, "ltrim", key);
        if edited.is_removed {
            ctx.notify(EventClass::GENERIC, "del", key);
        }
        if edited.result > 0 {
            ctx.modified(key);
            ctx.dirty(edited.result as u64);
        }
    }
    ctx.reply.ok();
    Ok(())
}

/// What LPOS looks for.
struct Search {
    towards: Side,
    /// Matches to pass over.
    skipped: u64,
    /// Matches wanted; `None`: one, and no array. Zero: all.
    count: Option<u64>,
    /// Elements to look at; zero: all.
    compared_max: u64,
}

impl Search {
    fn parse(options: Args<'_>) -> Result<Search, CommandError> {
        let mut search = Search { towards: Side::Right, skipped: 0, count: None, compared_max: 0 };
        let at_least_zero = |arg: &[u8], error: &'static str| {
            u64::try_from(integer(arg).map_err(|_| CommandError::text(error))?).map_err(|_| CommandError::text(error))
        };
        for option in options.chunks(2) {
            let [name, value] = option else { return Err(CommandError::Syntax) };
            if is_word(name, "RANK") {
                let rank = symmetric_integer(value)?;
                search.towards = if rank < 0 { Side::Left } else { Side::Right };
                search.skipped = rank.unsigned_abs().checked_sub(1).ok_or(ZERO_RANK)?;
            } else if is_word(name, "COUNT") {
                search.count = Some(at_least_zero(value, "ERR COUNT can't be negative")?);
            } else if is_word(name, "MAXLEN") {
                search.compared_max = at_least_zero(value, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(search)
    }

    /// The indexes of matches.
    fn run<'a>(&self, list: &'a List, needle: &'a [u8]) -> impl Iterator<Item = usize> + use<'a> {
        let int = parse_canonical_i64(needle);
        let len = list.len();
        let towards = self.towards;
        let start = match towards {
            Side::Right => 0,
            Side::Left => len.saturating_sub(1),
        };
        let compared_max = if self.compared_max == 0 { usize::MAX } else { self.compared_max as usize };
        let compared = list.iter_from(start, towards).take(compared_max).enumerate();
        compared
            .filter(move |(_, element)| element.is_parsed(needle, int))
            .map(move |(distance, _)| match towards {
                Side::Right => distance,
                Side::Left => len - 1 - distance,
            })
            .skip(self.skipped as usize)
    }
}

const ZERO_RANK: CommandError = CommandError::text(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from \
     the end of the list",
);

/// LPOS key element [RANK rank] [COUNT count] [MAXLEN comparisons]
fn lpos(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let needle = args[2];
    let search = Search::parse(&args[3..])?;
    ctx.read(args[1], |list: Option<&List>, reply| {
        let Some(count) = search.count else {
            match list.and_then(|list| search.run(list, needle).next()) {
                Some(index) => reply.int(index as i64),
                None => reply.null(),
            }
            return Ok(());
        };
        let wanted = if count == 0 { usize::MAX } else { count as usize };
        let mark = reply.array_deferred();
        let mut found = 0;
        if let Some(list) = list {
            for index in search.run(list, needle).take(wanted) {
                reply.int(index as i64);
                found += 1;
            }
        }
        reply.finish_array(mark, found);
        Ok(())
    })
}

// SPDX-License-Identifier: BSD-3-Clause
//! Elements taken from an end of a list: LPOP, RPOP, LMPOP, LMOVE, RPOPLPUSH, and the cores that their blocking forms
//! share with them.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lists::{push_event, reply_element, reply_range};
use crate::registry::{Row, row};
use pando_resp::{Args, ReplyBuf};
use pando_values::{Collection, Element, Encoding, List, Side};

pub(crate) const TABLE: &[Row] =
    &[row("lpop", lpop), row("rpop", rpop), row("lmpop", lmpop), row("lmove", lmove), row("rpoplpush", rpoplpush)];

fn pop_event(side: Side) -> &'static str {
    match side {
        Side::Left => "lpop",
        Side::Right => "rpop",
    }
}

/// The command that takes elements from this side.
pub(crate) fn pop_command(side: Side) -> &'static [u8] {
    match side {
        Side::Left => b"LPOP",
        Side::Right => b"RPOP",
    }
}

/// `LEFT` or `RIGHT`.
pub(crate) fn parse_side(arg: &[u8]) -> Result<Side, CommandError> {
    if is_word(arg, "RIGHT") {
        Ok(Side::Right)
    } else if is_word(arg, "LEFT") {
        Ok(Side::Left)
    } else {
        Err(CommandError::Syntax)
    }
}

impl Ctx<'_, '_> {
    /// Takes one element and replies it, behind what `head` writes. False, and no reply, when there is no such list.
    pub(crate) fn pop_element(
        &mut self,
        key: &[u8],
        side: Side,
        head: impl FnOnce(&mut ReplyBuf),
    ) -> Result<bool, CommandError> {
        let edited = self.edit(key, |list: &mut List, cx| {
            head(cx.reply);
            list.pop(side, |element| reply_element(cx.reply, element));
            list.settle_smaller(cx.limits);
            Ok(())
        })?;
        if let Some(edited) = &edited {
            self.elements_popped(key, side, 1, edited.is_removed);
        }
        Ok(edited.is_some())
    }

    /// Takes up to `count` elements and replies them as an array, behind what `head` writes. Gives how many; `None`, and
    /// no reply, when there is no such list.
    pub(crate) fn pop_elements(
        &mut self,
        key: &[u8],
        side: Side,
        count: usize,
        head: impl FnOnce(&mut ReplyBuf),
    ) -> Result<Option<usize>, CommandError> {
        let edited = self.edit(key, |list: &mut List, cx| {
            let len = list.len();
            let count = count.min(len);
            head(cx.reply);
            match side {
                Side::Left => {
                    reply_range(cx.reply, list, 0, count, Side::Right);
                    list.remove_range(0, count);
                }
                Side::Right => {
                    reply_range(cx.reply, list, len.saturating_sub(1), count, Side::Left);
                    list.remove_range(len - count, count);
                }
            }
            list.settle_smaller(cx.limits);
            Ok(count)
        })?;
        if let Some(edited) = &edited {
            self.elements_popped(key, side, edited.result, edited.is_removed);
        }
        Ok(edited.map(|edited| edited.result))
    }

    /// The core of LMPOP for one key: replies the key and up to `count` elements, and logs a plain pop. False, and no
    /// reply, when there is no such list.
    pub(crate) fn pop_named_elements(&mut self, key: &[u8], side: Side, count: usize) -> Result<bool, CommandError> {
        let popped = self.pop_elements(key, side, count, |reply| {
            reply.array(2);
            reply.bulk(key);
        })?;
        if let Some(count) = popped {
            self.rewrite(&[pop_command(side), key, itoa::Buffer::new().format(count).as_bytes()]);
        }
        Ok(popped.is_some())
    }

    fn elements_popped(&mut self, key: &[u8], side: Side, count: usize, is_removed: bool) {
        self.notify(EventClass::LIST, pop_event(side), key);
        if is_removed {
            self.notify(EventClass::GENERIC, "del", key);
        }
        self.modified(key);
        self.dirty(count as u64);
    }

    /// The core of LMOVE: takes an element from one list, adds it to another (or the same) and replies it. False, and no
    /// reply, when there is no list to take from.
    pub(crate) fn move_element(
        &mut self,
        from: &[u8],
        from_side: Side,
        to: &[u8],
        to_side: Side,
    ) -> Result<bool, CommandError> {
        if from == to {
            return self.rotate(from, from_side, to_side);
        }
        if !self.inspect(from, |list: Option<&List>| Ok(list.is_some()))? {
            return Ok(false);
        }
        self.inspect(to, |_: Option<&List>| Ok(()))?;
        let popped = self.edit(from, |list: &mut List, cx| {
            let popped = list.pop(from_side, Moved::new(list.encoding()));
            list.settle_smaller(cx.limits);
            Ok(popped)
        })?;
        let Some(is_removed) = popped.as_ref().map(|popped| popped.is_removed) else { return Ok(false) };
        let Some(moved) = popped.and_then(|popped| popped.result) else { return Ok(false) };
        self.edit_or_create(to, |list: &mut List, cx| {
            list.make_room(moved.counted_bytes, 1, cx.limits);
            list.push(to_side, &moved.bytes, cx.limits);
            Ok(())
        })?;
        self.modified(to);
        self.notify(EventClass::LIST, push_event(to_side), to);
        self.reply.bulk(&moved.bytes);
        self.elements_popped(from, from_side, 1, is_removed);
        Ok(true)
    }

    /// [`Ctx::move_element`] within one list, which is never empty in between.
    fn rotate(&mut self, key: &[u8], from_side: Side, to_side: Side) -> Result<bool, CommandError> {
        let edited = self.edit(key, |list: &mut List, cx| {
            if let Some(moved) = list.pop(from_side, Moved::new(list.encoding())) {
                list.make_room(moved.counted_bytes, 1, cx.limits);
                list.push(to_side, &moved.bytes, cx.limits);
                cx.reply.bulk(&moved.bytes);
            }
            list.settle_smaller(cx.limits);
            Ok(())
        })?;
        if edited.is_none() {
            return Ok(false);
        }
        self.modified(key);
        self.notify(EventClass::LIST, push_event(to_side), key);
        self.elements_popped(key, from_side, 1, false);
        Ok(true)
    }
}

/// An element on its way.
struct Moved {
    bytes: Vec<u8>,
    /// What it counts for the form of the list that gets it: Valkey does not count integers from large lists.
    counted_bytes: usize,
}

impl Moved {
    fn new(from: Encoding) -> impl FnOnce(Element<'_>) -> Moved {
        move |element| {
            let is_counted = from == Encoding::ListPack || matches!(element, Element::Str(_));
            let bytes = element.to_vec();
            Moved { counted_bytes: if is_counted { bytes.len() } else { 0 }, bytes }
        }
    }
}

fn lpop(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    pop(ctx, args, Side::Left)
}

fn rpop(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    pop(ctx, args, Side::Right)
}

/// LPOP key [count]
fn pop(ctx: &mut Ctx<'_, '_>, args: Args<'_>, side: Side) -> Result<(), CommandError> {
    let key = args[1];
    match args[2..] {
        [] => {
            if !ctx.pop_element(key, side, |_| ())? {
                ctx.reply.null();
            }
        }
        [count] => {
            let count = integer(count).map_err(|_| CommandError::MustBePositive)?;
            let count = usize::try_from(count).map_err(|_| CommandError::MustBePositive)?;
            let found = match count {
                0 => {
                    let exists = ctx.inspect(key, |list: Option<&List>| Ok(list.is_some()))?;
                    if exists {
                        ctx.reply.array(0);
                    }
                    exists
                }
                _ => ctx.pop_elements(key, side, count, |_| ())?.is_some(),
            };
            if !found {
                ctx.reply.null_array();
            }
        }
        _ => return Err(CommandError::Arity(pop_event(side))),
    }
    Ok(())
}

/// What LMPOP and BLMPOP are asked for.
pub(crate) struct PopFrom<'a> {
    /// Where to look, in order.
    pub(crate) keys: Args<'a>,
    /// From which end.
    pub(crate) side: Side,
    /// Up to how many elements of the first list that has any.
    pub(crate) count: usize,
}

impl<'a> PopFrom<'a> {
    /// Reads `numkeys key [key ...] LEFT|RIGHT [COUNT count]`.
    pub(crate) fn parse(args: Args<'a>) -> Result<PopFrom<'a>, CommandError> {
        let positive = |arg: &[u8], error: &'static str| match integer(arg) {
            Ok(number @ 1..) => Ok(number as usize),
            _ => Err(CommandError::text(error)),
        };
        let numkeys = positive(args[0], "ERR numkeys should be greater than 0")?;
        let (keys, rest) = args[1..].split_at_checked(numkeys).ok_or(CommandError::Syntax)?;
        let (side, options) = rest.split_first().ok_or(CommandError::Syntax)?;
        let side = parse_side(side)?;
        let count = match options {
            [] => 1,
            [word, count, rest @ ..] if is_word(word, "COUNT") => {
                let count = positive(count, "ERR count should be greater than 0")?;
                if !rest.is_empty() {
                    return Err(CommandError::Syntax);
                }
                count
            }
            _ => return Err(CommandError::Syntax),
        };
        Ok(PopFrom { keys, side, count })
    }
}

/// LMPOP numkeys key [key ...] LEFT|RIGHT [COUNT count]
fn lmpop(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let from = PopFrom::parse(&args[1..])?;
    for key in from.keys {
        if ctx.pop_named_elements(key, from.side, from.count)? {
            return Ok(());
        }
    }
    ctx.reply.null_array();
    Ok(())
}

/// LMOVE source destination LEFT|RIGHT LEFT|RIGHT
fn lmove(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (from_side, to_side) = (parse_side(args[3])?, parse_side(args[4])?);
    move_or_null(ctx, args[1], from_side, args[2], to_side)
}

fn rpoplpush(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    move_or_null(ctx, args[1], Side::Right, args[2], Side::Left)
}

fn move_or_null(
    ctx: &mut Ctx<'_, '_>,
    from: &[u8],
    from_side: Side,
    to: &[u8],
    to_side: Side,
) -> Result<(), CommandError> {
    if !ctx.move_element(from, from_side, to, to_side)? {
        ctx.reply.null();
    }
    Ok(())
}

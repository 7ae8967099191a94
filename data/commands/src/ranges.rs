// SPDX-License-Identifier: BSD-3-Clause
//! Parts of strings: APPEND, SETRANGE, GETRANGE, SUBSTR.

use crate::args::integer;
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use pando_keyspace::{IntText, Ttl};
use pando_resp::Args;

pub(crate) const TABLE: &[Row] =
    &[row("append", append), row("setrange", setrange), row("getrange", getrange), row("substr", getrange)];

fn append(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, suffix) = (args[1], args[2]);
    let old_len = ctx.write_string(key, |value, _| Ok(value.map(|value| value.str_len())))?;
    let len = match old_len {
        // A new key gets the encoding that SET would give it.
        None => {
            ctx.store_string(key, suffix, Ttl::Clear);
            suffix.len()
        }
        Some(old_len) => {
            ctx.check_string_len(old_len as u64, suffix.len() as u64)?;
            let appended = match suffix {
                // Nothing to add, but the encoding becomes `raw`.
                [] => ctx.current().edit_str(key, old_len, &mut |_| {}),
                _ => ctx.current().append(key, suffix),
            };
            appended.ok_or(CommandError::WrongType)?
        }
    };
    ctx.changed(EventClass::STRING, "append", key);
    ctx.reply.int(len as i64);
    Ok(())
}

fn setrange(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, patch) = (args[1], args[3]);
    let offset = u64::try_from(integer(args[2])?).map_err(|_| CommandError::text("ERR offset is out of range"))?;
    let old_len = ctx.write_string(key, |value, _| Ok(value.map(|value| value.str_len())))?;
    if patch.is_empty() {
        ctx.reply.int(old_len.unwrap_or(0) as i64);
        return Ok(());
    }
    ctx.check_string_len(offset, patch.len() as u64)?;
    let at = offset as usize;
    let end = at + patch.len();
    let len = ctx
        .current()
        .edit_str(key, end, &mut |bytes| bytes[at..end].copy_from_slice(patch))
        .ok_or(CommandError::WrongType)?;
    if old_len.is_none() {
        ctx.notify(EventClass::NEW, "new", key);
    }
    ctx.changed(EventClass::STRING, "setrange", key);
    ctx.reply.int(len as i64);
    Ok(())
}

fn getrange(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (start, end) = (integer(args[2])?, integer(args[3])?);
    ctx.read_string(args[1], |value, reply| {
        let mut text = IntText::new();
        let bytes = value.as_ref().map_or(&[][..], |value| value.as_bytes(&mut text));
        reply.bulk(match clip(start, end, bytes.len()) {
            Some((first, last)) => &bytes[first..=last],
            None => b"",
        });
        Ok(())
    })
}

/// Inclusive indexes that may count from the end, clipped to `len`; `None` when nothing is left.
pub(crate) fn clip(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    if len == 0 || (start < 0 && end < 0 && start > end) {
        return None;
    }
    let len = len as i64;
    let from_end = |index: i64| if index < 0 { index.saturating_add(len).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    (start <= end).then_some((start as usize, end as usize))
}

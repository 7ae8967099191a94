// SPDX-License-Identifier: BSD-3-Clause
//! What the stream commands share: the forms in which clients write ids, and the replies that ids and entries make.
//! No command is here.

use crate::error::CommandError;
use pando_resp::ReplyBuf;
use pando_values::{Element, StreamEntry, StreamId, StreamIdText};
use smallvec::SmallVec;

/// Longest text that is looked at as an id.
const ID_TEXT_MAX: usize = 127;

pub(crate) const INVALID_ID: CommandError =
    CommandError::text("ERR Invalid stream ID specified as stream command argument");

/// Ids of one command.
pub(crate) type Ids = SmallVec<[StreamId; 8]>;

/// An id as XADD takes it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum NewId {
    /// `*`: now, or just above the last one.
    Auto,
    /// `ms-*`: the next number within that millisecond.
    InMs(u64),
    /// The whole id.
    Exact(StreamId),
}

/// A number as C's `strtoull` reads it: blanks in front, a sign, leading zeros; a negative one wraps around.
fn number(text: &[u8]) -> Option<u64> {
    if let Some(int) = pando_resp::num::parse_i64(text) {
        return u64::try_from(int).ok();
    }
    let text = &text[text.iter().take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r')).count()..];
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(u64::from(digit)) }
    })?;
    Some(if is_negative { value.wrapping_neg() } else { value })
}

/// The text as far as C sees it.
fn c_string(arg: &[u8]) -> &[u8] {
    &arg[..arg.iter().position(|byte| *byte == 0).unwrap_or(arg.len())]
}

fn parts(arg: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    if arg.len() > ID_TEXT_MAX {
        return None;
    }
    let text = c_string(arg);
    Some(match text.iter().position(|byte| *byte == b'-') {
        Some(dash) => (&text[..dash], Some(&text[dash + 1..])),
        None => (text, None),
    })
}

/// `ms-seq`, or `ms` with this sequence number.
pub(crate) fn strict_id(arg: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    let (ms, seq) = parts(arg).ok_or(INVALID_ID)?;
    let ms = number(ms).ok_or(INVALID_ID)?;
    let seq = seq.map_or(Some(missing_seq), number).ok_or(INVALID_ID)?;
    Ok(StreamId { ms, seq })
}

/// [`strict_id`], or `-` or `+` for the smallest or largest.
pub(crate) fn loose_id(arg: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    match c_string(arg) {
        b"-" if arg.len() <= ID_TEXT_MAX => Ok(StreamId::MIN),
        b"+" if arg.len() <= ID_TEXT_MAX => Ok(StreamId::MAX),
        _ => strict_id(arg, missing_seq),
    }
}

/// The id of XADD that is not `*`.
pub(crate) fn new_id(arg: &[u8]) -> Result<NewId, CommandError> {
    match parts(arg) {
        Some((ms, Some(b"*"))) => Ok(NewId::InMs(number(ms).ok_or(INVALID_ID)?)),
        _ => Ok(NewId::Exact(strict_id(arg, 0)?)),
    }
}

/// Several whole ids.
pub(crate) fn strict_ids(args: &[&[u8]]) -> Result<Ids, CommandError> {
    args.iter().map(|arg| strict_id(arg, 0)).collect()
}

/// The start of an interval, `(` for one after it.
pub(crate) fn interval_start(arg: &[u8]) -> Result<StreamId, CommandError> {
    match arg {
        [b'(', id @ ..] if !id.is_empty() => {
            strict_id(id, 0)?.next().ok_or(CommandError::text("ERR invalid start ID for the interval"))
        }
        _ => loose_id(arg, 0),
    }
}

/// The end of an interval, `(` for one before it.
pub(crate) fn interval_end(arg: &[u8]) -> Result<StreamId, CommandError> {
    match arg {
        [b'(', id @ ..] if !id.is_empty() => {
            strict_id(id, u64::MAX)?.prev().ok_or(CommandError::text("ERR invalid end ID for the interval"))
        }
        _ => loose_id(arg, u64::MAX),
    }
}

/// An id as a bulk string.
#[inline]
pub(crate) fn reply_id(reply: &mut ReplyBuf, id: StreamId) {
    let mut text: StreamIdText = [0; 41];
    reply.bulk(id.text(&mut text));
}

#[inline]
fn reply_element(reply: &mut ReplyBuf, element: Element<'_>) {
    match element {
        Element::Int(int) => reply.bulk_int(int),
        Element::Str(bytes) => reply.bulk(bytes),
    }
}

/// An entry: its id, then fields and values.
#[inline]
pub(crate) fn reply_entry(reply: &mut ReplyBuf, entry: &StreamEntry<'_>) {
    reply.array(2);
    reply_id(reply, entry.id);
    reply.array(2 * entry.field_count());
    for (field, value) in entry.fields() {
        reply_element(reply, field);
        reply_element(reply, value);
    }
}

/// Up to `count` entries as an array; zero for all. `available` is how many there are, where that is known: the array then
/// begins with its length at once, which spares moving a large reply.
pub(crate) fn reply_entries<'e>(
    reply: &mut ReplyBuf,
    entries: impl Iterator<Item = StreamEntry<'e>>,
    count: usize,
    available: Option<u64>,
) {
    let limit = if count == 0 { usize::MAX } else { count };
    if let Some(available) = available {
        reply.array(limit.min(available as usize));
        entries.take(limit).for_each(|entry| reply_entry(reply, &entry));
        return;
    }
    let mark = reply.array_deferred();
    let mut written = 0;
    for entry in entries.take(limit) {
        reply_entry(reply, &entry);
        written += 1;
    }
    reply.finish_array(mark, written);
}

/// A name within an error line.
pub(crate) fn shown(name: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(c_string(name))
}

/// The refusal of a container's subcommand whose arguments do not fit.
pub(crate) fn subcommand_syntax(container: &[u8], subcommand: &[u8]) -> CommandError {
    let subcommand = c_string(subcommand);
    CommandError::format(format!(
        "ERR unknown subcommand or wrong number of arguments for '{}'. Try {} HELP.",
        String::from_utf8_lossy(&subcommand[..subcommand.len().min(128)]),
        shown(container).to_uppercase()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_valkey_reads_them() {
        for (text, expected) in [
            ("5-7", Some((5, 7))),
            ("5", Some((5, 9))),
            ("007-01", Some((7, 1))),
            ("+5-+1", Some((5, 1))),
            (" 5", Some((5, 9))),
            ("5-\t1", Some((5, 1))),
            ("5--1", None),
            ("5--01", Some((5, u64::MAX))),
            ("18446744073709551615-18446744073709551615", Some((u64::MAX, u64::MAX))),
            ("18446744073709551616", None),
            ("5\0junk", Some((5, 9))),
            ("5-", None),
            ("-5", None),
            ("-", None),
            ("+", None),
            ("5-*", None),
            ("x", None),
            ("", None),
        ] {
            let got = strict_id(text.as_bytes(), 9).ok().map(|id| (id.ms, id.seq));
            assert_eq!(got, expected, "{text:?}");
        }
        assert_eq!(new_id(b"5-*"), Ok(NewId::InMs(5)));
        assert_eq!(new_id(b"5"), Ok(NewId::Exact(StreamId::new(5, 0))));
        assert_eq!(interval_start(b"(5"), Ok(StreamId::new(5, 1)));
        assert_eq!(interval_end(b"(5"), Ok(StreamId::new(5, u64::MAX - 1)));
        assert!(interval_end(b"(0-0").is_err() && interval_start(b"(-").is_err() && interval_start(b"(").is_err());
    }
}

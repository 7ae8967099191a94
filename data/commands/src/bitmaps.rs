// SPDX-License-Identifier: BSD-3-Clause
//! Strings as arrays of bits, most significant bit first: SETBIT, GETBIT, BITCOUNT, BITPOS. BITOP and BITFIELD have files
//! of their own.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use pando_keyspace::IntText;
use pando_resp::{Args, num};

pub(crate) const TABLE: &[Row] =
    &[row("setbit", setbit), row("getbit", getbit), row("bitcount", bitcount), row("bitpos", bitpos)];

pub(crate) const BAD_OFFSET: CommandError = CommandError::text("ERR bit offset is not an integer or out of range");

/// A bit offset that a client may address.
pub(crate) fn bit_offset(ctx: &Ctx<'_, '_>, text: &[u8]) -> Result<u64, CommandError> {
    let offset = num::parse_i64(text).and_then(|offset| u64::try_from(offset).ok()).ok_or(BAD_OFFSET)?;
    check_offset(ctx, offset)
}

/// Refuses an offset whose byte lies beyond the longest string.
pub(crate) fn check_offset(ctx: &Ctx<'_, '_>, offset: u64) -> Result<u64, CommandError> {
    if ctx.env.is_applying || offset >> 3 < ctx.env.proto_max_bulk_len { Ok(offset) } else { Err(BAD_OFFSET) }
}

fn setbit(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let offset = bit_offset(ctx, args[2])?;
    let on = match args[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(CommandError::text("ERR bit is not an integer or out of range")),
    };
    let (byte, mask) = ((offset >> 3) as usize, 0x80u8 >> (offset & 7));
    let old = ctx.write_string(key, |value, _| {
        Ok(value.map(|value| {
            let mut text = IntText::new();
            let bytes = value.as_bytes(&mut text);
            (bytes.len(), bytes.get(byte).is_some_and(|byte| byte & mask != 0))
        }))
    })?;
    let was_on = old.is_some_and(|(_, was_on)| was_on);
    let grows = old.is_none_or(|(len, _)| len <= byte);
    // Even without a change: the value's encoding becomes `raw`, as clients of OBJECT ENCODING know it.
    ctx.current().edit_str(key, byte + 1, &mut |bytes| {
        bytes[byte] = if on { bytes[byte] | mask } else { bytes[byte] & !mask };
    });
    if grows || was_on != on {
        if old.is_none() {
            ctx.notify(EventClass::NEW, "new", key);
        }
        ctx.changed(EventClass::STRING, "setbit", key);
    }
    ctx.reply.int(i64::from(was_on));
    Ok(())
}

fn getbit(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let offset = bit_offset(ctx, args[2])?;
    ctx.read_string(args[1], |value, reply| {
        let mut text = IntText::new();
        let bytes = value.as_ref().map_or(&[][..], |value| value.as_bytes(&mut text));
        reply.int(i64::from(bytes.get((offset >> 3) as usize).is_some_and(|byte| byte & (0x80 >> (offset & 7)) != 0)));
        Ok(())
    })
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

fn unit(word: &[u8]) -> Result<Unit, CommandError> {
    if is_word(word, "BIT") {
        Ok(Unit::Bit)
    } else if is_word(word, "BYTE") {
        Ok(Unit::Byte)
    } else {
        Err(CommandError::Syntax)
    }
}

/// Bits `first..end` that a range of bytes or bits covers; `None` when it is empty.
fn bit_range(start: i64, end: i64, unit: Unit, bytes_len: usize, both_negative_is_empty: bool) -> Option<(u64, u64)> {
    let scale = if unit == Unit::Bit { 8 } else { 1 };
    let total = bytes_len as i64 * scale;
    if both_negative_is_empty && start < 0 && end < 0 && start > end {
        return None;
    }
    let from_end = |index: i64| if index < 0 { index.saturating_add(total).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(total - 1));
    if start > end {
        return None;
    }
    let bits_per_unit = if unit == Unit::Bit { 1 } else { 8 };
    Some((start.cast_unsigned() * bits_per_unit, (end.cast_unsigned() + 1) * bits_per_unit))
}

/// BITCOUNT key [start [end [BYTE | BIT]]]
fn bitcount(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    if args.len() > 5 {
        return Err(CommandError::Syntax);
    }
    let start = args.get(2).map_or(Ok(0), |text| integer(text))?;
    let unit = args.get(4).map_or(Ok(Unit::Byte), |word| unit(word))?;
    let end = args.get(3).map_or(Ok(i64::MAX), |text| integer(text))?;
    ctx.read_string(args[1], |value, reply| {
        let mut text = IntText::new();
        let bytes = value.as_ref().map_or(&[][..], |value| value.as_bytes(&mut text));
        let range = bit_range(start, end, unit, bytes.len(), true);
        reply.int(range.map_or(0, |(first, end)| count_bits(bytes, first, end)) as i64);
        Ok(())
    })
}

/// Set bits among `first..end`.
fn count_bits(bytes: &[u8], first: u64, end: u64) -> u64 {
    let (first_byte, last_byte) = ((first >> 3) as usize, ((end - 1) >> 3) as usize);
    let whole = &bytes[first_byte..=last_byte];
    let (words, rest) = whole.as_chunks::<8>();
    let sum: u64 = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum::<u64>()
        + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
    let before = bytes[first_byte] & !(0xffu8 >> (first & 7));
    let after = bytes[last_byte] & (0x7fu8 >> ((end - 1) & 7));
    sum - u64::from(before.count_ones()) - u64::from(after.count_ones())
}

/// BITPOS key bit [start [end [BYTE | BIT]]]
fn bitpos(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let bit = match integer(args[2])? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::text("ERR The bit argument must be 1 or 0.")),
    };
    if args.len() > 6 {
        return Err(CommandError::Syntax);
    }
    let start = args.get(3).map_or(Ok(0), |text| integer(text))?;
    let unit = args.get(5).map_or(Ok(Unit::Byte), |word| unit(word))?;
    let has_end = args.len() > 4;
    let end = args.get(4).map_or(Ok(i64::MAX), |text| integer(text))?;
    ctx.read_string(args[1], |value, reply| {
        let Some(value) = value else {
            // An absent key is an endless row of zeros.
            reply.int(if bit { -1 } else { 0 });
            return Ok(());
        };
        let mut text = IntText::new();
        let bytes = value.as_bytes(&mut text);
        let position = match bit_range(start, end, unit, bytes.len(), false) {
            None => -1,
            Some((first, end)) => match find_bit(bytes, first, end, bit) {
                Some(position) => position as i64,
                // Without an explicit end, the string goes on with zeros behind its last byte.
                None if !bit && !has_end => end as i64,
                None => -1,
            },
        };
        reply.int(position);
        Ok(())
    })
}

/// First bit equal to `bit` among `first..end`.
fn find_bit(bytes: &[u8], first: u64, end: u64, bit: bool) -> Option<u64> {
    let flip = if bit { 0 } else { 0xff };
    let (first_byte, last_byte) = ((first >> 3) as usize, ((end - 1) >> 3) as usize);
    let mut at = first_byte;
    while at <= last_byte {
        // Whole words without the bit are skipped eight bytes at a time.
        if at > first_byte && at + 8 <= last_byte && bytes[at..at + 8].iter().all(|byte| byte ^ flip == 0) {
            at += 8;
            continue;
        }
        let mut byte = bytes[at] ^ flip;
        if at == first_byte {
            byte &= 0xff >> (first & 7);
        }
        if byte != 0 {
            let position = at as u64 * 8 + u64::from(byte.leading_zeros());
            return (position < end).then_some(position);
        }
        at += 1;
    }
    None
}

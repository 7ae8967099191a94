// SPDX-License-Identifier: BSD-3-Clause
//! BITFIELD and BITFIELD_RO: integers of any width up to 64 bits inside a string, with a choice of overflow behaviour.
//!
//! The whole argument list is read before anything happens. Writes make the string long enough for the furthest of them
//! first; when that grows the string, the command is logged even if every write then fails by overflow, so that replicas
//! hold the same bytes.

use crate::args::{integer, is_word};
use crate::bitmaps::{BAD_OFFSET, check_offset};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lookup::{Access, Intent, require_string};
use crate::registry::{Row, row};
use pando_keyspace::IntText;
use pando_resp::{Args, num};

pub(crate) const TABLE: &[Row] = &[row("bitfield", bitfield), row("bitfield_ro", bitfield_ro)];

#[derive(Copy, Clone, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Verb {
    Get,
    Set(i64),
    IncrBy(i64),
}

#[derive(Copy, Clone)]
struct Operation {
    verb: Verb,
    signed: bool,
    bits: u32,
    offset: u64,
    overflow: Overflow,
}

fn bitfield(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    run(ctx, args, false)
}

fn bitfield_ro(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    run(ctx, args, true)
}

fn run(ctx: &mut Ctx<'_, '_>, args: Args<'_>, read_only_command: bool) -> Result<(), CommandError> {
    let key = args[1];
    let operations = read_operations(ctx, args)?;
    let writes_to =
        operations.iter().filter(|operation| operation.verb != Verb::Get).map(|operation| operation.end()).max();
    let Some(writes_to) = writes_to else { return read_all(ctx, key, &operations) };
    if read_only_command {
        return Err(CommandError::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let old_len = ctx.write_string(key, |value, _| Ok(value.map(|value| value.str_len())))?;
    let len_min = ((writes_to - 1) >> 3) as usize + 1;
    let grows = old_len.is_none_or(|len| len < len_min);
    let mut results: Vec<Option<i64>> = Vec::with_capacity(operations.len());
    let mut changes = 0;
    ctx.current().edit_str(key, len_min, &mut |bytes| {
        for operation in &operations {
            let (result, changed) = operation.apply(bytes);
            results.push(result);
            changes += u64::from(changed || (grows && operation.verb != Verb::Get && result.is_some()));
        }
    });
    if old_len.is_none() {
        ctx.notify(EventClass::NEW, "new", key);
    }
    if changes > 0 {
        ctx.modified(key);
        ctx.notify(EventClass::STRING, "setbit", key);
        ctx.dirty(changes);
    } else if grows {
        ctx.modified(key);
        ctx.dirty(1);
    }
    ctx.reply.array(results.len());
    for result in results {
        match result {
            Some(value) => ctx.reply.int(value),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

fn read_all(ctx: &mut Ctx<'_, '_>, key: &[u8], operations: &[Operation]) -> Result<(), CommandError> {
    ctx.with_value(key, Intent::Read, Access::Touch, |value, reply| {
        require_string(value)?;
        let mut text = IntText::new();
        let bytes = value.as_ref().map_or(&[][..], |value| value.as_bytes(&mut text));
        reply.array(operations.len());
        for operation in operations {
            reply.int(operation.load(bytes));
        }
        Ok(())
    })
}

fn read_operations(ctx: &Ctx<'_, '_>, args: Args<'_>) -> Result<Vec<Operation>, CommandError> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut at = 2;
    while at < args.len() {
        let word = args[at];
        let left = args.len() - at - 1;
        if is_word(word, "OVERFLOW") && left >= 1 {
            overflow = [("WRAP", Overflow::Wrap), ("SAT", Overflow::Saturate), ("FAIL", Overflow::Fail)]
                .into_iter()
                .find(|(name, _)| is_word(args[at + 1], name))
                .map(|(_, overflow)| overflow)
                .ok_or(CommandError::text("ERR Invalid OVERFLOW type specified"))?;
            at += 2;
            continue;
        }
        let is_set = is_word(word, "SET") && left >= 3;
        let is_get = is_word(word, "GET") && left >= 2;
        let is_incrby = is_word(word, "INCRBY") && left >= 3;
        if !(is_get || is_set || is_incrby) {
            return Err(CommandError::Syntax);
        }
        let (signed, bits) = read_type(args[at + 1])?;
        let offset = read_offset(ctx, args[at + 2], bits)?;
        let verb = if is_get {
            Verb::Get
        } else if is_set {
            Verb::Set(integer(args[at + 3])?)
        } else {
            Verb::IncrBy(integer(args[at + 3])?)
        };
        operations.push(Operation { verb, signed, bits, offset, overflow });
        at += if is_get { 3 } else { 4 };
    }
    Ok(operations)
}

/// `i1`..`i64` or `u1`..`u63`.
fn read_type(text: &[u8]) -> Result<(bool, u32), CommandError> {
    const INVALID: CommandError = CommandError::text(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    );
    let (signed, digits) = match text {
        [b'i', digits @ ..] => (true, digits),
        [b'u', digits @ ..] => (false, digits),
        _ => return Err(INVALID),
    };
    match num::parse_i64(digits) {
        Some(bits) if bits >= 1 && bits <= if signed { 64 } else { 63 } => Ok((signed, bits as u32)),
        _ => Err(INVALID),
    }
}

/// A bit offset, or `#n` for the n-th field of this width.
fn read_offset(ctx: &Ctx<'_, '_>, text: &[u8], bits: u32) -> Result<u64, CommandError> {
    let (digits, scale) = match text {
        [b'#', digits @ ..] => (digits, u64::from(bits)),
        _ => (text, 1),
    };
    let number = num::parse_i64(digits).and_then(|number| u64::try_from(number).ok()).ok_or(BAD_OFFSET)?;
    let offset = number.checked_mul(scale).filter(|offset| *offset <= i64::MAX as u64).ok_or(BAD_OFFSET)?;
    check_offset(ctx, offset)
}

impl Operation {
    /// The bit behind the field.
    fn end(&self) -> u64 {
        self.offset + u64::from(self.bits)
    }

    /// The field's value; bits behind the string are zeros.
    fn load(&self, bytes: &[u8]) -> i64 {
        let raw = load_bits(bytes, self.offset, self.bits);
        if self.signed { sign_extend(raw, self.bits) } else { raw.cast_signed() }
    }

    /// Performs the operation: the reply (`None` when OVERFLOW FAIL refused it) and whether the field changed.
    fn apply(&self, bytes: &mut [u8]) -> (Option<i64>, bool) {
        let old = self.load(bytes);
        let (base, amount) = match self.verb {
            Verb::Get => return (Some(old), false),
            Verb::Set(value) => (value, 0),
            Verb::IncrBy(amount) => (old, amount),
        };
        let (new, overflowed) = self.add(base, amount);
        if overflowed && self.overflow == Overflow::Fail {
            return (None, false);
        }
        store_bits(bytes, self.offset, self.bits, new.cast_unsigned());
        (Some(if matches!(self.verb, Verb::Set(_)) { old } else { new }), new != old)
    }

    /// `base + amount` in this field's width, and whether it did not fit. The tests for overflow are those of the reference
    /// server, wrapping arithmetic included: they decide which bound OVERFLOW SAT takes for values far outside.
    fn add(&self, base: i64, amount: i64) -> (i64, bool) {
        let (too_high, too_low, min, max) =
            if self.signed { self.signed_fit(base, amount) } else { self.unsigned_fit(base, amount) };
        let wrapped = base.wrapping_add(amount);
        if !too_high && !too_low {
            return (wrapped, false);
        }
        let stored = match self.overflow {
            Overflow::Saturate if too_high => max,
            Overflow::Saturate => min,
            Overflow::Wrap | Overflow::Fail => {
                let low = wrapped.cast_unsigned() & mask(self.bits);
                if self.signed { sign_extend(low, self.bits) } else { low.cast_signed() }
            }
        };
        (stored, true)
    }

    /// Too high, too low, smallest and largest value.
    fn signed_fit(&self, base: i64, amount: i64) -> (bool, bool, i64, i64) {
        let max = (mask(self.bits) >> 1).cast_signed();
        let min = -max - 1;
        let (room_up, room_down) = (max.wrapping_sub(base), min.wrapping_sub(base));
        let narrow = self.bits != 64;
        let too_high = base > max || (narrow || (base >= 0 && amount > 0)) && amount > room_up;
        let too_low = !too_high && (base < min || (narrow || (base < 0 && amount < 0)) && amount < room_down);
        (too_high, too_low, min, max)
    }

    /// Like [`Operation::signed_fit`]; a negative base is a huge unsigned one.
    fn unsigned_fit(&self, base: i64, amount: i64) -> (bool, bool, i64, i64) {
        let max = mask(self.bits);
        let room_up = max.wrapping_sub(base.cast_unsigned()).cast_signed();
        let room_down = base.wrapping_neg();
        let too_high = base.cast_unsigned() > max || (amount > 0 && amount > room_up);
        let too_low = !too_high && amount < 0 && amount < room_down;
        (too_high, too_low, 0, max.cast_signed())
    }
}

fn mask(bits: u32) -> u64 {
    if bits == 64 { u64::MAX } else { (1 << bits) - 1 }
}

fn sign_extend(raw: u64, bits: u32) -> i64 {
    let unused = 64 - bits;
    (raw << unused).cast_signed() >> unused
}

/// Up to 64 bits from `offset` on, in the low bits of the result. A field touches at most nine bytes.
fn load_bits(bytes: &[u8], offset: u64, bits: u32) -> u64 {
    let first = (offset >> 3) as usize;
    let mut window: u128 = 0;
    for at in first..first + 9 {
        window = window << 8 | u128::from(bytes.get(at).copied().unwrap_or(0));
    }
    (window >> (72 - (offset & 7) as u32 - bits)) as u64 & mask(bits)
}

fn store_bits(bytes: &mut [u8], offset: u64, bits: u32, value: u64) {
    for index in 0..u64::from(bits) {
        let at = offset + index;
        let bit = 0x80u8 >> (at & 7);
        let byte = &mut bytes[(at >> 3) as usize];
        if value >> (u64::from(bits) - 1 - index) & 1 == 1 {
            *byte |= bit;
        } else {
            *byte &= !bit;
        }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! HyperLogLogs, which are strings: PFADD, PFCOUNT, PFMERGE, PFDEBUG, PFSELFTEST.

use crate::args::is_word;
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lookup::{Access, Intent, require_string};
use crate::registry::{Row, row};
use pando_keyspace::{IntText, StrHint, Ttl, ValueRef};
use pando_resp::Args;
use pando_values::hll::{self, HllError, HllForm, Registers};

pub(crate) const TABLE: &[Row] = &[
    row("pfadd", pfadd),
    row("pfcount", pfcount),
    row("pfmerge", pfmerge),
    row("pfdebug", pfdebug),
    row("pfselftest", pfselftest),
];

const NOT_HLL: CommandError = CommandError::text("WRONGTYPE Key is not a valid HyperLogLog string value.");
const CORRUPTED: CommandError = CommandError::text("INVALIDOBJ Corrupted HLL object detected");

impl From<HllError> for CommandError {
    fn from(error: HllError) -> Self {
        match error {
            HllError::NotHll => NOT_HLL,
            HllError::Corrupted => CORRUPTED,
        }
    }
}

/// The bytes of a value that is a HyperLogLog.
fn with_hll<R>(
    value: Option<ValueRef<'_>>,
    then: impl FnOnce(&[u8]) -> Result<R, HllError>,
) -> Result<Option<R>, CommandError> {
    require_string(value)?;
    let Some(value) = value else { return Ok(None) };
    let mut text = IntText::new();
    let bytes = value.as_bytes(&mut text);
    hll::form_of(bytes)?;
    Ok(Some(then(bytes)?))
}

fn pfadd(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, elements, sparse_max) = (args[1], &args[2..], ctx.env.limits.hll_sparse_max_bytes);
    let existing = ctx.with_value(key, Intent::Write, Access::Touch, |value, _| with_hll(value, hll::form_of))?;
    let changed = match existing {
        None => {
            let mut bytes = hll::empty();
            let changed = 1 + add_all(&mut bytes, elements, sparse_max)?;
            hll::forget_count(&mut bytes);
            ctx.current().set_str(key, &bytes, Ttl::Clear, StrHint::Raw);
            ctx.notify(EventClass::NEW, "new", key);
            changed
        }
        Some(form) => {
            let mut changed = Ok(0);
            ctx.current().edit_string(key, &mut |bytes| {
                // Only the last element of a corrupted value may fail without a trace.
                let backup = (form == HllForm::Sparse && elements.len() > 1).then(|| bytes.clone());
                changed = add_all(bytes, elements, sparse_max);
                if let (Err(_), Some(backup)) = (&changed, backup) {
                    *bytes = backup;
                }
            });
            changed?
        }
    };
    if changed > 0 {
        ctx.dirty(changed - 1);
        ctx.changed(EventClass::STRING, "pfadd", key);
    }
    ctx.reply.int(i64::from(changed > 0));
    Ok(())
}

/// Adds the elements and returns how many changed a register; the cached count is stale then.
fn add_all(bytes: &mut Vec<u8>, elements: &[&[u8]], sparse_max: usize) -> Result<u64, HllError> {
    let mut changed = 0;
    for element in elements {
        changed += u64::from(hll::add(bytes, element, sparse_max)?);
    }
    if changed > 0 {
        hll::forget_count(bytes);
    }
    Ok(changed)
}

fn pfcount(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    if let [_, key] = args {
        return pfcount_one(ctx, key);
    }
    let mut union = Registers::default();
    for key in &args[1..] {
        ctx.with_value(key, Intent::Read, Access::Touch, |value, _| with_hll(value, |bytes| union.merge(bytes)))?;
    }
    ctx.reply.int(union.count() as i64);
    Ok(())
}

/// Replies the cached count, or computes and caches it: a change of the value, which goes to the log.
fn pfcount_one(ctx: &mut Ctx<'_, '_>, key: &[u8]) -> Result<(), CommandError> {
    let found = ctx.with_value(key, Intent::Read, Access::Touch, |value, _| {
        with_hll(value, |bytes| match hll::cached_count(bytes) {
            Some(count) => Ok((count, true)),
            None => Ok((hll::count(bytes)?, false)),
        })
    })?;
    let (count, is_cached) = found.unwrap_or((0, true));
    // A replica's values are its primary's business.
    if !is_cached && (ctx.env.is_primary || ctx.env.is_applying) {
        ctx.current().edit_string(key, &mut |bytes| hll::cache_count(bytes, count));
        ctx.modified(key);
        ctx.dirty(1);
    }
    ctx.reply.int(count as i64);
    Ok(())
}

/// PFMERGE destination [source ...]
fn pfmerge(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (target, sparse_max) = (args[1], ctx.env.limits.hll_sparse_max_bytes);
    let mut union = Registers::default();
    let mut target_exists = false;
    for (number, key) in args[1..].iter().enumerate() {
        let merged =
            ctx.with_value(key, Intent::Read, Access::Touch, |value, _| with_hll(value, |bytes| union.merge(bytes)))?;
        target_exists |= number == 0 && merged.is_some();
    }
    if target_exists {
        let mut result = Ok(());
        ctx.current().edit_string(target, &mut |bytes| result = union.write_to(bytes, sparse_max));
        result?;
    } else {
        let mut bytes = hll::empty();
        union.write_to(&mut bytes, sparse_max)?;
        ctx.current().set_str(target, &bytes, Ttl::Clear, StrHint::Raw);
        ctx.notify(EventClass::NEW, "new", target);
    }
    ctx.changed(EventClass::STRING, "pfadd", target);
    ctx.reply.ok();
    Ok(())
}

/// PFDEBUG GETREG | DECODE | ENCODING | TODENSE key, PFDEBUG SIMD ON | OFF
fn pfdebug(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (what, key) = (args[1], args[2]);
    if is_word(what, "SIMD") {
        match key {
            word if is_word(word, "ON") => hll::set_grouped(true),
            word if is_word(word, "OFF") => hll::set_grouped(false),
            _ => return Err(CommandError::text("ERR Argument must be ON or OFF")),
        }
        ctx.reply.simple(if hll::is_grouped() { "enabled" } else { "disabled" });
        return Ok(());
    }
    let form = ctx.with_value(key, Intent::Write, Access::Touch, |value, _| with_hll(value, hll::form_of))?;
    let form = form.ok_or(CommandError::text("ERR The specified key does not exist"))?;
    if is_word(what, "ENCODING") {
        ctx.reply.simple(if form == HllForm::Dense { "dense" } else { "sparse" });
    } else if is_word(what, "DECODE") {
        let runs =
            ctx.with_value(key, Intent::Write, Access::Peek, |value, _| with_hll(value, hll::describe_runs))?.flatten();
        ctx.reply.bulk(runs.ok_or(CommandError::text("ERR HLL encoding is not sparse"))?.as_bytes());
    } else if is_word(what, "TODENSE") {
        to_dense(ctx, key)?;
        ctx.reply.int(i64::from(form == HllForm::Sparse));
    } else if is_word(what, "GETREG") {
        to_dense(ctx, key)?;
        let mut registers = Registers::default();
        ctx.with_value(key, Intent::Write, Access::Peek, |value, _| with_hll(value, |bytes| registers.merge(bytes)))?;
        ctx.reply.array(registers.ranks().len());
        registers.ranks().iter().for_each(|rank| ctx.reply.int(i64::from(*rank)));
    } else {
        let what = String::from_utf8_lossy(what);
        return Err(CommandError::format(format!("ERR Unknown PFDEBUG subcommand '{what}'")));
    }
    Ok(())
}

/// Makes a sparse HyperLogLog dense, which goes to the log.
fn to_dense(ctx: &mut Ctx<'_, '_>, key: &[u8]) -> Result<(), CommandError> {
    let mut changed = Ok(false);
    ctx.current().edit_string(key, &mut |bytes| changed = hll::make_dense(bytes));
    ctx.dirty(u64::from(changed?));
    Ok(())
}

fn pfselftest(ctx: &mut Ctx<'_, '_>, _args: Args<'_>) -> Result<(), CommandError> {
    hll::self_test(ctx.env.limits.hll_sparse_max_bytes)
        .map_err(|failure| CommandError::format(format!("ERR {failure}")))?;
    ctx.reply.ok();
    Ok(())
}

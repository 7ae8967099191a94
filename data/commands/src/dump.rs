// SPDX-License-Identifier: BSD-3-Clause
//! Values as bytes: DUMP, RESTORE and RESTORE-ASKING. The bytes themselves are data/dump's business.
//!
//! Log: RESTORE goes out with its expire time made absolute; when that is past, as the deletion of what it replaced.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lookup::{Access, Intent};
use crate::registry::{Row, row};
use pando_dump::{FooterChecks, LoadContext, Loaded, payload};
use pando_keyspace::{IntText, StrHint, Ttl};
use pando_resp::Args;

pub(crate) const TABLE: &[Row] = &[row("dump", dump), row("restore", restore), row("restore-asking", restore)];

fn dump(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let compress = ctx.env.rdb_compression;
    ctx.with_value(args[1], Intent::Read, Access::Touch, |value, reply| match value {
        Some(value) => reply.bulk(&payload(value, compress)),
        None => reply.null(),
    });
    Ok(())
}

/// What follows the payload.
#[derive(Default)]
struct Options {
    replace: bool,
    is_absolute: bool,
    idle_s: Option<u64>,
    freq: Option<u8>,
}

impl Options {
    fn read(args: &[&[u8]]) -> Result<Options, CommandError> {
        let mut options = Options::default();
        let mut at = 0;
        while at < args.len() {
            let value = args.get(at + 1);
            match value {
                _ if is_word(args[at], "REPLACE") => options.replace = true,
                _ if is_word(args[at], "ABSTTL") => options.is_absolute = true,
                Some(value) if is_word(args[at], "IDLETIME") && options.freq.is_none() => {
                    let idle_s = u64::try_from(integer(value)?);
                    let invalid = CommandError::text("ERR Invalid IDLETIME value, must be >= 0");
                    options.idle_s = Some(idle_s.map_err(|_| invalid)?);
                    at += 1;
                }
                Some(value) if is_word(args[at], "FREQ") && options.idle_s.is_none() => {
                    let freq = u8::try_from(integer(value)?);
                    let invalid = CommandError::text("ERR Invalid FREQ value, must be >= 0 and <= 255");
                    options.freq = Some(freq.map_err(|_| invalid)?);
                    at += 1;
                }
                _ => return Err(CommandError::Syntax),
            }
            at += 1;
        }
        Ok(options)
    }
}

/// RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds | FREQ frequency]
fn restore(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let options = Options::read(&args[4..])?;
    if !options.replace && ctx.exists_in(ctx.db, key) {
        return Err(CommandError::text("BUSYKEY Target key name already exists."));
    }
    let ttl = integer(args[2])?;
    if ttl < 0 {
        return Err(CommandError::text("ERR Invalid TTL value, must be >= 0"));
    }
    let checks = FooterChecks { version: !ctx.env.rdb_version_relaxed, checksum: !ctx.env.skip_checksum };
    let cx = LoadContext { limits: &ctx.env.limits, drop_due_before_ms: None };
    let value =
        pando_dump::restore(args[3], &cx, checks).map_err(|error| CommandError::format(format!("ERR {error}")))?;
    let due_ms = match ttl {
        0 => None,
        _ if options.is_absolute => Some(ttl as u64),
        _ => Some((ttl as u64).saturating_add(ctx.now_ms)),
    };
    let replaced = options.replace && !ctx.delete_if_expired(ctx.db, key) && ctx.current().remove(key);
    if due_ms.is_some_and(|due_ms| ctx.is_past(due_ms)) {
        if replaced {
            let verb: &[u8] = if ctx.env.lazy_server_del { b"UNLINK" } else { b"DEL" };
            ctx.rewrite(&[verb, key]);
            ctx.changed(EventClass::GENERIC, "del", key);
        }
        ctx.reply.ok();
        return Ok(());
    }
    let ttl = due_ms.map_or(Ttl::Clear, Ttl::At);
    let mut keys = ctx.current();
    match value {
        Loaded::Int(n) => keys.set_int(key, n, ttl),
        Loaded::Str(text) => keys.set_str(key, &text, ttl, StrHint::Auto),
        Loaded::Typed(value) => keys.put_typed(key, value, ttl),
    };
    // The clock counts one of the two, by the eviction policy; what is meant for the other is dropped.
    match (options.idle_s, options.freq) {
        (Some(idle_s), _) if !ctx.env.lfu => _ = ctx.current().set_idle(key, idle_s),
        (_, Some(freq)) if ctx.env.lfu => _ = ctx.current().set_freq(key, freq),
        _ => {}
    }
    ctx.notify(EventClass::NEW, "new", key);
    if let Some(due_ms) = due_ms.filter(|_| !options.is_absolute) {
        let mut digits = IntText::new();
        let mut logged: Vec<&[u8]> = args.to_vec();
        logged[2] = digits.format(due_ms).as_bytes();
        logged.push(b"ABSTTL");
        ctx.rewrite(&logged);
    }
    ctx.changed(EventClass::GENERIC, "restore", key);
    ctx.reply.ok();
    Ok(())
}

// SPDX-License-Identifier: BSD-3-Clause
//! SET and its variants with options: SETNX, SETEX, PSETEX, GETEX, MSETEX, and the option reader they share.
//!
//! Log: relative times never leave the server. EX, PX and EXAT become `SET key value PXAT ms`; GET is dropped.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::lookup::{Access, Intent, require_string};
use crate::registry::{Row, row};
use pando_keyspace::{IntText, Ttl};
use pando_resp::Args;

pub(crate) const TABLE: &[Row] = &[
    row("set", set),
    row("setnx", setnx),
    row("setex", setex),
    row("psetex", psetex),
    row("getex", getex),
    row("msetex", msetex),
];

/// When a write goes ahead.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Condition<'a> {
    Always,
    IfAbsent,
    IfPresent,
    IfEqual(&'a [u8]),
}

/// Form of an expire time argument.
#[derive(Copy, Clone, PartialEq, Eq)]
enum TimeForm {
    Ex,
    Px,
    ExAt,
    PxAt,
}

/// Everything the options said.
struct Options<'a> {
    condition: Condition<'a>,
    get: bool,
    keep_ttl: bool,
    persist: bool,
    /// Form, text, and the index of the option word.
    expire: Option<(TimeForm, &'a [u8], usize)>,
}

/// Which of the options a command knows.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Dialect {
    Set,
    GetEx,
    MSetEx,
}

/// Reads options from `args[from..]`. Repeating an option (but IFEQ) is allowed and the last one counts; contradicting is
/// not.
fn read_options<'a>(args: &[&'a [u8]], from: usize, dialect: Dialect) -> Result<Options<'a>, CommandError> {
    let mut options =
        Options { condition: Condition::Always, get: false, keep_ttl: false, persist: false, expire: None };
    let writes = dialect != Dialect::GetEx;
    let mut at = from;
    while at < args.len() {
        let word = args[at];
        let next = args.get(at + 1).copied();
        let form = time_form(word);
        let other_time = match (options.expire, form) {
            (Some((given, ..)), Some(form)) => given != form,
            (given, _) => given.is_some(),
        };
        if writes && is_word(word, "NX") && matches!(options.condition, Condition::Always | Condition::IfAbsent) {
            options.condition = Condition::IfAbsent;
        } else if writes && is_word(word, "XX") && matches!(options.condition, Condition::Always | Condition::IfPresent)
        {
            options.condition = Condition::IfPresent;
        } else if let (true, Some(value), Condition::Always) =
            (dialect == Dialect::Set && is_word(word, "IFEQ"), next, options.condition)
        {
            options.condition = Condition::IfEqual(value);
            at += 1;
        } else if dialect == Dialect::Set && is_word(word, "GET") {
            options.get = true;
        } else if writes && is_word(word, "KEEPTTL") && !other_time {
            options.keep_ttl = true;
        } else if dialect == Dialect::GetEx && is_word(word, "PERSIST") && !other_time {
            options.persist = true;
        } else if let (Some(form), Some(value), false) = (form, next, other_time || options.keep_ttl || options.persist)
        {
            options.expire = Some((form, value, at));
            at += 1;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    Ok(options)
}

fn time_form(word: &[u8]) -> Option<TimeForm> {
    match word.len() {
        2 if is_word(word, "EX") => Some(TimeForm::Ex),
        2 if is_word(word, "PX") => Some(TimeForm::Px),
        4 if is_word(word, "EXAT") => Some(TimeForm::ExAt),
        4 if is_word(word, "PXAT") => Some(TimeForm::PxAt),
        _ => None,
    }
}

/// The absolute time that an expire argument means, Unix milliseconds; refuses zero, negative and overflowing ones.
fn absolute_ms(form: TimeForm, text: &[u8], now_ms: u64, command: &'static str) -> Result<u64, CommandError> {
    let amount = integer(text)?;
    if amount <= 0 {
        return Err(CommandError::InvalidExpire(command));
    }
    let scaled = match form {
        TimeForm::Ex | TimeForm::ExAt => amount.checked_mul(1000),
        TimeForm::Px | TimeForm::PxAt => Some(amount),
    };
    let absolute = match form {
        TimeForm::Ex | TimeForm::Px => scaled.and_then(|scaled| scaled.checked_add_unsigned(now_ms)),
        TimeForm::ExAt | TimeForm::PxAt => scaled,
    };
    absolute.map(i64::cast_unsigned).ok_or(CommandError::InvalidExpire(command))
}

fn set(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, value) = (args[1], args[2]);
    if args.len() == 3 {
        // The plain form is most of all writes: no options, no condition, nothing to rewrite.
        ctx.delete_if_expired(ctx.db, key);
        ctx.store_string(key, value, Ttl::Clear);
        ctx.changed(EventClass::STRING, "set", key);
        ctx.reply.ok();
        return Ok(());
    }
    let options = read_options(args, 3, Dialect::Set)?;
    let expire = match options.expire {
        Some((form, text, _)) => Some((absolute_ms(form, text, ctx.now_ms, "set")?, form)),
        None => None,
    };
    let outcome = set_with(ctx, key, value, &options, expire)?;
    if !options.get {
        match outcome {
            SetResult::Refused => ctx.reply.null(),
            SetResult::Stored | SetResult::AlreadyPast => ctx.reply.ok(),
        }
    }
    if outcome == SetResult::Stored && options.get && options.expire.is_none() {
        let without_get: Vec<&[u8]> =
            args.iter().enumerate().filter(|(at, arg)| *at < 3 || !is_word(arg, "GET")).map(|(_, arg)| *arg).collect();
        ctx.rewrite(&without_get);
    }
    Ok(())
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum SetResult {
    Stored,
    Refused,
    /// The expire time was past: the key is gone.
    AlreadyPast,
}

/// Reads the old value if asked, checks the condition, stores, and logs a relative time as an absolute one.
fn set_with(
    ctx: &mut Ctx<'_, '_>,
    key: &[u8],
    value: &[u8],
    options: &Options<'_>,
    expire: Option<(u64, TimeForm)>,
) -> Result<SetResult, CommandError> {
    let intent = if options.get { Intent::Read } else { Intent::Write };
    let (found, allowed) = ctx.with_value(key, intent, Access::Touch, |old, reply| {
        let mut text = IntText::new();
        if options.get {
            require_string(old)?;
            match old {
                Some(old) => reply.bulk(old.as_bytes(&mut text)),
                None => reply.null(),
            }
        }
        let allowed = match options.condition {
            Condition::Always => true,
            Condition::IfAbsent => old.is_none(),
            Condition::IfPresent => old.is_some(),
            Condition::IfEqual(expected) => {
                require_string(old)?;
                old.is_some_and(|old| old.as_bytes(&mut text) == expected)
            }
        };
        Ok::<_, CommandError>((old.is_some(), allowed))
    })?;
    if !allowed {
        return Ok(SetResult::Refused);
    }
    let ttl = match expire {
        Some((at_ms, _)) if ctx.is_past(at_ms) => {
            if found {
                ctx.delete_as_expired(key);
            }
            return Ok(SetResult::AlreadyPast);
        }
        Some((at_ms, _)) => Ttl::At(at_ms),
        None if options.keep_ttl => Ttl::Keep,
        None => Ttl::Clear,
    };
    ctx.store_string(key, value, ttl);
    ctx.changed(EventClass::STRING, "set", key);
    if let Some((at_ms, form)) = expire {
        if form != TimeForm::PxAt {
            let mut digits = IntText::new();
            ctx.rewrite(&[b"SET", key, value, b"PXAT", digits.format(at_ms).as_bytes()]);
        }
        ctx.notify(EventClass::GENERIC, "expire", key);
    }
    Ok(SetResult::Stored)
}

fn setnx(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let options = Options { condition: Condition::IfAbsent, get: false, keep_ttl: false, persist: false, expire: None };
    let outcome = set_with(ctx, args[1], args[2], &options, None)?;
    ctx.reply.int(i64::from(outcome == SetResult::Stored));
    Ok(())
}

fn setex(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    set_for(ctx, args, TimeForm::Ex, "setex")
}

fn psetex(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    set_for(ctx, args, TimeForm::Px, "psetex")
}

fn set_for(ctx: &mut Ctx<'_, '_>, args: Args<'_>, form: TimeForm, command: &'static str) -> Result<(), CommandError> {
    let at_ms = absolute_ms(form, args[2], ctx.now_ms, command)?;
    let options = Options { condition: Condition::Always, get: false, keep_ttl: false, persist: false, expire: None };
    set_with(ctx, args[1], args[3], &options, Some((at_ms, form)))?;
    ctx.reply.ok();
    Ok(())
}

/// GETEX key [PERSIST | EX s | PX ms | EXAT s | PXAT ms]. Logged as PEXPIREAT, PERSIST or a deletion, never as itself.
fn getex(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let options = read_options(args, 2, Dialect::GetEx)?;
    let expire = match options.expire {
        Some((form, text, _)) => Some((absolute_ms(form, text, ctx.now_ms, "getex")?, form)),
        None => None,
    };
    let found = ctx.read_string(key, |value, reply| {
        let mut text = IntText::new();
        match value {
            Some(value) => reply.bulk(value.as_bytes(&mut text)),
            None => reply.null(),
        }
        Ok(value.is_some())
    })?;
    if !found {
        return Ok(());
    }
    match expire {
        Some((at_ms, TimeForm::ExAt | TimeForm::PxAt)) if ctx.is_past(at_ms) => ctx.delete_as_expired(key),
        Some((at_ms, _)) => {
            ctx.current().set_expire(key, Some(at_ms));
            let mut digits = IntText::new();
            ctx.rewrite(&[b"PEXPIREAT", key, digits.format(at_ms).as_bytes()]);
            ctx.changed(EventClass::GENERIC, "expire", key);
        }
        None if options.persist && ctx.current().expire_at(key).flatten().is_some() => {
            ctx.current().set_expire(key, None);
            ctx.rewrite(&[b"PERSIST", key]);
            ctx.changed(EventClass::GENERIC, "persist", key);
        }
        None => {}
    }
    Ok(())
}

/// MSETEX numkeys key value ... [NX | XX] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]: all or nothing, one expire time.
fn msetex(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    const INVALID: CommandError = CommandError::text("ERR invalid numkeys value or out of range");
    let count = usize::try_from(integer(args[1]).map_err(|_| INVALID)?).map_err(|_| INVALID)?;
    if count == 0 || count > i32::MAX as usize {
        return Err(INVALID);
    }
    let options_at = 2 + 2 * count;
    if options_at > args.len() {
        return Err(CommandError::Syntax);
    }
    let options = read_options(args, options_at, Dialect::MSetEx)?;
    let expire = match options.expire {
        Some((form, text, at)) => Some((absolute_ms(form, text, ctx.now_ms, "msetex")?, form, at)),
        None => None,
    };
    let pairs = &args[2..options_at];
    for pair in pairs.chunks_exact(2) {
        let exists = ctx.exists_in(ctx.db, pair[0]);
        let refused = match options.condition {
            Condition::IfAbsent => exists,
            Condition::IfPresent => !exists,
            Condition::Always | Condition::IfEqual(_) => false,
        };
        if refused {
            ctx.reply.int(0);
            return Ok(());
        }
    }
    let ttl = match expire {
        Some((at_ms, ..)) => Ttl::At(at_ms),
        None if options.keep_ttl => Ttl::Keep,
        None => Ttl::Clear,
    };
    for pair in pairs.chunks_exact(2) {
        ctx.store_string(pair[0], pair[1], ttl);
        ctx.changed(EventClass::STRING, "set", pair[0]);
        if expire.is_some() {
            ctx.notify(EventClass::GENERIC, "expire", pair[0]);
        }
    }
    if let Some((at_ms, form, at)) = expire
        && form != TimeForm::PxAt
    {
        let mut digits = IntText::new();
        let mut logged: Vec<&[u8]> = args.to_vec();
        logged[at] = b"PXAT";
        logged[at + 1] = digits.format(at_ms).as_bytes();
        ctx.rewrite(&logged);
    }
    ctx.reply.int(1);
    Ok(())
}

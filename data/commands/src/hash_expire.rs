// SPDX-License-Identifier: BSD-3-Clause
//! Times of hash fields: HEXPIRE and its forms, HTTL and its forms, HPERSIST, HGETEX, HSETEX. Removing what falls due is
//! the keyspace's expire step.
//!
//! Log: relative times never leave the server. Giving a time becomes HPEXPIREAT or `HSETEX .. PXAT`, a time in the past
//! HDEL of the fields that were there.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::expire::{Base, Conditions, Unit};
use crate::hashes::{NUMFIELDS, fields_at_3, reply_field};
use crate::registry::{Row, row};
use pando_keyspace::IntText;
use pando_resp::Args;
use pando_values::{FieldSet, FieldTtl, Hash};

pub(crate) const TABLE: &[Row] = &[
    row("hexpire", hexpire),
    row("hpexpire", hpexpire),
    row("hexpireat", hexpireat),
    row("hpexpireat", hpexpireat),
    row("httl", httl),
    row("hpttl", hpttl),
    row("hexpiretime", hexpiretime),
    row("hpexpiretime", hpexpiretime),
    row("hpersist", hpersist),
    row("hgetex", hgetex),
    row("hsetex", hsetex),
];

/// The absolute time that an argument means, Unix milliseconds. Zero is allowed, and past.
fn absolute_ms(
    ctx: &Ctx<'_, '_>,
    text: &[u8],
    base: Base,
    unit: Unit,
    command: &'static str,
) -> Result<u64, CommandError> {
    const INVALID: fn(&'static str) -> CommandError = CommandError::InvalidExpire;
    let amount = u64::try_from(integer(text)?).map_err(|_| INVALID(command))?;
    let scaled = if unit == Unit::Seconds { amount.checked_mul(1000) } else { Some(amount) };
    let absolute = match base {
        Base::Now => scaled.and_then(|scaled| scaled.checked_add(ctx.now_ms)),
        Base::Epoch => scaled,
    };
    absolute.filter(|at_ms| i64::try_from(*at_ms).is_ok()).ok_or(INVALID(command))
}

/// Where the word FIELDS is, from `from` on; it is not the last one.
fn fields_word(args: &[&[u8]], from: usize) -> Option<usize> {
    (from..args.len() - 1).find(|at| is_word(args[*at], "FIELDS"))
}

/// What follows after `FIELDS n`, `per_field` words for each of the `n`.
fn fields_after<'a>(args: &'a [&'a [u8]], at: usize, per_field: usize) -> Result<&'a [&'a [u8]], CommandError> {
    let count = integer(args[at + 1])?;
    let words = &args[at + 2..];
    let matches = usize::try_from(count).is_ok_and(|count| count.checked_mul(per_field) == Some(words.len()));
    if count == 0 || !matches {
        return Err(NUMFIELDS);
    }
    Ok(words)
}

fn hexpire(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    expire_with(ctx, args, Base::Now, Unit::Seconds, "hexpire")
}

fn hpexpire(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    expire_with(ctx, args, Base::Now, Unit::Milliseconds, "hpexpire")
}

fn hexpireat(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    expire_with(ctx, args, Base::Epoch, Unit::Seconds, "hexpireat")
}

fn hpexpireat(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    expire_with(ctx, args, Base::Epoch, Unit::Milliseconds, "hpexpireat")
}

/// HEXPIRE key time [NX | XX | GT | LT] FIELDS n field ...: for each field 1 (done), 0 (the condition does not hold), -2 (no
/// such field) or 2 (the time is past: the field is gone).
fn expire_with(
    ctx: &mut Ctx<'_, '_>,
    args: Args<'_>,
    base: Base,
    unit: Unit,
    command: &'static str,
) -> Result<(), CommandError> {
    let key = args[1];
    let at = fields_word(args, 3).ok_or(NUMFIELDS)?;
    let conditions = Conditions::read(&args[3..at])?;
    let names = fields_after(args, at, 1)?;
    let at_ms = absolute_ms(ctx, args[2], base, unit, command)?;
    let (now_ms, is_past) = (ctx.fields_now(), ctx.is_past(at_ms));
    let edited = ctx.edit(key, |hash: &mut Hash, cx| {
        cx.reply.array(names.len());
        let mut done = Vec::new();
        for name in names {
            let answer = match hash.due_ms(name, now_ms) {
                None => -2,
                Some(current) if !conditions.allow(current, at_ms) => 0,
                Some(_) => {
                    done.push(*name);
                    if is_past {
                        hash.remove(name, now_ms);
                        2
                    } else {
                        hash.set_due(name, Some(at_ms), now_ms);
                        1
                    }
                }
            };
            cx.reply.int(answer);
        }
        Ok(done)
    })?;
    let Some(edited) = edited else {
        ctx.reply.array(names.len());
        names.iter().for_each(|_| ctx.reply.int(-2));
        return Ok(());
    };
    let done = edited.result;
    if done.is_empty() {
        return Ok(());
    }
    ctx.dirty(done.len() as u64);
    ctx.modified(key);
    if is_past {
        ctx.fields_expired_at_once(key, &done, edited.is_removed);
        return Ok(());
    }
    if base != Base::Epoch || unit != Unit::Milliseconds {
        let mut digits = IntText::new();
        let mut logged: Vec<&[u8]> = args.to_vec();
        logged[0] = b"HPEXPIREAT";
        logged[2] = digits.format(at_ms).as_bytes();
        ctx.rewrite(&logged);
    }
    ctx.notify(EventClass::HASH, "hexpire", key);
    Ok(())
}

impl Ctx<'_, '_> {
    /// Fields were removed because they were given a time in the past.
    fn fields_expired_at_once(&mut self, key: &[u8], names: &[&[u8]], is_removed: bool) {
        self.effects.expired_fields += names.len() as u64;
        self.rewrite_with_fields(&[b"HDEL", key], names);
        self.notify(EventClass::HASH, "hexpired", key);
        if is_removed {
            self.notify(EventClass::GENERIC, "del", key);
        }
    }

    fn rewrite_with_fields(&mut self, head: &[&[u8]], names: &[&[u8]]) {
        if self.env.log {
            let words: Vec<&[u8]> = head.iter().chain(names).copied().collect();
            self.rewrite(&words);
        }
    }
}

fn httl(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let now_ms = ctx.now_ms;
    reply_times(ctx, args, |at_ms| (at_ms.saturating_sub(now_ms) + 500) / 1000)
}

fn hpttl(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let now_ms = ctx.now_ms;
    reply_times(ctx, args, |at_ms| at_ms.saturating_sub(now_ms))
}

fn hexpiretime(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_times(ctx, args, |at_ms| (at_ms + 500) / 1000)
}

fn hpexpiretime(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_times(ctx, args, |at_ms| at_ms)
}

/// HTTL key FIELDS n field ...: `shown` of each field's time, -1 without one, -2 without a field.
fn reply_times(ctx: &mut Ctx<'_, '_>, args: Args<'_>, shown: impl Fn(u64) -> u64) -> Result<(), CommandError> {
    let names = fields_at_3(args, CommandError::Syntax)?;
    let now_ms = ctx.fields_now();
    ctx.read(args[1], |hash: Option<&Hash>, reply| {
        reply.array(names.len());
        for name in names {
            reply.int(match hash.and_then(|hash| hash.due_ms(name, now_ms)) {
                None => -2,
                Some(None) => -1,
                Some(Some(at_ms)) => shown(at_ms) as i64,
            });
        }
        Ok(())
    })
}

/// HPERSIST key FIELDS n field ...: for each field 1 (it had a time), -1 (it had none) or -2 (no such field).
fn hpersist(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let names = fields_at_3(args, NUMFIELDS)?;
    let now_ms = ctx.fields_now();
    let edited = ctx.edit(key, |hash: &mut Hash, cx| {
        cx.reply.array(names.len());
        let mut changes = 0;
        for name in names {
            let answer = match hash.due_ms(name, now_ms) {
                None => -2,
                Some(None) => -1,
                Some(Some(_)) => {
                    hash.set_due(name, None, now_ms);
                    changes += 1;
                    1
                }
            };
            cx.reply.int(answer);
        }
        Ok(changes)
    })?;
    match edited {
        None => {
            ctx.reply.array(names.len());
            names.iter().for_each(|_| ctx.reply.int(-2));
        }
        Some(edited) if edited.result > 0 => {
            ctx.dirty(edited.result);
            ctx.modified(key);
            ctx.notify(EventClass::HASH, "hpersist", key);
        }
        Some(_) => {}
    }
    Ok(())
}

/// Everything the options of HGETEX and HSETEX said.
#[derive(Default)]
struct Options<'a> {
    key_absent: bool,
    key_present: bool,
    fields_absent: bool,
    fields_present: bool,
    keep_ttl: bool,
    persist: bool,
    /// Form and text; given twice in one form, the last counts.
    time: Option<(Base, Unit, &'a [u8])>,
}

/// Which of the options a command knows.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Dialect {
    HGetEx,
    HSetEx,
}

fn time_form(word: &[u8]) -> Option<(Base, Unit)> {
    [
        ("EX", Base::Now, Unit::Seconds),
        ("PX", Base::Now, Unit::Milliseconds),
        ("EXAT", Base::Epoch, Unit::Seconds),
        ("PXAT", Base::Epoch, Unit::Milliseconds),
    ]
    .into_iter()
    .find(|(name, ..)| is_word(word, name))
    .map(|(_, base, unit)| (base, unit))
}

impl<'a> Options<'a> {
    fn read(words: &[&'a [u8]], dialect: Dialect) -> Result<Self, CommandError> {
        let mut options = Options::default();
        let writes = dialect == Dialect::HSetEx;
        let mut at = 0;
        while at < words.len() {
            let word = words[at];
            if writes && is_word(word, "NX") && !options.key_present {
                options.key_absent = true;
            } else if writes && is_word(word, "XX") && !options.key_absent {
                options.key_present = true;
            } else if writes && is_word(word, "FNX") && !options.fields_present {
                options.fields_absent = true;
            } else if writes && is_word(word, "FXX") && !options.fields_absent {
                options.fields_present = true;
            } else if writes && is_word(word, "KEEPTTL") && options.time.is_none() {
                options.keep_ttl = true;
            } else if !writes && is_word(word, "PERSIST") && options.time.is_none() {
                options.persist = true;
            } else if let (Some((base, unit)), Some(text), false) =
                (time_form(word), words.get(at + 1), options.keep_ttl || options.persist)
                && options.time.is_none_or(|(old_base, old_unit, _)| (old_base, old_unit) == (base, unit))
            {
                options.time = Some((base, unit, text));
                at += 1;
            } else {
                return Err(CommandError::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }

    /// The time that was given.
    fn at_ms(&self, ctx: &Ctx<'_, '_>, command: &'static str) -> Result<Option<u64>, CommandError> {
        self.time.map(|(base, unit, text)| absolute_ms(ctx, text, base, unit, command)).transpose()
    }
}

/// The options and what follows `FIELDS n`. The reference server looks for the word from the key on.
fn read_ex<'a>(
    args: &'a [&'a [u8]],
    dialect: Dialect,
    per_field: usize,
) -> Result<(Options<'a>, &'a [&'a [u8]]), CommandError> {
    let at = fields_word(args, 1).ok_or(NUMFIELDS)?;
    let options = Options::read(args.get(2..at).unwrap_or_default(), dialect)?;
    Ok((options, fields_after(args, at, per_field)?))
}

/// What HGETEX does to the fields that it reads.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Touch {
    Expire(u64),
    Remove,
    Persist,
}

/// HGETEX key [PERSIST | EX s | PX ms | EXAT s | PXAT ms] FIELDS n field ...
fn hgetex(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let (options, names) = read_ex(args, Dialect::HGetEx, 1)?;
    let now_ms = ctx.fields_now();
    let changes = options.persist || options.time.is_some();
    let found = ctx.read(key, |hash: Option<&Hash>, reply| {
        if !changes {
            reply.array(names.len());
            names.iter().for_each(|name| reply_field(reply, hash, name, now_ms));
        }
        Ok(hash.is_some())
    })?;
    if !changes {
        return Ok(());
    }
    let touch = match options.at_ms(ctx, "hgetex")? {
        None => Touch::Persist,
        Some(at_ms) if ctx.is_past(at_ms) => Touch::Remove,
        Some(at_ms) => Touch::Expire(at_ms),
    };
    if !found {
        ctx.reply.array(names.len());
        names.iter().for_each(|_| ctx.reply.null());
        return Ok(());
    }
    let edited = ctx.edit(key, |hash: &mut Hash, cx| {
        cx.reply.array(names.len());
        let mut touched = Vec::new();
        for name in names {
            reply_field(cx.reply, Some(hash), name, now_ms);
            let is_touched = match touch {
                Touch::Expire(at_ms) => hash.set_due(name, Some(at_ms), now_ms),
                Touch::Remove => hash.remove(name, now_ms),
                Touch::Persist => hash.due_ms(name, now_ms).flatten().is_some() && hash.set_due(name, None, now_ms),
            };
            if is_touched {
                touched.push(*name);
            }
        }
        Ok(touched)
    })?;
    let Some(edited) = edited else { return Ok(()) };
    let touched = edited.result;
    if touched.is_empty() {
        return Ok(());
    }
    ctx.dirty(touched.len() as u64);
    ctx.modified(key);
    let (mut digits, mut count_digits) = (IntText::new(), IntText::new());
    let count = count_digits.format(touched.len()).as_bytes();
    match touch {
        Touch::Remove => ctx.fields_expired_at_once(key, &touched, edited.is_removed),
        Touch::Expire(at_ms) => {
            let at = digits.format(at_ms).as_bytes();
            ctx.rewrite_with_fields(&[b"HPEXPIREAT", key, at, b"FIELDS", count], &touched);
            ctx.notify(EventClass::HASH, "hexpire", key);
        }
        Touch::Persist => {
            ctx.rewrite_with_fields(&[b"HPERSIST", key, b"FIELDS", count], &touched);
            ctx.notify(EventClass::HASH, "hpersist", key);
        }
    }
    Ok(())
}

/// HSETEX key [NX | XX] [FNX | FXX] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL] FIELDS n field value ...: all or nothing.
fn hsetex(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let (options, pairs) = read_ex(args, Dialect::HSetEx, 2)?;
    let now_ms = ctx.fields_now();
    let (exists, fields_allow) = ctx.inspect(key, |hash: Option<&Hash>| {
        let is_there = |pair: &[&[u8]]| hash.is_some_and(|hash| hash.contains(pair[0], now_ms));
        let refused = options.fields_absent && pairs.chunks_exact(2).any(is_there)
            || options.fields_present && !pairs.chunks_exact(2).all(is_there);
        Ok((hash.is_some(), !refused))
    })?;
    if options.key_absent && exists || options.key_present && !exists {
        ctx.reply.int(0);
        return Ok(());
    }
    let at_ms = options.at_ms(ctx, "hsetex")?;
    if !fields_allow {
        ctx.reply.int(0);
        return Ok(());
    }
    ctx.reply.int(1);
    if at_ms.is_some_and(|at_ms| ctx.is_past(at_ms)) {
        return set_as_expired(ctx, key, pairs, exists);
    }
    let ttl = match at_ms {
        Some(at_ms) => FieldTtl::At(at_ms),
        None if options.keep_ttl => FieldTtl::Keep,
        None => FieldTtl::Clear,
    };
    let edited = ctx.edit_or_create(key, |hash: &mut Hash, cx| {
        let mut revived = Vec::new();
        for pair in pairs.chunks_exact(2) {
            if hash.set(pair[0], pair[1], ttl, now_ms, cx.limits) == FieldSet::Revived {
                revived.push(pair[0]);
            }
        }
        Ok(revived)
    })?;
    let revived = edited.result;
    if options.keep_ttl && !revived.is_empty() && ctx.env.log {
        // A replica still has these fields, and would keep their times.
        let words: Vec<&[u8]> = [b"HDEL".as_slice(), key].into_iter().chain(revived.iter().copied()).collect();
        ctx.effects.propagate_before(ctx.db, &words);
    }
    ctx.fields_revived(key, revived.len() as u64);
    ctx.dirty(pairs.len() as u64 / 2);
    ctx.modified(key);
    let is_conditional = options.key_absent || options.key_present || options.fields_absent || options.fields_present;
    if is_conditional || options.time.is_some_and(|(base, unit, _)| (base, unit) != (Base::Epoch, Unit::Milliseconds)) {
        let (mut digits, mut count_digits) = (IntText::new(), IntText::new());
        let count = count_digits.format(pairs.len() / 2).as_bytes();
        match at_ms {
            Some(at_ms) => {
                let at = digits.format(at_ms).as_bytes();
                ctx.rewrite_with_fields(&[b"HSETEX", key, b"PXAT", at, b"FIELDS", count], pairs);
            }
            None if options.keep_ttl => {
                ctx.rewrite_with_fields(&[b"HSETEX", key, b"KEEPTTL", b"FIELDS", count], pairs);
            }
            None => ctx.rewrite_with_fields(&[b"HSETEX", key, b"FIELDS", count], pairs),
        }
    }
    ctx.notify(EventClass::HASH, "hset", key);
    if at_ms.is_some() {
        ctx.notify(EventClass::HASH, "hexpire", key);
    }
    Ok(())
}

/// HSETEX with a time in the past: the fields go, and everybody is told as if they had come first.
fn set_as_expired(ctx: &mut Ctx<'_, '_>, key: &[u8], pairs: &[&[u8]], exists: bool) -> Result<(), CommandError> {
    let edited = ctx.edit(key, |hash: &mut Hash, _| {
        // Past due or not: time zero sees all.
        Ok(pairs.chunks_exact(2).map(|pair| pair[0]).filter(|name| hash.remove(name, 0)).collect::<Vec<_>>())
    })?;
    let removed = edited.as_ref().map_or(&[][..], |edited| &edited.result);
    ctx.effects.expired_fields += pairs.len() as u64 / 2;
    if !exists {
        ctx.notify(EventClass::NEW, "new", key);
    }
    if !removed.is_empty() {
        ctx.rewrite_with_fields(&[b"HDEL", key], removed);
        ctx.modified(key);
        ctx.dirty(removed.len() as u64);
    }
    for event in ["hset", "hexpire", "hexpired"] {
        ctx.notify(EventClass::HASH, event, key);
    }
    if edited.is_none_or(|edited| edited.is_removed) {
        ctx.notify(EventClass::GENERIC, "del", key);
    }
    Ok(())
}

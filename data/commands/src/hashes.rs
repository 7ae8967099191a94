// SPDX-License-Identifier: BSD-3-Clause
//! Hashes: fields and values. The times of fields are in `hash_expire.rs`; a field past due that is still there is
//! invisible to all of these, counts in HLEN, and is new to whoever writes it.
//!
//! Log: where a hash has fields with times, what depends on whether a field was still there is logged by its result.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::scan_values::scan_collection;
use pando_keyspace::IntText;
use pando_resp::{Args, LongDouble, Proto, ReplyBuf};
use pando_values::{Collection, Element, Field, FieldSet, FieldTtl, Hash, random_below};
use std::collections::HashSet;

pub(crate) const TABLE: &[Row] = &[
    row("hset", hset),
    row("hmset", hmset),
    row("hsetnx", hsetnx),
    row("hget", hget),
    row("hmget", hmget),
    row("hdel", hdel),
    row("hgetdel", hgetdel),
    row("hlen", hlen),
    row("hstrlen", hstrlen),
    row("hexists", hexists),
    row("hkeys", hkeys),
    row("hvals", hvals),
    row("hgetall", hgetall),
    row("hincrby", hincrby),
    row("hincrbyfloat", hincrbyfloat),
    row("hrandfield", hrandfield),
    row("hscan", hscan),
];

pub(crate) const NUMFIELDS: CommandError =
    CommandError::text("ERR numfields should be greater than 0 and match the provided number of fields");

/// A name or value as a bulk string.
#[inline]
pub(crate) fn reply_element(reply: &mut ReplyBuf, element: Element<'_>) {
    match element {
        Element::Int(int) => reply.bulk_int(int),
        Element::Str(bytes) => reply.bulk(bytes),
    }
}

/// The value of a field, or null.
#[inline]
pub(crate) fn reply_field(reply: &mut ReplyBuf, hash: Option<&Hash>, name: &[u8], now_ms: u64) {
    match hash.and_then(|hash| hash.get(name, now_ms)) {
        Some(value) => reply_element(reply, value),
        None => reply.null(),
    }
}

impl Ctx<'_, '_> {
    /// The time that decides which fields are live; zero, so all of them, while a log is applied.
    pub(crate) fn fields_now(&self) -> u64 {
        self.slots.now_ms()
    }

    /// Fields past due were written over: they count as expired just now.
    pub(crate) fn fields_revived(&mut self, key: &[u8], count: u64) {
        if count > 0 {
            self.effects.expired_fields += count;
            self.notify(EventClass::HASH, "hexpired", key);
        }
    }

    /// Fields of `key` were removed; the hash may be gone with them.
    fn fields_deleted(&mut self, key: &[u8], count: u64, is_removed: bool) {
        if count > 0 {
            self.dirty(count);
            self.modified(key);
            self.notify(EventClass::HASH, "hdel", key);
            if is_removed {
                self.notify(EventClass::GENERIC, "del", key);
            }
        }
    }

    /// Logs a field as it is now, with its time.
    fn rewrite_as_field(&mut self, key: &[u8], name: &[u8], value: &[u8], due_ms: Option<u64>) {
        match due_ms {
            None => self.rewrite(&[b"HSET", key, name, value]),
            Some(due_ms) => {
                let mut digits = IntText::new();
                let due = digits.format(due_ms).as_bytes();
                self.rewrite(&[b"HSETEX", key, b"PXAT", due, b"FIELDS", b"1", name, value]);
            }
        }
    }
}

fn hset(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let created = set_pairs(ctx, args, "hset")?;
    ctx.reply.int(created);
    Ok(())
}

fn hmset(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    set_pairs(ctx, args, "hmset")?;
    ctx.reply.ok();
    Ok(())
}

/// How many of the fields are new.
fn set_pairs(ctx: &mut Ctx<'_, '_>, args: Args<'_>, command: &'static str) -> Result<i64, CommandError> {
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::Arity(command));
    }
    let (key, pairs) = (args[1], &args[2..]);
    let now_ms = ctx.fields_now();
    let edited = ctx.edit_or_create(key, |hash: &mut Hash, cx| {
        if pairs.len() > 2 {
            hash.prepare(pairs.len() / 2, pairs.iter().map(|word| word.len()), cx.limits);
        }
        let (mut created, mut revived) = (0, 0);
        for pair in pairs.chunks_exact(2) {
            match hash.set(pair[0], pair[1], FieldTtl::Clear, now_ms, cx.limits) {
                FieldSet::Created => created += 1,
                FieldSet::Replaced => {}
                FieldSet::Revived => {
                    created += 1;
                    revived += 1;
                }
            }
        }
        Ok((created, revived))
    })?;
    let (created, revived) = edited.result;
    ctx.fields_revived(key, revived);
    ctx.changed(EventClass::HASH, "hset", key);
    ctx.dirty(pairs.len() as u64 / 2 - 1);
    Ok(created)
}

fn hsetnx(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name, value) = (args[1], args[2], args[3]);
    let now_ms = ctx.fields_now();
    let exists = ctx.inspect(key, |hash: Option<&Hash>| Ok(hash.is_some_and(|hash| hash.contains(name, now_ms))))?;
    if exists {
        ctx.reply.int(0);
        return Ok(());
    }
    let edited = ctx.edit_or_create(key, |hash: &mut Hash, cx| {
        let is_volatile = hash.is_volatile();
        Ok((is_volatile, hash.set(name, value, FieldTtl::Clear, now_ms, cx.limits)))
    })?;
    let (was_volatile, outcome) = edited.result;
    ctx.fields_revived(key, u64::from(outcome == FieldSet::Revived));
    ctx.changed(EventClass::HASH, "hset", key);
    if was_volatile {
        // A replica might still have the field.
        ctx.rewrite(&[b"HSET", key, name, value]);
    }
    ctx.reply.int(1);
    Ok(())
}

fn hget(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let now_ms = ctx.fields_now();
    ctx.read(args[1], |hash, reply| {
        reply_field(reply, hash, args[2], now_ms);
        Ok(())
    })
}

fn hmget(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let now_ms = ctx.fields_now();
    ctx.read(args[1], |hash, reply| {
        let names = &args[2..];
        reply.array(names.len());
        names.iter().for_each(|name| reply_field(reply, hash, name, now_ms));
        Ok(())
    })
}

fn hdel(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let now_ms = ctx.fields_now();
    let edited = ctx.edit(key, |hash: &mut Hash, _| {
        let removed = args[2..].iter().filter(|name| hash.remove(name, now_ms)).count();
        Ok(removed as u64)
    })?;
    let deleted = edited.as_ref().map_or(0, |edited| edited.result);
    ctx.fields_deleted(key, deleted, edited.is_some_and(|edited| edited.is_removed));
    ctx.reply.int(deleted as i64);
    Ok(())
}

/// The words after `FIELDS n`, which must be `n`; the number of fields is at `args[3]`.
pub(crate) fn fields_at_3<'a>(args: &'a [&'a [u8]], mismatch: CommandError) -> Result<&'a [&'a [u8]], CommandError> {
    if !is_word(args[2], "FIELDS") {
        return Err(CommandError::Syntax);
    }
    let count = integer(args[3])?;
    let names = &args[4..];
    if count == 0 || usize::try_from(count) != Ok(names.len()) {
        return Err(mismatch);
    }
    Ok(names)
}

/// HGETDEL key FIELDS n field ...
fn hgetdel(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let names = fields_at_3(args, NUMFIELDS)?;
    let now_ms = ctx.fields_now();
    let edited = ctx.edit(key, |hash: &mut Hash, cx| {
        cx.reply.array(names.len());
        let mut deleted = 0;
        for name in names {
            reply_field(cx.reply, Some(hash), name, now_ms);
            deleted += u64::from(hash.remove(name, now_ms));
        }
        Ok(deleted)
    })?;
    let Some(edited) = edited else {
        ctx.reply.array(names.len());
        names.iter().for_each(|_| ctx.reply.null());
        return Ok(());
    };
    ctx.fields_deleted(key, edited.result, edited.is_removed);
    Ok(())
}

fn hlen(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    ctx.read(args[1], |hash: Option<&Hash>, reply| {
        reply.int(hash.map_or(0, Hash::len) as i64);
        Ok(())
    })
}

fn hstrlen(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let now_ms = ctx.fields_now();
    ctx.read(args[1], |hash: Option<&Hash>, reply| {
        let value = hash.and_then(|hash| hash.get(args[2], now_ms));
        reply.int(value.map_or(0, |value| value.byte_len()) as i64);
        Ok(())
    })
}

fn hexists(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let now_ms = ctx.fields_now();
    ctx.read(args[1], |hash: Option<&Hash>, reply| {
        reply.int(i64::from(hash.is_some_and(|hash| hash.contains(args[2], now_ms))));
        Ok(())
    })
}

fn hkeys(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_all(ctx, args[1], |field| field.name)
}

fn hvals(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    reply_all(ctx, args[1], |field| field.value)
}

fn reply_all(
    ctx: &mut Ctx<'_, '_>,
    key: &[u8],
    part: impl for<'f> Fn(Field<'f>) -> Element<'f>,
) -> Result<(), CommandError> {
    let now_ms = ctx.fields_now();
    ctx.read(key, |hash: Option<&Hash>, reply| {
        let Some(hash) = hash else {
            reply.array(0);
            return Ok(());
        };
        if !hash.is_volatile() {
            reply.array(hash.len());
            hash.iter(now_ms).for_each(|field| reply_element(reply, part(field)));
            return Ok(());
        }
        let mark = reply.array_deferred();
        let live = hash.iter(now_ms).map(|field| reply_element(reply, part(field))).count();
        reply.finish_array(mark, live);
        Ok(())
    })
}

fn hgetall(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let now_ms = ctx.fields_now();
    ctx.read(args[1], |hash: Option<&Hash>, reply| {
        let Some(hash) = hash else {
            reply.map(0);
            return Ok(());
        };
        let put = |reply: &mut ReplyBuf, field: Field<'_>| {
            reply_element(reply, field.name);
            reply_element(reply, field.value);
        };
        if !hash.is_volatile() {
            reply.map(hash.len());
            hash.iter(now_ms).for_each(|field| put(reply, field));
            return Ok(());
        }
        let mark = reply.array_deferred();
        let live = hash.iter(now_ms).map(|field| put(reply, field)).count();
        reply.finish_map(mark, live);
        Ok(())
    })
}

/// What was written by an increment.
struct Incremented {
    text: Vec<u8>,
    due_ms: Option<u64>,
    was_volatile: bool,
    outcome: FieldSet,
}

fn increment(
    ctx: &mut Ctx<'_, '_>,
    key: &[u8],
    name: &[u8],
    event: &'static str,
    add: impl FnOnce(Option<Element<'_>>) -> Result<Vec<u8>, CommandError>,
) -> Result<Incremented, CommandError> {
    let now_ms = ctx.fields_now();
    let edited = ctx.edit_or_create(key, |hash: &mut Hash, cx| {
        let text = add(hash.get(name, now_ms))?;
        let was_volatile = hash.is_volatile();
        let due_ms = if was_volatile { hash.due_ms(name, now_ms).flatten() } else { None };
        let outcome = hash.set(name, &text, FieldTtl::Keep, now_ms, cx.limits);
        Ok(Incremented { text, due_ms, was_volatile, outcome })
    })?;
    let done = edited.result;
    ctx.fields_revived(key, u64::from(done.outcome == FieldSet::Revived));
    ctx.changed(EventClass::HASH, event, key);
    Ok(done)
}

fn hincrby(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[1], args[2]);
    let amount = integer(args[3])?;
    let mut sum = 0;
    let done = increment(ctx, key, name, "hincrby", |value| {
        let old = match value {
            None => 0,
            Some(value) => value.as_int().ok_or(CommandError::text("ERR hash value is not an integer"))?,
        };
        sum = old.checked_add(amount).ok_or(CommandError::text("ERR increment or decrement would overflow"))?;
        Ok(IntText::new().format(sum).as_bytes().to_vec())
    })?;
    if done.was_volatile {
        ctx.rewrite_as_field(key, name, &done.text, done.due_ms);
    }
    ctx.reply.int(sum);
    Ok(())
}

/// Logged by its result, so that no replica repeats the arithmetic.
fn hincrbyfloat(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[1], args[2]);
    if is_infinity(args[3]) {
        return Err(CommandError::text("ERR value is NaN or Infinity"));
    }
    let amount = LongDouble::parse(args[3]).ok_or(CommandError::NotFloat)?;
    let done = increment(ctx, key, name, "hincrbyfloat", |value| {
        const NOT_FINITE: CommandError = CommandError::text("ERR increment would produce NaN or Infinity");
        let old = match value {
            None => LongDouble::from_i64(0),
            Some(Element::Int(int)) => LongDouble::from_i64(int),
            Some(Element::Str(text)) => match LongDouble::parse(text) {
                Some(old) => old,
                None if is_infinity(text) => return Err(NOT_FINITE),
                None => return Err(CommandError::text("ERR hash value is not a float")),
            },
        };
        let mut text = Vec::with_capacity(32);
        old.checked_add(amount).ok_or(NOT_FINITE)?.format(&mut text);
        Ok(text)
    })?;
    ctx.rewrite_as_field(key, name, &done.text, done.due_ms);
    ctx.reply.bulk(&done.text);
    Ok(())
}

fn is_infinity(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity")
}

fn hscan(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let now_ms = ctx.fields_now();
    scan_collection(ctx, args, |hash: &Hash, cursor, count, found| {
        let mut text = IntText::new();
        hash.scan(cursor, count, now_ms, &mut |field| {
            if found.key(field.name.as_bytes(&mut text)) {
                found.value(field.value.as_bytes(&mut text));
            }
        })
    })
}

/// HRANDFIELD key [count [WITHVALUES]]
fn hrandfield(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, now_ms) = (args[1], ctx.fields_now());
    let Some(count) = args.get(2) else {
        return ctx.read(key, |hash: Option<&Hash>, reply| {
            match hash.and_then(|hash| hash.random(now_ms)) {
                Some(field) => reply_element(reply, field.name),
                None => reply.null(),
            }
            Ok(())
        });
    };
    let count = integer(count)?;
    if count == i64::MIN {
        return Err(CommandError::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    let with_values = match args[3..] {
        [] => false,
        [word] if is_word(word, "WITHVALUES") => true,
        _ => return Err(CommandError::Syntax),
    };
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CommandError::OutOfRange);
    }
    let bytes_max = usize::try_from(ctx.env.proto_max_bulk_len).unwrap_or(usize::MAX);
    ctx.read(key, |hash: Option<&Hash>, reply| {
        let Some(hash) = hash.filter(|_| count != 0) else {
            reply.array(0);
            return Ok(());
        };
        let mut out = Chosen { reply, with_values, count: 0 };
        let mark = out.reply.array_deferred();
        choose(hash, count, now_ms, bytes_max, &mut out)?;
        let flat = with_values && out.reply.proto() == Proto::Resp2;
        let len = if flat { out.count * 2 } else { out.count };
        out.reply.finish_array(mark, len);
        Ok(())
    })
}

/// The reply of HRANDFIELD as it grows.
struct Chosen<'a> {
    reply: &'a mut ReplyBuf,
    with_values: bool,
    count: usize,
}

impl Chosen<'_> {
    fn put(&mut self, field: Field<'_>) {
        if self.with_values && self.reply.proto() == Proto::Resp3 {
            self.reply.array(2);
        }
        reply_element(self.reply, field.name);
        if self.with_values {
            reply_element(self.reply, field.value);
        }
        self.count += 1;
    }
}

/// A table this many times larger than what is asked for is not gone through.
const SAMPLING_FACTOR: usize = 3;

/// Chooses `count` different fields, or `-count` that may repeat; fewer when most are past due.
fn choose(hash: &Hash, count: i64, now_ms: u64, bytes_max: usize, out: &mut Chosen<'_>) -> Result<(), CommandError> {
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 || count == 1 {
        let start = out.reply.len();
        for _ in 0..wanted {
            let Some(field) = hash.random(now_ms) else { break };
            out.put(field);
            if out.reply.len() - start > bytes_max {
                return Err(CommandError::text("ERR the reply would be larger than proto-max-bulk-len"));
            }
        }
        return Ok(());
    }
    if wanted >= hash.len() {
        hash.iter(now_ms).for_each(|field| out.put(field));
        return Ok(());
    }
    if hash.as_packed().is_some() {
        // In order: each field with the odds that fill the reply exactly.
        let (mut left, mut missing) = (hash.len(), wanted);
        for field in hash.iter(now_ms) {
            if random_below(left) < missing {
                out.put(field);
                missing -= 1;
            }
            left -= 1;
        }
        return Ok(());
    }
    if wanted.saturating_mul(SAMPLING_FACTOR) > hash.len() {
        let mut fields: Vec<Field<'_>> = hash.iter(now_ms).collect();
        for at in 0..wanted.min(fields.len()) {
            let other = at + random_below(fields.len() - at);
            fields.swap(at, other);
            out.put(fields[at]);
        }
        return Ok(());
    }
    let mut chosen = HashSet::with_capacity(wanted);
    for _ in 0..wanted.saturating_mul(10) {
        let Some(field) = hash.random(now_ms) else { break };
        if chosen.insert(field.name.to_vec()) {
            out.put(field);
            if chosen.len() == wanted {
                break;
            }
        }
    }
    Ok(())
}

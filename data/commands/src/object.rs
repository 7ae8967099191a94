// SPDX-License-Identifier: BSD-3-Clause
//! Looking at how a value is stored: OBJECT and MEMORY USAGE. None of them moves the key's access time.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::error::CommandError;
use crate::lookup::{Access, Intent};
use crate::registry::{Row, row};
use pando_keyspace::Meta;
use pando_resp::{Args, ReplyBuf};

pub(crate) const TABLE: &[Row] = &[
    row("object|encoding", encoding),
    row("object|freq", freq),
    row("object|idletime", idletime),
    row("object|refcount", refcount),
    row("object|help", object_help),
    row("memory|usage", memory_usage),
];

/// Facts about a live key; counts as a reader's lookup.
fn meta_of(ctx: &mut Ctx<'_, '_>, key: &[u8]) -> Option<Meta> {
    let found = ctx.with_value(key, Intent::Read, Access::Peek, |value, _| value.is_some());
    found.then(|| ctx.current().meta(key)).flatten()
}

fn encoding(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    match meta_of(ctx, args[2]) {
        Some(meta) => ctx.reply.bulk(meta.encoding.name().as_bytes()),
        None => ctx.reply.null(),
    }
    Ok(())
}

fn freq(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let Some(meta) = meta_of(ctx, args[2]) else {
        ctx.reply.null();
        return Ok(());
    };
    if !ctx.env.lfu {
        return Err(CommandError::text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    ctx.reply.int(i64::from(meta.lfu_freq));
    Ok(())
}

fn idletime(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let Some(meta) = meta_of(ctx, args[2]) else {
        ctx.reply.null();
        return Ok(());
    };
    if ctx.env.lfu {
        return Err(CommandError::text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
             policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    ctx.reply.int(meta.idle_s as i64);
    Ok(())
}

fn refcount(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    match meta_of(ctx, args[2]) {
        // Values are never shared here.
        Some(_) => ctx.reply.int(1),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// MEMORY USAGE key [SAMPLES n]
fn memory_usage(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let mut at = 3;
    while at < args.len() {
        if !is_word(args[at], "SAMPLES") || at + 1 >= args.len() {
            return Err(CommandError::Syntax);
        }
        if integer(args[at + 1])? < 0 {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    match meta_of(ctx, args[2]) {
        Some(meta) => ctx.reply.int(meta.bytes as i64),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// Writes the reply of a HELP subcommand: the head that all share, the lines, and HELP itself.
pub fn reply_help(reply: &mut ReplyBuf, container: &str, lines: &[&str]) {
    reply.array(lines.len() + 3);
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for line in lines {
        reply.simple(line);
    }
    reply.simple("HELP");
    reply.simple("    Print this help.");
}

fn object_help(ctx: &mut Ctx<'_, '_>, _args: Args<'_>) -> Result<(), CommandError> {
    reply_help(
        ctx.reply,
        "OBJECT",
        &[
            "ENCODING <key>",
            "    Return the kind of internal representation used in order to store the value",
            "    associated with a <key>.",
            "FREQ <key>",
            "    Return the access frequency index of the <key>. The returned integer is",
            "    proportional to the logarithm of the recent access frequency of the key.",
            "IDLETIME <key>",
            "    Return the idle time of the <key>, that is the approximated number of",
            "    seconds elapsed since the last access to the key.",
            "REFCOUNT <key>",
            "    Return the number of references of the value associated with the specified",
            "    <key>.",
        ],
    );
    Ok(())
}

// SPDX-License-Identifier: BSD-3-Clause
//! Consumer groups: XGROUP and XACK. Reading is in `stream_read_group.rs`, taking over in `stream_claim.rs`.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::object::reply_help;
use crate::registry::{Row, row};
use crate::stream_ids::{loose_id, shown, strict_id, strict_ids, subcommand_syntax};
use pando_resp::Args;
use pando_values::{Group, Stream};

pub(crate) const TABLE: &[Row] = &[
    row("xgroup|create", create),
    row("xgroup|setid", setid),
    row("xgroup|destroy", destroy),
    row("xgroup|createconsumer", createconsumer),
    row("xgroup|delconsumer", delconsumer),
    row("xgroup|help", help),
    row("xack", xack),
];

const NEEDS_KEY: CommandError = CommandError::text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to \
     create an empty stream automatically.",
);

fn no_group(group: &[u8], key: &[u8]) -> CommandError {
    CommandError::format(format!("NOGROUP No such consumer group '{}' for key name '{}'", shown(group), shown(key)))
}

#[derive(Default)]
struct Options {
    mkstream: bool,
    entries_read: Option<i64>,
}

/// Options of CREATE and SETID.
fn parse(args: Args<'_>, may_create: bool) -> Result<Options, CommandError> {
    let mut options = Options::default();
    let mut at = 5;
    while at < args.len() {
        if may_create && is_word(args[at], "MKSTREAM") {
            options.mkstream = true;
            at += 1;
        } else if is_word(args[at], "ENTRIESREAD") && at + 1 < args.len() {
            let read = integer(args[at + 1])?;
            if read < -1 {
                return Err(CommandError::text("ERR value for ENTRIESREAD must be positive or -1"));
            }
            options.entries_read = (read >= 0).then_some(read);
            at += 2;
        } else {
            return Err(subcommand_syntax(args[0], args[1]));
        }
    }
    Ok(options)
}

/// XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD n]
fn create(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[2], args[3]);
    let options = parse(args, true)?;
    let make = |stream: &mut Stream| {
        if args.len() > 8 {
            return Err(subcommand_syntax(args[0], args[1]));
        }
        let id = if args[4] == b"$" { stream.entries().last_id() } else { strict_id(args[4], 0)? };
        if !stream.create_group(name, Group::new(id, options.entries_read)) {
            return Err(CommandError::text("BUSYGROUP Consumer Group name already exists"));
        }
        Ok(())
    };
    let is_created = if options.mkstream {
        ctx.edit_or_create(key, |stream: &mut Stream, _| make(stream))?.is_created
    } else {
        ctx.edit(key, |stream: &mut Stream, _| make(stream))?.ok_or(NEEDS_KEY)?.is_created
    };
    if is_created {
        ctx.modified(key);
    }
    ctx.dirty(1);
    ctx.notify(EventClass::STREAM, "xgroup-create", key);
    ctx.reply.ok();
    Ok(())
}

/// XGROUP SETID key group id|$ [ENTRIESREAD n]
fn setid(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[2], args[3]);
    let options = parse(args, false)?;
    ctx.edit(key, |stream: &mut Stream, _| {
        let last = stream.entries().last_id();
        let mut group = stream.group_mut(name).ok_or_else(|| no_group(name, key))?;
        if args.len() != 5 && args.len() != 7 {
            return Err(subcommand_syntax(args[0], args[1]));
        }
        group.last_id = if args[4] == b"$" { last } else { loose_id(args[4], 0)? };
        group.entries_read = options.entries_read;
        Ok(())
    })?
    .ok_or(NEEDS_KEY)?;
    ctx.dirty(1);
    ctx.notify(EventClass::STREAM, "xgroup-setid", key);
    ctx.reply.ok();
    Ok(())
}

/// XGROUP DESTROY key group
fn destroy(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[2], args[3]);
    let edited = ctx.edit(key, |stream: &mut Stream, _| Ok(stream.destroy_group(name)))?;
    let is_destroyed = edited.ok_or(NEEDS_KEY)?.result;
    if is_destroyed {
        ctx.dirty(1);
        ctx.notify(EventClass::STREAM, "xgroup-destroy", key);
    }
    ctx.reply.int(i64::from(is_destroyed));
    Ok(())
}

/// XGROUP CREATECONSUMER key group consumer
fn createconsumer(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[2], args[3]);
    let edited = ctx.edit(key, |stream: &mut Stream, cx| {
        let mut group = stream.group_mut(name).ok_or_else(|| no_group(name, key))?;
        Ok(group.create_consumer(args[4], cx.now_ms).is_some())
    })?;
    let is_created = edited.ok_or(NEEDS_KEY)?.result;
    if is_created {
        ctx.dirty(1);
        ctx.notify(EventClass::STREAM, "xgroup-createconsumer", key);
    }
    ctx.reply.int(i64::from(is_created));
    Ok(())
}

/// XGROUP DELCONSUMER key group consumer
fn delconsumer(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[2], args[3]);
    let edited = ctx.edit(key, |stream: &mut Stream, _| {
        let mut group = stream.group_mut(name).ok_or_else(|| no_group(name, key))?;
        Ok(group.delete_consumer(args[4]))
    })?;
    let pending = edited.ok_or(NEEDS_KEY)?.result;
    if pending.is_some() {
        ctx.dirty(1);
        ctx.notify(EventClass::STREAM, "xgroup-delconsumer", key);
    }
    ctx.reply.int(pending.unwrap_or(0) as i64);
    Ok(())
}

/// XACK key group id [id ...]
fn xack(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let (key, name) = (args[1], args[2]);
    let has_group =
        ctx.read(key, |stream: Option<&Stream>, _| Ok(stream.is_some_and(|stream| stream.group(name).is_some())))?;
    if !has_group {
        ctx.reply.int(0);
        return Ok(());
    }
    let ids = strict_ids(&args[3..])?;
    let edited = ctx.edit(key, |stream: &mut Stream, _| {
        let Some(mut group) = stream.group_mut(name) else { return Ok(0) };
        Ok(ids.iter().filter(|id| group.remove_pending(**id)).count())
    })?;
    let acknowledged = edited.map_or(0, |edited| edited.result);
    ctx.dirty(acknowledged as u64);
    ctx.reply.int(acknowledged as i64);
    Ok(())
}

fn help(ctx: &mut Ctx<'_, '_>, _args: Args<'_>) -> Result<(), CommandError> {
    reply_help(
        ctx.reply,
        "XGROUP",
        &[
            "CREATE <key> <groupname> <id|$> [option]",
            "    Create a new consumer group. Options are:",
            "    * MKSTREAM",
            "      Create the empty stream if it does not exist.",
            "    * ENTRIESREAD entries_read",
            "      Set the group's entries_read counter (internal use).",
            "CREATECONSUMER <key> <groupname> <consumer>",
            "    Create a new consumer in the specified group.",
            "DELCONSUMER <key> <groupname> <consumer>",
            "    Remove the specified consumer.",
            "DESTROY <key> <groupname>",
            "    Remove the specified group.",
            "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
            "    Set the current group ID and entries_read counter.",
        ],
    );
    Ok(())
}

// SPDX-License-Identifier: BSD-3-Clause
//! Dropping old entries: XTRIM, and the options that XADD shares with it.
//!
//! What `~` drops depends on how entries lie in nodes, so the log says what came of it: `MAXLEN = <length>` or
//! `MINID = <first id>`.

use crate::args::{integer, is_word};
use crate::context::Ctx;
use crate::effects::EventClass;
use crate::error::CommandError;
use crate::registry::{Row, row};
use crate::stream_ids::{NewId, new_id, strict_id};
use pando_resp::Args;
use pando_values::{Limits, Stream, TrimTo};

pub(crate) const TABLE: &[Row] = &[row("xtrim", xtrim)];

/// Most entries that one `~` without LIMIT drops.
const DEFAULT_LIMIT_MAX: u64 = 1_000_000;

/// Whose options these are.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) enum For {
    Xadd,
    Xtrim,
}

/// How much to drop.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Trim {
    to: TrimTo,
    approximately: bool,
    /// Entries, zero for no limit.
    limit: u64,
    /// Which argument is the length or id.
    arg_at: usize,
}

/// The options in front of an id.
#[derive(Debug)]
pub(crate) struct TrimOptions {
    pub(crate) trim: Option<Trim>,
    pub(crate) no_mkstream: bool,
    pub(crate) id: NewId,
    /// Which argument is the id; past the end when there is none.
    pub(crate) id_at: usize,
}

impl Trim {
    /// Does it and tells how many entries went.
    pub(crate) fn run(&self, stream: &mut Stream) -> u64 {
        stream.trim(self.to, self.approximately, self.limit)
    }

    /// For the log, when it is not exact: the argument to replace (the one before it becomes `=`), and by what.
    pub(crate) fn outcome(&self, stream: &Stream) -> Option<(usize, String)> {
        self.approximately.then(|| {
            let text = match self.to {
                TrimTo::Len(_) => stream.entries().len().to_string(),
                TrimTo::Id(_) => stream.entries().first_stored_id().to_string(),
            };
            (self.arg_at, text)
        })
    }
}

/// Reads the options; for XADD up to and with the id.
pub(crate) fn parse(ctx: &Ctx<'_, '_>, args: Args<'_>, command: For) -> Result<TrimOptions, CommandError> {
    let mut options = TrimOptions { trim: None, no_mkstream: false, id: NewId::Auto, id_at: args.len() };
    let mut limit = None;
    let mut at = 2;
    while at < args.len() {
        let word = args[at];
        let left = args.len() - 1 - at;
        if command == For::Xadd && word == b"*" {
            options.id_at = at;
            break;
        } else if left > 0 && (is_word(word, "MAXLEN") || is_word(word, "MINID")) {
            if options.trim.is_some() {
                return Err(CommandError::text(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            let next = args[at + 1];
            let approximately = left >= 2 && next == b"~";
            at += 1 + usize::from(left >= 2 && (next == b"~" || next == b"="));
            let to = if is_word(word, "MAXLEN") {
                let len = u64::try_from(integer(args[at])?);
                TrimTo::Len(len.map_err(|_| CommandError::text("ERR The MAXLEN argument must be >= 0."))?)
            } else {
                TrimTo::Id(strict_id(args[at], 0)?)
            };
            options.trim = Some(Trim { to, approximately, limit: 0, arg_at: at });
        } else if left > 0 && is_word(word, "LIMIT") {
            at += 1;
            let given = u64::try_from(integer(args[at])?);
            limit = Some(given.map_err(|_| CommandError::text("ERR The LIMIT argument must be >= 0."))?);
        } else if command == For::Xadd && is_word(word, "NOMKSTREAM") {
            options.no_mkstream = true;
        } else if command == For::Xadd {
            options.id = new_id(word)?;
            options.id_at = at;
            break;
        } else {
            return Err(CommandError::Syntax);
        }
        at += 1;
    }
    match &mut options.trim {
        None if limit.unwrap_or(0) > 0 => {
            Err(CommandError::text("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"))
        }
        None if command == For::Xtrim => {
            Err(CommandError::text("ERR syntax error, XTRIM must be called with a trimming strategy"))
        }
        // The log says how much went, so it must not be limited again.
        _ if ctx.env.is_applying => Ok(options),
        // The strategy's `~` is what a limit belongs to, so without a strategy there is no `~` either.
        None if limit.is_some() => Err(LIMIT_WITHOUT_TILDE),
        Some(trim) if limit.is_some() && !trim.approximately => Err(LIMIT_WITHOUT_TILDE),
        Some(trim) if trim.approximately => {
            trim.limit = limit.unwrap_or_else(|| default_limit(&ctx.env.limits));
            Ok(options)
        }
        _ => Ok(options),
    }
}

const LIMIT_WITHOUT_TILDE: CommandError =
    CommandError::text("ERR syntax error, LIMIT cannot be used without the special ~ option");

/// A hundred nodes' worth of entries.
fn default_limit(limits: &Limits) -> u64 {
    match (limits.stream_node_max_entries as u64).saturating_mul(100) {
        0 => 10_000,
        entries => entries.min(DEFAULT_LIMIT_MAX),
    }
}

/// Logs the command with some arguments replaced.
pub(crate) fn rewrite(
    ctx: &mut Ctx<'_, '_>,
    args: Args<'_>,
    trim: Option<&(usize, String)>,
    id: Option<(usize, &[u8])>,
) {
    if !ctx.env.log || (trim.is_none() && id.is_none()) {
        return;
    }
    let mut words = args.to_vec();
    if let Some((at, text)) = trim {
        words[at - 1] = b"=";
        words[*at] = text.as_bytes();
    }
    if let Some((at, text)) = id {
        words[at] = text;
    }
    ctx.rewrite(&words);
}

/// XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT n]
fn xtrim(ctx: &mut Ctx<'_, '_>, args: Args<'_>) -> Result<(), CommandError> {
    let key = args[1];
    let Some(trim) = parse(ctx, args, For::Xtrim)?.trim else { return Err(CommandError::Syntax) };
    let edited = ctx.edit(key, |stream: &mut Stream, _| {
        let removed = trim.run(stream);
        Ok((removed, trim.outcome(stream)))
    })?;
    let Some((removed, outcome)) = edited.map(|edited| edited.result) else {
        ctx.reply.int(0);
        return Ok(());
    };
    if removed > 0 {
        ctx.notify(EventClass::STREAM, "xtrim", key);
        rewrite(ctx, args, outcome.as_ref(), None);
        ctx.modified(key);
        ctx.dirty(removed);
    }
    ctx.reply.int(removed as i64);
    Ok(())
}

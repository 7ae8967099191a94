// SPDX-License-Identifier: BSD-3-Clause
//! SHUTDOWN and LASTSAVE. There is nothing to save yet, so SAVE and NOSAVE end the same way. `crate::ending` does it.

use super::{Row, server_of};
use crate::ending::EndFlags;
use pando_commands::CommandError;
use pando_resp::Args;
use pando_session::{Next, SessionCx, Suspend};
use std::sync::atomic::Ordering::Relaxed;

pub(super) const TABLE: &[Row] = &[("shutdown", shutdown), ("lastsave", last_save)];

fn shutdown(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let (mut save, mut no_save, mut abort) = (false, false, false);
    let mut flags = EndFlags::default();
    for option in &args[1..] {
        match option.to_ascii_lowercase().as_slice() {
            b"save" => save = true,
            b"nosave" => no_save = true,
            b"now" => flags.now = true,
            b"force" => flags.force = true,
            b"safe" => flags.safe = true,
            b"failover" => flags.failover = true,
            b"abort" => abort = true,
            _ => return Err(CommandError::Syntax),
        }
    }
    if (save && no_save) || (abort && args.len() > 2) {
        return Err(CommandError::Syntax);
    }
    let server = server_of(cx)?;
    // Outside of a cluster Valkey has no such option at all; where there is nobody to hand over to, neither has Pando.
    if flags.failover && server.cluster.get().is_none() && server.replication.status().replicas.is_empty() {
        return Err(CommandError::text("ERR SHUTDOWN FAILOVER is only supported in cluster mode."));
    }
    if abort {
        if !server.ending.abort() {
            return Err(CommandError::text("ERR No shutdown in progress."));
        }
        tracing::info!("Shutdown manually aborted.");
        cx.reply.ok();
        return Ok(Next::Continue);
    }
    if cx.in_exec {
        if !flags.now {
            let line = "ERR SHUTDOWN without NOW or ABORT isn't allowed for DENY BLOCKING client";
            return Err(CommandError::text(line));
        }
        server.ending.request(flags);
        return Ok(Next::Close);
    }
    // The client learns of it by the end of its connection, or by an error if it is called off.
    let (worker, client) = (cx.session.shared.worker.load(Relaxed), cx.session.shared.id);
    let ticket = server.ending.request_by(flags, worker, client);
    Ok(Next::Suspend(Suspend::Async(ticket)))
}

fn last_save(cx: &mut SessionCx<'_>, _: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    cx.reply.int(server.started_unix_s as i64);
    Ok(Next::Continue)
}

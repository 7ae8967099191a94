// SPDX-License-Identifier: BSD-3-Clause
//! SHUTDOWN and LASTSAVE. There is nothing to save yet, so SAVE and NOSAVE end the same way.

use super::{Row, server_of};
use pando_commands::CommandError;
use pando_resp::Args;
use pando_session::{Next, SessionCx};

pub(super) const TABLE: &[Row] = &[("shutdown", shutdown), ("lastsave", last_save)];

fn shutdown(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let (mut save, mut no_save, mut abort) = (false, false, false);
    for option in &args[1..] {
        match option.to_ascii_lowercase().as_slice() {
            b"save" => save = true,
            b"nosave" => no_save = true,
            b"now" | b"force" | b"safe" | b"failover" => {}
            b"abort" => abort = true,
            _ => return Err(CommandError::Syntax),
        }
    }
    if (save && no_save) || (abort && args.len() > 2) {
        return Err(CommandError::Syntax);
    }
    if abort {
        return Err(CommandError::text("ERR No shutdown in progress."));
    }
    let server = server_of(cx)?;
    server.ending.request("User requested shutdown...");
    // The client learns of it by the end of its connection.
    Ok(Next::Close)
}

fn last_save(cx: &mut SessionCx<'_>, _: Args<'_>) -> Result<Next, CommandError> {
    let server = server_of(cx)?;
    cx.reply.int(server.started_unix_s as i64);
    Ok(Next::Continue)
}

// SPDX-License-Identifier: BSD-3-Clause
//! What a session-level command may touch.

use crate::engine::Engine;
use crate::next::Next;
use crate::scratch::WorkerScratch;
use crate::session::Session;
use pando_commands::{CommandError, CommandSpec};
use pando_resp::{Args, ReplyBuf};

/// A command of the session or server layer. The reply is in `cx.reply` when it returns `Ok`; on
/// `Err` what it wrote is removed. Runs without slot locks, inside EXEC too.
pub type SessionFn = fn(&mut SessionCx<'_>, Args<'_>) -> Result<Next, CommandError>;

/// See the head of this file.
pub struct SessionCx<'a> {
    /// The shared state.
    pub engine: &'a Engine,
    /// The client.
    pub session: &'a mut Session,
    /// The worker that runs it.
    pub worker: &'a mut WorkerScratch,
    /// Where the reply goes.
    pub reply: &'a mut ReplyBuf,
    /// The command.
    pub spec: &'static CommandSpec,
    /// Runs as a part of EXEC: it must not suspend.
    pub in_exec: bool,
}

impl SessionCx<'_> {
    /// Writes an error line (code first) that is not the end of the command, and counts it.
    pub fn error(&mut self, line: &str) {
        self.reply.error(line);
        self.engine.stats.count_error(line.as_bytes());
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! WAIT: until enough replicas have acknowledged the client's last write. WAITAOF: until they have it in their files; as
//! this node has no such file, and neither do replicas of its kind, nobody ever acknowledges that.

use crate::context::{SessionCx, SessionFn};
use crate::engine::Engine;
use crate::gate::{Role, boot_ms};
use crate::next::{Next, Suspend};
use crate::session::Session;
use pando_commands::{CommandError, timeout_of_ms};
use pando_resp::{Args, ReplyBuf, num};
use std::sync::atomic::Ordering::Relaxed;

pub(crate) const TABLE: &[(&str, SessionFn)] = &[("wait", wait), ("waitaof", waitaof)];

fn wait(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    if cx.engine.gate.role() == Role::Replica {
        return Err(CommandError::text(
            "ERR WAIT cannot be used with replica instances. Please also note that writes to replicas are just local and \
             are not propagated.",
        ));
    }
    let replicas = num::parse_i64(args[1]).ok_or(CommandError::NotInteger)?;
    let timeout = parse_timeout_ms(args[2], cx.worker.now_ms())?;
    let offset = cx.session.last_write_offset;
    let acked = cx.engine.acks.count(offset);
    if acked as i64 >= replicas || cx.in_exec {
        cx.reply.int(acked as i64);
        return Ok(Next::Continue);
    }
    Ok(suspend(cx, replicas as usize, offset, false, timeout))
}

fn suspend(cx: &mut SessionCx<'_>, replicas: usize, offset: u64, in_files: bool, timeout: u64) -> Next {
    cx.engine.acks.waiting.fetch_add(1, Relaxed);
    cx.session.shared.is_blocked.store(true, Relaxed);
    if let Some(host) = cx.engine.host.get() {
        host.request_acks();
    }
    let deadline_boot_ms = (timeout > 0).then(|| boot_ms().saturating_add(timeout));
    Next::Suspend(Suspend::Wait { replicas, offset, in_files, deadline_boot_ms })
}

/// WAITAOF numlocal numreplicas timeout
fn waitaof(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let local = num::parse_i64(args[1]).ok_or(CommandError::NotInteger)?;
    if !(0..=1).contains(&local) {
        return Err(CommandError::text("ERR value is out of range, value must between 0 and 1"));
    }
    let replicas = num::parse_i64(args[2]).and_then(|count| usize::try_from(count).ok());
    let replicas = replicas.ok_or(CommandError::MustBePositive)?;
    let timeout = parse_timeout_ms(args[3], cx.worker.now_ms())?;
    if cx.engine.gate.role() == Role::Replica {
        return Err(CommandError::text(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local \
             and are not propagated.",
        ));
    }
    if local > 0 {
        return Err(CommandError::text("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."));
    }
    if replicas == 0 || cx.in_exec {
        reply_files(cx.reply);
        return Ok(Next::Continue);
    }
    Ok(suspend(cx, replicas, cx.session.last_write_offset, true, timeout))
}

/// Nobody has it in a file, here or at a replica.
fn reply_files(out: &mut ReplyBuf) {
    out.array(2);
    out.int(0);
    out.int(0);
}

/// A timeout argument in milliseconds; 0 means none.
pub(crate) fn parse_timeout_ms(text: &[u8], now_ms: u64) -> Result<u64, CommandError> {
    Ok(timeout_of_ms(text, now_ms)?.unwrap_or(0))
}

impl Session {
    /// Looks at a suspended WAIT. If it is over (enough acknowledgements, or `gives_up`: deadline or
    /// CLIENT UNBLOCK), writes the reply and returns true: the client goes on.
    pub fn finish_wait(&mut self, engine: &Engine, wait: &Suspend, gives_up: bool, out: &mut ReplyBuf) -> bool {
        let Suspend::Wait { replicas, offset, in_files, deadline_boot_ms } = wait else { return false };
        let acked = if *in_files { 0 } else { engine.acks.count(*offset) };
        if acked < *replicas && !gives_up && deadline_boot_ms.is_none_or(|deadline| boot_ms() < deadline) {
            return false;
        }
        if *in_files {
            reply_files(out);
        } else {
            out.int(acked as i64);
        }
        self.abandon_wait(engine);
        true
    }

    /// The suspended WAIT ends without a reply of its own: the connection closes, or the server
    /// wrote an error (CLIENT UNBLOCK ... ERROR).
    pub fn abandon_wait(&mut self, engine: &Engine) {
        if self.shared.is_blocked.swap(false, Relaxed) {
            engine.acks.waiting.fetch_sub(1, Relaxed);
        }
    }
}

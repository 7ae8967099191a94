// SPDX-License-Identifier: BSD-3-Clause
//! Executing what comes from a primary's stream or from a file: no checks of role, lease, password
//! or memory, no replies, nothing appended to the log (the caller relays the stream itself).
//!
//! WATCH and keyspace events happen as for a client's command.

use crate::engine::Engine;
use crate::execute::{LockScope, announce, count_effects, lock, lock_scope};
use crate::scratch::WorkerScratch;
use pando_commands::{Ctx, DataFn, Exec, Lookup, unknown_command_error};
use pando_keyspace::{DbIndex, HashedKey, LockedSlots};
use pando_resp::{Args, Proto, ReplyBuf, num};

/// Why a command of a stream could not be executed: the stream and we disagree, which the caller
/// logs; the keyspace is as it was before the command.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct ApplyError {
    /// The error line, code first.
    pub line: String,
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for ApplyError {}

/// Position in one stream: its database, and a transaction that is not complete yet.
pub struct ApplySession {
    /// The database that the stream selected.
    pub db: DbIndex,
    scratch: WorkerScratch,
    reply: ReplyBuf,
    multi: Option<Vec<Vec<Vec<u8>>>>,
}

impl ApplySession {
    /// A stream that starts in database 0.
    pub fn new(engine: &Engine) -> Self {
        Self { db: 0, scratch: WorkerScratch::new(engine), reply: ReplyBuf::new(Proto::Resp3), multi: None }
    }

    /// Whether a MULTI is open: nothing of it was executed yet.
    pub fn in_transaction(&self) -> bool {
        self.multi.is_some()
    }

    /// Forgets an open MULTI and the selected database: the stream starts anew.
    pub fn reset(&mut self) {
        self.db = 0;
        self.multi = None;
    }

    /// Stops the clock at a time that the stream carries.
    pub fn freeze_time(&mut self, now_ms: u64) {
        self.scratch.freeze_time(now_ms);
    }
}

impl Engine {
    /// Executes one command of a stream.
    pub fn apply(&self, apply: &mut ApplySession, args: Args<'_>) -> Result<(), ApplyError> {
        let Some(name) = args.first() else { return Ok(()) };
        if name.eq_ignore_ascii_case(b"exec") {
            return match apply.multi.take() {
                Some(queue) => self.apply_transaction(apply, &queue),
                None => Err(ApplyError { line: "ERR EXEC without MULTI".to_owned() }),
            };
        }
        if name.eq_ignore_ascii_case(b"multi") {
            apply.multi = Some(Vec::new());
            return Ok(());
        }
        if let Some(queue) = &mut apply.multi {
            queue.push(args.iter().map(|arg| arg.to_vec()).collect());
            return Ok(());
        }
        if self.apply_stream_command(apply, args)? {
            return Ok(());
        }
        let run = self.find_data(args)?;
        apply.scratch.refresh_time();
        apply.scratch.slots.clear();
        let w = &mut apply.scratch;
        let scope = self.apply_scope(w, args);
        let mut slots = std::mem::take(&mut w.slots);
        let mut locked = lock(&self.keyspace, scope, &mut slots);
        let result = self.apply_locked(apply, &mut locked, run, args);
        drop(locked);
        apply.scratch.slots = slots;
        self.drop_later(std::mem::take(&mut apply.scratch.effects.garbage));
        result
    }

    fn apply_scope(&self, w: &mut WorkerScratch, args: Args<'_>) -> LockScope {
        match self.registry.lookup(args) {
            Lookup::Found(spec, _) => lock_scope(spec, args, &HashedKey::NONE, &mut w.keys, &mut w.slots, false),
            _ => LockScope::Listed,
        }
    }

    /// SELECT, PUBLISH and what only keeps the link alive; true if it was one of them.
    fn apply_stream_command(&self, apply: &mut ApplySession, args: Args<'_>) -> Result<bool, ApplyError> {
        match (args[0].to_ascii_lowercase().as_slice(), &args[1..]) {
            (b"select", [db]) => {
                let databases = apply.scratch.settings().databases;
                let db = num::parse_i64(db).and_then(|db| u16::try_from(db).ok()).filter(|db| *db < databases);
                apply.db = db.ok_or_else(|| ApplyError { line: "ERR DB index is out of range".to_owned() })?;
            }
            (b"publish", [channel, message]) => {
                self.deliver(channel, message, false);
            }
            (b"spublish", [channel, message]) => {
                self.deliver(channel, message, true);
            }
            (b"ping" | b"replconf", _) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn find_data(&self, args: Args<'_>) -> Result<(u16, DataFn), ApplyError> {
        match self.registry.lookup(args) {
            Lookup::Found(spec, Exec::Data(run)) => Ok((spec.id, run)),
            Lookup::Found(spec, Exec::Session(_)) => {
                Err(ApplyError { line: format!("ERR '{}' in a stream of writes", spec.name) })
            }
            Lookup::WrongArity(spec) => {
                Err(ApplyError { line: format!("ERR wrong number of arguments for '{}' command", spec.name) })
            }
            Lookup::UnknownCommand | Lookup::UnknownSubcommand(_) => {
                Err(ApplyError { line: unknown_command_error(args) })
            }
        }
    }

    fn apply_transaction(&self, apply: &mut ApplySession, queue: &[Vec<Vec<u8>>]) -> Result<(), ApplyError> {
        apply.scratch.refresh_time();
        apply.scratch.slots.clear();
        let mut scope = LockScope::Listed;
        let commands: Vec<Vec<&[u8]>> = queue.iter().map(|args| args.iter().map(Vec::as_slice).collect()).collect();
        for args in &commands {
            if let Lookup::Found(spec, Exec::Data(_)) = self.registry.lookup(args) {
                let w = &mut apply.scratch;
                scope = scope.max(lock_scope(spec, args, &HashedKey::NONE, &mut w.keys, &mut w.slots, true));
            }
        }
        let mut slots = std::mem::take(&mut apply.scratch.slots);
        let mut locked = lock(&self.keyspace, scope, &mut slots);
        let mut first_error = Ok(());
        let mut garbage = Vec::new();
        for args in &commands {
            let result = match self.apply_stream_command(apply, args) {
                Ok(true) => Ok(()),
                Ok(false) => self.find_data(args).and_then(|run| self.apply_locked(apply, &mut locked, run, args)),
                Err(error) => Err(error),
            };
            garbage.append(&mut apply.scratch.effects.garbage);
            first_error = first_error.and(result);
        }
        drop(locked);
        apply.scratch.slots = slots;
        self.drop_later(garbage);
        first_error
    }

    fn apply_locked(
        &self,
        apply: &mut ApplySession,
        locked: &mut LockedSlots<'_>,
        (id, run): (u16, DataFn),
        args: Args<'_>,
    ) -> Result<(), ApplyError> {
        let w = &mut apply.scratch;
        let now_ms = w.now_ms();
        w.effects.clear();
        w.refresh_env(false, false);
        w.env.is_applying = true;
        w.env.record_modified = self.watchers.any();
        // The primary decides when keys go: to a replica none is past due while it executes the log.
        locked.set_now(0);
        apply.reply.clear();
        let mut ctx =
            Ctx { slots: locked, db: apply.db, reply: &mut apply.reply, effects: &mut w.effects, now_ms, env: &w.env };
        let result = run(&mut ctx, args);
        // INFO commandstats of a replica shows what its primary sent.
        w.stats.commands[usize::from(id)].calls.add(1);
        w.stats.total_commands.add(1);
        count_effects(w);
        announce(self, w, locked);
        result.map_err(|error| ApplyError { line: error.to_string() })
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! EXEC locks the slots of everything that was queued and watched, looks at the watches, runs all,
//! and appends the effects to the log as one record. Commands of the server layer may take locks
//! themselves: around them the locks are released, which also ends one log record and begins another.

use crate::context::{SessionCx, SessionFn};
use crate::engine::Engine;
use crate::execute::{LockScope, LogBatch, announce, count_effects, lock, lock_scope, request_bytes};
use crate::next::Next;
use crate::redirect::Route;
use crate::scratch::WorkerScratch;
use crate::serve::serve_ready;
use crate::session::Session;
use pando_commands::{CommandError, CommandSpec, Exec, Flags, KeyVec};
use pando_keyspace::HashedKey;
use pando_keyspace::SlotUsage;
use pando_resp::{Args, ReplyBuf, encode_command};
use smallvec::SmallVec;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) const TABLE: &[(&str, SessionFn)] =
    &[("multi", multi), ("exec", exec), ("discard", discard), ("watch", watch), ("unwatch", unwatch)];

/// One queued command with its own copy of the arguments.
struct Queued {
    spec: &'static CommandSpec,
    exec: Exec,
    bytes: Box<[u8]>,
    ends: Box<[usize]>,
}

type ArgList<'a> = SmallVec<[&'a [u8]; 8]>;

impl Queued {
    fn new(spec: &'static CommandSpec, exec: Exec, args: Args<'_>) -> Self {
        let mut end = 0;
        let ends = args
            .iter()
            .map(|arg| {
                end += arg.len();
                end
            })
            .collect();
        Self { spec, exec, bytes: args.concat().into(), ends }
    }

    fn args(&self) -> ArgList<'_> {
        let mut from = 0;
        self.ends
            .iter()
            .map(|&to| {
                let arg = &self.bytes[from..to];
                from = to;
                arg
            })
            .collect()
    }
}

/// An open MULTI.
pub(crate) struct Transaction {
    queue: Vec<Queued>,
    /// A command was refused: EXEC will answer EXECABORT.
    is_spoiled: bool,
    pub(crate) any_flags: Flags,
    pub(crate) all_flags: Flags,
    /// Records of commands that log themselves (PUBLISH), while EXEC runs.
    own_records: Vec<u8>,
}

impl Transaction {
    fn new() -> Self {
        Self {
            queue: Vec::new(),
            is_spoiled: false,
            any_flags: Flags(0),
            all_flags: Flags(u64::MAX),
            own_records: Vec::new(),
        }
    }
}

fn multi(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    cx.session.transaction = Some(Transaction::new());
    cx.session.shared.multi.store(0, Relaxed);
    cx.reply.ok();
    Ok(Next::Continue)
}

/// Never called: dispatch runs [`Session::exec`], which needs more than a `SessionCx`.
fn exec(_cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    Err(CommandError::text("ERR EXEC without MULTI"))
}

fn discard(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    if cx.session.transaction.is_none() {
        return Err(CommandError::text("ERR DISCARD without MULTI"));
    }
    cx.session.end_transaction(cx.engine);
    cx.reply.ok();
    Ok(Next::Continue)
}

fn watch(cx: &mut SessionCx<'_>, args: Args<'_>) -> Result<Next, CommandError> {
    let now_ms = cx.worker.now_ms();
    cx.session.watch(cx.engine, now_ms, &args[1..])?;
    cx.reply.ok();
    Ok(Next::Continue)
}

fn unwatch(cx: &mut SessionCx<'_>, _args: Args<'_>) -> Result<Next, CommandError> {
    // Within EXEC the watches ended before the first command ran.
    cx.session.unwatch_all(cx.engine);
    cx.reply.ok();
    Ok(Next::Continue)
}

impl Session {
    pub(crate) fn queue(&mut self, spec: &'static CommandSpec, exec: Exec, args: Args<'_>) {
        let Some(transaction) = &mut self.transaction else { return };
        // EXEC will not run a spoiled transaction: keep no memory for it.
        if transaction.is_spoiled {
            return;
        }
        transaction.any_flags = transaction.any_flags.with(spec.flags);
        transaction.all_flags = Flags(transaction.all_flags.0 & spec.flags.0);
        let queued = Queued::new(spec, exec, args);
        let bytes = queued.bytes.len() + queued.ends.len() * 8 + size_of::<Queued>();
        transaction.queue.push(queued);
        self.shared.multi.store(transaction.queue.len() as i32, Relaxed);
        self.shared.multi_bytes.store(self.shared.multi_bytes.load(Relaxed) + bytes as u64, Relaxed);
    }

    pub(crate) fn spoil_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.is_spoiled = true;
            self.shared.is_dirty_exec.store(true, Relaxed);
        }
    }

    /// Ends a transaction without running it, and the watches with it.
    pub(crate) fn end_transaction(&mut self, engine: &Engine) {
        self.discard_transaction();
        self.unwatch_all(engine);
    }

    pub(crate) fn discard_transaction(&mut self) -> Option<Transaction> {
        self.shared.multi.store(-1, Relaxed);
        self.shared.multi_bytes.store(0, Relaxed);
        self.shared.is_dirty_exec.store(false, Relaxed);
        self.transaction.take()
    }

    /// The keys of all queued commands, for the cluster's checks at EXEC.
    pub(crate) fn route_of_queue(&self, route: &mut Route, keys: &mut KeyVec) {
        for queued in self.transaction.iter().flat_map(|transaction| &transaction.queue) {
            route.add_command(queued.spec, &queued.args(), &HashedKey::NONE, keys);
        }
    }

    /// A command logs itself (PUBLISH to replicas): at once, or with the transaction that it is in.
    pub(crate) fn log_own(&mut self, engine: &Engine, args: Args<'_>, in_exec: bool) {
        let Some(log) = engine.active_log() else { return };
        let mut record = Vec::new();
        encode_command(&mut record, args);
        match &mut self.transaction {
            Some(transaction) if in_exec => transaction.own_records = record,
            _ => self.last_write_offset = log.append(self.db, &record),
        }
    }

    /// EXEC. `None` if role or cluster changed since `epoch`, before anything was done.
    pub(crate) fn exec(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        spec: &'static CommandSpec,
        epoch: u64,
        out: &mut ReplyBuf,
    ) -> Option<Next> {
        let counters = w.stats.clone();
        let counters = &counters.commands[usize::from(spec.id)];
        let Some(transaction) = &mut self.transaction else {
            counters.calls.add(1);
            counters.failed.add(1);
            return Some(fail(engine, "ERR EXEC without MULTI", out));
        };
        if transaction.is_spoiled {
            counters.calls.add(1);
            counters.failed.add(1);
            self.end_transaction(engine);
            return Some(fail(engine, "EXECABORT Transaction discarded because of previous errors.", out));
        }
        let queue = std::mem::take(&mut transaction.queue);
        let scope = self.collect_slots(w, &queue);
        let mut locked = lock(&engine.keyspace, scope, &mut w.slots);
        if engine.gate.epoch() != epoch {
            drop(locked);
            if let Some(transaction) = &mut self.transaction {
                transaction.queue = queue;
            }
            return None;
        }
        let (began, reply_start) = (w.last, out.len());
        counters.calls.add(1);
        w.stats.total_commands.add(1);
        locked.set_now(w.now_ms());
        let is_broken = self.watching.as_ref().is_some_and(|set| set.is_broken(&mut locked));
        self.unwatch_all_locked(engine, &mut locked);
        if is_broken {
            drop(locked);
            self.discard_transaction();
            out.null_array();
            return Some(Next::Continue);
        }
        out.array(queue.len());
        let mut log_bytes = std::mem::take(&mut w.log);
        log_bytes.clear();
        let mut batch = LogBatch { bytes: &mut log_bytes, dbs: None };
        let mut garbage = Vec::new();
        let mut next = Next::Continue;
        for queued in &queue {
            let args = queued.args();
            match queued.exec {
                Exec::Data(run) => {
                    self.call_handler(engine, w, &mut locked, queued.spec, run, &args, false, out);
                    count_effects(w);
                    if engine.active_log().is_some() {
                        w.effects
                            .for_each_record(self.db, &args, &mut w.record, &mut |db, record| batch.add(db, record));
                    }
                    announce(engine, w, &mut locked);
                    garbage.append(&mut w.effects.garbage);
                }
                Exec::Session(id) if engine.session_command(id).keeps_locks => {
                    let after = self.run_session(engine, w, queued.spec, id, &args, true, out);
                    if after != Next::Continue {
                        next = after;
                    }
                    if let Some(transaction) = &mut self.transaction
                        && !transaction.own_records.is_empty()
                    {
                        batch.add(self.db, &std::mem::take(&mut transaction.own_records));
                    }
                }
                Exec::Session(id) => {
                    self.append_batch(engine, w, &mut batch, scope, &mut locked);
                    // Who waits for keys is served when the whole transaction is done.
                    let ready = locked.move_ready();
                    drop(locked);
                    let after = self.run_session(engine, w, queued.spec, id, &args, true, out);
                    if after != Next::Continue {
                        next = after;
                    }
                    let scope = self.collect_slots(w, &queue);
                    locked = lock(&engine.keyspace, scope, &mut w.slots);
                    locked.adopt_ready(ready);
                }
            }
        }
        self.append_batch(engine, w, &mut batch, scope, &mut locked);
        if let (LockScope::Listed, &[slot]) = (scope, w.slots.as_slice())
            && w.settings().cluster_slot_stats
        {
            // As in Valkey with the requests MULTI and EXEC, and the replies to the former and to what was queued.
            let queued = queue.iter().map(|queued| request_bytes(&queued.args())).sum::<u64>();
            let usage = SlotUsage {
                cpu_us: w.ticks.ns(began, w.last) / 1000,
                bytes_in: queued + request_bytes(&[b"MULTI"]) + request_bytes(&[b"EXEC"]),
                bytes_out: (out.len() - reply_start + b"+OK\r\n".len() + queue.len() * b"+QUEUED\r\n".len()) as u64,
            };
            locked.add_usage(slot, usage);
        }
        w.log = log_bytes;
        serve_ready(engine, w, &mut locked, &mut garbage);
        drop(locked);
        engine.drop_later(garbage);
        self.discard_transaction();
        counters.nanoseconds.add(w.ticks.ns(began, w.last));
        Some(match next {
            // A transaction never blocks; its handlers know from `in_exec`.
            Next::Suspend(_) | Next::HandOff(_) => Next::Continue,
            other => other,
        })
    }

    fn append_batch(
        &mut self,
        engine: &Engine,
        w: &WorkerScratch,
        batch: &mut LogBatch<'_>,
        scope: LockScope,
        locked: &mut pando_keyspace::LockedSlots<'_>,
    ) {
        let Some(log) = engine.active_log() else { return };
        let offset = batch.append(log);
        if offset == 0 {
            return;
        }
        self.last_write_offset = offset;
        if scope == LockScope::Listed {
            for slot in &w.slots {
                locked.set_write_offset(*slot, offset);
            }
        }
    }

    /// Puts the slots of all queued commands and watched keys in `w.slots`.
    fn collect_slots(&self, w: &mut WorkerScratch, queue: &[Queued]) -> LockScope {
        w.slots.clear();
        let mut scope = LockScope::Listed;
        for queued in queue {
            if let Exec::Data(_) = queued.exec {
                scope = scope.max(lock_scope(
                    queued.spec,
                    &queued.args(),
                    &HashedKey::NONE,
                    &mut w.keys,
                    &mut w.slots,
                    true,
                ));
            }
        }
        if let Some(set) = &self.watching {
            set.slots(&mut w.slots);
        }
        scope
    }
}

fn fail(engine: &Engine, line: &str, out: &mut ReplyBuf) -> Next {
    out.error(line);
    engine.stats.count_error(line.as_bytes());
    Next::Continue
}

// SPDX-License-Identifier: BSD-3-Clause
//! Running one command: lock its slots, call the handler, and settle what it did before the locks
//! are released: log, WATCH, keyspace events, counters.

use crate::context::SessionCx;
use crate::engine::Engine;
use crate::gate::Role;
use crate::next::Next;
use crate::ports::LogSink;
use crate::scratch::WorkerScratch;
use crate::serve::serve_ready;
use crate::session::Session;
use pando_commands::{
    CommandError, CommandSpec, Ctx, DataFn, Event, EventClass, Flags, KeyFlags, KeyVec, SessionCommandId, keys_of,
    reads_unnamed_keys, sole_key, touches_all,
};
use pando_keyspace::{DbIndex, Expired, HashedKey, Keyspace, LockedSlots, SlotUsage};
use pando_resp::{Args, ReplyBuf, encode_command};
use pando_topology::Slot;

/// Which locks a command or a transaction needs.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) enum LockScope {
    /// The slots that were listed.
    Listed,
    /// All of them.
    All,
}

/// Appends the slots of the command's keys. A command that reads the whole keyspace takes slots as
/// it goes; one that changes the whole keyspace, or reads it within a transaction, takes all.
pub(crate) fn lock_scope(
    spec: &CommandSpec,
    args: Args<'_>,
    hashed: &HashedKey,
    keys: &mut KeyVec,
    slots: &mut Vec<Slot>,
    in_exec: bool,
) -> LockScope {
    if touches_all(spec) {
        return if in_exec || spec.flags.has(Flags::WRITE) { LockScope::All } else { LockScope::Listed };
    }
    if let Some(index) = sole_key(spec) {
        slots.push(hashed.slot_of(args[index]));
        return LockScope::Listed;
    }
    keys.clear();
    let is_known = keys_of(spec, args, keys).is_ok();
    let is_complete = spec.key_specs.len() < 2
        || !(spec.key_specs.iter().any(|keys| keys.flags.has(KeyFlags::INCOMPLETE)) || reads_unnamed_keys(spec, args));
    if is_known && is_complete {
        slots.extend(keys.iter().map(|key| hashed.slot_of(args[key.index as usize])));
        return LockScope::Listed;
    }
    // Keys that only the handler can tell: alone it takes them as it goes, in EXEC all are there.
    if in_exec { LockScope::All } else { LockScope::Listed }
}

pub(crate) fn lock<'k>(keyspace: &'k Keyspace, scope: LockScope, slots: &mut Vec<Slot>) -> LockedSlots<'k> {
    match (scope, slots.as_slice()) {
        (LockScope::All, _) => keyspace.lock_all(),
        (LockScope::Listed, []) => keyspace.lock_none(),
        (LockScope::Listed, [slot]) => keyspace.lock_one(*slot),
        (LockScope::Listed, _) => {
            slots.sort_unstable();
            slots.dedup();
            match slots.as_slice() {
                [slot] => keyspace.lock_one(*slot),
                many => keyspace.lock(many),
            }
        }
    }
}

impl Session {
    /// Runs a command on keys. `None` if role or cluster changed since `epoch`, before anything was
    /// done.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn run_data(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        spec: &'static CommandSpec,
        run: DataFn,
        args: Args<'_>,
        epoch: u64,
        out: &mut ReplyBuf,
    ) -> Option<Next> {
        w.slots.clear();
        let scope = match w.routed.take() {
            Some(slot) => {
                w.slots.push(slot);
                LockScope::Listed
            }
            None => lock_scope(spec, args, &w.hashed, &mut w.keys, &mut w.slots, false),
        };
        self.prepare(engine, w, true);
        let mut locked = lock(&engine.keyspace, scope, &mut w.slots);
        if engine.gate.epoch() != epoch {
            return None;
        }
        let (before, reply_start) = (w.last, out.len());
        locked.set_hashed(w.hashed);
        let result = self.run_handler(engine, w, &mut locked, run, args, out);
        // A command that waits is counted when it was served.
        let mut outcome = w.effects.block.is_none().then_some(result);
        self.settle(engine, w, &mut locked, args);
        let mut next = Next::Continue;
        if let Some(block) = w.effects.block.take() {
            next = self.suspend_on(engine, w, &mut locked, spec, run, args, *block);
        }
        let usage_slot = if w.settings().cluster_slot_stats && w.slots.len() == 1 { Some(w.slots[0]) } else { None };
        // Others wait for the slot: clock and counters come after its release, unless they are needed before.
        let is_counted_late = usage_slot.is_none() && outcome.is_some() && !locked.has_ready();
        if !is_counted_late {
            count_effects(w);
            if let Some(result) = outcome.take() {
                finish_call(engine, w, spec, result, reply_start, out);
            }
        }
        if let Some(slot) = usage_slot {
            locked.add_usage(
                slot,
                SlotUsage {
                    cpu_us: w.ticks.ns(before, w.last) / 1000,
                    bytes_in: request_bytes(args),
                    bytes_out: (out.len() - reply_start) as u64,
                },
            );
        }
        let mut garbage = std::mem::take(&mut w.effects.garbage);
        serve_ready(engine, w, &mut locked, &mut garbage);
        drop(locked);
        if let Some(result) = outcome {
            count_effects(w);
            finish_call(engine, w, spec, result, reply_start, out);
        }
        if !garbage.is_empty() {
            engine.drop_later(garbage);
        }
        Some(next)
    }

    /// Calls the handler with the locks held and counts the call; fills `w.effects`, which the caller settles.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn call_handler(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        locked: &mut LockedSlots<'_>,
        spec: &'static CommandSpec,
        run: DataFn,
        args: Args<'_>,
        may_block: bool,
        out: &mut ReplyBuf,
    ) {
        let start = out.len();
        self.prepare(engine, w, may_block);
        let result = self.run_handler(engine, w, locked, run, args, out);
        if w.effects.block.is_none() {
            finish_call(engine, w, spec, result, start, out);
        }
    }

    /// What `run_handler` needs and what needs no locks. A change of role after it is seen by the epoch.
    #[inline]
    fn prepare(&self, engine: &Engine, w: &mut WorkerScratch, may_block: bool) {
        w.effects.clear();
        w.refresh_env(engine.gate.role() == Role::Primary, self.is_no_touch);
        w.env.keeps_expired = engine.gate.paused().is_some();
        w.env.may_block = may_block;
    }

    #[inline]
    fn run_handler(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        locked: &mut LockedSlots<'_>,
        run: DataFn,
        args: Args<'_>,
        out: &mut ReplyBuf,
    ) -> Result<(), CommandError> {
        let now_ms = w.now_ms();
        // Under the lock: whoever watches a key of these slots registered before we got it.
        w.env.record_modified = engine.watchers.any();
        locked.set_now(now_ms);
        locked.set_no_touch(self.is_no_touch);
        let mut ctx = Ctx { slots: locked, db: self.db, reply: out, effects: &mut w.effects, now_ms, env: &w.env };
        run(&mut ctx, args)
    }

    /// What follows from the command in `w.effects`, under its locks. The caller counts the effects.
    #[inline]
    pub(crate) fn settle(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        locked: &mut LockedSlots<'_>,
        args: Args<'_>,
    ) {
        let offset = append_effects(engine, w, self.db, args);
        if offset > 0 {
            self.last_write_offset = offset;
            for slot in &w.slots {
                locked.set_write_offset(*slot, offset);
            }
        }
        announce(engine, w, locked);
    }

    /// Runs a command of the session or server layer.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn run_session(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        spec: &'static CommandSpec,
        id: SessionCommandId,
        args: Args<'_>,
        in_exec: bool,
        out: &mut ReplyBuf,
    ) -> Next {
        let start = out.len();
        let run = engine.session_command(id).run;
        let mut cx = SessionCx { engine, session: self, worker: w, reply: out, spec, in_exec };
        let (next, result) = match run(&mut cx, args) {
            Ok(next) => (next, Ok(())),
            Err(error) => (Next::Continue, Err(error)),
        };
        finish_call(engine, w, spec, result, start, out);
        next
    }
}

/// Length of the request as RESP.
pub(crate) fn request_bytes(args: Args<'_>) -> u64 {
    let header = |len: usize| 4 + u64::from(len.checked_ilog10().unwrap_or(0));
    header(args.len()) + args.iter().map(|arg| header(arg.len()) + arg.len() as u64 + 2).sum::<u64>()
}

/// Writes the error of a command that failed, and counts the call.
#[inline]
pub(crate) fn finish_call(
    engine: &Engine,
    w: &mut WorkerScratch,
    spec: &CommandSpec,
    result: Result<(), CommandError>,
    start: usize,
    out: &mut ReplyBuf,
) {
    let now = w.ticks.now();
    let counters = &w.stats.commands[usize::from(spec.id)];
    counters.calls.add(1);
    let ns = w.ticks.ns(w.last, now);
    counters.nanoseconds.add(ns);
    if w.tracks_latency {
        counters.latency.record(ns);
    }
    w.stats.total_commands.add(1);
    w.last = now;
    if let Err(error) = result {
        counters.failed.add(1);
        out.truncate(start);
        let line = error.to_string();
        out.error(&line);
        engine.stats.count_error(line.as_bytes());
    }
}

#[inline]
pub(crate) fn count_effects(w: &mut WorkerScratch) {
    let effects = &w.effects;
    if effects.hits + effects.misses + effects.expired + effects.expired_fields + effects.dirty == 0 {
        return;
    }
    w.stats.hits.add(effects.hits);
    w.stats.misses.add(effects.misses);
    w.stats.expired.add(effects.expired);
    w.stats.expired_fields.add(effects.expired_fields);
    w.stats.dirty.add(effects.dirty);
}

/// Appends what the command in `w.effects` did to the log, if anybody reads it. The offset after it, or 0.
#[inline]
pub(crate) fn append_effects(engine: &Engine, w: &mut WorkerScratch, db: DbIndex, args: Args<'_>) -> u64 {
    let Some(log) = engine.active_log() else { return 0 };
    match w.effects.record_count() {
        0 => 0,
        count => append_records(log, &w.effects, count, db, args, &mut w.record, &mut w.log),
    }
}

/// Appends the records of one command; more than one as a transaction of its own, if they belong together.
fn append_records(
    log: &dyn LogSink,
    effects: &pando_commands::Effects,
    count: usize,
    db: DbIndex,
    args: Args<'_>,
    record: &mut Vec<u8>,
    buffer: &mut Vec<u8>,
) -> u64 {
    if count == 1 || !effects.is_one_transaction() {
        let mut offset = 0;
        effects.for_each_record(db, args, record, &mut |db, bytes| offset = log.append(db, bytes));
        return offset;
    }
    buffer.clear();
    let mut batch = LogBatch { bytes: buffer, dbs: None };
    effects.for_each_record(db, args, record, &mut |db, bytes| batch.add(db, bytes));
    batch.append(log)
}

/// Records that go to the log in one append, as one MULTI..EXEC.
pub(crate) struct LogBatch<'a> {
    /// Records; empty until the first one.
    pub bytes: &'a mut Vec<u8>,
    /// Database of the first record, database of the last one, number of records.
    pub dbs: Option<(DbIndex, DbIndex, usize)>,
}

const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

impl LogBatch<'_> {
    pub(crate) fn add(&mut self, db: DbIndex, record: &[u8]) {
        match &mut self.dbs {
            None => self.dbs = Some((db, db, 1)),
            Some((_, current, count)) => {
                *count += 1;
                if *current != db {
                    *current = db;
                    encode_select(self.bytes, db);
                }
            }
        }
        self.bytes.extend_from_slice(record);
    }

    /// Appends what was added and starts over. A single record goes without MULTI. Returns the
    /// offset, or 0 if there was nothing.
    pub(crate) fn append(&mut self, log: &dyn LogSink) -> u64 {
        let Some((first, last, count)) = self.dbs.take() else { return 0 };
        let offset = if count == 1 {
            log.append(first, self.bytes)
        } else {
            self.bytes.extend_from_slice(EXEC);
            log.append_transaction(first, last, self.bytes)
        };
        self.bytes.clear();
        offset
    }
}

fn encode_select(out: &mut Vec<u8>, db: DbIndex) {
    encode_command(out, &[b"SELECT", db.to_string().as_bytes()]);
}

/// Tells watchers and subscribers what the command in `w.effects` changed, and notes in which reign, which cannot end
/// for its slots before they are released.
#[inline]
pub(crate) fn announce(engine: &Engine, w: &mut WorkerScratch, locked: &mut LockedSlots<'_>) {
    if w.effects.dirty + w.effects.expired > 0 && w.wrote.is_none() {
        w.wrote = Some(engine.gate.reign());
    }
    if w.effects.has_modified() && engine.watchers.any() {
        for (db, key) in w.effects.modified() {
            locked.touch_watchers(Slot::of_key(key), db, key);
        }
    }
    if let Some(change) = w.effects.whole
        && engine.watchers.any()
    {
        engine.watchers.whole_changed(change, locked);
    }
    if w.env.notify != EventClass::NONE && !engine.pubsub.is_empty() {
        for event in w.effects.events() {
            notify(engine, w.env.notify, &event);
        }
    }
}

/// Publishes a keyspace event to the subscribers of this node.
fn notify(engine: &Engine, enabled: EventClass, event: &Event<'_>) {
    if !enabled.has(event.class) {
        return;
    }
    if enabled.has(EventClass::KEYSPACE) {
        let mut channel = format!("__keyspace@{}__:", event.db).into_bytes();
        channel.extend_from_slice(event.key);
        engine.deliver(&channel, event.name.as_bytes(), false);
    }
    if enabled.has(EventClass::KEYEVENT) {
        let channel = format!("__keyevent@{}__:{}", event.db, event.name);
        engine.deliver(channel.as_bytes(), event.key, false);
    }
}

impl Engine {
    /// Publishes a keyspace event that did not come from a command (expire cycle, eviction), if
    /// its class is enabled.
    pub fn notify_event(&self, class: EventClass, name: &'static str, db: DbIndex, key: &[u8]) {
        let enabled = self.settings.load().notify_keyspace_events;
        notify(self, enabled, &Event { class, name, db, key });
    }

    /// Something was deleted by the expire cycle of a primary, under its slot's lock: log, watchers, events. The counters
    /// are the caller's.
    pub fn expired(&self, slot: Slot, db: DbIndex, what: Expired<'_>, locked: &mut LockedSlots<'_>) {
        match what {
            Expired::Key(key) => self.key_expired(slot, db, key, locked),
            Expired::Fields { key, names, is_key_removed } => {
                self.fields_expired(slot, db, key, names, is_key_removed, locked);
            }
        }
    }

    /// The log has both the fields and the key that went with the last of them, as Valkey's.
    fn fields_expired(
        &self,
        slot: Slot,
        db: DbIndex,
        key: &[u8],
        names: &[Box<[u8]>],
        is_key_removed: bool,
        locked: &mut LockedSlots<'_>,
    ) {
        if let Some(log) = self.active_log() {
            let mut record = Vec::with_capacity(key.len() + 32 * names.len() + 32);
            let args: Vec<&[u8]> =
                [b"HDEL".as_slice(), key].into_iter().chain(names.iter().map(|name| &**name)).collect();
            encode_command(&mut record, &args);
            let mut buffer = Vec::new();
            let mut batch = LogBatch { bytes: &mut buffer, dbs: None };
            batch.add(db, &record);
            if is_key_removed {
                record.clear();
                encode_command(&mut record, &[self.expire_verb(), key]);
                batch.add(db, &record);
            }
            let offset = batch.append(log);
            locked.set_write_offset(slot, offset);
        }
        if self.watchers.any() {
            locked.touch_watchers(slot, db, key);
        }
        if !self.pubsub.is_empty() {
            self.notify_event(EventClass::EXPIRED, "hexpired", db, key);
            if is_key_removed {
                self.notify_event(EventClass::GENERIC, "del", db, key);
            }
        }
    }

    fn expire_verb(&self) -> &'static [u8] {
        if self.settings.load().lazyfree_lazy_expire { b"UNLINK" } else { b"DEL" }
    }

    fn key_expired(&self, slot: Slot, db: DbIndex, key: &[u8], locked: &mut LockedSlots<'_>) {
        if let Some(log) = self.active_log() {
            let mut record = Vec::with_capacity(key.len() + 32);
            encode_command(&mut record, &[self.expire_verb(), key]);
            let offset = log.append(db, &record);
            locked.set_write_offset(slot, offset);
        }
        if self.watchers.any() {
            locked.touch_watchers(slot, db, key);
        }
        if !self.pubsub.is_empty() {
            self.notify_event(EventClass::EXPIRED, "expired", db, key);
        }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Serving clients that wait for keys (`blocked`): whoever changed a key serves them, oldest first, under its own locks and
//! after its own effects are in the log, as Valkey does after a command or a transaction.
//!
//! One hold of the locks serves a bounded number; the rest is left to a worker ([`Message::ServeSlot`]), and who comes
//! meanwhile lines up behind. A request that needs slots which are not held goes to its own worker ([`Message::Retry`]);
//! those behind it wait for it. Keys that change without a command (an applied stream, expiry, a load) take the way of
//! the rest. Not here: whom the answers go to (`blocked`), the queues (`pando-keyspace`).

use crate::blocked::{Request, Served, is_held_back};
use crate::engine::Engine;
use crate::execute::{announce, append_effects, count_effects, finish_call};
use crate::gate::Role;
use crate::ports::Message;
use crate::scratch::WorkerScratch;
use pando_commands::Ctx;
use pando_keyspace::{Garbage, LockedSlots, ReadyKey, Waiter};
use pando_resp::ReplyBuf;
use pando_topology::Slot;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Waiters that are looked at under one hold of the locks.
const WAITERS_MAX: usize = 128;

/// What became of one waiter.
enum Step {
    /// It was answered, or there is nothing for it.
    Done,
    /// Those behind it must wait.
    Stalled,
    /// It may not be served now.
    HeldBack,
}

/// Whether the caller has looked if writes are held back.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Pass {
    /// A command that was let in: so is what follows from it.
    LetIn,
    /// To be looked at.
    Check,
}

/// Serves the waiters of keys that changed under this guard. Values to free are added to `garbage`.
#[inline]
pub(crate) fn serve_ready(
    engine: &Engine,
    w: &mut WorkerScratch,
    locked: &mut LockedSlots<'_>,
    garbage: &mut Vec<Garbage>,
) {
    if locked.has_ready() {
        serve_all(engine, w, locked, Pass::LetIn, garbage);
    }
}

/// False if writes are held back: the keys stay ready.
#[cold]
fn serve_all(
    engine: &Engine,
    w: &mut WorkerScratch,
    locked: &mut LockedSlots<'_>,
    pass: Pass,
    garbage: &mut Vec<Garbage>,
) -> bool {
    let mut left = WAITERS_MAX;
    locked.set_now(w.now_ms());
    while let Some(mut ready) = locked.take_ready() {
        loop {
            let before = ready.after;
            if left == 0 {
                locked.put_ready(ready);
                return true;
            }
            let Some(waiter) = locked.next_waiter(&mut ready) else { break };
            left -= 1;
            match serve_one(engine, w, locked, pass, &ready, &waiter, garbage) {
                Step::Done => {}
                Step::Stalled => break,
                Step::HeldBack => {
                    locked.put_ready(ReadyKey { after: before, ..ready });
                    return false;
                }
            }
        }
    }
    true
}

fn serve_one(
    engine: &Engine,
    w: &mut WorkerScratch,
    locked: &mut LockedSlots<'_>,
    pass: Pass,
    ready: &ReadyKey,
    waiter: &Arc<Waiter>,
    garbage: &mut Vec<Garbage>,
) -> Step {
    let Some(request) = Request::of(waiter) else { return Step::Done };
    let is_write = request.is_write();
    if is_write && engine.gate.role() == Role::Replica && w.settings().replica_read_only {
        return Step::Done;
    }
    if pass == Pass::Check && is_held_back(engine, is_write) {
        return Step::HeldBack;
    }
    let Some(claim) = waiter.claim() else {
        // Answered through another slot, or given up; its worker has not been here yet.
        locked.unblock(&ready.key, waiter);
        return Step::Done;
    };
    let worker = request.client.worker.load(Relaxed);
    let (client, ticket) = (request.client.id, waiter.ticket);
    if request.needs_all && !request.slots.iter().all(|slot| locked.holds(*slot)) {
        locked.stall_queue(&ready.key, waiter);
        engine.post(worker, Message::Retry { client, ticket });
        return Step::Stalled;
    }
    let mut reply = ReplyBuf::new(request.proto);
    let Some(offset) = execute_waiter(engine, w, locked, waiter, request, &mut reply) else {
        garbage.append(&mut w.effects.garbage);
        return Step::Done;
    };
    claim.finish();
    let wrote = w.effects.dirty > 0;
    garbage.append(&mut w.effects.garbage);
    request.unblock(waiter, locked);
    let is_queued = request.keys.iter().any(|key| !locked.holds(Slot::of_key(key)));
    let reign = engine.gate.reign();
    let bytes = reply.take();
    engine.post(worker, Message::Served(Served { client, ticket, bytes, offset, wrote, reign, is_queued }));
    Step::Done
}

/// Executes the request of a waiter that the caller has claimed, under the locks of some of its keys, and settles what it
/// did. `None` when it goes on waiting; else the log's offset after it (0 if it wrote nothing), and `w.effects` still has
/// what it did.
pub(crate) fn execute_waiter(
    engine: &Engine,
    w: &mut WorkerScratch,
    locked: &mut LockedSlots<'_>,
    waiter: &Waiter,
    request: &Request,
    reply: &mut ReplyBuf,
) -> Option<u64> {
    let now_ms = w.now_ms();
    let start = reply.len();
    w.effects.clear();
    w.refresh_env(engine.gate.role() == Role::Primary, request.no_touch);
    w.env.record_modified = engine.watchers.any();
    w.env.may_block = true;
    w.env.is_woken = true;
    locked.set_now(now_ms);
    locked.set_no_touch(request.no_touch);
    let args: SmallVec<[&[u8]; 8]> = request.args.iter().map(Vec::as_slice).collect();
    let mut ctx = Ctx { slots: locked, db: waiter.db, reply, effects: &mut w.effects, now_ms, env: &w.env };
    let result = (request.run)(&mut ctx, &args);
    let goes_on = w.effects.block.take().is_some() && result.is_ok();
    if !goes_on {
        finish_call(engine, w, request.spec, result, start, reply);
    }
    count_effects(w);
    let offset = append_effects(engine, w, waiter.db, &args);
    if offset > 0 {
        for slot in request.slots.iter().filter(|slot| locked.holds(**slot)).copied().collect::<SmallVec<[Slot; 4]>>() {
            locked.set_write_offset(slot, offset);
        }
    }
    announce(engine, w, locked);
    (!goes_on).then_some(offset)
}

impl Engine {
    /// [`Message::ServeSlot`]: serves who waits for keys that changed in this slot. False if writes are held back: to be
    /// called again when that ends.
    pub fn serve_slot(&self, w: &mut WorkerScratch, slot: Slot) -> bool {
        let mut garbage = Vec::new();
        let mut locked = self.keyspace.lock_one(slot);
        locked.renew_ready(slot);
        let is_done = serve_all(self, w, &mut locked, Pass::Check, &mut garbage);
        if !is_done {
            // Not to be told again at once.
            locked.move_ready();
        }
        drop(locked);
        self.drop_later(garbage);
        // No reply of this thread depends on it.
        w.take_wrote();
        is_done
    }
}

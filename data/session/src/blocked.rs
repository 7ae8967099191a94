// SPDX-License-Identifier: BSD-3-Clause
//! Clients that wait for keys (BLPOP and its like): how one is suspended, and the ways out of it that its own worker takes:
//! an answer from elsewhere, its deadline, CLIENT UNBLOCK, another role or owner of the slot, the end of the connection.
//!
//! ```text
//!   run_data ─ nothing there ─► suspended ── Message::Served ──► answer            (see `serve`)
//!                                  │  │ └──── Message::Retry ───► retry_blocked ─► answer, or goes on waiting
//!                                  │  └────── deadline, Message::Unblock ────────► null or error
//!                                  └───────── Message::Recheck ──────────────────► redirection or error
//! ```
//! Whoever claims the waiter first answers it. Lock order: slots, then one waiter; the worker holds neither when it calls
//! here. Not here: serving (`serve`), timers (apps/server).

use crate::clients::ClientShared;
use crate::cluster_view::Placement;
use crate::engine::Engine;
use crate::gate::{PauseMode, PausePurpose, Role, boot_ms};
use crate::next::{Next, Suspend};
use crate::ports::{ClientId, Message};
use crate::scratch::WorkerScratch;
use crate::serve::{execute_waiter, serve_ready};
use crate::session::Session;
use pando_commands::{Block, CommandSpec, DataFn, Flags, owned_args};
use pando_keyspace::{LockedSlots, Waiter};
use pando_resp::{Args, Proto, ReplyBuf};
use pando_topology::Slot;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const ROLE_CHANGED: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

/// The request of a waiter.
pub(crate) struct Request {
    pub client: Arc<ClientShared>,
    pub spec: &'static CommandSpec,
    pub run: DataFn,
    pub args: Vec<Vec<u8>>,
    /// Distinct.
    pub keys: Vec<Vec<u8>>,
    /// Of all keys of the command, ascending.
    pub slots: Vec<Slot>,
    pub proto: Proto,
    pub no_touch: bool,
    pub needs_all: bool,
}

impl Request {
    pub(crate) fn of(waiter: &Waiter) -> Option<&Request> {
        waiter.request.downcast_ref()
    }

    pub(crate) fn is_write(&self) -> bool {
        self.spec.flags.has(Flags::WRITE)
    }

    /// Takes the waiter out of the queues that are held.
    pub(crate) fn unblock(&self, waiter: &Waiter, locked: &mut LockedSlots<'_>) {
        for key in &self.keys {
            if locked.holds(Slot::of_key(key)) {
                locked.unblock(key, waiter);
            }
        }
    }
}

/// The answer to a suspended client, made on another thread.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Served {
    /// Whom.
    pub client: ClientId,
    /// The ticket of [`Suspend::Blocked`].
    pub ticket: u64,
    /// The reply.
    pub bytes: Vec<u8>,
    /// Log offset after what was written for the client; 0 for none.
    pub(crate) offset: u64,
    /// Something was written: the answer is an acknowledgement.
    pub(crate) wrote: bool,
    /// [`crate::Gate::reign`] when it was.
    pub(crate) reign: u64,
    /// The waiter is still in queues of other slots.
    pub(crate) is_queued: bool,
}

/// What becomes of a suspended client.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Unblocked {
    /// It goes on waiting (or was not waiting for this).
    No,
    /// It has its reply and goes on with its next request.
    Goes {
        /// The reply acknowledges a write of this reign.
        wrote: Option<u64>,
    },
    /// It has its reply and is closed.
    Closes,
    /// Writes are held back: try again when that ends.
    Later,
}

/// Whether what a waiter wants may be executed at this moment.
pub(crate) fn is_held_back(engine: &Engine, is_write: bool) -> bool {
    let paused = match engine.gate.paused() {
        Some(PauseMode::All) => true,
        Some(PauseMode::Write) => is_write,
        None => false,
    };
    paused || (is_write && engine.gate.role() == Role::Primary && !engine.gate.may_write_now())
}

impl Session {
    /// Suspends the client after a handler that called `block`. The slots of all its keys are held.
    #[cold]
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn suspend_on(
        &mut self,
        engine: &Engine,
        w: &WorkerScratch,
        locked: &mut LockedSlots<'_>,
        spec: &'static CommandSpec,
        run: DataFn,
        args: Args<'_>,
        block: Block,
    ) -> Next {
        let mut keys = block.keys;
        let mut slots: Vec<Slot> = w.slots.iter().copied().chain(keys.iter().map(|key| Slot::of_key(key))).collect();
        slots.sort_unstable();
        slots.dedup();
        keys.sort_unstable();
        keys.dedup();
        let request = Request {
            client: self.shared.clone(),
            spec,
            run,
            args: block.args.unwrap_or_else(|| owned_args(args)),
            keys: keys.clone(),
            slots,
            proto: self.shared.proto(),
            no_touch: self.is_no_touch,
            needs_all: block.needs_all,
        };
        let waiter = engine.keyspace.waiter(self.db, block.awaited, block.when_gone, Box::new(request));
        for key in &keys {
            locked.block(key, &waiter);
        }
        let ticket = waiter.ticket;
        let mut shared = self.shared.waiter.lock();
        *shared = Some(waiter.clone());
        self.shared.is_blocked.store(true, Relaxed);
        drop(shared);
        self.waiting = Some(waiter);
        let deadline_boot_ms = block.timeout_ms.map(|timeout| boot_ms().saturating_add(timeout));
        Next::Suspend(Suspend::Blocked { ticket, deadline_boot_ms })
    }

    fn waiting_with(&self, ticket: u64) -> Option<Arc<Waiter>> {
        self.waiting.clone().filter(|waiter| waiter.ticket == ticket)
    }

    /// The client waits no longer; its waiter has been claimed.
    fn stop_waiting(&mut self, engine: &Engine, is_queued: bool) {
        let Some(waiter) = self.waiting.take() else { return };
        self.count_command();
        let mut shared = self.shared.waiter.lock();
        *shared = None;
        self.shared.is_blocked.store(false, Relaxed);
        drop(shared);
        if is_queued && let Some(request) = Request::of(&waiter) {
            request.unblock(&waiter, &mut engine.keyspace.lock(&request.slots));
        }
    }

    /// Ends the wait with what `write` replies, if nobody else has answered.
    fn answer(
        &mut self,
        engine: &Engine,
        w: &WorkerScratch,
        is_error: bool,
        out: &mut ReplyBuf,
        write: impl FnOnce(&mut ReplyBuf),
    ) {
        if let Some(request) = self.waiting.as_deref().and_then(Request::of) {
            let counters = &w.stats.commands[usize::from(request.spec.id)];
            counters.calls.add(1);
            w.stats.total_commands.add(1);
            if is_error {
                counters.rejected.add(1);
            }
        }
        self.stop_waiting(engine, true);
        out.set_proto(self.shared.proto());
        if !std::mem::take(&mut self.is_answer_muted) {
            write(out);
        }
    }

    fn answer_error(&mut self, engine: &Engine, w: &WorkerScratch, line: &str, out: &mut ReplyBuf) {
        engine.stats.count_error(line.as_bytes());
        self.answer(engine, w, true, out, |out| out.error(line));
    }

    /// [`Message::Served`].
    pub fn finish_served(&mut self, engine: &Engine, served: &Served, out: &mut ReplyBuf) -> Unblocked {
        if self.waiting_with(served.ticket).is_none() {
            return Unblocked::No;
        }
        self.stop_waiting(engine, served.is_queued);
        out.set_proto(self.shared.proto());
        let is_muted = std::mem::take(&mut self.is_answer_muted);
        // Only who was the primary all the time may acknowledge.
        if served.wrote && (engine.gate.reign() != served.reign || self.is_write_refused(engine)) {
            out.error(ROLE_CHANGED);
            return Unblocked::Closes;
        }
        if served.offset > 0 {
            self.last_write_offset = served.offset;
        }
        if !is_muted {
            out.raw(&served.bytes);
        }
        Unblocked::Goes { wrote: served.wrote.then_some(served.reign) }
    }

    fn is_write_refused(&self, engine: &Engine) -> bool {
        engine.gate.role() == Role::Replica && engine.settings.load().replica_read_only
    }

    /// The deadline of [`Suspend::Blocked`] is over.
    pub fn time_out_blocked(&mut self, engine: &Engine, w: &WorkerScratch, out: &mut ReplyBuf) -> Unblocked {
        if !self.waiting.as_ref().is_some_and(|waiter| waiter.end()) {
            return Unblocked::No;
        }
        self.answer(engine, w, false, out, ReplyBuf::null_array);
        Unblocked::Goes { wrote: None }
    }

    /// [`Message::Unblock`] with the ticket of a waiter, which the sender has claimed.
    pub fn finish_unblocked(
        &mut self,
        engine: &Engine,
        w: &WorkerScratch,
        ticket: u64,
        with_error: bool,
        out: &mut ReplyBuf,
    ) -> Unblocked {
        if self.waiting_with(ticket).is_none() {
            return Unblocked::No;
        }
        if with_error {
            self.answer_error(engine, w, "UNBLOCKED client unblocked via CLIENT UNBLOCK", out);
        } else {
            self.answer(engine, w, false, out, ReplyBuf::null_array);
        }
        Unblocked::Goes { wrote: None }
    }

    /// [`Message::Retry`]: the request needs more slots than whoever woke it had.
    pub fn retry_blocked(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        ticket: u64,
        out: &mut ReplyBuf,
    ) -> Unblocked {
        let Some(waiter) = self.waiting_with(ticket) else { return Unblocked::No };
        let Some(request) = Request::of(&waiter) else { return Unblocked::No };
        let mut locked = loop {
            let epoch = engine.gate.epoch();
            if is_held_back(engine, request.is_write()) {
                return Unblocked::Later;
            }
            let locked = engine.keyspace.lock(&request.slots);
            if engine.gate.epoch() == epoch {
                break locked;
            }
        };
        out.set_proto(self.shared.proto());
        let start = out.len();
        let mut garbage = Vec::new();
        let claim = waiter.claim();
        let mut unblocked = Unblocked::No;
        if let Some(claim) = claim
            && !(request.is_write() && self.is_write_refused(engine))
            && let Some(offset) = execute_waiter(engine, w, &mut locked, &waiter, request, out)
        {
            claim.finish();
            request.unblock(&waiter, &mut locked);
            if offset > 0 {
                self.last_write_offset = offset;
            }
            unblocked = Unblocked::Goes { wrote: (w.effects.dirty > 0).then(|| engine.gate.reign()) };
            garbage.append(&mut w.effects.garbage);
        }
        request.keys.iter().for_each(|key| locked.resume_queue(key, &waiter));
        serve_ready(engine, w, &mut locked, &mut garbage);
        drop(locked);
        engine.drop_later(garbage);
        if unblocked != Unblocked::No {
            self.stop_waiting(engine, false);
            if std::mem::take(&mut self.is_answer_muted) {
                out.truncate(start);
            }
        }
        unblocked
    }

    /// [`Message::Recheck`] for a client in [`Suspend::Blocked`] or [`Suspend::Wait`]: the role, the owner of the slot or the state of the cluster has changed.
    pub fn recheck_blocked(
        &mut self,
        engine: &Engine,
        w: &mut WorkerScratch,
        role_changed: bool,
        out: &mut ReplyBuf,
    ) -> Unblocked {
        let settings = w.settings().clone();
        if !settings.cluster_enabled && engine.gate.holds(PausePurpose::Failover) {
            // The change of role may yet be called off; `Engine::role_settled` comes when it is certain.
            return Unblocked::No;
        }
        let Some(waiter) = self.waiting.clone() else {
            // In WAIT.
            if settings.cluster_enabled || !role_changed || engine.gate.role() == Role::Primary {
                return Unblocked::No;
            }
            self.abandon_wait(engine);
            out.error(ROLE_CHANGED);
            return Unblocked::Closes;
        };
        let Some(request) = Request::of(&waiter) else { return Unblocked::No };
        let mut end = Unblocked::Goes { wrote: None };
        let line = if settings.cluster_enabled {
            match self.lost_slot(engine, w, request) {
                Some(line) => line,
                None => return Unblocked::No,
            }
        } else {
            let stays = self.is_readonly && !request.is_write();
            if !role_changed || stays || engine.gate.role() == Role::Primary {
                return Unblocked::No;
            }
            match engine.host.get().and_then(|host| host.primary_address()) {
                Some((host, port)) if self.has_capa_redirect => format!("REDIRECT {host}:{port}"),
                _ => {
                    end = Unblocked::Closes;
                    ROLE_CHANGED.to_owned()
                }
            }
        };
        if !waiter.end() {
            return Unblocked::No;
        }
        self.answer_error(engine, w, &line, out);
        end
    }

    /// Why a client cannot go on waiting for a slot here.
    fn lost_slot(&self, engine: &Engine, w: &mut WorkerScratch, request: &Request) -> Option<String> {
        if !engine.gate.cluster_ok() {
            return Some("CLUSTERDOWN The cluster is down".to_owned());
        }
        let slot = *request.slots.first()?;
        let endpoint = w.settings().cluster_preferred_endpoint_type;
        let Some(view) = w.cluster() else { return Some("CLUSTERDOWN Hash slot not served".to_owned()) };
        match view.placement(slot) {
            Placement::Mine => None,
            Placement::MyPrimarys if self.is_readonly && !request.is_write() => None,
            Placement::Unassigned => Some("CLUSTERDOWN Hash slot not served".to_owned()),
            Placement::MyPrimarys | Placement::Elsewhere => Some(view.moved(slot, endpoint, self.shared.is_tls)),
        }
    }

    /// The connection ends: nobody answers the client any more.
    pub(crate) fn abandon_blocked(&mut self, engine: &Engine) {
        if let Some(waiter) = &self.waiting {
            waiter.end();
            self.stop_waiting(engine, true);
        }
    }
}

impl Engine {
    /// Changes the role, and asks clients that wait whether they still may.
    pub fn set_role(&self, role: Role) {
        let role_changed = self.gate.role() != role;
        if role_changed && role == Role::Primary {
            self.acks.keep_departed(false, true);
        }
        self.gate.set_role(role);
        self.recheck_blocked(role_changed);
    }

    /// A handover outside of a cluster is over: lets those go on whom it held back, and asks clients that wait whether they
    /// still may.
    pub fn role_settled(&self) {
        self.unpause(PausePurpose::Failover);
        self.recheck_blocked(true);
    }

    /// Says whether the cluster serves requests, and asks clients that wait whether they still may.
    pub fn set_cluster_ok(&self, ok: bool) {
        self.gate.set_cluster_ok(ok);
        self.recheck_blocked(false);
    }

    pub(crate) fn recheck_blocked(&self, role_changed: bool) {
        // A worker that is suspending a client at this moment gets to the message after that.
        self.post_all(|| Message::Recheck { role_changed });
    }
}

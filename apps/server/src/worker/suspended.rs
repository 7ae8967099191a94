// SPDX-License-Identifier: BSD-3-Clause
//! Clients that execute nothing for a while: WAIT, BLPOP and its like, pauses, replies that another thread makes. Requests which they sent
//! meanwhile stay in their input, in order.

use super::Worker;
use super::connection::{Connection, Fate};
use super::slab::Token;
use pando_session::{ClientId, Served, Suspend, Unblocked, boot_ms};
use pando_topology::Slot;
use std::sync::atomic::Ordering::Relaxed;

/// When the next suspended client may go on by itself.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Due {
    /// Instant of `boot_ms`.
    pub(super) boot_ms: Option<u64>,
    /// A message said that some may go on now.
    pub(super) is_now: bool,
}

/// What could not be served while writes were held back.
#[derive(Copy, Clone, Debug)]
pub(super) enum Parked {
    /// Waiters of a slot.
    Slot(Slot),
    /// A client with this wait.
    Client(ClientId, u64),
}

/// How often what is parked is tried while this node has no lease. A pause says when it ends.
const NO_LEASE_RETRY_MS: u64 = 50;

impl Due {
    fn by(&mut self, boot_ms: Option<u64>) {
        self.boot_ms = match (self.boot_ms, boot_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

impl Worker {
    /// Stops executing requests of the connection.
    pub(super) fn suspend(&mut self, token: Token, connection: &mut Connection, suspend: Suspend) {
        if let Suspend::Blocked { deadline_boot_ms: Some(deadline), .. } = suspend {
            self.deadlines.insert((deadline, token.raw()));
        }
        self.due.by(self.due_of(&suspend));
        connection.session.shared.is_postponed.store(suspend == Suspend::Paused, Relaxed);
        if !matches!(suspend, Suspend::Blocked { .. }) {
            self.suspended.insert(token.raw());
        }
        connection.suspend = Some(suspend);
        if connection.has_hangup {
            connection.fate = Fate::CloseNow;
        }
    }

    fn due_of(&self, suspend: &Suspend) -> Option<u64> {
        match suspend {
            Suspend::Wait { deadline_boot_ms, .. } => *deadline_boot_ms,
            Suspend::Paused => Some(self.server.engine.gate.paused_until().unwrap_or(0).max(boot_ms() + 1)),
            Suspend::Async(_) | Suspend::Blocked { .. } => None,
        }
    }

    /// How long the worker may sleep for the sake of suspended clients.
    pub(super) fn next_resume_ms(&self) -> Option<u64> {
        let due = if self.suspended.is_empty() && self.parked.is_empty() { None } else { self.due.boot_ms };
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let next = due.into_iter().chain(deadline).min()?;
        Some(next.saturating_sub(boot_ms()))
    }

    /// Answers those whose time has run out.
    pub(super) fn time_out_blocked(&mut self) {
        if self.deadlines.is_empty() {
            return;
        }
        let now = boot_ms();
        let mut is_any = false;
        while let Some((deadline, raw)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            is_any = true;
            self.end_blocked(Token::from_raw(raw), |worker, connection| {
                connection.session.time_out_blocked(&worker.server.engine, &worker.scratch, &mut connection.output)
            });
        }
        if is_any {
            self.flush_dirty();
            self.do_hand_offs();
        }
    }

    /// Lets a client in `Blocked` go on if `how` says so.
    fn end_blocked(
        &mut self,
        token: Token,
        how: impl FnOnce(&mut Worker, &mut Connection) -> Unblocked,
    ) -> Option<Unblocked> {
        let mut connection = self.slab.take(token)?;
        let deadline_boot_ms = match connection.suspend {
            Some(Suspend::Blocked { deadline_boot_ms, .. }) => deadline_boot_ms,
            // Only a change of the role concerns it.
            Some(Suspend::Wait { .. }) => None,
            _ => {
                self.slab.put_back(token, connection);
                return None;
            }
        };
        self.lend_output(&mut connection);
        let unblocked = how(self, &mut connection);
        match unblocked {
            Unblocked::No | Unblocked::Later => {}
            Unblocked::Goes { .. } | Unblocked::Closes => {
                if let Some(deadline) = deadline_boot_ms {
                    self.deadlines.remove(&(deadline, token.raw()));
                }
                if let Unblocked::Goes { wrote } = unblocked {
                    connection.note_wrote(wrote);
                }
                if unblocked == Unblocked::Closes {
                    connection.fate = Fate::CloseAfterFlush;
                }
                self.resume(token, &mut connection);
            }
        }
        self.put_back_or_close(token, connection);
        Some(unblocked)
    }

    /// The answer to a client in `Blocked`.
    pub(super) fn finish_served(&mut self, served: &Served) {
        let Some(token) = self.by_client.get(&served.client).copied() else { return };
        self.end_blocked(token, |worker, connection| {
            connection.session.finish_served(&worker.server.engine, served, &mut connection.output)
        });
    }

    /// There may be something for a client that needs more locks than others have.
    pub(super) fn retry_blocked(&mut self, client: ClientId, ticket: u64) {
        let Some(token) = self.by_client.get(&client).copied() else { return };
        let unblocked = self.end_blocked(token, |worker, connection| {
            let output = &mut connection.output;
            connection.session.retry_blocked(&worker.server.engine, &mut worker.scratch, ticket, output)
        });
        if unblocked == Some(Unblocked::Later) {
            self.park(Parked::Client(client, ticket));
        }
    }

    /// Keys of the slot changed, and nobody has served those who wait for them.
    pub(super) fn serve_slot(&mut self, slot: Slot) {
        if !self.server.engine.serve_slot(&mut self.scratch, slot) {
            self.park(Parked::Slot(slot));
        }
    }

    fn park(&mut self, parked: Parked) {
        self.parked.push(parked);
        self.due.by(Some(self.server.engine.gate.paused_until().unwrap_or(0).max(boot_ms() + NO_LEASE_RETRY_MS)));
    }

    fn retry_parked(&mut self) {
        for parked in std::mem::take(&mut self.parked) {
            match parked {
                Parked::Slot(slot) => self.serve_slot(slot),
                Parked::Client(client, ticket) => self.retry_blocked(client, ticket),
            }
        }
    }

    /// The role, the owner of slots or the state of the cluster has changed.
    pub(super) fn recheck_blocked(&mut self, role_changed: bool) {
        for token in self.slab.tokens() {
            if role_changed {
                self.finish_wait_of(token);
            }
            self.end_blocked(token, |worker, connection| {
                let output = &mut connection.output;
                connection.session.recheck_blocked(&worker.server.engine, &mut worker.scratch, role_changed, output)
            });
        }
        self.due.is_now = true;
    }

    /// Answers a WAIT that is over: what ended it may be among the messages that are not looked at yet.
    fn finish_wait_of(&mut self, token: Token) {
        let Some(mut connection) = self.slab.take(token) else { return };
        if matches!(connection.suspend, Some(Suspend::Wait { .. })) {
            self.finish_wait(token, &mut connection, false);
        }
        self.put_back_or_close(token, connection);
    }

    /// Lets those go on whose reason is gone.
    pub(super) fn retry_suspended(&mut self) {
        if self.suspended.is_empty() && self.parked.is_empty() {
            self.due = Due::default();
            return;
        }
        let now = boot_ms();
        if !self.due.is_now && self.due.boot_ms.is_none_or(|due| due > now) {
            return;
        }
        self.due = Due::default();
        self.retry_parked();
        let all: Vec<Token> = self.suspended.iter().map(|raw| Token::from_raw(*raw)).collect();
        for token in all {
            let Some(mut connection) = self.slab.take(token) else { continue };
            match connection.suspend.clone() {
                Some(Suspend::Wait { .. }) => self.finish_wait(token, &mut connection, false),
                Some(Suspend::Paused) => self.resume(token, &mut connection),
                Some(Suspend::Async(_) | Suspend::Blocked { .. }) | None => {}
            }
            if let Some(suspend) = &connection.suspend {
                let due = self.due_of(suspend);
                self.due.by(due);
            }
            self.put_back_or_close(token, connection);
        }
        // What resumed clients were told leaves now, not at the next event.
        self.flush_dirty();
        self.do_hand_offs();
    }

    /// Answers a WAIT if it is over or `gives_up`.
    fn finish_wait(&mut self, token: Token, connection: &mut Connection, gives_up: bool) {
        let Some(wait) = connection.suspend.clone() else { return };
        self.lend_output(connection);
        if connection.session.finish_wait(&self.server.engine, &wait, gives_up, &mut connection.output) {
            self.resume(token, connection);
        }
    }

    /// Executes what the client sent meanwhile.
    fn resume(&mut self, token: Token, connection: &mut Connection) {
        connection.suspend = None;
        connection.session.shared.is_postponed.store(false, Relaxed);
        self.suspended.remove(&token.raw());
        self.mark_dirty(token, connection);
        if connection.fate == Fate::Open {
            self.turn(token, connection);
        }
    }

    /// The reply that a suspended client waits for.
    pub(super) fn finish_async(&mut self, client: ClientId, ticket: u64, bytes: &[u8]) {
        let Some(token) = self.by_client.get(&client).copied() else { return };
        let Some(mut connection) = self.slab.take(token) else { return };
        if connection.suspend == Some(Suspend::Async(ticket)) {
            self.lend_output(&mut connection);
            connection.output.raw(bytes);
            self.resume(token, &mut connection);
        }
        self.put_back_or_close(token, connection);
    }

    /// CLIENT UNBLOCK.
    pub(super) fn unblock(&mut self, client: ClientId, ticket: Option<u64>, with_error: bool) {
        let Some(token) = self.by_client.get(&client).copied() else { return };
        if let Some(ticket) = ticket {
            self.end_blocked(token, |worker, connection| {
                let (engine, output) = (&worker.server.engine, &mut connection.output);
                connection.session.finish_unblocked(engine, &worker.scratch, ticket, with_error, output)
            });
            return;
        }
        let Some(mut connection) = self.slab.take(token) else { return };
        if let Some(wait @ Suspend::Wait { .. }) = connection.suspend.clone() {
            self.lend_output(&mut connection);
            let start = connection.output.len();
            connection.session.finish_wait(&self.server.engine, &wait, true, &mut connection.output);
            if with_error {
                connection.output.truncate(start);
                connection.output.error("UNBLOCKED client unblocked via CLIENT UNBLOCK");
            }
            self.resume(token, &mut connection);
        }
        self.put_back_or_close(token, connection);
    }
}

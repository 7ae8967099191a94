// SPDX-License-Identifier: BSD-3-Clause
//! Clients that execute nothing for a while: WAIT, pauses, replies that another thread makes. Requests which they sent
//! meanwhile stay in their input, in order.

use super::Worker;
use super::connection::{Connection, Fate};
use super::slab::Token;
use pando_session::{ClientId, Suspend, boot_ms};
use std::sync::atomic::Ordering::Relaxed;

/// When the next suspended client may go on by itself.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Due {
    /// Instant of `boot_ms`.
    pub(super) boot_ms: Option<u64>,
    /// A message said that some may go on now.
    pub(super) is_now: bool,
}

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
        self.due.by(self.due_of(&suspend));
        connection.session.shared.is_postponed.store(suspend == Suspend::Paused, Relaxed);
        connection.suspend = Some(suspend);
        self.suspended.insert(token.raw());
        if connection.has_hangup {
            connection.fate = Fate::CloseNow;
        }
    }

    fn due_of(&self, suspend: &Suspend) -> Option<u64> {
        match suspend {
            Suspend::Wait { deadline_boot_ms, .. } => *deadline_boot_ms,
            Suspend::Paused => Some(self.server.engine.gate.paused_until().unwrap_or(0).max(boot_ms() + 1)),
            Suspend::Async(_) => None,
        }
    }

    /// How long the worker may sleep for the sake of suspended clients.
    pub(super) fn next_resume_ms(&self) -> Option<u64> {
        if self.suspended.is_empty() {
            return None;
        }
        self.due.boot_ms.map(|due| due.saturating_sub(boot_ms()))
    }

    /// Lets those go on whose reason is gone.
    pub(super) fn retry_suspended(&mut self) {
        if self.suspended.is_empty() {
            self.due = Due::default();
            return;
        }
        let now = boot_ms();
        if !self.due.is_now && self.due.boot_ms.is_none_or(|due| due > now) {
            return;
        }
        self.due = Due::default();
        let all: Vec<Token> = self.suspended.iter().map(|raw| Token::from_raw(*raw)).collect();
        for token in all {
            let Some(mut connection) = self.slab.take(token) else { continue };
            match connection.suspend.clone() {
                Some(Suspend::Wait { .. }) => self.finish_wait(token, &mut connection, false),
                Some(Suspend::Paused) => self.resume(token, &mut connection),
                Some(Suspend::Async(_)) | None => {}
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
    pub(super) fn unblock(&mut self, client: ClientId, with_error: bool) {
        let Some(token) = self.by_client.get(&client).copied() else { return };
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

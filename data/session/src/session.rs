// SPDX-License-Identifier: BSD-3-Clause
//! One client's state, owned by its worker, and the way in: [`Session::execute`].

use crate::clients::{ClientInfo, ClientKind, ClientShared};
use crate::engine::Engine;
use crate::next::{Next, Suspend};
use crate::scratch::WorkerScratch;
use crate::settings::Settings;
use crate::transaction::Transaction;
use crate::watch::WatchSet;
use pando_keyspace::{DbIndex, HashedKey, Waiter};
use pando_resp::{Args, Limits, Proto, ReplyBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// CLIENT REPLY.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum ReplyMode {
    On,
    Off,
    /// Drop the reply of the next command.
    SkipNext,
}

/// See the head of this file.
pub struct Session {
    /// What other threads may see.
    pub shared: Arc<ClientShared>,
    pub(crate) db: DbIndex,
    pub(crate) is_authenticated: bool,
    pub(crate) reply_mode: ReplyMode,
    /// The command was CLIENT REPLY ON.
    pub(crate) answers_now: bool,
    pub(crate) is_asking: bool,
    pub(crate) is_readonly: bool,
    pub(crate) is_no_touch: bool,
    pub(crate) has_capa_redirect: bool,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) watching: Option<WatchSet>,
    /// Log offset after this client's last write (WAIT).
    pub(crate) last_write_offset: u64,
    /// What the client waits for; see `blocked`.
    pub(crate) waiting: Option<Arc<Waiter>>,
    /// CLIENT REPLY: the answer to that is not sent.
    pub(crate) is_answer_muted: bool,
}

impl Session {
    /// A new connection. `close` must be called at its end.
    pub fn new(engine: &Engine, info: ClientInfo) -> Self {
        let is_authenticated = engine.settings.load().requirepass.is_none();
        Self {
            shared: engine.clients.add(info),
            db: 0,
            is_authenticated,
            reply_mode: ReplyMode::On,
            answers_now: false,
            is_asking: false,
            is_readonly: false,
            is_no_touch: false,
            has_capa_redirect: false,
            transaction: None,
            watching: None,
            last_write_offset: 0,
            waiting: None,
            is_answer_muted: false,
        }
    }

    /// Takes the client out of everything that knows it.
    pub fn close(&mut self, engine: &Engine) {
        self.abandon_blocked(engine);
        self.abandon_wait(engine);
        self.discard_transaction();
        self.unwatch_all(engine);
        engine.pubsub.forget(&self.shared);
        // A replica's entry belongs to its link now, which removes it.
        if self.shared.kind() == ClientKind::Normal {
            engine.clients.remove(self.shared.id);
        }
    }

    /// The client's database.
    pub fn db(&self) -> DbIndex {
        self.db
    }

    /// Whether the client may do more than authenticate.
    pub fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// What the parser lets this client send.
    pub fn limits(&self, settings: &Settings) -> Limits {
        Limits {
            bulk_len_max: settings.proto_max_bulk_len,
            unauthenticated: !self.is_authenticated && settings.requirepass.is_some(),
            ..Limits::default()
        }
    }

    pub(crate) fn select(&mut self, db: DbIndex) {
        self.db = db;
        self.shared.db.store(db, Relaxed);
    }

    pub(crate) fn set_proto(&mut self, proto: Proto, out: &mut ReplyBuf) {
        out.set_proto(proto);
        self.shared.proto.store(if proto == Proto::Resp3 { 3 } else { 2 }, Relaxed);
    }

    pub(crate) fn count_command(&self) {
        self.shared.commands.store(self.shared.commands.load(Relaxed) + 1, Relaxed);
    }

    /// Executes one request and appends its reply to `out`. `w.refresh_time()` was called for the
    /// batch. See [`Next`] for what follows.
    pub fn execute(&mut self, engine: &Engine, w: &mut WorkerScratch, args: Args<'_>, out: &mut ReplyBuf) -> Next {
        if args.is_empty() {
            return Next::Continue;
        }
        // Workers may share one buffer among connections.
        out.set_proto(self.shared.proto());
        let start = out.len();
        let mode = self.reply_mode;
        if mode == ReplyMode::SkipNext {
            self.reply_mode = ReplyMode::On;
        }
        let next = self.dispatch(engine, w, args, out);
        w.hashed = HashedKey::NONE;
        // One that waits counts when it is done.
        if self.waiting.is_none() {
            self.count_command();
        }
        let drop_reply = match mode {
            ReplyMode::On => false,
            ReplyMode::Off => self.reply_mode == ReplyMode::Off,
            ReplyMode::SkipNext => true,
        };
        // CLIENT REPLY ON itself is answered.
        let answers_now = std::mem::take(&mut self.answers_now);
        let drop_reply = drop_reply && !answers_now;
        if drop_reply {
            out.truncate(start);
        }
        self.is_answer_muted = drop_reply && self.waiting.is_some();
        if mode == ReplyMode::SkipNext && next == Next::Suspend(Suspend::Paused) {
            self.reply_mode = mode;
        }
        next
    }
}

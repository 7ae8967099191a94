// SPDX-License-Identifier: BSD-3-Clause
//! A worker thread: its event loop, and the connections that belong to it.
//!
//! ```text
//!   wait ─► messages ─► events: accept · read, parse, execute (turn) · more room to write ─► queued turns ─► messages
//!     ▲                                                                                                        │
//!     └────────────── sleep unless turns are queued; at most until something is due ◄─ sweep, balance ◄─ flush ┘
//! ```
//!
//! It never polls while idle: without a due time it sleeps until an event or a message. Not here: what commands do.

mod accept;
mod balance;
mod connection;
mod mail;
mod output;
mod requests;
mod slab;
mod stats;
mod suspended;

pub use connection::{Connection, Fate};
pub use stats::{NetStats, NetTotals};

use crate::config::ServerSettings;
use crate::net::mailbox::WorkerMessage;
use crate::net::poller::{Epoll, Poller, Readiness, Watch};
use crate::os;
use crate::server::Server;
use pando_session::{HandOff, Suspend, WorkerScratch};
use slab::{Slab, Token};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Tokens with the top bit belong to the worker itself: its wake-up counter, then its listeners.
const OWN: u64 = 1 << 63;
/// How often clients are looked at for timeouts and soft limits, while there is a reason to.
const SWEEP_MS: u64 = 1000;

/// See the head of this file.
pub struct Worker {
    index: usize,
    server: Arc<Server>,
    stats: Arc<NetStats>,
    settings: Arc<ServerSettings>,
    poller: Epoll,
    slab: Slab,
    /// Numbers of clients are ours: nobody can choose them so that they collide.
    by_client: HashMap<u64, Token, foldhash::fast::RandomState>,
    scratch: WorkerScratch,
    read_buffer: Vec<u8>,
    argv: Vec<&'static [u8]>,
    spare_outputs: Vec<Vec<u8>>,
    /// Connections that have more to do than one turn allows.
    turns: Vec<Token>,
    /// Connections with replies of this event batch.
    dirty: Vec<Token>,
    /// Who waits until the replies of this batch were sent.
    flushed: Vec<std::sync::mpsc::Sender<()>>,
    /// Connections whose sockets are full.
    blocked_writers: HashSet<u64>,
    /// Connections that execute nothing now.
    suspended: HashSet<u64>,
    /// Sockets that go to the replication runtime after this batch.
    hand_offs: Vec<(Token, HandOff)>,
    /// Deadlines of clients that wait for keys, in milliseconds of `boot_ms`, with their tokens.
    deadlines: BTreeSet<(u64, u64)>,
    /// What is to be served when writes are no longer held back.
    parked: Vec<suspended::Parked>,
    /// When suspended clients are to be looked at.
    due: suspended::Due,
    now_ms: u64,
    /// When the turn of the connection that is served now is over.
    turn_until_ms: u64,
    next_sweep_ms: u64,
    window: balance::Window,
    is_stopping: bool,
}

impl Worker {
    /// A worker without connections.
    pub fn new(index: usize, server: Arc<Server>) -> io::Result<Worker> {
        let poller = Epoll::new()?;
        poller.add(server.mail.slot(index).wakeup().as_fd(), OWN, Watch::ReadLevel)?;
        let stats = server.net_stats[index].clone();
        let scratch = WorkerScratch::new(&server.engine);
        let settings = server.config.settings();
        Ok(Worker {
            index,
            stats,
            settings,
            poller,
            slab: Slab::default(),
            by_client: HashMap::default(),
            scratch,
            read_buffer: Vec::with_capacity(requests::READ_BYTES),
            argv: Vec::new(),
            spare_outputs: Vec::new(),
            turns: Vec::new(),
            dirty: Vec::new(),
            flushed: Vec::new(),
            blocked_writers: HashSet::new(),
            suspended: HashSet::new(),
            hand_offs: Vec::new(),
            deadlines: BTreeSet::new(),
            parked: Vec::new(),
            due: suspended::Due::default(),
            now_ms: os::monotonic_ms(),
            turn_until_ms: 0,
            next_sweep_ms: 0,
            window: balance::Window::default(),
            is_stopping: false,
            server,
        })
    }

    /// Runs until a `Stop` message.
    pub fn run(mut self) {
        let mut ready: Vec<Readiness> = Vec::new();
        let mut messages: Vec<WorkerMessage> = Vec::new();
        self.window = balance::Window::start(self.now_ms);
        while !self.is_stopping {
            let timeout = self.sleep_for();
            if let Err(error) = self.poller.wait(&mut ready, timeout) {
                // Only a programming error makes the set of descriptors unusable.
                panic!("waiting for events failed: {error}");
            }
            self.server.mail.slot(self.index).awake();
            self.server.cron.note_activity();
            self.stats.cycles.add(1);
            self.now_ms = os::monotonic_ms();
            self.scratch.refresh_time();
            let current = self.server.config.settings_ref();
            if !Arc::ptr_eq(&current, &self.settings) {
                self.settings = current.clone();
            }
            drop(current);
            self.take_messages(&mut messages);
            let mut turns = std::mem::take(&mut self.turns);
            for event in &ready {
                self.handle_event(*event);
            }
            for token in turns.drain(..) {
                self.take_turn(token);
            }
            if self.turns.is_empty() {
                self.turns = turns;
            }
            // What the commands of this batch told the worker's own clients leaves with their replies.
            self.take_messages(&mut messages);
            self.flush_dirty();
            for done in self.flushed.drain(..) {
                done.send(()).ok();
            }
            self.do_hand_offs();
            self.retry_suspended();
            self.time_out_blocked();
            self.sweep();
            self.balance();
        }
        self.close_all();
    }

    fn take_messages(&mut self, messages: &mut Vec<WorkerMessage>) {
        self.server.mail.slot(self.index).take(messages);
        for message in messages.drain(..) {
            self.handle_message(message);
        }
    }

    /// None: until something happens.
    fn sleep_for(&mut self) -> Option<Duration> {
        if !self.turns.is_empty() || !self.dirty.is_empty() {
            return Some(Duration::ZERO);
        }
        let slot = self.server.mail.slot(self.index);
        if !slot.prepare_sleep() {
            return Some(Duration::ZERO);
        }
        let mut wait_ms = u64::MAX;
        if self.wants_sweep() {
            wait_ms = self.next_sweep_ms.saturating_sub(self.now_ms);
        }
        if let Some(due_ms) = self.next_resume_ms() {
            wait_ms = wait_ms.min(due_ms);
        }
        (wait_ms != u64::MAX).then(|| Duration::from_millis(wait_ms))
    }

    fn handle_event(&mut self, event: Readiness) {
        if event.token & OWN != 0 {
            match event.token & !OWN {
                0 => self.server.mail.slot(self.index).wakeup().clear(),
                listener => self.accept_from(listener as usize - 1),
            }
            return;
        }
        let token = Token::from_raw(event.token);
        let Some(mut connection) = self.slab.take(token) else { return };
        connection.is_readable |= event.readable;
        connection.has_hangup |= event.hangup;
        if event.writable && self.blocked_writers.contains(&token.raw()) {
            self.mark_dirty(token, &mut connection);
        }
        if connection.suspend.is_some() && connection.has_hangup {
            connection.fate = Fate::CloseNow;
        }
        if event.readable && !connection.is_queued && connection.fate == Fate::Open && connection.suspend.is_none() {
            self.turn(token, &mut connection);
        }
        self.put_back_or_close(token, connection);
    }

    fn take_turn(&mut self, token: Token) {
        let Some(mut connection) = self.slab.take(token) else { return };
        connection.is_queued = false;
        if connection.fate == Fate::Open && connection.suspend.is_none() {
            self.turn(token, &mut connection);
        }
        self.put_back_or_close(token, connection);
    }

    /// Gives the connection another turn after everybody else had one.
    fn queue_turn(&mut self, token: Token, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.is_queued, true) {
            self.turns.push(token);
        }
    }

    /// Ends the handling of a connection that was taken out of the slab.
    fn put_back_or_close(&mut self, token: Token, connection: Box<Connection>) {
        if connection.fate == Fate::CloseNow {
            self.slab.forget(token);
            self.close(token, connection);
        } else {
            self.slab.put_back(token, connection);
        }
    }

    /// Forgets a connection. Dropping the socket closes it.
    fn close(&mut self, token: Token, mut connection: Box<Connection>) {
        self.forget_lists(token, connection.id);
        match connection.suspend.take() {
            // Nobody reads the answer; it ends the count of those who wait.
            Some(wait @ Suspend::Wait { .. }) => {
                connection.session.finish_wait(&self.server.engine, &wait, true, &mut connection.output);
            }
            Some(Suspend::Blocked { deadline_boot_ms: Some(deadline), .. }) => {
                self.deadlines.remove(&(deadline, token.raw()));
            }
            _ => {}
        }
        connection.session.close(&self.server.engine);
        tracing::debug!("Client closed connection id={} addr={}", connection.id, connection.peer.remote_text());
        self.server.mail.slot(self.index).clients.fetch_sub(1, Relaxed);
        self.server.clients.fetch_sub(1, Relaxed);
    }

    fn forget_lists(&mut self, token: Token, client: u64) {
        self.by_client.remove(&client);
        self.blocked_writers.remove(&token.raw());
        self.suspended.remove(&token.raw());
    }

    fn wants_sweep(&self) -> bool {
        !self.blocked_writers.is_empty() || (self.settings.timeout_s > 0 && !self.slab.is_empty())
    }

    /// Closes idle clients and those over their soft limit.
    fn sweep(&mut self) {
        if !self.wants_sweep() || self.now_ms < self.next_sweep_ms {
            return;
        }
        self.next_sweep_ms = self.now_ms + SWEEP_MS;
        let timeout_ms = self.settings.timeout_s * 1000;
        let candidates = if timeout_ms > 0 {
            self.slab.tokens()
        } else {
            self.blocked_writers.iter().map(|raw| Token::from_raw(*raw)).collect()
        };
        for token in candidates {
            let Some(mut connection) = self.slab.take(token) else { continue };
            if connection.output_pending() > 0 {
                self.check_output_limit(&mut connection);
            }
            let idle_ms = self.now_ms.saturating_sub(connection.last_active_ms);
            let may_time_out = connection.suspend.is_none() && !connection.session.shared.is_subscribed();
            if timeout_ms > 0 && idle_ms > timeout_ms && may_time_out {
                tracing::debug!("Closing idle client");
                connection.fate = Fate::CloseNow;
            }
            self.put_back_or_close(token, connection);
        }
    }

    fn close_all(&mut self) {
        for token in self.slab.tokens() {
            if let Some(mut connection) = self.slab.remove(token) {
                if connection.fate != Fate::CloseNow && self.server.engine.gate.may_write_now() {
                    self.flush(token, &mut connection);
                }
                self.close(token, connection);
            }
        }
    }
}

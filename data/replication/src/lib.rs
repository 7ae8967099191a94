// SPDX-License-Identifier: BSD-3-Clause
//! Replication: the log of writes, the primary's side of a replica link and the replica's side.
//!
//! ```text
//! workers ── append under slot locks ──► log ──► link task per replica (tokio) ──► socket
//! primary's socket ──► network task (tokio) ──► apply thread ──► engine, then relayed into the same log
//! ```
//!
//! Every node of a chain has the same bytes at the same offsets, so any of them can serve a partial resync, before and
//! after a promotion. It does not decide roles: apps/server (REPLICAOF) and the cluster agent call
//! [`Replication::replica_of`] and [`Replication::promote`]. It does not accept sockets either: the server hands over
//! a client that sent PSYNC ([`Replication::accept_replica`]).

mod clock;
mod config;
mod core;
pub mod data;
mod engine;
mod handover;
mod hello;
mod history;
pub mod image_out;
pub mod log;
mod primary;
mod reload;
mod replica;
mod status;

pub use config::ReplicationConfig;
pub use handover::HandoverEnd;
pub use hello::ReplicaHello;
pub use history::{History, ReplId};
pub use status::{DataPosition, LinkState, PrimaryLinkStatus, ReplicaState, ReplicaStatus, ReplicationStatus};

use crate::core::Core;
use crate::data::Data;
use crate::engine::{EngineData, Sink};
use crate::log::{Feed, ReplicationLog};
use crate::primary::ReplicaLink;
use crate::replica::PrimaryLink;
use pando_session::Engine;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a node answers to `PSYNC … FAILOVER` that has no primary (behind `-ERR `), as Valkey does.
pub const NOT_A_REPLICA: &str = "PSYNC FAILOVER can't be sent to a master.";

/// Replication of one node. Cheap to clone.
#[derive(Clone)]
pub struct Replication {
    core: Arc<Core>,
}

/// A socket that the server gives away, with what is on its way.
pub struct ReplicaSocket {
    /// The connection.
    pub stream: TcpStream,
    /// Replies that were not sent yet.
    pub unsent: Vec<u8>,
    /// Bytes that were read behind the PSYNC.
    pub unread: Vec<u8>,
}

impl Replication {
    /// Starts as a primary, and becomes the engine's log. Tasks run in `runtime`.
    ///
    /// # Panics
    /// When the engine has a log already.
    pub fn new(engine: Arc<Engine>, config: ReplicationConfig, runtime: tokio::runtime::Handle) -> Replication {
        let replication = Replication::over(Arc::new(EngineData::new(engine.clone())), config, runtime);
        let is_first = engine.log.set(Box::new(Sink::new(replication.log().clone()))).is_ok();
        assert!(is_first, "an engine has one log");
        replication
    }

    /// The same over any data; the caller appends its writes to [`log`](Self::log).
    pub fn over(data: Arc<dyn Data>, config: ReplicationConfig, runtime: tokio::runtime::Handle) -> Replication {
        let core = Arc::new(Core::new(data, config, runtime.clone()));
        runtime.spawn(clock::run(Arc::downgrade(&core)));
        Replication { core }
    }

    /// Replaces the configuration. What concerns a link takes effect with its next step or connection.
    pub fn set_config(&self, config: ReplicationConfig) {
        self.core.set_config(config);
        self.core.count_good_replicas();
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<ReplicationConfig> {
        self.core.config()
    }

    /// Follows the primary at this address from now on; `None` is [`promote`](Self::promote). Returns as soon as no
    /// write of a client can happen any more; the link is made in the background. Blocks for what the link before had
    /// received and not applied. Naming the same address again changes nothing.
    pub fn replica_of(&self, primary: Option<(&str, u16)>) {
        match primary {
            Some((host, port)) => self.follow(host, port, false),
            None => self.promote(),
        }
    }

    /// As [`replica_of`](Self::replica_of). `keeps_copy`: the data here are a copy, perhaps an old one, of what the
    /// new primary has, and count as one until it says otherwise ([`DataPosition::synced`]).
    pub fn follow(&self, host: &str, port: u16, keeps_copy: bool) {
        let core = &self.core;
        let had_copy = self.position().synced;
        let mut role = core.role.lock();
        match &*role {
            Some(link) if link.host == host && link.port == port => return,
            Some(link) => link.stop(),
            None => core.end_own_stream(),
        }
        core.follow(&mut role, Arc::new(PrimaryLink::new(host.to_owned(), port, keeps_copy && had_copy)));
    }

    /// Becomes a primary: what was received is applied, the stream goes on under a new id, and clients may write (as
    /// far as the gate's lease lets them). Our replicas come again by themselves, and continue.
    pub fn promote(&self) {
        let core = &self.core;
        let mut role = core.role.lock();
        let Some(link) = role.take() else { return };
        link.stop();
        // Whatever it has is the data from here on.
        core.complete.store(true, Ordering::Release);
        if core.feed() == Feed::Relay {
            core.shift_history(ReplId::random());
            core.log.set_feed(Feed::Own);
        }
        *core.link_view.lock() = None;
        core.kill_replicas();
        core.engine.set_link_up(true);
        core.engine.set_replica(false);
        core.link_changed();
    }

    /// Gives a primary's stream an id that nobody knows (DEBUG CHANGE-REPL-ID): all replicas need a full sync.
    pub fn change_id(&self) {
        let role = self.core.role.lock();
        if role.is_none() {
            self.core.set_history(History::new());
            self.core.kill_replicas();
        }
    }

    /// Writes all data out and loads them again (DEBUG RELOAD). On an error after the data were dropped, what was not loaded
    /// is lost.
    pub fn reload(&self) -> Result<(), String> {
        reload::reload(&*self.core.engine, self.core.role.lock().is_none())
    }

    /// Connects to the primary again at once, if there is no link: something changed that makes it likely to succeed.
    pub fn retry_now(&self) {
        if let Some(link) = &*self.core.link_view.lock()
            && link.state() != LinkState::Connected
            && link.state() != LinkState::Sync
        {
            link.reconnect();
        }
    }

    /// Takes over a client that sent PSYNC or SYNC.
    pub fn accept_replica(&self, hello: ReplicaHello, socket: ReplicaSocket) -> io::Result<()> {
        socket.stream.set_nonblocking(true)?;
        socket.stream.set_nodelay(true)?;
        let peer_ip = socket.stream.peer_addr().map_or_else(|_| "?".to_owned(), |addr| addr.ip().to_string());
        let _runtime = self.core.runtime.enter();
        let stream = tokio::net::TcpStream::from_std(socket.stream)?;
        let link = Arc::new(ReplicaLink::new(hello, peer_ip));
        self.core.add_replica(link.clone());
        self.core.runtime.spawn(primary::serve(self.core.clone(), link, stream, socket.unsent, socket.unread));
        Ok(())
    }

    /// Asks the replicas to acknowledge at once (WAIT).
    pub fn request_acks(&self) {
        self.core.request_acks();
    }

    /// Cuts the links of replicas: all, or the one with this client id. Answers how many.
    pub fn kill_replicas(&self, client_id: Option<u64>) -> usize {
        let replicas = self.core.replicas.lock();
        let chosen = replicas.iter().filter(|link| client_id.is_none_or(|id| id == link.hello.client_id));
        chosen.map(|link| link.kill()).count()
    }

    /// Cuts the link to the primary; it is made again at once. For tests and CLIENT KILL TYPE primary.
    pub fn kill_primary_link(&self) {
        if let Some(link) = &*self.core.link_view.lock() {
            link.reconnect();
        }
    }

    /// The log, for who else reads the stream.
    pub fn log(&self) -> &Arc<ReplicationLog> {
        &self.core.log
    }

    /// Makes a primary's log begin before the first replica comes (a node of a cluster, the AOF).
    pub fn start_log(&self) {
        self.core.start_log();
    }

    /// The end of the log; on a replica what was applied.
    pub fn offset(&self) -> u64 {
        self.core.log.offset()
    }

    /// Waits until the end of the log has reached `offset`.
    pub async fn wait_for_offset(&self, offset: u64) {
        self.core.log.reached(offset).await;
    }

    /// Everything that INFO and ROLE show.
    pub fn status(&self) -> ReplicationStatus {
        let core = &self.core;
        let history = core.history();
        let offset = core.log.offset();
        let active = core.feed() != Feed::Off;
        let first = core.log.first_offset().min(offset);
        let counter = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        ReplicationStatus {
            replid: history.replid,
            replid2: history.replid2,
            offset,
            second_offset: history.second_offset,
            backlog_active: active,
            backlog_size: core.config().repl_backlog_size,
            backlog_first_byte: if active { first + 1 } else { 0 },
            backlog_len: if active { offset - first } else { 0 },
            primary: core.link_view.lock().as_ref().map(|link| link.status()),
            replicas: core.replicas.lock().iter().map(|link| link.status()).collect(),
            sync_full: counter(&core.counters.sync_full),
            sync_partial_ok: counter(&core.counters.sync_partial_ok),
            sync_partial_err: counter(&core.counters.sync_partial_err),
        }
    }

    /// What the cluster agent sends around; cheap.
    pub fn position(&self) -> DataPosition {
        let core = &self.core;
        let history = core.history();
        let link = core.link_view.lock().clone();
        let is_replica = link.is_some();
        let health = link.map(|link| link.health());
        DataPosition {
            replid: history.replid,
            replid2: (history.replid2, u64::try_from(history.second_offset - 1).unwrap_or(0)),
            // After the health: what came before a break is in it.
            offset: core.log.offset(),
            link_up: health.is_none_or(|health| health.is_up),
            age: health.map_or(Duration::ZERO, |health| health.age),
            synced: health.is_none_or(|health| health.synced),
            loading: core.engine.is_loading(),
            is_replica,
            complete: core.complete.load(Ordering::Acquire),
        }
    }

    /// Changes when [`position`](Self::position) says that the link to the primary went up or down.
    pub fn link_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.core.link_changes.subscribe()
    }
}

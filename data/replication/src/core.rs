// SPDX-License-Identifier: BSD-3-Clause
//! What both sides share: the log, the history, the links, the configuration.
//!
//! Lock order: `role` (one change at a time), then `applied`, then `history` and the rest, which are leaves.

use crate::config::ReplicationConfig;
use crate::data::Data;
use crate::history::{History, ReplId};
use crate::log::{Feed, LogLimits, ReplicationLog};
use crate::primary::ReplicaLink;
use crate::replica::{self, PrimaryLink};
use crate::status::LinkState;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Asks every replica that reads it for an acknowledgement.
pub(crate) const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

pub(crate) struct Core {
    pub(crate) engine: Arc<dyn Data>,
    pub(crate) log: Arc<ReplicationLog>,
    pub(crate) runtime: tokio::runtime::Handle,
    config: RwLock<Arc<ReplicationConfig>>,
    history: Mutex<History>,
    pub(crate) replicas: Mutex<Vec<Arc<ReplicaLink>>>,
    /// The link to our primary; `None` on a primary. Held while the role changes.
    pub(crate) role: Mutex<Option<Arc<PrimaryLink>>>,
    /// The same link for those who only look.
    pub(crate) link_view: Mutex<Option<Arc<PrimaryLink>>>,
    /// Counts the changes of the link to the primary.
    pub(crate) link_changes: watch::Sender<u64>,
    /// Held while a piece of the primary's stream is applied and relayed.
    pub(crate) applied: Mutex<Applied>,
    /// The data are all of some moment of the history; not while an image is loaded, and not when one broke off.
    pub(crate) complete: AtomicBool,
    /// Held while a full sync walks.
    pub(crate) walk: tokio::sync::Mutex<()>,
    pub(crate) counters: Counters,
    /// Offset after the last REPLCONF GETACK.
    last_getack: AtomicU64,
    /// Since when there are no replicas.
    pub(crate) alone_since: Mutex<Instant>,
    /// Nothing but writes enters the log: its end is about to be handed to a replica.
    pub(crate) is_quiet: AtomicBool,
    /// A replica has acknowledged.
    pub(crate) acked: Notify,
    /// Wakes `clock`.
    pub(crate) bell: Arc<Notify>,
}

/// Where a relayed stream stands.
#[derive(Default)]
pub(crate) struct Applied {
    /// The database that the stream selected.
    pub(crate) db: u16,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) sync_full: AtomicU64,
    pub(crate) sync_partial_ok: AtomicU64,
    pub(crate) sync_partial_err: AtomicU64,
}

impl Core {
    pub(crate) fn new(engine: Arc<dyn Data>, config: ReplicationConfig, runtime: tokio::runtime::Handle) -> Core {
        Core {
            engine,
            log: Arc::new(ReplicationLog::new(limits(&config))),
            runtime,
            config: RwLock::new(Arc::new(config)),
            history: Mutex::new(History::new()),
            replicas: Mutex::new(Vec::new()),
            role: Mutex::new(None),
            link_view: Mutex::new(None),
            link_changes: watch::channel(0).0,
            applied: Mutex::new(Applied::default()),
            complete: AtomicBool::new(true),
            walk: tokio::sync::Mutex::new(()),
            counters: Counters::default(),
            last_getack: AtomicU64::new(u64::MAX),
            alone_since: Mutex::new(Instant::now()),
            is_quiet: AtomicBool::new(false),
            acked: Notify::new(),
            bell: Arc::default(),
        }
    }

    pub(crate) fn config(&self) -> Arc<ReplicationConfig> {
        self.config.read().clone()
    }

    pub(crate) fn set_config(&self, config: ReplicationConfig) {
        self.log.set_limits(limits(&config));
        *self.config.write() = Arc::new(config);
        self.bell.notify_one();
    }

    pub(crate) fn feed(&self) -> Feed {
        self.log.feed()
    }

    pub(crate) fn history(&self) -> History {
        *self.history.lock()
    }

    pub(crate) fn set_history(&self, history: History) {
        *self.history.lock() = history;
    }

    /// The link to the primary went up or down.
    pub(crate) fn link_changed(&self) {
        self.link_changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn primary_link_state(&self) -> Option<LinkState> {
        self.link_view.lock().as_ref().map(|link| link.state())
    }

    /// Makes a primary's log begin, with a stream of its own: who knew the old id knows nothing of what was not logged.
    pub(crate) fn start_log(&self) {
        let role = self.role.lock();
        if role.is_none() && self.feed() == Feed::Off {
            self.set_history(History::new());
            self.log.set_feed(Feed::Own);
        }
    }

    /// When the log may end: see [`Self::stop_log_if_unused`].
    pub(crate) fn unused_in(&self) -> Option<Duration> {
        let ttl = self.config().repl_backlog_ttl;
        let may_end = self.feed() == Feed::Own && !ttl.is_zero() && !self.engine.is_cluster();
        let is_alone = self.replicas.lock().is_empty();
        (may_end && is_alone).then(|| ttl.saturating_sub(self.alone_since.lock().elapsed()).max(Duration::from_secs(1)))
    }

    /// Makes the log end once nobody has read it for `repl-backlog-ttl`.
    pub(crate) fn stop_log_if_unused(&self) {
        let Some(role) = self.role.try_lock() else { return };
        let ttl = self.config().repl_backlog_ttl;
        if role.is_some() || self.feed() != Feed::Own || ttl.is_zero() || self.engine.is_cluster() {
            return;
        }
        if self.replicas.lock().is_empty() && self.alone_since.lock().elapsed() > ttl {
            self.engine.with_all_locked(&mut || {
                self.log.set_feed(Feed::Off);
                self.log.reset(self.log.offset());
            });
            self.set_history(History::new());
        }
    }

    /// Takes no more writes of clients. The caller holds `role` and makes this node a replica.
    pub(crate) fn end_own_stream(&self) {
        self.engine.set_replica(true);
        // Everybody who was let in as a client of a primary is done after this.
        self.engine.with_all_locked(&mut || {
            if self.feed() == Feed::Own {
                // Our own history is what we ask the new primary to continue.
                self.log.set_feed(Feed::Relay);
            }
        });
    }

    /// Follows a primary by this link.
    pub(crate) fn follow(self: &Arc<Self>, role: &mut Option<Arc<PrimaryLink>>, link: Arc<PrimaryLink>) {
        self.engine.set_link_up(false);
        *role = Some(link.clone());
        *self.link_view.lock() = Some(link.clone());
        self.link_changed();
        self.runtime.spawn(replica::run(self.clone(), link));
    }

    /// Appends something that is no write of a client, if this node feeds the log and no change of role is under way.
    pub(crate) fn append_plain(&self, resp: &[u8]) -> Option<u64> {
        if self.is_quiet.load(Ordering::Acquire) {
            return None;
        }
        let role = self.role.try_lock()?;
        (role.is_none() && self.feed() == Feed::Own).then(|| self.log.append_plain(resp))
    }

    /// Asks all replicas to acknowledge; at most once per written byte.
    pub(crate) fn request_acks(&self) {
        if self.replicas.lock().is_empty() || self.last_getack.load(Ordering::Acquire) == self.log.offset() {
            return;
        }
        if let Some(end) = self.append_plain(GETACK) {
            self.last_getack.store(end, Ordering::Release);
        }
    }

    pub(crate) fn add_replica(&self, link: Arc<ReplicaLink>) {
        self.engine.replica_linked(link.hello.client_id);
        self.replicas.lock().push(link);
    }

    pub(crate) fn remove_replica(&self, link: &Arc<ReplicaLink>) {
        let mut replicas = self.replicas.lock();
        replicas.retain(|other| !Arc::ptr_eq(other, link));
        if replicas.is_empty() {
            *self.alone_since.lock() = Instant::now();
        }
        drop(replicas);
        self.engine.remove_ack(link.hello.client_id);
        self.engine.unlinked(link.hello.client_id);
        self.count_good_replicas();
    }

    pub(crate) fn on_replica_online(&self, link: &ReplicaLink) {
        if link.lag().is_some() {
            self.engine.set_ack(link.hello.client_id, link.status().offset);
        }
        self.count_good_replicas();
    }

    pub(crate) fn count_good_replicas(&self) {
        let max = self.config().min_replicas_max_lag;
        let good = |link: &&Arc<ReplicaLink>| link.is_online() && link.lag().is_some_and(|lag| lag <= max);
        let count = self.replicas.lock().iter().filter(good).count();
        self.engine.set_good_replicas(count as u32);
    }

    /// Our replicas have to come again: their stream has got another id, or another content.
    pub(crate) fn kill_replicas(&self) {
        for link in self.replicas.lock().iter() {
            link.kill();
        }
    }

    /// The stream goes on under another id from the present offset.
    pub(crate) fn shift_history(&self, replid: ReplId) {
        let offset = self.log.offset();
        let mut history = self.history.lock();
        *history = history.shifted_to(replid, offset);
    }
}

fn limits(config: &ReplicationConfig) -> LogLimits {
    LogLimits { backlog_bytes: config.repl_backlog_size, reader_lag_bytes_max: config.replica_output_limit }
}

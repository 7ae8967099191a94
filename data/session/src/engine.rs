// SPDX-License-Identifier: BSD-3-Clause
//! What all sessions share, and what the rest of the process does to them.

use crate::acks::ReplicaAcks;
use crate::clients::{ClientInfo, ClientKind, ClientRegistry};
use crate::cluster_view::ClusterView;
use crate::context::SessionFn;
use crate::eviction::Eviction;
use crate::gate::Gate;
use crate::ports::{ClientId, Host, LogSink, Mailbox, Message};
use crate::pubsub::PubSub;
use crate::settings::Settings;
use crate::stats::Stats;
use crate::watch::Watchers;
use crate::{client_command, connection, pubsub_commands, transaction, wait};
use arc_swap::{ArcSwap, ArcSwapOption};
use pando_commands::{Registry, SessionCommandId};
use pando_keyspace::{Garbage, Keyspace, KeyspaceConfig};
use pando_topology::Slot;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

/// The version of the reference server, which clients are told.
pub const SERVER_VERSION: &str = "9.1.2";

/// What an engine is built from.
#[derive(Clone, Debug, Default)]
pub struct EngineConfig {
    /// The keyspace; its number of databases must be that of the settings.
    pub keyspace: KeyspaceConfig,
    /// First settings.
    pub settings: Settings,
    /// `rename-command`: commands and their new names, empty for none.
    pub renames: Vec<(String, String)>,
}

/// Sends a message published here to other nodes: channel, message, whether it is sharded.
pub type PublishHook = Box<dyn Fn(&[u8], &[u8], bool) + Send + Sync>;

#[derive(Copy, Clone)]
pub(crate) struct SessionCommand {
    pub(crate) run: SessionFn,
    /// Takes no slot locks, so that EXEC may keep its own while it runs.
    pub(crate) keeps_locks: bool,
}

/// See the head of this file.
pub struct Engine {
    /// The data.
    pub keyspace: Keyspace,
    /// The commands.
    pub registry: Registry,
    /// Subscriptions.
    pub pubsub: PubSub,
    /// Connected clients.
    pub clients: ClientRegistry,
    /// Replaced as a whole by CONFIG SET.
    pub settings: Arc<ArcSwap<Settings>>,
    /// Replaced with [`Engine::set_cluster`]; none outside of cluster mode and before joining.
    pub cluster: Arc<ArcSwapOption<ClusterView>>,
    /// What may be served.
    pub gate: Gate,
    /// The log of writes, once there is one.
    pub log: OnceLock<Box<dyn LogSink>>,
    /// Where messages to clients go.
    pub mailbox: OnceLock<Arc<dyn Mailbox>>,
    /// The process.
    pub host: OnceLock<Box<dyn Host>>,
    /// Who else hears what is published here: the other nodes of the cluster; outside of a cluster, whoever looks for
    /// Sentinels.
    pub publish_hook: OnceLock<PublishHook>,
    /// Counters.
    pub stats: Stats,
    /// Offsets of replicas.
    pub acks: ReplicaAcks,
    /// The memory limit.
    pub eviction: Eviction,
    pub(crate) watchers: Watchers,
    session_commands: Vec<SessionCommand>,
}

impl Engine {
    /// An engine with the commands of data/commands, those of this crate, and `extra` (names as in
    /// `commands.json`, `container|sub` for subcommands). Names in `extra` win over this crate's.
    ///
    /// # Panics
    /// When a name is unknown to `commands.json`.
    pub fn new(config: EngineConfig, extra: &[(&'static str, SessionFn)]) -> Arc<Self> {
        let own = [connection::TABLE, client_command::TABLE, transaction::TABLE, pubsub_commands::TABLE, wait::TABLE]
            .concat();
        let mut names: Vec<(&'static str, SessionCommandId)> = Vec::new();
        let mut session_commands = Vec::new();
        let all = own
            .iter()
            .filter(|(name, _)| !extra.iter().any(|(other, _)| other == name))
            .map(|&(name, run)| (name, SessionCommand { run, keeps_locks: true }))
            .chain(extra.iter().map(|&(name, run)| (name, SessionCommand { run, keeps_locks: false })));
        for (name, command) in all {
            names.push((name, session_commands.len() as SessionCommandId));
            session_commands.push(command);
        }
        let mut registry = Registry::new(&names);
        for (name, to) in &config.renames {
            // The configuration was checked when it was read.
            let _ = registry.rename(name.as_bytes(), to.as_bytes());
        }
        let engine = Arc::new(Self {
            keyspace: Keyspace::new(config.keyspace),
            registry,
            pubsub: PubSub::default(),
            clients: ClientRegistry::default(),
            settings: Arc::new(ArcSwap::from_pointee(config.settings)),
            cluster: Arc::new(ArcSwapOption::empty()),
            gate: Gate::new(),
            log: OnceLock::new(),
            mailbox: OnceLock::new(),
            host: OnceLock::new(),
            publish_hook: OnceLock::new(),
            stats: Stats::default(),
            acks: ReplicaAcks::default(),
            eviction: Eviction::default(),
            watchers: Watchers::default(),
            session_commands,
        });
        // Weak: the keyspace is a part of the engine.
        let weak = Arc::downgrade(&engine);
        engine.keyspace.on_ready(Box::new(move |slot| {
            if let Some(engine) = weak.upgrade() {
                engine.post_serve(slot);
            }
        }));
        engine
    }

    pub(crate) fn session_command(&self, id: SessionCommandId) -> SessionCommand {
        self.session_commands[usize::from(id)]
    }

    /// Replaces the settings by a changed copy.
    pub fn update_settings(&self, change: impl Fn(&mut Settings)) {
        self.settings.rcu(|old| {
            let mut new = Settings::clone(old);
            change(&mut new);
            new
        });
    }

    /// Replaces the view of the cluster. Commands that passed their checks under the old view and
    /// hold no lock yet check again. Call [`Engine::slots_lost`] for what is no longer served here.
    pub fn set_cluster(&self, view: Option<Arc<ClusterView>>) {
        self.cluster.store(view);
        self.gate.bump_epoch();
        self.recheck_blocked(false);
    }

    /// Whether a write that was executed in this reign may be acknowledged at this instant. A process that was stopped
    /// may have been replaced and be the primary again when it wakes, without the write. Outside of a cluster the
    /// role changes by the client's own commands, and nothing is taken back.
    #[inline]
    pub fn may_acknowledge(&self, reign: u64) -> bool {
        self.gate.may_write_now() && self.is_same_reign(reign)
    }

    /// The part of [`Engine::may_acknowledge`] that needs no clock.
    #[inline]
    pub fn is_same_reign(&self, reign: u64) -> bool {
        self.gate.reign() == reign || self.cluster.load().is_none()
    }

    /// Whether somebody reads the log.
    #[inline]
    pub(crate) fn active_log(&self) -> Option<&dyn LogSink> {
        self.log.get().map(|log| &**log).filter(|log| log.active())
    }

    pub(crate) fn post(&self, worker: usize, message: Message) {
        if let Some(mailbox) = self.mailbox.get() {
            mailbox.post(worker, message);
        }
    }

    /// Number of workers, at least one.
    pub(crate) fn workers(&self) -> usize {
        self.mailbox.get().map_or(1, |mailbox| mailbox.workers().max(1))
    }

    /// Has a worker serve who waits for keys of a slot.
    fn post_serve(&self, slot: Slot) {
        if let Some(mailbox) = self.mailbox.get() {
            mailbox.post(slot.index() % self.workers(), Message::ServeSlot(slot));
        }
    }

    pub(crate) fn post_all(&self, message: impl Fn() -> Message) {
        if let Some(mailbox) = self.mailbox.get() {
            (0..mailbox.workers()).for_each(|worker| mailbox.post(worker, message()));
        }
    }

    pub(crate) fn drop_later(&self, garbage: Vec<Garbage>) {
        if garbage.is_empty() {
            return;
        }
        match self.host.get() {
            Some(host) => host.drop_later(garbage),
            None => drop(garbage),
        }
    }

    /// Delivers a message to the subscribers of this node and returns how many there were. For
    /// messages from other nodes and for keyspace events; PUBLISH itself also tells others.
    pub fn deliver(&self, channel: &[u8], message: &[u8], is_sharded: bool) -> usize {
        self.pubsub.deliver(self, channel, message, is_sharded)
    }

    /// Ends the sharded subscriptions to channels of these slots, and tells the subscribers.
    pub fn slots_lost(&self, slots: &[Slot]) {
        self.pubsub.slots_lost(self, slots);
    }

    /// Asks the owning worker to close a client. False if there is no such client.
    pub fn kill(&self, id: ClientId) -> bool {
        let Some(client) = self.clients.get(id) else { return false };
        client.killed.store(true, Relaxed);
        match (client.kind(), self.host.get()) {
            (ClientKind::Normal, _) | (_, None) => self.post(client.worker.load(Relaxed), Message::Kill { client: id }),
            (kind, Some(host)) => host.kill_link(id, kind),
        }
        true
    }

    /// Shows the link to a primary among the clients; [`Engine::remove_link`] ends that.
    pub fn add_link(&self, info: ClientInfo) -> ClientId {
        let client = self.clients.add(info);
        client.set_kind(ClientKind::Primary);
        client.id
    }

    /// A client became the link of a replica: it stays in the registry until [`Engine::remove_link`].
    pub fn turn_into_link(&self, id: ClientId) {
        if let Some(client) = self.clients.get(id) {
            client.set_kind(ClientKind::Replica);
        }
    }

    /// A link to a primary or of a replica ended.
    pub fn remove_link(&self, id: ClientId) {
        self.clients.remove(id);
    }

    /// A replica acknowledged an offset.
    pub fn replica_acked(&self, replica: u64, offset: u64) {
        self.acks.set(replica, offset);
        if self.acks.has_waiters() {
            self.post_all(|| Message::AcksChanged);
        }
    }

    /// As [`Engine::unpause`], where most calls find no pause: those cost nothing.
    pub fn unpause_if_held(&self, purpose: crate::gate::PausePurpose) {
        if self.gate.holds(purpose) {
            self.unpause(purpose);
        }
    }

    /// Ends a pause and lets suspended clients go on.
    pub fn unpause(&self, purpose: crate::gate::PausePurpose) {
        self.gate.unpause(purpose);
        self.post_all(|| Message::Unpause);
    }
}

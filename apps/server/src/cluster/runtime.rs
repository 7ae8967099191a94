// SPDX-License-Identifier: BSD-3-Clause
//! The cluster's parts of this process: the agent, and what its command handlers and the data plane's side share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use pando_agent::AgentHandle;
use pando_session::{Engine, Message};
use pando_topology::ShardId;
use parking_lot::Mutex;

use super::prepared::Prepared;
use super::show::Moment;
use crate::config::Values;
use crate::server::Server;

/// See the head of this file.
pub struct ClusterRuntime {
    server: Weak<Server>,
    engine: Arc<Engine>,
    agent: OnceLock<AgentHandle>,
    tickets: AtomicU64,
    prepared: Prepared,
    /// See [`Self::holds`].
    holds: Mutex<Option<ShardId>>,
}

/// The cluster runtime of the server that this engine belongs to, in cluster mode.
pub fn of(engine: &Engine) -> Option<Arc<ClusterRuntime>> {
    Server::of(engine)?.cluster.get().filter(|runtime| runtime.agent.get().is_some()).cloned()
}

impl ClusterRuntime {
    /// Without an agent yet: the agent needs the data plane, which needs this.
    pub fn new(server: &Arc<Server>) -> Arc<Self> {
        Arc::new(Self {
            server: Arc::downgrade(server),
            engine: Arc::clone(&server.engine),
            agent: OnceLock::new(),
            tickets: AtomicU64::new(1),
            prepared: Prepared::default(),
            holds: Mutex::new(None),
        })
    }

    /// Makes CLUSTER commands reach the agent. Called once.
    pub fn set_agent(&self, agent: AgentHandle) {
        // A second agent in one process would be a mistake of the start-up code; the first stays.
        let first = self.agent.set(agent).is_ok();
        debug_assert!(first, "one agent for each process");
    }

    /// The agent.
    ///
    /// # Panics
    /// Before [`Self::set_agent`]; [`of`] gives out no runtime before that.
    pub fn agent(&self) -> &AgentHandle {
        self.agent.get().expect("the agent is set before commands run")
    }

    /// Hands a changed configuration to the agent, if it runs.
    pub fn configure(&self, values: &Values) {
        if let Some(agent) = self.agent.get() {
            agent.configure(super::config::agent_config(values));
        }
    }

    /// The data plane.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The server, until it is gone.
    pub fn server(&self) -> Option<Arc<Server>> {
        self.server.upgrade()
    }

    /// A number for a client's suspension, never used before.
    pub fn next_ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Answers that are made once for many clients.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// The shard whose data this process has: it has followed a primary of the shard to the end of a sync, or written
    /// for it. None after a start without data.
    pub fn holds(&self) -> Option<ShardId> {
        *self.holds.lock()
    }

    /// See [`Self::holds`].
    pub fn set_holds(&self, shard: Option<ShardId>) {
        *self.holds.lock() = shard;
    }

    /// Whether replicas may take this node's data for those of its shard. A primary that has restarted has to wait
    /// for the roots: a replica may have more than it.
    pub fn may_serve_replicas(&self) -> bool {
        let view = self.engine.cluster.load();
        view.as_ref().is_some_and(|view| !view.is_primary || self.holds() == view.my_shard)
    }

    /// Sends a message to a worker.
    pub fn post(&self, worker: usize, message: Message) {
        if let Some(mailbox) = self.engine.mailbox.get() {
            mailbox.post(worker, message);
        }
    }

    /// Empties all databases; what is heavy is freed in the background.
    pub fn flush_all(&self) {
        let garbage = self.engine.keyspace.flush(None);
        match self.engine.host.get() {
            Some(host) => host.drop_later(vec![garbage]),
            None => drop(garbage),
        }
    }

    /// Empties this node for a life of its own: whoever continues its stream from before must not find it fitting.
    /// Waits for what its link to a primary has received.
    pub fn start_empty(&self) {
        let Some(server) = self.server() else { return };
        // The change of role may still wait for its turn, and nothing may come over the link after this.
        server.replication.promote();
        self.flush_all();
        server.replication.inner().change_id();
    }

    /// What a rendering of the topology needs to know of this instant.
    pub fn moment(&self) -> Moment {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let position = self.server().map(|server| server.replication.inner().position());
        let settings = self.engine.settings.load();
        Moment {
            unix_ms: now.as_millis() as u64,
            offset: position.map_or(0, |position| position.offset),
            is_loading: position.is_some_and(|position| position.loading || !position.synced),
            endpoint: settings.cluster_preferred_endpoint_type,
            is_tls: false,
        }
    }
}

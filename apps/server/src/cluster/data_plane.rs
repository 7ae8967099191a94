// SPDX-License-Identifier: BSD-3-Clause
//! What the roots decide, made true for this node's data: roles, redirects, leases, whom to replicate from.
//!
//! Called by the agent on the cluster thread, in order. Nothing here waits: connecting and syncing happen on the
//! replication runtime, and freeing on a background thread.

use std::sync::{Arc, Mutex, PoisonError};

use pando_agent::{DataPlane, DataStatus};
use pando_env::BoxFuture;
use pando_session::{ClusterView, PauseMode, PausePurpose, Role, boot_ms};
use pando_topology::{ClusterMap, NodeId, ShardId, Slot};
use tokio::sync::watch;

use super::runtime::ClusterRuntime;

/// How long clients of a new primary wait for its lease before they are told that it has none.
const TAKEOVER_WAIT_MS: u64 = 1000;

/// The engine and the replication of this process, as the agent sees them.
pub struct ServerDataPlane {
    runtime: Arc<ClusterRuntime>,
    /// What was last made true.
    current: Mutex<Following>,
}

/// Whose data this node holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
enum Following {
    /// Nothing was decided yet.
    #[default]
    Undecided,
    /// Its own.
    Itself,
    /// Those of the node at this address: its primary, or the replica to which it is chained.
    Upstream { node: NodeId, shard: ShardId, host: String, port: u16 },
}

impl ServerDataPlane {
    pub fn new(runtime: Arc<ClusterRuntime>) -> Self {
        Self { runtime, current: Mutex::new(Following::Undecided) }
    }

    fn is_following(&self) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*current, Following::Upstream { .. })
    }

    fn follow(&self, next: Following) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == next {
            return;
        }
        let engine = self.runtime.engine();
        let Some(server) = self.runtime.server() else { return };
        match &next {
            Following::Upstream { node, shard, host, port } => {
                tracing::info!("Following node {node} at {host}:{port}");
                engine.set_role(Role::Replica);
                // Commands that were let in as a primary's have ended when every slot was free once.
                drop(engine.keyspace.lock_all());
                let keeps_copy = matches!(&*current, Following::Upstream { shard: former, .. } if former == shard);
                server.replication.inner().follow(host, *port, keeps_copy);
            }
            Following::Itself => {
                if matches!(*current, Following::Upstream { .. }) {
                    tracing::info!("This node is a primary now, by decision of the roots");
                    server.replication.promote();
                }
                engine.set_role(Role::Primary);
            }
            Following::Undecided => {}
        }
        *current = next;
    }
}

fn following(view: &ClusterView) -> Following {
    match (view.map.upstream_of(&view.me), view.my_shard) {
        (Some(node), Some(shard)) => {
            Following::Upstream { node: node.id, shard, host: node.host.clone(), port: node.port }
        }
        _ => Following::Itself,
    }
}

impl DataPlane for ServerDataPlane {
    fn topology(&self, map: Arc<ClusterMap>, me: NodeId) {
        let engine = self.runtime.engine();
        let old = engine.cluster.load_full();
        let view = Arc::new(ClusterView::new(map, me));
        let becomes = following(&view);
        if becomes == Following::Itself && self.is_following() {
            // Before the map says that this node serves its slots: redirected clients come at once, and
            // the lease is a few messages away.
            engine.gate.pause(PausePurpose::Takeover, PauseMode::Write, boot_ms() + TAKEOVER_WAIT_MS);
            self.follow(becomes);
            engine.set_cluster(Some(Arc::clone(&view)));
        } else {
            engine.set_cluster(Some(Arc::clone(&view)));
            self.follow(becomes);
        }
        if view.my_shard.is_none() || !view.is_primary {
            engine.unpause_if_held(PausePurpose::Takeover);
        }
        let lost: Vec<Slot> = match &old {
            Some(old) => Slot::all().filter(|&slot| old.shard_owns(slot) && !view.shard_owns(slot)).collect(),
            None => Vec::new(),
        };
        if !lost.is_empty() {
            engine.slots_lost(&lost);
        }
    }

    fn lease(&self, until_boottime_ms: u64, cluster_ok: bool) {
        let engine = self.runtime.engine();
        let gate = &engine.gate;
        gate.set_lease_until(until_boottime_ms);
        if until_boottime_ms > boot_ms() {
            engine.unpause_if_held(PausePurpose::Takeover);
        }
        if gate.cluster_ok() != cluster_ok {
            tracing::info!("Cluster state changed: {}", if cluster_ok { "ok" } else { "fail" });
            engine.set_cluster_ok(cluster_ok);
        }
    }

    fn status(&self) -> DataStatus {
        let Some(server) = self.runtime.server() else { return DataStatus::default() };
        let position = server.replication.inner().position();
        DataStatus {
            replid: *position.replid.as_bytes(),
            replid2: (*position.replid2.0.as_bytes(), position.replid2.1),
            offset: position.offset,
            link_up: position.link_up,
            data_age_ms: position.age.as_millis() as u64,
            synced: position.synced,
            loading: position.loading,
        }
    }

    fn link_changes(&self) -> watch::Receiver<u64> {
        match self.runtime.server() {
            Some(server) => server.replication.inner().link_changes(),
            None => watch::channel(0).1,
        }
    }

    fn publish(&self, channel: &[u8], message: &[u8], sharded: bool) {
        self.runtime.engine().deliver(channel, message, sharded);
    }

    fn reached(&self, offset: u64) -> BoxFuture<'static, ()> {
        let log = self.runtime.server().map(|server| server.replication.inner().log().clone());
        Box::pin(async move {
            match log {
                Some(log) => log.reached(offset).await,
                None => std::future::pending().await,
            }
        })
    }

    fn pause_writes(&self, until_boottime_ms: Option<u64>) {
        let engine = self.runtime.engine();
        match until_boottime_ms {
            Some(until) => {
                engine.gate.pause(PausePurpose::Failover, PauseMode::Write, until);
                // Writes that were let in before the pause have ended when every slot was free once.
                drop(engine.keyspace.lock_all());
            }
            None => engine.unpause(PausePurpose::Failover),
        }
    }
}

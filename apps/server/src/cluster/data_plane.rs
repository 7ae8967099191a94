// SPDX-License-Identifier: BSD-3-Clause
//! What the roots decide, made true for this node's data: roles, redirects, leases, whom to replicate from.
//!
//! Called by the agent on the cluster thread, in order. Nothing here waits: what must wait for commands that run (a change of
//! role) is left to the thread of `role_thread`, connecting and syncing to the replication runtime, freeing to a background
//! thread. A lease that ends ends at once; one that begins does so behind the change of role that it belongs to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pando_agent::{DataPlane, DataStatus};
use pando_env::BoxFuture;
use pando_session::{ClusterView, PauseMode, PausePurpose, Role, boot_ms};
use pando_topology::{ClusterMap, NodeId, Slot};
use tokio::sync::{oneshot, watch};

use super::role_thread::{Change, Following, RoleThread};
use super::runtime::ClusterRuntime;

/// The engine and the replication of this process, as the agent sees them.
pub struct ServerDataPlane {
    runtime: Arc<ClusterRuntime>,
    roles: RoleThread,
    wanted: Mutex<Wanted>,
}

/// What the agent said last; some of it may still wait for the role thread.
#[derive(Default)]
struct Wanted {
    view: Option<Arc<ClusterView>>,
    following: Following,
}

impl ServerDataPlane {
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(runtime: Arc<ClusterRuntime>) -> std::io::Result<Self> {
        let roles = RoleThread::start(runtime.clone())?;
        Ok(Self { runtime, roles, wanted: Mutex::default() })
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
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

fn lost_slots(old: Option<&ClusterView>, new: &ClusterView) -> Vec<Slot> {
    let slots = |view: &ClusterView| view.map.shard_of(&view.me).map(|shard| shard.slots.clone());
    match old {
        Some(old) if slots(old) != slots(new) => {
            Slot::all().filter(|&slot| old.shard_owns(slot) && !new.shard_owns(slot)).collect()
        }
        _ => Vec::new(),
    }
}

impl DataPlane for ServerDataPlane {
    fn topology(&self, map: Arc<ClusterMap>, me: NodeId) {
        let engine = self.runtime.engine();
        let view = Arc::new(ClusterView::new(map, me));
        let next = following(&view);
        let mut wanted = self.wanted();
        let lost = lost_slots(wanted.view.as_deref(), &view);
        let role_changes = wanted.following != next;
        let takes_over = role_changes && next == Following::Itself && wanted.following != Following::Undecided;
        let keeps_copy = match (&wanted.following, &next) {
            (Following::Upstream { shard: former, .. }, Following::Upstream { shard, .. }) => former == shard,
            _ => false,
        };
        wanted.view = Some(view.clone());
        wanted.following = next.clone();
        drop(wanted);
        let following = role_changes.then(|| next.clone());
        let mut change = Change { view: Some(view.clone()), following, lost, takes_over, keeps_copy };
        if self.roles.is_idle() && !takes_over {
            // What needs no waiting is true when this returns.
            engine.set_cluster(change.view.take());
            if role_changes {
                engine.set_role(if next == Following::Itself { Role::Primary } else { Role::Replica });
            }
            if !view.is_primary {
                engine.unpause_if_held(PausePurpose::Takeover);
            }
            engine.slots_lost(&std::mem::take(&mut change.lost));
            if !role_changes || next == Following::Itself {
                return;
            }
        }
        self.roles.change(change);
    }

    fn lease(&self, until_boottime_ms: u64, cluster_ok: bool) {
        let engine = self.runtime.engine();
        self.roles.lease(until_boottime_ms);
        if engine.gate.cluster_ok() != cluster_ok {
            tracing::info!("Cluster state changed: {}", if cluster_ok { "ok" } else { "fail" });
            engine.set_cluster_ok(cluster_ok);
        }
    }

    fn status(&self) -> DataStatus {
        let Some(server) = self.runtime.server() else { return DataStatus::default() };
        // Asked first: while nothing waits, the link is that of the shard that the map shows.
        let is_idle = self.roles.is_idle();
        let position = server.replication.inner().position();
        let shard = self.wanted().view.as_ref().and_then(|view| view.my_shard);
        if position.is_replica && position.synced && is_idle {
            self.runtime.set_holds(shard);
        }
        // The data that it had before it began to follow its present primary are a copy, too, of an earlier moment.
        let has_copy = position.complete && shard.is_some() && self.runtime.holds() == shard;
        DataStatus {
            replid: *position.replid.as_bytes(),
            replid2: (*position.replid2.0.as_bytes(), position.replid2.1),
            offset: position.offset,
            link_up: position.link_up,
            data_age_ms: position.age.as_millis() as u64,
            synced: has_copy,
            loading: position.loading,
        }
    }

    fn publish(&self, channel: &[u8], message: &[u8], sharded: bool) {
        self.runtime.engine().deliver(channel, message, sharded);
    }

    fn link_changes(&self) -> watch::Receiver<u64> {
        match self.runtime.server() {
            Some(server) => server.replication.inner().link_changes(),
            None => watch::channel(0).1,
        }
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

    fn pause_writes(&self, until_boottime_ms: Option<u64>) -> BoxFuture<'static, u64> {
        let engine = self.runtime.engine().clone();
        let Some(until) = until_boottime_ms else {
            engine.unpause(PausePurpose::Failover);
            return Box::pin(std::future::ready(0));
        };
        engine.gate.pause(PausePurpose::Failover, PauseMode::Write, until);
        let (done, end) = oneshot::channel();
        if let Some(server) = self.runtime.server() {
            let runtime = server.replication.runtime().handle().clone();
            runtime.spawn_blocking(move || {
                // Writes that were let in before the pause have ended when every slot was free once.
                drop(engine.keyspace.lock_all());
                // Their clients hear so before the lease ends, after which nothing can be acknowledged here.
                let left_ms = until.saturating_sub(boot_ms()).min(10_000);
                server.mail.wait_flushed(Duration::from_millis(left_ms));
                done.send(server.replication.inner().offset()).ok();
            });
        }
        Box::pin(async move {
            match end.await {
                Ok(offset) => offset,
                // The server is gone.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

/// Whether a primary's lease of this length is worth anything now.
pub(super) fn is_valid(until_boottime_ms: u64) -> bool {
    until_boottime_ms > boot_ms()
}

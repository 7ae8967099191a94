// SPDX-License-Identifier: BSD-3-Clause
//! A data plane that holds a counter instead of keys: it accepts writes by the rules of the real
//! one (role, lease, pause) and knows how far it has replicated. `world` writes and replicates.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pando_agent::{DataPlane, DataStatus};
use pando_env::BoxFuture;
use pando_topology::{ClusterMap, NodeId, Role, ShardId, TopologyVersion};

/// What one process knows; lost when it crashes.
#[derive(Clone, Default)]
pub struct PlaneState {
    /// Last map, with this node's id.
    pub view: Option<(Arc<ClusterMap>, NodeId)>,
    /// End of the lease, boot milliseconds.
    pub lease_until_ms: u64,
    /// Last verdict.
    pub cluster_ok: bool,
    /// Writes wait until then.
    pub paused_until_ms: u64,
    /// How many writes it has.
    pub offset: u64,
    /// Replica: holds the primary's history of this reign.
    pub synced_reign: Option<TopologyVersion>,
    /// Replica: the last pull worked.
    pub link_up: bool,
    /// Messages published elsewhere that arrived here.
    pub published: Vec<Vec<u8>>,
    /// Set when a map came that is older than the one before, or equal but different.
    pub complaint: Option<String>,
}

impl PlaneState {
    /// The shard for which this process would accept a write at `now_ms`, with its reign.
    pub fn accepts(&self, now_ms: u64) -> Option<(ShardId, TopologyVersion)> {
        let (map, me) = self.view.as_ref()?;
        let shard = map.shard_of(me)?;
        let open =
            map.role_of(me) == Some(Role::Primary) && now_ms < self.lease_until_ms && now_ms >= self.paused_until_ms;
        open.then_some((shard.id, shard.reign))
    }
}

/// Shared by the agent inside the simulation and the checks outside.
#[derive(Clone, Default)]
pub struct FakePlane(Arc<Mutex<PlaneState>>);

impl FakePlane {
    /// The state, locked.
    pub fn state(&self) -> MutexGuard<'_, PlaneState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left after the process died.
    pub fn crash(&self) {
        *self.state() = PlaneState::default();
    }
}

impl DataPlane for FakePlane {
    fn topology(&self, map: Arc<ClusterMap>, me: NodeId) {
        let mut state = self.state();
        if let Some((old, old_me)) = &state.view
            && old.cluster_id() == map.cluster_id()
            && *old_me == me
        {
            if map.version() < old.version() {
                state.complaint = Some(format!("{me}: {} after {}", map.version(), old.version()));
            } else if map.version() == old.version() && **old != *map {
                state.complaint = Some(format!("{me}: two maps of version {}", map.version()));
            }
        }
        state.view = Some((map, me));
    }

    fn lease(&self, until_boottime_ms: u64, cluster_ok: bool) {
        let mut state = self.state();
        state.lease_until_ms = until_boottime_ms;
        state.cluster_ok = cluster_ok;
    }

    fn status(&self) -> DataStatus {
        let state = self.state();
        DataStatus {
            replid: [b'0'; 40],
            offset: state.offset,
            link_up: state.link_up,
            synced: state.synced_reign.is_some(),
            loading: false,
        }
    }

    fn publish(&self, _channel: &[u8], message: &[u8], _sharded: bool) {
        self.state().published.push(message.to_vec());
    }

    fn reached(&self, offset: u64) -> BoxFuture<'static, ()> {
        let plane = self.clone();
        Box::pin(async move {
            while plane.state().offset < offset {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
    }

    fn pause_writes(&self, until_boottime_ms: Option<u64>) {
        self.state().paused_until_ms = until_boottime_ms.unwrap_or(0);
    }
}

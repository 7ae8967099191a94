// SPDX-License-Identifier: BSD-3-Clause
//! A data plane that holds a list of writes instead of keys: it accepts them by the rules of the real one
//! (role, lease, pause) and knows how far it has replicated. `data` writes and replicates.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pando_agent::{DataPlane, DataStatus};
use pando_env::BoxFuture;
use pando_topology::{ClusterMap, NodeId, Role, ShardId, TopologyVersion};
use tokio::sync::watch;

/// What one process knows; lost when it ends.
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
    /// The shard whose data it has: pulled from a primary, or written. A process starts without.
    pub holds: Option<ShardId>,
    /// Replica: the last pull worked.
    pub link_up: bool,
    /// Replica: how long the last pull that worked is ago.
    pub data_age_ms: u64,
    /// Replica: a full copy arrives, and is there at this true time.
    pub loading_until_ms: Option<u64>,
    /// Says that it has everything and takes nothing: for tests that want to see what notices.
    pub lies: bool,
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

    /// The shard to which the process belongs by its own map.
    pub fn shard(&self) -> Option<ShardId> {
        let (map, me) = self.view.as_ref()?;
        map.shard_of(me).map(|shard| shard.id)
    }

    /// It has the data of its shard, and replicas may take them.
    pub fn has_data(&self) -> bool {
        self.holds.is_some() && self.holds == self.shard()
    }
}

/// The writes that a process has, in order. Two logs with the same sum at a length are equal up to there.
#[derive(Clone, Default)]
pub struct Log {
    writes: Vec<u64>,
    sums: Vec<u64>,
    /// It comes from a primary, or this process was one: what follows can be appended.
    pub has_history: bool,
}

impl Log {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Adds one.
    pub fn push(&mut self, write: u64) {
        let before = self.sums.last().copied().unwrap_or(0);
        self.writes.push(write);
        self.sums.push((before ^ write).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    }

    /// Of the first `len` writes; none if there are fewer.
    pub fn sum(&self, len: usize) -> Option<u64> {
        if len == 0 { Some(0) } else { self.sums.get(len - 1).copied() }
    }

    /// Whether `other` begins with all of this.
    pub fn is_prefix_of(&self, other: &Log) -> bool {
        self.sum(self.len()) == other.sum(self.len())
    }

    /// Appends what `other` has behind the end of this, up to a length.
    pub fn follow(&mut self, other: &Log, len: usize) {
        for at in self.len()..len.min(other.len()) {
            self.push(other.writes[at]);
        }
    }

    /// The writes, oldest first.
    pub fn writes(&self) -> &[u64] {
        &self.writes
    }
}

/// Shared by the agent inside the simulation and the checks outside.
#[derive(Clone)]
pub struct FakePlane {
    state: Arc<Mutex<PlaneState>>,
    log: Arc<Mutex<Log>>,
    link_changes: watch::Sender<u64>,
}

impl Default for FakePlane {
    fn default() -> FakePlane {
        FakePlane { state: Arc::default(), log: Arc::default(), link_changes: watch::channel(0).0 }
    }
}

impl FakePlane {
    /// The state, locked.
    pub fn state(&self) -> MutexGuard<'_, PlaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writes, locked. Lock the state first if both are needed.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link to the primary went up or down.
    pub fn link_changed(&self) {
        self.link_changes.send_modify(|count| *count += 1);
    }

    /// What is left after the process ended.
    pub fn crash(&self) {
        *self.state() = PlaneState::default();
        *self.log() = Log::default();
    }

    /// Adds a write.
    pub fn write(&self, write: u64) {
        let mut log = self.log();
        log.push(write);
        log.has_history = true;
        let len = log.len() as u64;
        drop(log);
        self.state().offset = len;
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
        let former = state.shard();
        state.view = Some((map, me));
        if state.shard() != former {
            // Another shard's data, of which nothing is here.
            (state.link_up, state.loading_until_ms) = (false, None);
        }
    }

    fn lease(&self, until_boottime_ms: u64, cluster_ok: bool) {
        let mut state = self.state();
        state.lease_until_ms = until_boottime_ms;
        state.cluster_ok = cluster_ok;
        if until_boottime_ms > 0 {
            // By the word of the roots its data are those of the shard, even if there are none.
            state.holds = state.shard();
        }
    }

    fn status(&self) -> DataStatus {
        let state = self.state();
        DataStatus {
            offset: if state.lies { u64::MAX / 2 } else { state.offset },
            link_up: state.link_up || state.lies,
            synced: state.has_data() || state.lies,
            loading: state.loading_until_ms.is_some(),
            data_age_ms: state.data_age_ms,
            ..DataStatus::default()
        }
    }

    fn publish(&self, _channel: &[u8], message: &[u8], _sharded: bool) {
        self.state().published.push(message.to_vec());
    }

    fn link_changes(&self) -> watch::Receiver<u64> {
        self.link_changes.subscribe()
    }

    fn reached(&self, offset: u64) -> BoxFuture<'static, ()> {
        let plane = self.clone();
        Box::pin(async move {
            while plane.status().offset < offset {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
    }

    fn pause_writes(&self, until_boottime_ms: Option<u64>) -> BoxFuture<'static, u64> {
        let mut state = self.state();
        state.paused_until_ms = until_boottime_ms.unwrap_or(0);
        Box::pin(std::future::ready(state.offset))
    }
}

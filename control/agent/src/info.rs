// SPDX-License-Identifier: BSD-3-Clause
//! What INFO and CLUSTER INFO show of the agent. The driver notes what changes; the rest is put
//! together when somebody asks, so that it costs nothing while nobody does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pando_env::Clock;
use pando_topology::{ClusterId, NodeId, TopologyVersion};

use crate::api::AgentInfo;
use crate::counters::Counters;
use crate::group::Group;

/// What changes now and then.
pub(crate) struct Moment {
    pub me: NodeId,
    pub cluster: ClusterId,
    pub leader: Option<NodeId>,
    pub is_root: bool,
    pub roots: Vec<NodeId>,
    pub roots_changing: bool,
    pub version: TopologyVersion,
    pub group: Option<Group>,
}

/// See the head of this file.
pub(crate) struct Info {
    clock: Arc<dyn Clock>,
    moment: Mutex<Option<Moment>>,
    /// Until when a majority of the roots has answered.
    quorum_until_ms: AtomicU64,
    lease_until_ms: AtomicU64,
    cluster_ok: AtomicBool,
    /// Why no majority answers, when that was last looked at.
    reason: Mutex<String>,
    pub counters: Counters,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Info {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            moment: Mutex::default(),
            quorum_until_ms: AtomicU64::new(0),
            lease_until_ms: AtomicU64::new(0),
            cluster_ok: AtomicBool::new(false),
            reason: Mutex::default(),
            counters: Counters::default(),
        }
    }

    pub fn set(&self, moment: Moment) {
        *lock(&self.moment) = Some(moment);
    }

    pub fn set_quorum(&self, until_ms: u64) {
        // Relaxed, here and below: these are shown, nothing is decided by them.
        self.quorum_until_ms.store(until_ms, Ordering::Relaxed);
    }

    pub fn set_reason(&self, reason: String) {
        *lock(&self.reason) = reason;
    }

    pub fn set_lease(&self, until_ms: u64, cluster_ok: bool) {
        self.lease_until_ms.store(until_ms, Ordering::Relaxed);
        self.cluster_ok.store(cluster_ok, Ordering::Relaxed);
    }

    /// A majority of the roots answers this node.
    pub fn has_quorum(&self) -> bool {
        self.clock.now_ms() < self.quorum_until_ms.load(Ordering::Relaxed)
    }

    /// This node is a voter of the root group.
    pub fn is_root(&self) -> bool {
        lock(&self.moment).as_ref().is_some_and(|moment| moment.is_root)
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> AgentInfo {
        let mut info = AgentInfo {
            quorum: self.has_quorum(),
            cluster_ok: self.cluster_ok.load(Ordering::Relaxed),
            lease_until_ms: self.lease_until_ms.load(Ordering::Relaxed),
            messages: self.counters.list(),
            publish_dropped: self.counters.publish_dropped(),
            ..AgentInfo::default()
        };
        if let Some(moment) = &*lock(&self.moment) {
            let status = moment.group.as_ref().map(Group::status);
            info.me = Some(moment.me);
            info.cluster = Some(moment.cluster);
            info.digest = moment.group.as_ref().map(Group::digest);
            info.leader = moment.leader;
            info.term = status.as_ref().map_or(0, |status| status.term);
            info.is_root = moment.is_root;
            info.is_leader = status.as_ref().is_some_and(|status| status.is_leader);
            info.roots.clone_from(&moment.roots);
            info.roots_changing = moment.roots_changing;
            info.applied = status.as_ref().map_or(0, |status| status.last_applied);
            info.version = moment.version.get();
        }
        if !info.quorum {
            info.quorum_reason.clone_from(&lock(&self.reason));
        }
        info
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! A node and a shard as the roots agree on them. Plain data; the rules that keep them consistent
//! with each other are checked by `ClusterMap`, and who may change them how is control/root-state.

use crate::id::{Incarnation, NodeId, NodeKey, ShardId, TopologyVersion};
use crate::slot_set::SlotSet;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One node (process) of the cluster.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Who it is; survives restarts.
    pub id: NodeId,
    /// The key by which it proves who it is, as of its join; `None` if it has shown none.
    pub key: Option<NodeKey>,
    /// Address for clients and nodes (an IP, normally).
    pub host: String,
    /// Announced host name, or empty.
    pub hostname: String,
    /// Port for clients without TLS; 0 if none.
    pub port: u16,
    /// Port for nodes and roots.
    pub cluster_port: u16,
    /// Port for clients with TLS; 0 if none.
    pub tls_port: u16,
    /// The last process start that registered with the roots.
    pub incarnation: Incarnation,
    /// Failure domain, or empty.
    pub zone: String,
    /// Holds data: is the primary or a replica of a shard.
    pub is_data: bool,
    /// Its id in the Raft group, if it has one (it need not be a voter at the moment).
    pub root_id: Option<u64>,
    /// May become a voter of the roots.
    pub root_eligible: bool,
    /// The shard that it serves. Always set for a data node, never for a pure root.
    pub shard: Option<ShardId>,
    /// Rank among candidates: lower is preferred, 0 is never promoted automatically.
    pub replica_priority: u16,
    /// Verdict of the roots: counted as failed.
    pub failed: bool,
    /// Configured never to be promoted automatically (`cluster-replica-no-failover`).
    pub no_failover: bool,
    /// As a replica it may be moved to a primary that has lost its own, when its shard keeps so many
    /// live ones (`cluster-migration-barrier`). None: never (`cluster-allow-replica-migration no`).
    pub migration_barrier: Option<u32>,
    /// A replica that takes its data from another replica of its shard, not from the primary. Only as
    /// long as that one lives and is one: see [`crate::ClusterMap::upstream_of`].
    pub upstream: Option<NodeId>,
    /// Log index of its join; the lowest are preferred as roots.
    pub join_index: u64,
    /// Since when it has been a member of its shard without a verdict. It may be promoted only if a
    /// primary whose map had at least this version has told it that it needs its promise (see
    /// control/liveness).
    pub promotable_since: TopologyVersion,
}

impl Node {
    /// A data node that may also be a root, with the defaults of the configuration; the caller sets
    /// what differs.
    pub fn new(id: NodeId, host: impl Into<String>, port: u16) -> Node {
        Node {
            id,
            key: None,
            host: host.into(),
            hostname: String::new(),
            port,
            cluster_port: port.saturating_add(10000),
            tls_port: 0,
            incarnation: Incarnation::ZERO,
            zone: String::new(),
            is_data: true,
            root_id: None,
            root_eligible: true,
            shard: None,
            replica_priority: 100,
            failed: false,
            no_failover: false,
            migration_barrier: Some(1),
            upstream: None,
            join_index: 0,
            promotable_since: TopologyVersion::ZERO,
        }
    }

    /// Whether it can be a voter of the roots at all.
    pub fn is_root_capable(&self) -> bool {
        self.root_eligible && self.root_id.is_some()
    }
}

/// A primary with its replicas and its slots.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Shard {
    /// Who it is; survives changes of its primary.
    pub id: ShardId,
    /// Config epoch, as clients see it; rises with each change of primary.
    pub epoch: u64,
    /// Log index of the entry that made the present primary (in its present incarnation) the
    /// primary. Promises are given for one reign.
    pub reign: TopologyVersion,
    /// The node that may collect promises to write.
    pub primary: NodeId,
    /// The one process start of `primary` that may do so.
    pub primary_incarnation: Incarnation,
    /// Its replicas, in the order in which they came.
    pub replicas: Vec<NodeId>,
    /// The slots it owns.
    pub slots: SlotSet,
    /// It is meant to have a replica: it had one that failed, or got its slots in a cluster with
    /// replicas. Without a live one it is given one of another shard's.
    pub wants_replica: bool,
}

impl Shard {
    /// Primary first, then the replicas.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        std::iter::once(self.primary).chain(self.replicas.iter().copied())
    }
}

/// A flag of CLUSTER NODES, in the order in which Valkey prints them.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum NodeFlag {
    /// The node that answers.
    Myself,
    /// Serves writes of its shard.
    Primary,
    /// Follows the primary of its shard.
    Replica,
    /// Suspected, not yet by a majority.
    PossiblyFailed,
    /// Failed, by the verdict of the roots.
    Failed,
    /// Being added.
    Handshake,
    /// Address not known.
    NoAddress,
    /// Never promoted automatically.
    NoFailover,
    /// None of the others.
    NoFlags,
}

impl NodeFlag {
    /// The word that clients parse.
    pub const fn as_str(self) -> &'static str {
        match self {
            NodeFlag::Myself => "myself",
            NodeFlag::Primary => "master",
            NodeFlag::Replica => "slave",
            NodeFlag::PossiblyFailed => "fail?",
            NodeFlag::Failed => "fail",
            NodeFlag::Handshake => "handshake",
            NodeFlag::NoAddress => "noaddr",
            NodeFlag::NoFailover => "nofailover",
            NodeFlag::NoFlags => "noflags",
        }
    }
}

impl fmt::Display for NodeFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! What heartbeats, acknowledgements and evidence say. Plain data; control/wire carries it.

use pando_topology::{Incarnation, NodeId, ShardId, TopologyVersion};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// "I am the primary of this shard in this reign": asks for an exclusive promise.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The shard.
    pub shard: ShardId,
    /// The reign (`Shard::reign`).
    pub reign: TopologyVersion,
}

/// "The primary of this shard needs my promise": kept by the replica, on disk too.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// The shard.
    pub shard: ShardId,
    /// Version of the map of the primary when it said so.
    pub version: TopologyVersion,
}

/// Which stream of writes a copy of the data belongs to. Offsets can be compared only within one.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Lineage {
    /// First 16 digits of the replication id; 0 if there is none.
    pub id: u64,
    /// Those of the stream that it continues since the last promotion; 0 if none.
    pub before: u64,
    /// Up to which offset the two are the same.
    pub shared: u64,
}

impl Lineage {
    /// From the 40 hexadecimal digits of INFO (`replid`, `replid2`) and the offset up to which both are one.
    pub fn new(replid: &[u8], replid2: &[u8], shared: u64) -> Lineage {
        let number = |id: &[u8]| {
            let digits = id.get(..16).and_then(|digits| std::str::from_utf8(digits).ok());
            digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
        };
        Lineage { id: number(replid), before: number(replid2), shared }
    }

    /// A copy of this stream up to `offset` is a beginning of `other`.
    pub fn begins(&self, offset: u64, other: &Lineage) -> bool {
        self.id == other.id || (self.id == other.before && offset <= other.shared)
    }
}

/// What a node says about itself, for the ranking of candidates. Safety does not depend on it,
/// except on `told`, `vouches` and `active`.
#[derive(Clone, Eq, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Replication offset.
    pub offset: u64,
    /// What the offset counts.
    pub lineage: Lineage,
    /// Its link to the primary is up (true on a primary). What came before it broke is in `offset`.
    pub link_up: bool,
    /// Replica: the link has been down for longer than it may be for an automatic promotion
    /// (`cluster-replica-validity-factor`).
    pub stale: bool,
    /// It has the data: completed a full sync, or loaded its files and may serve them.
    pub synced: bool,
    /// See `Told`.
    pub told: Option<Told>,
    /// Milliseconds until it may activate a promotion (its promise to a primary that may be alive).
    pub promise_left_ms: u64,
    /// See `PrimaryLease::vouches`.
    pub vouches: Option<Claim>,
    /// The reign in which the process has become active: all reigns before it are over.
    pub active: Option<Claim>,
}

/// Node to root: every third or half of the lease, and at once after a change.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Rises with each beat of the process; names the time of sending.
    pub seq: u64,
    /// The process of the root to which this is sent, as its greeting said; zero if not known.
    pub root_incarnation: Incarnation,
    /// Version of the sender's map.
    pub version: TopologyVersion,
    /// `RootSet::since` of the sender's map.
    pub roots_since: TopologyVersion,
    /// Set while the sender is primary and wants to write. Leaving it out gives promises back.
    pub claim: Option<Claim>,
    /// The sender holds an unexpired promise of this root.
    pub holds_promise: bool,
    /// About the sender's data.
    pub status: NodeStatus,
}

/// An exclusive promise for one shard.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// The shard.
    pub shard: ShardId,
    /// The reign for which it was asked.
    pub reign: TopologyVersion,
    /// How long it lasts: for the holder from sending, for the giver from receipt.
    pub lease_ms: u64,
}

/// Root to node: answers one heartbeat. It also promises not to count the node as failed for one
/// lease.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ack {
    /// The root.
    pub root: NodeId,
    /// The process of the root.
    pub root_incarnation: Incarnation,
    /// The process of the node that is answered.
    pub incarnation: Incarnation,
    /// The heartbeat that is answered.
    pub seq: u64,
    /// The promise, if one was asked for and could be given.
    pub granted: Option<Grant>,
    /// Version of the root's map: a node that is behind asks for the changes.
    pub version: TopologyVersion,
}

/// Primary to replica.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct PrimaryBeat {
    /// The primary.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// From the same counter as the heartbeats to the roots.
    pub seq: u64,
    /// The shard.
    pub shard: ShardId,
    /// The reign.
    pub reign: TopologyVersion,
    /// Set when the primary is active and counts the receiver among those whose promises it needs:
    /// the version of its map.
    pub told: Option<TopologyVersion>,
    /// The primary has stopped writing in this reign for good and needs no promise.
    pub released: bool,
}

/// Replica to primary.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct BeatAck {
    /// The replica.
    pub replica: NodeId,
    /// The process of the primary that is answered.
    pub incarnation: Incarnation,
    /// The beat that is answered.
    pub seq: u64,
    /// "I shall not let myself be promoted for so long."
    pub granted: Option<Grant>,
    /// Version of the replica's map: a primary that is behind asks its roots.
    pub version: TopologyVersion,
}

/// A connection to the process broke, and then its port refused, or answered as another process.
/// Ends all promises to the process at once.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProofOfDeath {
    /// The node.
    pub node: NodeId,
    /// The process that is gone; all before it are too.
    pub incarnation: Incarnation,
}

/// The promises of a root that ends as planned, for the process after it. Valid for that one only.
#[derive(Clone, Eq, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LedgerNote {
    /// Those that had not run out.
    pub promises: Vec<NotedPromise>,
    /// For so long it could not exclude that a process before it had given others.
    pub bound_ms: u64,
}

/// One of them.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct NotedPromise {
    /// For what, in which reign.
    pub claim: Claim,
    /// To whom.
    pub node: NodeId,
    /// To which process.
    pub incarnation: Incarnation,
    /// For how long.
    pub left_ms: u64,
}

/// What one root can say about one node.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub enum NodeState {
    /// Not enough known: the root has just started, or the node is new.
    Unknown,
    /// It has the root's promise not to be counted as failed.
    Alive {
        /// How long the promise lasts.
        left_ms: u64,
    },
    /// The promise has run out.
    Silent {
        /// For how long.
        for_ms: u64,
    },
    /// Its process is proven dead.
    Dead,
}

impl NodeState {
    /// The root counts the node as failed.
    pub fn is_failed(&self) -> bool {
        matches!(self, NodeState::Silent { .. } | NodeState::Dead)
    }
}

/// What one root knows about one node.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeEvidence {
    /// The last process that it heard of.
    pub incarnation: Incarnation,
    /// The last heartbeat of that process; 0: what it said is not told here.
    pub seq: u64,
    /// Alive or not.
    pub state: NodeState,
    /// What the last heartbeat said.
    pub status: NodeStatus,
}

/// Root to leader: first everything, then what changes, and often enough a sign that nothing did.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct RootReport {
    /// The root.
    pub root: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Version of the root's map.
    pub version: TopologyVersion,
    /// Rises by one with each report of the process.
    pub seq: u64,
    /// `nodes` is everything; otherwise only what changed since the report before.
    pub full: bool,
    /// What it knows.
    pub nodes: BTreeMap<NodeId, NodeEvidence>,
}

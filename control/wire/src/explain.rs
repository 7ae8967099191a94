// SPDX-License-Identifier: BSD-3-Clause
//! CLUSTER EXPLAIN between a node and the leading root: the question and the answer. Plain data; the root's agent fills it
//! in, the asking node renders it for its client.

use pando_root_state::{Opinion, Record, SeenCandidate, Subject};
use pando_topology::{NodeId, ShardId, TopologyVersion};
use serde::{Deserialize, Serialize};

/// What somebody wants to know.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub enum Question {
    /// All about a shard.
    Shard(ShardId),
    /// All about a node, and about its shard.
    Node(NodeId),
    /// All about the roots.
    Roots,
    /// The last so many decisions about anything.
    Last(usize),
}

/// What the leading root says.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The leading root.
    pub root: NodeId,
    /// Its term.
    pub term: u64,
    /// Its clock, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The version of the map of which this is told.
    pub version: TopologyVersion,
    /// Every root, and when it last reported to the leader.
    pub roots: Vec<RootNow>,
    /// What was decided, newest first.
    pub records: Vec<(Subject, Record)>,
    /// The shard as it is now, if it is one.
    pub shard: Option<ShardNow>,
    /// What the roots say of the node in question, now.
    pub opinions: Vec<(NodeId, Opinion)>,
}

/// One root, as the leader sees it.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct RootNow {
    /// The root.
    pub node: NodeId,
    /// How long ago it reported; `None`: never to this leader.
    pub report_age_ms: Option<u64>,
    /// Its reports count at the moment.
    pub answers: bool,
}

/// A shard, as the leader sees it.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct ShardNow {
    /// The shard.
    pub shard: ShardId,
    /// What the roots say of its primary.
    pub opinions: Vec<(NodeId, Opinion)>,
    /// Its replicas, best first, and what would speak against promoting each.
    pub candidates: Vec<SeenCandidate>,
    /// Whom the leading root has promised not to let another write, and for how many milliseconds more.
    pub promised: Option<(NodeId, u64)>,
    /// What the roots would do now, or wait for, in words.
    pub next: String,
}

// SPDX-License-Identifier: BSD-3-Clause
//! What can be proposed to the roots, and what comes back. Every variant is matched without `_` in
//! `rules`, so a new one does not compile until it has a rule.

use crate::evidence::{Decision, Stamp};
use pando_topology::{ClusterId, Incarnation, Node, NodeId, ShardId, SlotSet, TopologyVersion};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names one proposal, so that it has its effect once however often it is sent. Random; zero means
/// that repeating is harmless and nothing is remembered (the leader's own decisions).
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct RequestId(pub u128);

impl From<(u64, u64)> for RequestId {
    fn from((high, low): (u64, u64)) -> RequestId {
        RequestId(u128::from(high) << 64 | u128::from(low))
    }
}

impl From<RequestId> for (u64, u64) {
    fn from(id: RequestId) -> (u64, u64) {
        ((id.0 >> 64) as u64, id.0 as u64)
    }
}

impl RequestId {
    /// Not remembered.
    pub const NONE: RequestId = RequestId(0);
}

/// An entry of the log: a command and the request that it answers.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Proposal {
    /// Who asks, for idempotence.
    pub request: RequestId,
    /// What is asked.
    pub command: Command,
    /// Set by the leading root when it puts the entry into the log.
    #[serde(default)]
    pub stamp: Stamp,
}

impl Proposal {
    /// A proposal without a stamp yet.
    pub fn new(request: RequestId, command: Command) -> Proposal {
        Proposal { request, command, stamp: Stamp::default() }
    }
}

/// The shard that a joining primary brings along from its island.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct JoinShard {
    /// The shard; must be new to the cluster.
    pub id: ShardId,
    /// Its config epoch on the island.
    pub epoch: u64,
    /// The slots that it claims.
    pub slots: SlotSet,
}

/// What a node says about itself at each start and when its configuration changes.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Address for clients and nodes.
    pub host: String,
    /// Announced host name, or empty.
    pub hostname: String,
    /// Port for clients.
    pub port: u16,
    /// Port for nodes and roots.
    pub cluster_port: u16,
    /// Port for clients with TLS; 0 if none.
    pub tls_port: u16,
    /// Failure domain, or empty.
    pub zone: String,
    /// Rank among candidates; 0 is never promoted automatically.
    pub replica_priority: u16,
    /// Never promoted automatically.
    pub no_failover: bool,
    /// See `Node::migration_barrier`.
    pub migration_barrier: Option<u32>,
    /// May become a root.
    pub root_eligible: bool,
    /// Its id in the Raft group.
    pub root_id: Option<u64>,
}

impl NodeInfo {
    /// What this node has registered.
    pub fn of(node: &Node) -> NodeInfo {
        NodeInfo {
            host: node.host.clone(),
            hostname: node.hostname.clone(),
            port: node.port,
            cluster_port: node.cluster_port,
            tls_port: node.tls_port,
            zone: node.zone.clone(),
            replica_priority: node.replica_priority,
            no_failover: node.no_failover,
            migration_barrier: node.migration_barrier,
            root_eligible: node.root_eligible,
            root_id: node.root_id,
        }
    }
}

/// Why a replica is promoted. Recorded in the log for people; all reasons pass the same guards.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub enum PromoteReason {
    /// A majority of roots counts the primary as failed.
    Failed,
    /// The primary runs again as a new process, and the replica has the data.
    Restarted,
    /// An operator asked (CLUSTER FAILOVER).
    Manual,
}

impl PromoteReason {
    /// For people.
    pub fn words(&self) -> &'static str {
        match self {
            PromoteReason::Failed => "the primary has failed",
            PromoteReason::Restarted => "the primary was restarted",
            PromoteReason::Manual => "asked for",
        }
    }
}

/// A change of the metaspace.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Names the cluster. First entry of an island; refused once the cluster has another name.
    Init {
        /// The new cluster's id.
        cluster_id: ClusterId,
    },
    /// Adds a node, with its own shard if it is a data node. Repeating it for a known node is the
    /// same as `Register`. Slots that both sides claim stay with the higher epoch (the present
    /// owner's, if equal). `node.shard`, `failed`, `join_index`, `promotable_since` are set here.
    Join {
        /// The node.
        node: Box<Node>,
        /// Its shard; required exactly for data nodes.
        shard: Option<JoinShard>,
    },
    /// A process start or a change of address. An older incarnation is refused.
    Register {
        /// The node.
        node: NodeId,
        /// The process that speaks.
        incarnation: Incarnation,
        /// Its address and configuration.
        info: NodeInfo,
    },
    /// Removes a node (CLUSTER FORGET). A node that was forgotten recently answers OK again.
    Forget {
        /// The node to forget.
        node: NodeId,
        /// The node whose client asked.
        by: NodeId,
    },
    /// A node leaves the cluster (CLUSTER RESET). The only node of a cluster stays and drops its
    /// slots; any other is removed, and its first replica inherits the shard without slots.
    Reset {
        /// The node that leaves.
        node: NodeId,
        /// Forget the config epoch too.
        hard: bool,
        /// A replica was meant: refused if it has become a primary.
        #[serde(default)]
        as_replica: bool,
    },
    /// Gives free slots to a primary. All or nothing.
    AddSlots {
        /// The primary.
        node: NodeId,
        /// The slots.
        slots: SlotSet,
    },
    /// Takes slots from the primary that asks. All or nothing.
    DelSlots {
        /// The primary that owns them.
        node: NodeId,
        /// The slots.
        slots: SlotSet,
    },
    /// Takes all slots from the primary that asks.
    FlushSlots {
        /// The primary.
        node: NodeId,
    },
    /// Moves slots. Each must be free, belong to `to` already, or belong to `consent`.
    SetSlotOwner {
        /// The slots.
        slots: SlotSet,
        /// The new primary.
        to: NodeId,
        /// The present primary, which has stopped serving them and agrees.
        consent: Option<NodeId>,
    },
    /// A change that a primary asks for (no batch), void when another reign of its shard has begun meanwhile.
    DuringReign {
        /// The primary.
        node: NodeId,
        /// The reign in which it asked.
        reign: TopologyVersion,
        /// What it asked for.
        command: Box<Command>,
    },
    /// Makes a node a replica of a primary; the node itself asks.
    Replicate {
        /// The replica to be.
        node: NodeId,
        /// The primary.
        of: NodeId,
    },
    /// Makes a node a replica whose data come from another replica (CLUSTER REPLICATE <id> CHAIN).
    Chain {
        /// The replica to be.
        node: NodeId,
        /// The replica that it takes its data from, of its own shard or of another one.
        to: NodeId,
    },
    /// Moves a replica to a shard that has lost its own. Decided by the leader.
    MoveReplica {
        /// The replica.
        node: NodeId,
        /// Its shard.
        from: ShardId,
        /// The shard that has no live replica.
        to: ShardId,
    },
    /// Makes a replica the primary of a new, empty shard (CLUSTER REPLICATE NO ONE).
    Detach {
        /// The replica.
        node: NodeId,
        /// The new shard.
        shard: ShardId,
    },
    /// Makes a replica the primary of its shard.
    Promote {
        /// The shard.
        shard: ShardId,
        /// The replica.
        to: NodeId,
        /// The process of the replica that was judged.
        incarnation: Incarnation,
        /// Epoch of the shard when this was decided.
        expect_epoch: u64,
        /// Map version at which a primary of the shard, able to write, last told the replica that
        /// it needs its promise; zero if none ever did.
        told_at: TopologyVersion,
        /// The present reign, if it and all before it are known to be over: a newer process of the primary has vouched
        /// for that, or its process is proven dead and had been active. Then the replica needs not have been told.
        /// See `pando_liveness`.
        over: Option<TopologyVersion>,
        /// Why.
        reason: PromoteReason,
    },
    /// Lets a new process of the primary collect promises: a new reign.
    ConfirmPrimary {
        /// The shard.
        shard: ShardId,
        /// Its primary.
        node: NodeId,
        /// The process, which must be the one registered.
        incarnation: Incarnation,
        /// Epoch of the shard when this was decided.
        expect_epoch: u64,
    },
    /// Verdict of a majority of roots: these have failed. Unknown nodes are skipped.
    MarkFailed {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Verdict of a majority of roots: these are back. Unknown nodes are skipped.
    ClearFailed {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// CLUSTER SET-CONFIG-EPOCH.
    SetConfigEpoch {
        /// The primary.
        node: NodeId,
        /// Its epoch.
        epoch: u64,
    },
    /// CLUSTER BUMPEPOCH; answered with `BUMPED n` or `STILL n`.
    BumpEpoch {
        /// The primary.
        node: NodeId,
    },
    /// How many voters the cluster keeps (`cluster-root-count`): an odd number up to `ROOTS_MAX`.
    SetRootCount {
        /// So many.
        count: u8,
    },
    /// Begins to exchange the voters: from here on a promise quorum needs both sets. With the voters before as
    /// `voters` it calls off the exchange that is under way; only while the Raft group has not made it.
    SetRoots {
        /// Node and Raft id of each new voter.
        voters: BTreeMap<NodeId, u64>,
        /// Version at which the set last changed, as the proposer knows it.
        expect_since: TopologyVersion,
    },
    /// Ends the exchange. To be proposed only when a majority of the previous voters has applied
    /// `SetRoots` for at least one lease (see `next_root_step`).
    SettleRoots {
        /// Version of the `SetRoots`.
        expect_since: TopologyVersion,
    },
    /// Changes nothing: a shard gets no other primary, and why. Kept in the history; to be proposed once
    /// for each change of the reason.
    Refuse {
        /// The shard.
        shard: ShardId,
        /// The replica that was to be promoted, if it was a certain one.
        node: Option<NodeId>,
        /// In words.
        text: String,
    },
    /// Changes nothing: the root that proposes it leads since this term. Kept in the history.
    Lead {
        /// The leading root.
        root: NodeId,
        /// Its term.
        term: u64,
        /// What it knows of the leader before, in words.
        note: String,
    },
    /// Like `Batch`, with the evidence for each of the commands (none of them a batch itself).
    Decide {
        /// The roots whose opinions are given, in this order.
        roots: Vec<NodeId>,
        /// What was decided.
        decisions: Vec<Decision>,
    },
    /// Decided in one entry, applied in order; one refusal does not stop the others.
    Batch(Vec<Command>),
}

/// What became of a command.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// Done (also: already so).
    Done,
    /// Done, with a status line for the client (`BUMPED 7`).
    Answer(String),
    /// Not done; the exact error text for the client.
    Refused(String),
    /// One outcome for each command of a batch.
    Batch(Vec<Outcome>),
}

impl Outcome {
    /// The refusal, or the first one of a batch.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Outcome::Done | Outcome::Answer(_) => None,
            Outcome::Refused(text) => Some(text),
            Outcome::Batch(all) => all.iter().find_map(Outcome::refusal),
        }
    }

    /// Nothing was refused.
    pub fn is_done(&self) -> bool {
        self.refusal().is_none()
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! What nodes and roots say to each other on a connection ([`crate::Conn`]). Two kinds of frame:
//! [`MESSAGE`] is one-way, [`CALL`] a request that is answered by a [`Reply`]. Not here: the hello
//! and the framing (`conn`, `frame`), and the Raft library's requests. `control/agent` is the only
//! user.
//!
//! ```text
//!   Node     node -> root: heartbeats, evidence, subscription   root -> node: acks, topology
//!   Peer     primary -> replica: promise heartbeats             replica -> primary: promises
//!   Publish  any node -> any node: published messages
//!   Call     one call: MEET, proposals, ...
//!   Probe    nothing: is somebody there?
//! ```

use std::sync::Arc;

use pando_liveness::{Ack, BeatAck, Heartbeat, PrimaryBeat, RootReport};
use pando_root_state::{Outcome, Proposal};
use pando_topology::{ClusterMap, Delta, NodeId, ShardId, TopologyVersion};
use serde::{Deserialize, Serialize};

use crate::explain::{Explanation, Question};
use crate::frame::{ClusterId, Kind, kinds};

/// A one-way [`Message`].
pub const MESSAGE: Kind = kinds::MESSAGES_FIRST;
/// A [`Call`], answered by a [`Reply`].
pub const CALL: Kind = kinds::MESSAGES_FIRST + 1;

/// Where a root can be reached.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Contact {
    /// The node.
    pub node: NodeId,
    /// Its address.
    pub host: String,
    /// Its cluster port.
    pub cluster_port: u16,
}

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Call {
    /// Who are you, and how large is your cluster?
    GetIsland {
        /// The address that the caller dialled: a callee that knows none of its own takes it.
        dialled: String,
    },
    /// Commit this (answered by the leading root).
    Propose(Box<Proposal>),
    /// Join the cluster with these roots (to an island of one node, by whoever received the MEET).
    JoinUs {
        /// The absorbing cluster.
        cluster: ClusterId,
        /// Where its roots are.
        roots: Vec<Contact>,
    },
    /// The version of the newest committed change (answered by the leading root after a barrier).
    Barrier,
    /// Planned failover: hold writes of this shard for so long and say where the log ends.
    PauseWrites {
        /// The shard, whose primary is called.
        shard: ShardId,
        /// Its epoch, by the caller's map.
        epoch: u64,
        /// 0 lets them go.
        for_ms: u64,
    },
    /// How many roots count this node as failed.
    CountFailures(NodeId),
    /// What was decided, and why? (Answered by the leading root after a barrier.)
    Explain(Question),
    /// Where is every node's copy of the data? (Answered by any root.)
    Offsets,
    /// Where is your copy of the data?
    Position,
    /// From a primary that is about to end: take over as planned.
    TakeOver {
        /// The shard of both.
        shard: ShardId,
        /// Its epoch, by the caller's map.
        epoch: u64,
    },
}

/// Answer to [`Call`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// To `GetIsland`.
    Island(Island),
    /// To `Propose`: what applying it came to, and the version that includes it.
    Committed {
        /// Result of applying.
        outcome: Outcome,
        /// The map that includes it.
        version: TopologyVersion,
    },
    /// Not the leader; perhaps that one is.
    NotLeader(Option<NodeId>),
    /// To `JoinUs`, when joined.
    Joined,
    /// To `Barrier`.
    Version(TopologyVersion),
    /// To `PauseWrites`.
    Paused {
        /// End of the primary's log.
        offset: u64,
    },
    /// To `CountFailures`.
    Count(u64),
    /// To `Explain`.
    Explained(Box<Explanation>),
    /// To `Offsets`: the replication offset of each node that has been heard of.
    Offsets(Vec<(NodeId, u64)>),
    /// To `Position`.
    Position {
        /// End of the log, or what was applied of it.
        offset: u64,
        /// It could be promoted now: in sync, its link is up, and no promise of an earlier process binds it.
        is_ready: bool,
    },
    /// To `TakeOver`, when done.
    TakenOver,
    /// Cannot be done at this moment; another try may succeed.
    Busy(String),
    /// Final: a text for the client.
    Refused(String),
}

/// Answer to [`Call::GetIsland`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Island {
    /// Its name.
    pub cluster: ClusterId,
    /// The node that answers.
    pub node: NodeId,
    /// How many nodes it has.
    pub size: usize,
    /// Where its roots are.
    pub roots: Vec<Contact>,
    /// The caller's address as the callee sees it.
    pub your_host: String,
    /// The node is on its way into another cluster.
    pub joining: bool,
}

/// One-way messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Node to root.
    Heartbeat(Box<Heartbeat>),
    /// Root to node, with the leader that the root knows of.
    Ack(Ack, Option<NodeId>),
    /// Node to root: send me the map, if it is newer than this (`None`: a full copy whatever I have).
    Subscribe(Option<TopologyVersion>),
    /// Root to node: the whole map.
    Full(Arc<ClusterMap>),
    /// Root to node: what changed.
    Delta(Delta),
    /// Root to root.
    Evidence(RootReport),
    /// Primary to replica.
    PrimaryBeat(PrimaryBeat),
    /// Replica to primary.
    BeatAck(BeatAck),
    /// A published message.
    Publish {
        /// The channel.
        channel: Vec<u8>,
        /// The message.
        message: Vec<u8>,
        /// `SPUBLISH`.
        sharded: bool,
    },
    /// Node to root: the process at this end can be reached there. It has not registered yet, and perhaps no root
    /// can commit that before others find this one.
    At {
        /// Announced host.
        host: String,
        /// Cluster port.
        port: u16,
    },
}

impl Message {
    /// Name for `cluster_stats_messages_*`.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Heartbeat(_) => "ping",
            Message::Ack(..) => "pong",
            Message::Subscribe(_) => "subscribe",
            Message::Full(_) | Message::Delta(_) => "update",
            Message::Evidence(_) => "fail",
            Message::PrimaryBeat(_) => "primary_ping",
            Message::BeatAck(_) => "primary_pong",
            Message::Publish { .. } => "publish",
            Message::At { .. } => "meet",
        }
    }
}

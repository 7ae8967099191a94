// SPDX-License-Identifier: BSD-3-Clause
//! The messages of the cluster port, one enum for all purposes. What is not here: the framing and
//! its checksum (`frame`), and the Raft library's own requests, which travel as opaque bytes on
//! connections of their own. `control/agent` is the only user.
//!
//! ```text
//! caller ── Hello{purpose} ──► callee        one Hello per connection, then by purpose:
//!        ◄── HelloAck ───────
//!   Node     heartbeats, evidence, subscription  ──►   ◄── acks, topology
//!   Peer     promise heartbeats of a primary     ──►   ◄── promises of a replica
//!   Publish  messages for subscribers            ──►
//!   Call     one Call                            ──►   ◄── one Reply
//!   Raft     handed over to control/raft
//!   Probe    nothing: the HelloAck is the answer
//! ```

use std::sync::Arc;

use pando_root_state::{Command, Outcome};
use pando_topology::{ClusterMap, Delta, Incarnation, NodeId, ShardId, TopologyVersion};
use serde::{Deserialize, Serialize};

/// Version of these messages; a peer with another one is refused at the hello.
pub const PROTOCOL: u16 = 1;

/// Names a cluster (an island is one, too); random, made when the cluster is.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

/// What a connection is for.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// A node talks to a root.
    Node,
    /// A primary talks to its replica.
    Peer,
    /// Published messages.
    Publish,
    /// One call, one reply.
    Call,
    /// The Raft library's requests.
    Raft,
    /// Is somebody there, and which incarnation?
    Probe,
}

/// First message of every connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the caller.
    pub protocol: u16,
    /// The caller's cluster.
    pub cluster: ClusterId,
    /// The caller.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// What the connection is for.
    pub purpose: Purpose,
    /// The address that the caller dialled: a callee that knows no address of its own takes it.
    pub dialled: String,
}

/// Answer to [`Hello`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HelloAck {
    /// The callee's cluster.
    pub cluster: ClusterId,
    /// The callee.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Whether the purpose can be served: no for another cluster (except calls and probes).
    pub accepted: bool,
}

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

/// Sent by every node to every root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// Grows by one; the ack names it, so the holder knows when it was sent.
    pub seq: u64,
    /// The shard it belongs to, by its own map.
    pub shard: Option<ShardId>,
    /// The shard's epoch, by its own map.
    pub epoch: u64,
    /// It asks for the promise that makes it primary of that shard.
    pub claims_primary: bool,
    /// Replication offset.
    pub offset: u64,
    /// Replication id.
    pub replid: Vec<u8>,
    /// Replica: its link to the primary is up.
    pub link_up: bool,
    /// Replica: it may be promoted, as far as it can tell.
    pub eligible: bool,
    /// Replica: how long its own promise to the primary still runs.
    pub promise_left_ms: u64,
    /// The topology it has.
    pub version: TopologyVersion,
    /// It still holds a promise that this root gave (perhaps before the root restarted).
    pub holds_promise: bool,
}

/// Answer to [`Heartbeat`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ack {
    /// Number of the heartbeat.
    pub seq: u64,
    /// Length of the promise, counted by the holder from the moment it sent the heartbeat.
    pub granted_ms: Option<u64>,
    /// The topology version of the root.
    pub version: TopologyVersion,
    /// The leader this root knows of.
    pub leader: Option<NodeId>,
    /// The root has a leader and, if it leads itself, a majority.
    pub quorum: bool,
}

/// What one root knows about one node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node.
    pub node: NodeId,
    /// Its newest known process.
    pub incarnation: Incarnation,
    /// Alive, silent or dead.
    pub state: ReportedState,
    /// The last heartbeat's words about its data.
    pub shard: Option<ShardId>,
    /// Shard epoch of that heartbeat.
    pub epoch: u64,
    /// It claims to be primary.
    pub claims_primary: bool,
    /// Replication offset.
    pub offset: u64,
    /// Its link to the primary was up.
    pub link_up: bool,
    /// May be promoted.
    pub eligible: bool,
    /// How long its promise to its primary still runs.
    pub promise_left_ms: u64,
}

/// The three verdicts of one root about one node.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub enum ReportedState {
    /// The root's promise runs for this long.
    Alive {
        /// Milliseconds from the sending of the report.
        left_ms: u64,
    },
    /// The promise has run out.
    Silent {
        /// Milliseconds since then.
        since_ms: u64,
    },
    /// Its port refused, or another process answered there.
    Dead,
}

/// A primary's heartbeat to a replica, for the promise not to be promoted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PrimaryHeartbeat {
    /// The primary.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// The shard.
    pub shard: ShardId,
    /// Its epoch.
    pub epoch: u64,
    /// Grows by one per link.
    pub seq: u64,
}

/// A replica's answer to [`PrimaryHeartbeat`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicaPromised {
    /// Number of the heartbeat.
    pub seq: u64,
    /// Length of the promise; `None` when refused.
    pub granted_ms: Option<u64>,
}

/// A request on a connection of purpose [`Purpose::Call`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Call {
    /// Who are you, and how large is your cluster?
    GetIsland,
    /// Commit this command (answered by the leading root).
    Propose(Command),
    /// Join the cluster with these roots (to an island of one node, by whoever received the MEET).
    JoinUs {
        /// The absorbing cluster.
        cluster: ClusterId,
        /// Where its roots are.
        roots: Vec<Contact>,
    },
    /// Start an empty member of the root group; answered with its voter id.
    BecomeRoot {
        /// The cluster, so that a stray call does nothing.
        cluster: ClusterId,
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
    /// To `BecomeRoot`.
    Root {
        /// Id in the root group.
        voter: u64,
    },
    /// To `Barrier`.
    Version(TopologyVersion),
    /// To `PauseWrites`.
    Paused {
        /// End of the primary's log.
        offset: u64,
    },
    /// To `CountFailures`.
    Count(u64),
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
    /// The node is on its way into another cluster.
    pub joining: bool,
}

/// Everything that crosses the cluster port, except the Raft library's requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Opens a connection.
    Hello(Hello),
    /// Answers it.
    HelloAck(HelloAck),
    /// Node to root.
    Heartbeat(Heartbeat),
    /// Root to node.
    Ack(Ack),
    /// Node to root: send me the map, if it is newer than this (`None`: a full copy whatever I have).
    Subscribe(Option<TopologyVersion>),
    /// Root to node: the whole map.
    Full(Arc<ClusterMap>),
    /// Root to node: what changed.
    Delta(Delta),
    /// Root to root.
    Evidence(Vec<NodeReport>),
    /// Primary to replica.
    PrimaryHeartbeat(PrimaryHeartbeat),
    /// Replica to primary.
    ReplicaPromised(ReplicaPromised),
    /// A published message.
    Publish {
        /// The channel.
        channel: Vec<u8>,
        /// The message.
        message: Vec<u8>,
        /// `SPUBLISH`.
        sharded: bool,
    },
    /// A request.
    Call(Call),
    /// Its answer.
    Reply(Reply),
}

impl Message {
    /// Name for `cluster_stats_messages_*`.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Hello(_) | Message::HelloAck(_) => "hello",
            Message::Heartbeat(_) => "ping",
            Message::Ack(_) => "pong",
            Message::Subscribe(_) => "subscribe",
            Message::Full(_) | Message::Delta(_) => "update",
            Message::Evidence(_) => "fail",
            Message::PrimaryHeartbeat(_) => "primary_ping",
            Message::ReplicaPromised(_) => "primary_pong",
            Message::Publish { .. } => "publish",
            Message::Call(_) => "call",
            Message::Reply(_) => "reply",
        }
    }
}

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

use bytes::{BufMut, Bytes, BytesMut};
use pando_liveness::{Ack, BeatAck, Heartbeat, PrimaryBeat, RootReport};
use pando_root_state::{Outcome, Proposal};
use pando_topology::{NodeId, ShardId, TopologyVersion};
use serde::{Deserialize, Serialize};

use crate::WireError;
use crate::beats::{self, Beat, Ends};
use crate::explain::{Explanation, Question};
use crate::frame::{ClusterId, Kind, decode_body, encode_body, kinds};
use crate::topology::MapUpdate;

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
    /// Node to root: another root tells me now.
    Unsubscribe,
    /// Root to node: the whole map, or what changed. Coded by hand, see [`encode_message`].
    #[serde(skip)]
    Map(MapUpdate),
    /// Root to root.
    Evidence(RootReport),
    /// Leader to root: report what you know of these nodes; of none: of all.
    Tell(Vec<NodeId>),
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
            Message::Subscribe(_) | Message::Unsubscribe => "subscribe",
            Message::Map(_) => "update",
            Message::Evidence(_) | Message::Tell(_) => "fail",
            Message::PrimaryBeat(_) => "primary_ping",
            Message::BeatAck(_) => "primary_pong",
            Message::Publish { .. } => "publish",
            Message::At { .. } => "meet",
        }
    }
}

/// The first byte of a message that is sent often; MessagePack of the others starts with none of these.
mod tag {
    pub const HEARTBEAT: u8 = 1;
    pub const ACK: u8 = 2;
    pub const PRIMARY_BEAT: u8 = 3;
    pub const BEAT_ACK: u8 = 4;
    pub const MAP: u8 = 5;
    pub const EVIDENCE: u8 = 6;
}

/// Bits of the second byte of a map.
mod map_bits {
    pub const IS_WHOLE: u8 = 1;
    pub const IS_EXACT: u8 = 2;
}

/// The body of a frame of kind [`MESSAGE`] on a connection of these two. What is sent often has a tag of one byte and a code
/// of its own (`beats`, `topology`).
pub fn encode_message(message: &Message, ends: &Ends) -> Result<Bytes, WireError> {
    match message {
        Message::Heartbeat(beat) => Ok(beaten(tag::HEARTBEAT, &**beat, ends)),
        Message::Ack(ack, leader) => Ok(beaten(tag::ACK, &(ack.clone(), *leader), ends)),
        Message::PrimaryBeat(beat) => Ok(beaten(tag::PRIMARY_BEAT, beat, ends)),
        Message::BeatAck(ack) => Ok(beaten(tag::BEAT_ACK, ack, ends)),
        Message::Evidence(report) => {
            let mut out = vec![tag::EVIDENCE];
            rmp_serde::encode::write(&mut out, report).map_err(|error| WireError::Body(error.to_string()))?;
            Ok(Bytes::from(out))
        }
        Message::Map(update) => {
            let mut out = BytesMut::with_capacity(18 + update.body.len());
            out.put_u8(tag::MAP);
            let is_whole = if update.from.is_none() { map_bits::IS_WHOLE } else { 0 };
            out.put_u8(is_whole | if update.is_exact { map_bits::IS_EXACT } else { 0 });
            out.put_u64_le(update.from.unwrap_or_default().get());
            out.put_u64_le(update.to.get());
            out.extend_from_slice(&update.body);
            Ok(out.freeze())
        }
        Message::At { .. }
        | Message::Subscribe(_)
        | Message::Unsubscribe
        | Message::Tell(_)
        | Message::Publish { .. } => encode_body(message),
    }
}

fn beaten(tag: u8, beat: &impl Beat, ends: &Ends) -> Bytes {
    let mut out = Vec::with_capacity(96);
    out.push(tag);
    beats::encode(beat, ends, &mut out);
    Bytes::from(out)
}

/// The reverse of [`encode_message`].
pub fn decode_message(body: &Bytes, ends: &Ends) -> Result<Message, WireError> {
    let rest = body.get(1..).unwrap_or_default();
    Ok(match body.first().copied().unwrap_or_default() {
        tag::HEARTBEAT => Message::Heartbeat(Box::new(beats::decode(rest, ends)?)),
        tag::ACK => {
            let (ack, leader) = beats::decode(rest, ends)?;
            Message::Ack(ack, leader)
        }
        tag::PRIMARY_BEAT => Message::PrimaryBeat(beats::decode(rest, ends)?),
        tag::BEAT_ACK => Message::BeatAck(beats::decode(rest, ends)?),
        tag::EVIDENCE => {
            let report = rmp_serde::from_slice(rest).map_err(|error| WireError::Body(error.to_string()))?;
            Message::Evidence(report)
        }
        tag::MAP => {
            let number =
                |at: usize| body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
            let (Some(bits), Some(from), Some(to)) = (body.get(1), number(2), number(10)) else {
                return Err(WireError::Malformed("a cut map"));
            };
            let from = (bits & map_bits::IS_WHOLE == 0).then_some(TopologyVersion(from));
            let is_exact = bits & map_bits::IS_EXACT != 0;
            Message::Map(MapUpdate { from, is_exact, to: TopologyVersion(to), body: body.slice(18..) })
        }
        _ => decode_body(body)?,
    })
}

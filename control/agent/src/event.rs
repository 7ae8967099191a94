// SPDX-License-Identifier: BSD-3-Clause
//! What can happen to the agent. Tasks send these to the driver, which is the only one to change
//! the agent's state; so there is no lock and the order of events is the order of changes.

use std::net::IpAddr;

use pando_topology::{ClusterId, Incarnation, NodeId, TopologyVersion};
use pando_wire::messages::{Call, Message};
use pando_wire::{Conn, Header, Hello};
use tokio::sync::oneshot;

use crate::driver::Driver;
use crate::group::{Group, GroupError};
use crate::net::{Address, ConnId, LinkKey};
use crate::node_state::JoinIntent;
use crate::voters::Checked;

/// See the head of this file.
pub(crate) enum Event {
    /// A kept link works.
    LinkUp { key: LinkKey, generation: u64, conn: Conn },
    /// It broke; its task tries again.
    LinkDown { key: LinkKey, generation: u64 },
    /// A one-way message came over it.
    LinkMessage { key: LinkKey, generation: u64, message: Message },
    /// Somebody connected to the cluster port.
    Accepted { id: ConnId, conn: Conn },
    /// A one-way message from there.
    Message { id: ConnId, conn: Conn, message: Message },
    /// A call from there.
    Call { conn: Conn, header: Header, from: IpAddr, call: Call },
    /// That connection ended.
    Closed { id: ConnId, peer: Hello },
    /// A probe ended: this process is dead (or not, as far as one can see).
    Probed { node: NodeId, incarnation: Incarnation, is_dead: bool },
    /// A try to reach a process at its announced address ended.
    Tried { node: NodeId, incarnation: Incarnation, address: Address, is_reached: bool },
    /// This process of a node answers at an address that was asked on the chance.
    Found { node: NodeId, incarnation: Incarnation, address: Address },
    /// The root group of this node has applied entries, or its leader changed.
    RootsChanged,
    /// A batch of decisions was proposed; whatever came of it, the next may be made.
    Decided,
    /// A read barrier of the own root went through.
    CaughtUp,
    /// The state file has the reign of the own shard, as of this version of the map.
    Stored(TopologyVersion),
    /// The member of the root group that had stopped was started again, or could not be.
    GroupOpened(Box<Reopened>),
    /// See `DataPlane::link_changes`.
    LinkToPrimary,
    /// The voters were looked after; the next look may begin.
    VotersChecked(Checked),
    /// A shared read barrier went through, or not.
    BarrierDone,
    /// A flow wants to look at the driver's state.
    Look(Box<dyn FnOnce(&mut Driver) + Send>),
    /// A request's flow wants a change of the node's own state; answered when it is durable.
    Change(Change, oneshot::Sender<Result<(), String>>),
}

/// What came of starting a member again.
pub(crate) struct Reopened {
    /// The cluster of the node when it was begun,
    pub cluster: ClusterId,
    /// and the number of its folder.
    pub files: u64,
    pub result: Result<Group, GroupError>,
}

/// Changes that flows ask for.
pub(crate) enum Change {
    /// Write down the intent to join, and hold no lease of the own island from here on.
    BeginJoin(JoinIntent),
    /// The join was refused for good: be the island again.
    AbandonJoin,
    /// The join is committed: leave the own island's files behind.
    FinishJoin(JoinIntent),
    /// Become a fresh island, with another node id if `hard`.
    BecomeIsland { hard: bool },
    /// The cluster was told how many roots to keep: by the configuration of this start, or by a client here.
    NoteRootCount { count: u8, is_start: bool },
    /// Announce this address from now on.
    LearnHost(String),
}

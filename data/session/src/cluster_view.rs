// SPDX-License-Identifier: BSD-3-Clause
//! The cluster as a session sees it: a map, who I am in it, and the redirections that follow.
//!
//! Not here: how the map is agreed on, and CLUSTER subcommands (apps/server).

use crate::settings::EndpointType;
use pando_topology::{ClusterMap, Node, NodeId, SLOT_COUNT, ShardId, Slot};
use std::sync::Arc;

/// A map seen from one node, precomputed for the checks of every command. Immutable; replaced as a
/// whole through [`crate::Engine::set_cluster`].
#[derive(Clone)]
pub struct ClusterView {
    /// The map.
    pub map: Arc<ClusterMap>,
    /// This node.
    pub me: NodeId,
    /// The shard that this node belongs to.
    pub my_shard: Option<ShardId>,
    /// Whether the map says that this node is its shard's primary.
    pub is_primary: bool,
    /// Bit set of the slots of `my_shard`.
    shard_slots: Box<[u64; SLOT_COUNT / 64]>,
}

/// Where a slot is served, as this node sees it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Placement {
    /// I am the primary of the slot.
    Mine,
    /// I am a replica of the slot's primary.
    MyPrimarys,
    /// Another shard owns it.
    Elsewhere,
    /// Nobody owns it.
    Unassigned,
}

impl ClusterView {
    /// The view of node `me`.
    pub fn new(map: Arc<ClusterMap>, me: NodeId) -> Self {
        let mut shard_slots = Box::new([0u64; SLOT_COUNT / 64]);
        let shard = map.shard_of(&me);
        if let Some(shard) = shard {
            for slot in shard.slots.iter() {
                shard_slots[slot.index() / 64] |= 1 << (slot.index() % 64);
            }
        }
        let my_shard = shard.map(|shard| shard.id);
        let is_primary = shard.is_some_and(|shard| shard.primary == me);
        Self { map, me, my_shard, is_primary, shard_slots }
    }

    /// Whether this node's shard owns the slot.
    #[inline]
    pub fn shard_owns(&self, slot: Slot) -> bool {
        self.shard_slots[slot.index() / 64] >> (slot.index() % 64) & 1 == 1
    }

    #[inline]
    pub(crate) fn placement(&self, slot: Slot) -> Placement {
        if self.shard_owns(slot) {
            return if self.is_primary { Placement::Mine } else { Placement::MyPrimarys };
        }
        match self.map.owner_of(slot) {
            Some(_) => Placement::Elsewhere,
            None => Placement::Unassigned,
        }
    }

    /// `MOVED slot endpoint:port` for a slot that has an owner.
    pub fn moved(&self, slot: Slot, endpoint: EndpointType, is_tls: bool) -> String {
        match self.map.primary_of(slot) {
            Some(node) => format!("MOVED {} {}", slot.number(), endpoint_of(node, endpoint, is_tls)),
            None => "CLUSTERDOWN Hash slot not served".to_owned(),
        }
    }
}

fn endpoint_of(node: &Node, endpoint: EndpointType, is_tls: bool) -> String {
    let port = if is_tls { node.tls_port } else { node.port };
    match endpoint {
        EndpointType::Ip => format!("{}:{port}", node.host),
        EndpointType::Hostname if node.hostname.is_empty() => format!("?:{port}"),
        EndpointType::Hostname => format!("{}:{port}", node.hostname),
        EndpointType::UnknownEndpoint => format!(":{port}"),
    }
}

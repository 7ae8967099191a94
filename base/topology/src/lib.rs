// SPDX-License-Identifier: BSD-3-Clause
//! The seam between the planes: what a slot, a node, a shard and a cluster map are, and which
//! questions may be asked of a map (owner of a slot, role of a node, difference of two maps).
//!
//! Not here: how a map comes about (control/root-state), who may write at this moment
//! (control/liveness), how it is rendered for a client (data/session). Everything is plain data
//! without clock, socket or randomness; both planes use it.

mod delta;
mod id;
mod map;
mod node;
mod owners;
mod shared;
mod slot;
mod slot_set;
#[cfg(test)]
mod tests;

pub use delta::{Change, Delta, DeltaError, changes_between};
pub use id::{ClusterId, Incarnation, NodeId, NodeKey, ParseIdError, ShardId, TopologyVersion};
pub use map::{ClusterMap, MapError, MapParts, Role, RootSet};
pub use node::{Node, NodeFlag, Shard};
pub use shared::SharedMap;
pub use slot::{SLOT_COUNT, Slot, crc16};
pub use slot_set::{SlotRange, SlotSet};

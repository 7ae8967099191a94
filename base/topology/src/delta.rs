// SPDX-License-Identifier: BSD-3-Clause
//! The difference of two maps, as the roots hand it to their subscribers. A delta says from which
//! version it starts. Its changes carry whole values, so that one that starts earlier leads to the
//! same map from any version in between (`ClusterMap::catch_up`).

use crate::id::{ClusterId, NodeId, ShardId, TopologyVersion};
use crate::map::{MapError, MapParts, RootSet};
use crate::node::{Node, Shard};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One change of a map. Upserts carry the whole new value.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub enum Change {
    /// A node is new or different.
    NodeUpsert(Arc<Node>),
    /// A node is gone.
    NodeRemove(NodeId),
    /// A shard is new or different.
    ShardUpsert(Arc<Shard>),
    /// A shard is gone.
    ShardRemove(ShardId),
    /// The cluster-wide values are different.
    Meta {
        /// Which cluster this is.
        cluster_id: ClusterId,
        /// Highest config epoch ever given.
        current_epoch: u64,
        /// The voters of the roots.
        roots: RootSet,
    },
}

/// The changes that lead from one version to another.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Delta {
    /// The version to which it can be applied.
    pub from: TopologyVersion,
    /// The version that it leads to.
    pub to: TopologyVersion,
    /// What is different.
    pub changes: Vec<Change>,
}

/// Why a delta was refused.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum DeltaError {
    /// It starts elsewhere: ask for the whole map.
    #[error("a delta from version {from} does not fit a map of version {have}")]
    WrongStart {
        /// Version of the map.
        have: TopologyVersion,
        /// Version at which the delta starts.
        from: TopologyVersion,
    },
    /// It leads to an older version.
    #[error("a delta leads backwards")]
    Backwards,
    /// The result breaks the rules of a map.
    #[error(transparent)]
    Map(#[from] MapError),
}

fn same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// The changes that turn `old` into `new`. What both share is not compared, so it costs little when few differ.
pub fn changes_between(old: &MapParts, new: &MapParts) -> Vec<Change> {
    let (nodes, nodes_gone) = old.nodes.differences(&new.nodes, same);
    let (shards, shards_gone) = old.shards.differences(&new.shards, same);
    let mut changes: Vec<Change> = nodes.into_iter().map(|(_, node)| Change::NodeUpsert(node.clone())).collect();
    changes.extend(nodes_gone.into_iter().copied().map(Change::NodeRemove));
    changes.extend(shards.into_iter().map(|(_, shard)| Change::ShardUpsert(shard.clone())));
    changes.extend(shards_gone.into_iter().copied().map(Change::ShardRemove));
    if (old.cluster_id, old.current_epoch, &old.roots) != (new.cluster_id, new.current_epoch, &new.roots) {
        changes.push(Change::Meta {
            cluster_id: new.cluster_id,
            current_epoch: new.current_epoch,
            roots: new.roots.clone(),
        });
    }
    changes
}

/// Puts the changes into the parts; what they touch is copied, all else shared with other versions.
pub(crate) fn apply_changes(parts: &mut MapParts, to: TopologyVersion, changes: &[Change]) {
    for change in changes {
        match change {
            Change::NodeUpsert(node) => {
                parts.nodes.insert(node.id, node.clone());
            }
            Change::NodeRemove(id) => {
                parts.nodes.remove(id);
            }
            Change::ShardUpsert(shard) => {
                parts.shards.insert(shard.id, shard.clone());
            }
            Change::ShardRemove(id) => {
                parts.shards.remove(id);
            }
            Change::Meta { cluster_id, current_epoch, roots } => {
                parts.cluster_id = *cluster_id;
                parts.current_epoch = *current_epoch;
                parts.roots = roots.clone();
            }
        }
    }
    parts.version = to;
}

// SPDX-License-Identifier: BSD-3-Clause
//! The map as one entry is changing it: the base plus what the rules have put over it. Costs what is
//! touched, not the size of the cluster. Used by `state` and `rules` only.

use crate::state::TOMBSTONES_MAX;
use pando_topology::{Change, ClusterId, ClusterMap, Node, NodeId, RootSet, Shard, ShardId, Slot, TopologyVersion};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(crate) struct Draft<'a> {
    base: &'a ClusterMap,
    base_tombstones: &'a VecDeque<NodeId>,
    nodes: BTreeMap<NodeId, Option<Node>>,
    shards: BTreeMap<ShardId, Option<Shard>>,
    tombstones: Option<VecDeque<NodeId>>,
    pub cluster_id: ClusterId,
    pub current_epoch: u64,
    pub roots: RootSet,
    /// The version that the changes will have: the index of the entry.
    pub version: TopologyVersion,
}

impl<'a> Draft<'a> {
    pub fn new(base: &'a ClusterMap, tombstones: &'a VecDeque<NodeId>, version: TopologyVersion) -> Draft<'a> {
        Draft {
            base,
            base_tombstones: tombstones,
            nodes: BTreeMap::new(),
            shards: BTreeMap::new(),
            tombstones: None,
            cluster_id: base.cluster_id(),
            current_epoch: base.current_epoch(),
            roots: base.roots().clone(),
            version,
        }
    }

    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        match self.nodes.get(id) {
            Some(over) => over.as_ref(),
            None => self.base.node(id),
        }
    }

    pub fn shard(&self, id: &ShardId) -> Option<&Shard> {
        match self.shards.get(id) {
            Some(over) => over.as_ref(),
            None => self.base.shard(id),
        }
    }

    /// The shard of a node.
    pub fn shard_of(&self, id: &NodeId) -> Option<&Shard> {
        self.shard(&self.node(id)?.shard?)
    }

    /// All shards as they are now.
    pub fn all_shards(&self) -> impl Iterator<Item = &Shard> {
        let untouched = self.base.shards().values().map(|s| &**s).filter(|s| !self.shards.contains_key(&s.id));
        untouched.chain(self.shards.values().flatten())
    }

    /// The owner of a slot as of now.
    pub fn owner_of(&self, slot: Slot) -> Option<&Shard> {
        let touched = self.shards.values().flatten().find(|s| s.slots.contains(slot));
        touched.or_else(|| self.base.owner_of(slot).filter(|s| !self.shards.contains_key(&s.id)))
    }

    /// How many nodes there are now.
    pub fn node_count(&self) -> usize {
        let untouched = self.base.nodes().keys().filter(|id| !self.nodes.contains_key(id)).count();
        untouched + self.nodes.values().flatten().count()
    }

    pub fn put_node(&mut self, node: Node) {
        self.nodes.insert(node.id, Some(node));
    }

    pub fn put_shard(&mut self, shard: Shard) {
        self.shards.insert(shard.id, Some(shard));
    }

    pub fn remove_node(&mut self, id: NodeId) {
        self.nodes.insert(id, None);
    }

    pub fn remove_shard(&mut self, id: ShardId) {
        self.shards.insert(id, None);
    }

    pub fn edit_node(&mut self, id: &NodeId, edit: impl FnOnce(&mut Node)) {
        if let Some(mut node) = self.node(id).cloned() {
            edit(&mut node);
            self.put_node(node);
        }
    }

    pub fn edit_shard(&mut self, id: &ShardId, edit: impl FnOnce(&mut Shard)) {
        if let Some(mut shard) = self.shard(id).cloned() {
            edit(&mut shard);
            self.put_shard(shard);
        }
    }

    /// An epoch that no shard has yet.
    pub fn next_epoch(&mut self) -> u64 {
        self.current_epoch += 1;
        self.current_epoch
    }

    pub fn is_tombstone(&self, id: &NodeId) -> bool {
        self.tombstones.as_ref().unwrap_or(self.base_tombstones).contains(id)
    }

    pub fn set_tombstone(&mut self, id: NodeId, forgotten: bool) {
        if self.is_tombstone(&id) == forgotten {
            return;
        }
        let tombstones = self.tombstones.get_or_insert_with(|| self.base_tombstones.clone());
        if forgotten {
            tombstones.push_back(id);
            if tombstones.len() > TOMBSTONES_MAX {
                tombstones.pop_front();
            }
        } else {
            tombstones.retain(|t| *t != id);
        }
    }

    /// What is different from the base, and the tombstones if they are.
    pub fn finish(self) -> (Vec<Change>, Option<VecDeque<NodeId>>) {
        let mut changes = Vec::new();
        for (id, over) in self.nodes {
            match (over, self.base.node(&id)) {
                (Some(new), old) if old != Some(&new) => changes.push(Change::NodeUpsert(Arc::new(new))),
                (None, Some(_)) => changes.push(Change::NodeRemove(id)),
                _ => {}
            }
        }
        for (id, over) in self.shards {
            match (over, self.base.shard(&id)) {
                (Some(new), old) if old != Some(&new) => changes.push(Change::ShardUpsert(Arc::new(new))),
                (None, Some(_)) => changes.push(Change::ShardRemove(id)),
                _ => {}
            }
        }
        let before = (self.base.cluster_id(), self.base.current_epoch(), self.base.roots());
        if before != (self.cluster_id, self.current_epoch, &self.roots) {
            changes.push(Change::Meta {
                cluster_id: self.cluster_id,
                current_epoch: self.current_epoch,
                roots: self.roots,
            });
        }
        (changes, self.tombstones)
    }
}

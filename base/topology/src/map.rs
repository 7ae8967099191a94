// SPDX-License-Identifier: BSD-3-Clause
//! The cluster map: nodes, shards, roots and the version at which they were so, plus the derived
//! table from slot to shard. Immutable by convention: a holder of an `Arc<ClusterMap>` never sees it
//! change; a new map is made by `ClusterMap::new` or by applying a delta to a clone (cheap: nodes
//! and shards are shared).

use crate::delta::{Change, Delta, DeltaError};
use crate::id::{ClusterId, NodeId, ShardId, TopologyVersion};
use crate::node::{Node, NodeFlag, Shard};
use crate::owners::Owners;
use crate::shared::SharedMap;
use crate::slot::Slot;
use crate::slot_set::SlotRange;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a node is for the data of its shard.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Serialize, Deserialize)]
pub enum Role {
    /// Owns the slots of its shard.
    Primary,
    /// Follows the primary of its shard.
    Replica,
}

/// The voters whose majority decides who may write.
///
/// While `previous` is set the voters are being exchanged: a promise quorum is then a majority of
/// `voters` *and* a majority of `previous`, so that no one holds the one without the other.
#[derive(Clone, Eq, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RootSet {
    /// Node and Raft id of each voter. A voter may already be forgotten as a node.
    pub voters: BTreeMap<NodeId, u64>,
    /// The voters before, until all who knew only them have lost their leases.
    pub previous: Option<BTreeMap<NodeId, u64>>,
    /// Version at which the set last changed.
    pub since: TopologyVersion,
    /// How many voters the cluster was told to keep; 0 if it never was.
    #[serde(default)]
    pub count: u8,
}

impl RootSet {
    /// Whether the nodes for which `has` answers true are a quorum of promises.
    pub fn is_quorum(&self, has: impl Fn(&NodeId) -> bool) -> bool {
        let majority = |voters: &BTreeMap<NodeId, u64>| voters.keys().filter(|id| has(id)).count() * 2 > voters.len();
        majority(&self.voters) && self.previous.as_ref().is_none_or(majority)
    }

    /// Every node that votes in one of the two sets.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters.keys().chain(self.previous.iter().flat_map(BTreeMap::keys)).copied().collect()
    }

    /// Whether `id` votes in one of the two sets.
    pub fn contains(&self, id: &NodeId) -> bool {
        self.voters.contains_key(id) || self.previous.as_ref().is_some_and(|p| p.contains_key(id))
    }
}

/// What a map consists of, before it is checked and indexed.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct MapParts {
    /// Which cluster this is.
    pub cluster_id: ClusterId,
    /// Log index of the last change.
    pub version: TopologyVersion,
    /// Highest config epoch ever given.
    pub current_epoch: u64,
    /// The nodes.
    pub nodes: SharedMap<NodeId, Arc<Node>>,
    /// The shards.
    pub shards: SharedMap<ShardId, Arc<Shard>>,
    /// The voters of the roots.
    pub roots: RootSet,
}

/// Why parts do not make a map.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum MapError {
    /// A node or shard is filed under another id than its own.
    #[error("{0} is filed under another id")]
    WrongKey(String),
    /// A shard lists a node that does not exist or does not say it belongs there.
    #[error("shard {shard} lists node {node}, which is not in it")]
    StrangeMember {
        /// The shard.
        shard: ShardId,
        /// The node that it lists.
        node: NodeId,
    },
    /// A node is listed twice in its shard.
    #[error("shard {shard} lists node {node} twice")]
    DoubleMember {
        /// The shard.
        shard: ShardId,
        /// The node that it lists.
        node: NodeId,
    },
    /// A node says it belongs to a shard that does not list it, or is data without a shard, or the reverse.
    #[error("node {0} has no place in a shard, or one that does not know it")]
    Homeless(NodeId),
    /// A slot has two owners.
    #[error("slot {0} has two owners")]
    TwoOwners(Slot),
    /// A shard has an epoch above `current_epoch`.
    #[error("shard {0} is ahead of the current epoch")]
    EpochAhead(ShardId),
    /// Replicas that take their data from each other in a circle.
    #[error("node {0} takes its data from itself, by way of others")]
    Circle(NodeId),
    /// Something is newer than the map.
    #[error("{0} is newer than the map")]
    VersionAhead(String),
}

/// The whole cluster at one version. See the head of this file.
#[derive(Clone)]
pub struct ClusterMap {
    parts: MapParts,
    owners: Owners,
    /// How many shards with slots have a primary that is counted as failed.
    unserved: usize,
    /// How many of them have no replica that could take over.
    lost: usize,
}

impl ClusterMap {
    /// Checks the parts and indexes them.
    pub fn new(parts: MapParts) -> Result<ClusterMap, MapError> {
        for (id, node) in parts.nodes.iter() {
            check_node(&parts, id, node)?;
        }
        let mut owners = Owners::new();
        for (id, shard) in parts.shards.iter() {
            check_shard(&parts, id, shard)?;
            owners.insert(shard).map_err(MapError::TwoOwners)?;
        }
        check_roots(&parts)?;
        let unserved = parts.shards.values().filter(|shard| is_unserved(&parts, shard)).count();
        let lost = parts.shards.values().filter(|shard| is_lost(&parts, shard)).count();
        Ok(ClusterMap { parts, owners, unserved, lost })
    }

    /// A map with nothing in it.
    pub fn empty(cluster_id: ClusterId) -> ClusterMap {
        let parts = MapParts {
            cluster_id,
            version: TopologyVersion::ZERO,
            current_epoch: 0,
            nodes: SharedMap::new(),
            shards: SharedMap::new(),
            roots: RootSet::default(),
        };
        ClusterMap { parts, owners: Owners::new(), unserved: 0, lost: 0 }
    }

    /// What the map consists of.
    pub fn parts(&self) -> &MapParts {
        &self.parts
    }

    /// Which cluster this is.
    pub fn cluster_id(&self) -> ClusterId {
        self.parts.cluster_id
    }

    /// Log index of the last change.
    pub fn version(&self) -> TopologyVersion {
        self.parts.version
    }

    /// Highest config epoch ever given.
    pub fn current_epoch(&self) -> u64 {
        self.parts.current_epoch
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> &SharedMap<NodeId, Arc<Node>> {
        &self.parts.nodes
    }

    /// All shards, by id.
    pub fn shards(&self) -> &SharedMap<ShardId, Arc<Shard>> {
        &self.parts.shards
    }

    /// The voters of the roots.
    pub fn roots(&self) -> &RootSet {
        &self.parts.roots
    }

    /// One node.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.parts.nodes.get(id).map(|n| &**n)
    }

    /// One shard.
    pub fn shard(&self, id: &ShardId) -> Option<&Shard> {
        self.parts.shards.get(id).map(|s| &**s)
    }

    /// The shard that owns a slot. O(1).
    pub fn owner_of(&self, slot: Slot) -> Option<&Shard> {
        self.owners.of(slot).map(|s| &**s)
    }

    /// The primary of the shard that owns a slot.
    pub fn primary_of(&self, slot: Slot) -> Option<&Node> {
        self.node(&self.owner_of(slot)?.primary)
    }

    /// The shard to which a node belongs.
    pub fn shard_of(&self, id: &NodeId) -> Option<&Shard> {
        self.shard(&self.node(id)?.shard?)
    }

    /// What a node is in its shard; none for a pure root.
    pub fn role_of(&self, id: &NodeId) -> Option<Role> {
        let shard = self.shard_of(id)?;
        Some(if shard.primary == *id { Role::Primary } else { Role::Replica })
    }

    /// The node from which a replica takes its data: the replica to which it is chained, as long as
    /// that one is a live replica of the same shard, else the primary. None for primaries and pure roots.
    pub fn upstream_of(&self, id: &NodeId) -> Option<&Node> {
        let node = self.node(id)?;
        let shard = self.shard(&node.shard?).filter(|shard| shard.primary != *id)?;
        let chained = node.upstream.filter(|upstream| *upstream != shard.primary).and_then(|id| self.node(&id));
        let chained = chained.filter(|upstream| upstream.shard == node.shard && !upstream.failed);
        chained.or_else(|| self.node(&shard.primary))
    }

    /// How many links lie between a replica and its primary: 1 if it is not chained. 0 for primaries.
    pub fn depth_of(&self, id: &NodeId) -> usize {
        // `check_node` has refused circles.
        std::iter::successors(self.upstream_of(id), |upstream| self.upstream_of(&upstream.id)).count()
    }

    /// The nodes of a shard, the primary first.
    pub fn nodes_in_shard<'a>(&'a self, shard: &'a Shard) -> impl Iterator<Item = &'a Node> + 'a {
        shard.members().filter_map(|id| self.node(&id))
    }

    /// The voters of the roots that are nodes of the cluster, with their Raft ids.
    pub fn voters(&self) -> impl Iterator<Item = (u64, &Node)> {
        self.parts.roots.voters.iter().filter_map(|(id, raft)| Some((*raft, self.node(id)?)))
    }

    /// How many slots have an owner.
    pub fn slots_assigned(&self) -> usize {
        self.owners.assigned()
    }

    /// How many shards own a slot (`cluster_size` of CLUSTER INFO).
    pub fn size(&self) -> usize {
        self.owners.len()
    }

    /// How many of those shards have a primary that is counted as failed.
    pub fn unserved_shards(&self) -> usize {
        self.unserved
    }

    /// How many of these have no replica, or none that is not counted as failed as well.
    pub fn lost_shards(&self) -> usize {
        self.lost
    }

    /// The config epoch that clients see for a node: a replica shows the one of its primary.
    pub fn config_epoch_of(&self, id: &NodeId) -> u64 {
        self.shard_of(id).map_or(0, |s| s.epoch)
    }

    /// The flags of CLUSTER NODES as `me` would print them, never empty.
    pub fn flags_of(&self, id: &NodeId, me: &NodeId) -> Vec<NodeFlag> {
        let mut flags = Vec::with_capacity(3);
        if id == me {
            flags.push(NodeFlag::Myself);
        }
        match self.role_of(id) {
            Some(Role::Primary) => flags.push(NodeFlag::Primary),
            Some(Role::Replica) => flags.push(NodeFlag::Replica),
            None => {}
        }
        if let Some(node) = self.node(id) {
            if node.failed {
                flags.push(NodeFlag::Failed);
            }
            if node.no_failover {
                flags.push(NodeFlag::NoFailover);
            }
        }
        if flags.is_empty() {
            flags.push(NodeFlag::NoFlags);
        }
        flags
    }

    /// Every owned range with its shard, ascending by slot (CLUSTER SLOTS).
    pub fn owned_ranges(&self) -> Vec<(SlotRange, &Shard)> {
        let mut ranges: Vec<_> = self.owners.shards().flat_map(|s| s.slots.ranges().map(move |r| (r, &**s))).collect();
        ranges.sort_by_key(|(range, _)| *range);
        ranges
    }

    /// What has to be changed in this map to get `new`.
    pub fn diff(&self, new: &ClusterMap) -> Delta {
        Delta {
            from: self.version(),
            to: new.version(),
            changes: crate::delta::changes_between(&self.parts, &new.parts),
        }
    }

    /// Applies a delta that starts at this version; refuses others and what would break the rules.
    /// Refused means unchanged. Costs what the delta touches.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), DeltaError> {
        if delta.from != self.version() {
            return Err(DeltaError::WrongStart { have: self.version(), from: delta.from });
        }
        self.catch_up(delta)
    }

    /// Applies a delta of the same history that starts at this version or before, and ends behind it.
    pub fn catch_up(&mut self, delta: &Delta) -> Result<(), DeltaError> {
        if delta.from > self.version() {
            return Err(DeltaError::WrongStart { have: self.version(), from: delta.from });
        }
        if delta.to < self.version() {
            return Err(DeltaError::Backwards);
        }
        let mut map = self.clone();
        map.put(delta.to, &delta.changes)?;
        if map.parts.current_epoch < self.parts.current_epoch {
            // A rule that concerns every shard.
            map = ClusterMap::new(map.parts)?;
        } else {
            map.check(&self.parts, &delta.changes)?;
        }
        *self = map;
        Ok(())
    }

    /// Applies changes whose maker vouches for them (the roots' state machine): in place, without the
    /// checks, which are only made in builds with debug assertions.
    pub fn apply_trusted(&mut self, to: TopologyVersion, changes: &[Change]) {
        // Slots with two owners: the state machine's rules exclude them.
        let put = self.put(to, changes);
        debug_assert!(put.is_ok(), "{put:?}");
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    /// Makes the changes, and brings what is derived in line with them.
    fn put(&mut self, to: TopologyVersion, changes: &[Change]) -> Result<(), MapError> {
        let old = self.parts.clone();
        let mut concerned = self.shards_concerned(changes);
        crate::delta::apply_changes(&mut self.parts, to, changes);
        for change in changes {
            match change {
                Change::ShardUpsert(shard) => self.owners.remove(&shard.id),
                Change::ShardRemove(id) => self.owners.remove(id),
                Change::NodeUpsert(_) | Change::NodeRemove(_) | Change::Meta { .. } => {}
            }
        }
        for change in changes {
            if let Change::ShardUpsert(shard) = change {
                self.owners.insert(shard).map_err(MapError::TwoOwners)?;
            }
        }
        concerned.extend(self.shards_concerned(changes));
        let count = |parts: &MapParts, is_so: fn(&MapParts, &Shard) -> bool| {
            concerned.iter().filter(|id| parts.shards.get(id).is_some_and(|shard| is_so(parts, shard))).count()
        };
        self.unserved = self.unserved + count(&self.parts, is_unserved) - count(&old, is_unserved);
        self.lost = self.lost + count(&self.parts, is_lost) - count(&old, is_lost);
        Ok(())
    }

    /// The shards that changes concern: those that change, and those of nodes that do, by this map.
    fn shards_concerned(&self, changes: &[Change]) -> BTreeSet<ShardId> {
        let ids = changes.iter().filter_map(|change| match change {
            Change::ShardUpsert(shard) => Some(shard.id),
            Change::ShardRemove(id) => Some(*id),
            Change::NodeUpsert(node) => self.node(&node.id)?.shard,
            Change::NodeRemove(id) => self.node(id)?.shard,
            Change::Meta { .. } => None,
        });
        ids.collect()
    }

    /// Checks the rules wherever the changes, which led here from `old`, may have broken them.
    fn check(&self, old: &MapParts, changes: &[Change]) -> Result<(), MapError> {
        let parts = &self.parts;
        let mut shards = self.shards_concerned(changes);
        let mut nodes = BTreeSet::new();
        for change in changes {
            match change {
                Change::NodeUpsert(node) => {
                    nodes.insert(node.id);
                    shards.extend(old.nodes.get(&node.id).and_then(|before| before.shard));
                }
                Change::NodeRemove(id) => shards.extend(old.nodes.get(id).and_then(|before| before.shard)),
                Change::ShardUpsert(_) | Change::ShardRemove(_) | Change::Meta { .. } => {}
            }
        }
        for id in &shards {
            if let Some(before) = old.shards.get(id) {
                nodes.extend(before.members());
            }
            if let Some(shard) = parts.shards.get(id) {
                check_shard(parts, id, shard)?;
                nodes.extend(shard.members());
            }
        }
        for id in &nodes {
            if let Some(node) = parts.nodes.get(id) {
                check_node(parts, id, node)?;
            }
        }
        check_roots(parts)
    }

    /// Panics if the map breaks one of its rules.
    pub fn check_invariants(&self) {
        let fresh = match ClusterMap::new(self.parts.clone()) {
            Ok(fresh) => fresh,
            Err(error) => panic!("the cluster map is broken: {error}"),
        };
        assert_eq!((fresh.size(), fresh.slots_assigned()), (self.size(), self.slots_assigned()), "stale owner table");
        assert_eq!((fresh.unserved, fresh.lost), (self.unserved, self.lost), "miscounted shards");
        for shard in self.parts.shards.values() {
            shard.slots.check_invariants();
            for slot in [shard.slots.first(), shard.slots.iter().next_back()].into_iter().flatten() {
                assert_eq!(self.owner_of(slot).map(|s| s.id), Some(shard.id), "stale owner table");
            }
        }
    }
}

/// Whether a shard has slots and a primary that is counted as failed.
fn is_unserved(parts: &MapParts, shard: &Shard) -> bool {
    !shard.slots.is_empty() && parts.nodes.get(&shard.primary).is_none_or(|node| node.failed)
}

/// Whether such a shard has no replica that is not counted as failed.
fn is_lost(parts: &MapParts, shard: &Shard) -> bool {
    let is_there = |id: &NodeId| parts.nodes.get(id).is_some_and(|node| !node.failed);
    is_unserved(parts, shard) && !shard.replicas.iter().any(is_there)
}

/// The rules for a node.
fn check_node(parts: &MapParts, id: &NodeId, node: &Node) -> Result<(), MapError> {
    if node.id != *id {
        return Err(MapError::WrongKey(id.to_string()));
    }
    let listed = match node.shard {
        None => !node.is_data,
        Some(shard) => node.is_data && parts.shards.get(&shard).is_some_and(|s| s.members().any(|m| m == *id)),
    };
    if !listed {
        return Err(MapError::Homeless(*id));
    }
    let upstream = |id: &NodeId| parts.nodes.get(id).and_then(|node| node.upstream);
    if std::iter::successors(node.upstream, upstream).take(parts.nodes.len()).any(|other| other == *id) {
        return Err(MapError::Circle(*id));
    }
    if node.promotable_since > parts.version || node.join_index > parts.version.get() {
        return Err(MapError::VersionAhead(id.to_string()));
    }
    Ok(())
}

/// The rules for a shard, but for its slots, which `Owners` knows.
fn check_shard(parts: &MapParts, id: &ShardId, shard: &Shard) -> Result<(), MapError> {
    if shard.id != *id {
        return Err(MapError::WrongKey(id.to_string()));
    }
    if shard.epoch > parts.current_epoch {
        return Err(MapError::EpochAhead(*id));
    }
    if shard.reign > parts.version {
        return Err(MapError::VersionAhead(id.to_string()));
    }
    let mut seen = BTreeSet::new();
    for member in shard.members() {
        if parts.nodes.get(&member).is_none_or(|n| n.shard != Some(*id)) {
            return Err(MapError::StrangeMember { shard: *id, node: member });
        }
        if !seen.insert(member) {
            return Err(MapError::DoubleMember { shard: *id, node: member });
        }
    }
    Ok(())
}

fn check_roots(parts: &MapParts) -> Result<(), MapError> {
    if parts.roots.since > parts.version {
        return Err(MapError::VersionAhead("the set of roots".into()));
    }
    Ok(())
}

impl PartialEq for ClusterMap {
    fn eq(&self, other: &ClusterMap) -> bool {
        self.parts == other.parts
    }
}

impl Eq for ClusterMap {}

impl std::fmt::Debug for ClusterMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.parts.fmt(f)
    }
}

impl Serialize for ClusterMap {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.parts.serialize(s)
    }
}

impl<'de> Deserialize<'de> for ClusterMap {
    /// Checks the rules, so a map from a peer or a file is as good as one made here.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ClusterMap, D::Error> {
        ClusterMap::new(MapParts::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

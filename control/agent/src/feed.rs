// SPDX-License-Identifier: BSD-3-Clause
//! The root's half of the topology feed: remembers the last maps, so that a subscriber that has a recent
//! version gets what changed and any other a whole copy. Each update is coded once, for all who get it.
//! Pure; `root_side` sends what it returns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pando_topology::{Change, ClusterMap, Node, TopologyVersion};
use pando_wire::MapUpdate;

/// How many versions are kept; they share what is equal. Of more the older ones are thinned out: who is between two
/// that are kept gets what changed since the earlier one. A subscriber further behind has been away for long.
const PAST_MAX: usize = 256;

/// A copy of the whole map is used again as long as no more than one change to this many nodes has come since; what
/// came since is sent after it. Coding a copy costs what the map is large, and in a cluster that grows each version
/// would be asked for.
const COPY_AGE: usize = 16;

/// How long subscribers may wait to be told of changes that nobody but those whom they concern is in a hurry to hear
/// of: joins, new slots, new replicas. They come by the thousand, and each would go to thousands.
const CALM_US_EACH: u64 = 200;
const CALM_MIN_MS: u64 = 5;
const CALM_MAX_MS: u64 = 2_000;

/// Milliseconds from one telling of everybody to the next in a cluster of so many nodes, while it only grows.
pub(crate) fn calm_pause_ms(nodes: usize) -> u64 {
    (nodes as u64 * CALM_US_EACH / 1000).clamp(CALM_MIN_MS, CALM_MAX_MS)
}

/// What a map brought.
pub(crate) enum News {
    /// It is not newer.
    Nothing,
    /// The first map, or the one of another cluster.
    Everything,
    /// What is different from the one before.
    Changes {
        changes: Vec<Change>,
        is_about_roots: bool,
        /// See [`calm_pause_ms`].
        is_calm: bool,
    },
}

/// Whether a change only adds: nothing that was in `old` is gone, or anywhere else, or not well any more. Of a node that
/// serves no slots it does not matter to many whether it is well: roots with too much to do may doubt hundreds that have
/// just joined, and must not have all the more to do for it.
fn is_calm(old: &ClusterMap, change: &Change) -> bool {
    match change {
        Change::NodeUpsert(node) => old.node(&node.id).is_none_or(|before| {
            let serves =
                old.shard_of(&node.id).is_some_and(|shard| shard.primary == node.id && !shard.slots.is_empty());
            let failed = if serves { before.failed } else { node.failed };
            let (shard, promotable_since) = (node.shard, node.promotable_since);
            Node { shard, promotable_since, failed, ..Node::clone(before) } == **node
        }),
        Change::ShardUpsert(shard) => old
            .shard(&shard.id)
            .is_none_or(|before| before.primary == shard.primary && before.slots.difference(&shard.slots).is_empty()),
        Change::ShardRemove(id) => old.shard(id).is_none_or(|before| before.slots.is_empty()),
        Change::NodeRemove(_) => false,
        Change::Meta { roots, .. } => old.roots() == roots,
    }
}

/// The recent past of the topology.
#[derive(Default)]
pub(crate) struct Feed {
    map: Option<Arc<ClusterMap>>,
    /// Maps before it, oldest first.
    past: VecDeque<Arc<ClusterMap>>,
    /// Updates that lead to the present map: by the version where they start, and whether they are exact.
    ready: BTreeMap<(TopologyVersion, bool), MapUpdate>,
    /// The maps with which the last two rounds of telling everybody began: most subscribers have the one or the other.
    told: [Option<Arc<ClusterMap>>; 2],
    /// The last copy of a whole map, and its code.
    copy: Option<(Arc<ClusterMap>, MapUpdate)>,
}

impl Feed {
    /// Takes over the map after an entry was applied.
    pub fn publish(&mut self, map: Arc<ClusterMap>) -> News {
        let news = match self.map.take() {
            Some(old) if old.cluster_id() == map.cluster_id() => {
                if map.version() <= old.version() {
                    self.map = Some(old);
                    return News::Nothing;
                }
                let (changes, is_about_roots) = (old.diff(&map).changes, old.roots() != map.roots());
                let is_calm = changes.iter().all(|change| is_calm(&old, change));
                self.past.push_back(old);
                if self.past.len() > PAST_MAX {
                    self.thin_out(map.nodes().len());
                }
                News::Changes { changes, is_about_roots, is_calm }
            }
            _ => {
                self.past.clear();
                (self.told, self.copy) = ([None, None], None);
                News::Everything
            }
        };
        self.ready.clear();
        self.map = Some(map);
        news
    }

    /// Drops every second one of the older versions, and what is too old to be of use.
    fn thin_out(&mut self, nodes: usize) {
        let mut index = 0;
        self.past.retain(|_| {
            index += 1;
            index > PAST_MAX / 2 || index % 2 == 1
        });
        // With so many changes behind it a whole map is not much more.
        let is_old = |past: &Arc<ClusterMap>| past.nodes().len() * 2 < nodes;
        while self.past.front().is_some_and(is_old) {
            self.past.pop_front();
        }
    }

    /// Nodes of the present map.
    pub fn nodes(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.nodes().len())
    }

    /// All subscribers will be told of the present map, or a later one.
    pub fn note_round(&mut self) {
        self.told = [self.map.clone(), self.told[0].take()];
    }

    /// The latest map that is known here and not later than this version.
    fn base(&self, has: TopologyVersion) -> Option<&Arc<ClusterMap>> {
        let at = self.past.partition_point(|past| past.version() <= has);
        let past = at.checked_sub(1).and_then(|at| self.past.get(at));
        let others = self.told.iter().flatten().chain(self.copy.as_ref().map(|(map, _)| map));
        let others = others.filter(|map| map.version() <= has);
        past.into_iter().chain(others).max_by_key(|map| map.version())
    }

    /// A whole map, perhaps not the last one.
    fn whole(&mut self) -> Option<MapUpdate> {
        let map = self.map.as_ref()?;
        let behind = |copy: &ClusterMap| map.version().get() - copy.version().get();
        let is_usable = |copy: &ClusterMap| behind(copy) as usize <= map.nodes().len() / COPY_AGE;
        if let Some((_, update)) = self.copy.as_ref().filter(|(copy, _)| is_usable(copy)) {
            return Some(update.clone());
        }
        let update = MapUpdate::whole(map).inspect_err(|error| tracing::error!(%error, "the topology cannot be coded"));
        let update = update.ok()?;
        self.copy = Some((map.clone(), update.clone()));
        Some(update)
    }

    /// What brings a subscriber that has `has` (zero: nothing) to the present, or nearer; none if it is there.
    pub fn update_from(&mut self, has: TopologyVersion) -> Option<MapUpdate> {
        let map = self.map.as_ref()?;
        if has >= map.version() {
            return None;
        }
        // A version that was never seen here, because several entries were applied together, is served from
        // the one before it.
        let Some(base) = self.base(has).filter(|_| has > TopologyVersion::ZERO) else { return self.whole() };
        let key = (base.version(), base.version() == has);
        if let Some(ready) = self.ready.get(&key) {
            return Some(ready.clone());
        }
        let update = MapUpdate::between(base, map, key.1);
        // Coding fails for nothing that a map can be; a subscriber without an answer asks again.
        let update = update.inspect_err(|error| tracing::error!(%error, "the topology cannot be coded")).ok()?;
        self.ready.insert(key, update.clone());
        Some(update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pando_topology::{ClusterId, Incarnation, MapParts, NodeId, Shard, ShardId, Slot};

    fn map(version: u64) -> Arc<ClusterMap> {
        let empty = ClusterMap::empty(ClusterId::from_bytes([1; 20]));
        let parts = MapParts { version: TopologyVersion(version), current_epoch: version, ..empty.parts().clone() };
        Arc::new(ClusterMap::new(parts).expect("valid"))
    }

    /// What a subscriber gets, as text: `whole 7`, `3-7`, or `3..7` for an update from a version before its own.
    fn check(feed: &mut Feed, has: u64, expected: &str) {
        let update = feed.update_from(TopologyVersion(has));
        let text = update.as_ref().map_or(String::new(), |update| match update.from {
            None => format!("whole {}", update.to),
            Some(from) if update.is_exact => format!("{from}-{}", update.to),
            Some(from) => format!("{from}..{}", update.to),
        });
        assert_eq!(text, expected, "{has:?}");
        if let Some(update) = update {
            let reached = update.apply(&map(has)).expect("it fits");
            assert_eq!(Some(&reached), feed.map.as_deref());
        }
    }

    #[test]
    fn subscribers_get_changes_or_a_whole_copy() {
        let mut feed = Feed::default();
        check(&mut feed, 0, "");
        for version in [3, 5, 5, 4, 7] {
            feed.publish(map(version));
        }
        check(&mut feed, 0, "whole 7");
        check(&mut feed, 3, "3-7");
        check(&mut feed, 5, "5-7");
        check(&mut feed, 7, "");
        check(&mut feed, 9, "");
        check(&mut feed, 4, "3..7");
        check(&mut feed, 2, "whole 7");
        for version in 8..300 {
            feed.publish(map(version));
        }
        check(&mut feed, 3, "3-299");
        check(&mut feed, 290, "290-299");
    }

    /// A shard of a primary (1) and a replica (2), which has failed or not.
    fn shard(version: u64, has_slots: bool, failed: [bool; 2]) -> Arc<ClusterMap> {
        let mut parts = map(version).parts().clone();
        let shard = ShardId::from_bytes([7; 20]);
        let [primary, replica] = [1, 2].map(|n| NodeId::from_bytes([n; 20]));
        for (id, failed) in [primary, replica].into_iter().zip(failed) {
            let node = Node { shard: Some(shard), failed, ..Node::new(id, "h", 1) };
            parts.nodes.insert(id, Arc::new(node));
        }
        let slots = Slot::new(3).into_iter().filter(|_| has_slots).collect();
        let reign = TopologyVersion(1);
        let shard = Shard {
            id: shard,
            epoch: 1,
            reign,
            primary,
            primary_incarnation: Incarnation(0),
            replicas: vec![replica],
            slots,
            wants_replica: true,
        };
        parts.shards.insert(shard.id, Arc::new(shard));
        Arc::new(ClusterMap::new(parts).expect("valid"))
    }

    #[test]
    fn only_those_who_serve_slots_are_missed_by_all() {
        let check = |has_slots: bool, failed: [bool; 2], expected: bool| {
            let mut feed = Feed::default();
            feed.publish(shard(10, has_slots, [false, false]));
            let News::Changes { is_calm, .. } = feed.publish(shard(11, has_slots, failed)) else { panic!("no news") };
            assert_eq!(is_calm, expected, "{has_slots} {failed:?}");
            let News::Changes { is_calm, .. } = feed.publish(shard(12, has_slots, [false, false])) else {
                panic!("no news")
            };
            assert_eq!(is_calm, expected, "and back: {has_slots} {failed:?}");
        };
        check(true, [true, false], false);
        check(true, [false, true], true);
        check(true, [true, true], false);
        check(false, [true, true], true);
    }

    #[test]
    fn while_a_round_is_under_way_both_it_and_the_last_one_count() {
        let mut feed = Feed::default();
        for version in 1..2000 {
            feed.publish(map(version));
            if [3, 7].contains(&version) {
                feed.note_round();
            }
        }
        check(&mut feed, 3, "3-1999");
        check(&mut feed, 7, "7-1999");
        feed.note_round();
        check(&mut feed, 7, "7-1999");
        assert_eq!(feed.told.iter().flatten().count(), 2);
    }
}

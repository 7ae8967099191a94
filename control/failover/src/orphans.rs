// SPDX-License-Identifier: BSD-3-Clause
//! Replica migration: a primary that has lost its replicas gets one from the shard that has most. Each node's
//! configuration says whether it may be moved (`Node::migration_barrier`).

use pando_root_state::{Command, Decision, Why};
use pando_topology::{ClusterMap, Node, NodeId, Shard, ShardId, TopologyVersion};
use std::collections::{BTreeMap, BTreeSet};

/// For how long a primary must have been without a live replica: most come back sooner. As in Valkey.
pub const MIGRATION_DELAY_MS: u64 = 5000;

/// How often a cluster without a replica to spare is looked over.
const RETRY_MS: u64 = 1000;

/// Primaries without a live replica, since when. Looked for only in a map that is new.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orphans {
    version: TopologyVersion,
    since: BTreeMap<ShardId, u64>,
    /// There was nothing to spare.
    idle_until_ms: u64,
}

impl Orphans {
    /// The moves to propose: one replica for each shard that has waited long enough, as far as there are any to
    /// spare. Nothing while the owner of a slot has failed. `is_alive` is asked of those that are about to be moved.
    pub fn decide(&mut self, map: &ClusterMap, now_ms: u64, is_alive: impl Fn(&NodeId) -> bool) -> Vec<Decision> {
        if self.version != map.version() {
            self.version = map.version();
            self.idle_until_ms = 0;
            let orphans = map.shards().values().filter(|shard| is_orphan(map, shard));
            self.since = orphans.map(|s| (s.id, self.since.get(&s.id).copied().unwrap_or(now_ms))).collect();
        }
        let is_due = |since: &&u64| now_ms >= since.saturating_add(MIGRATION_DELAY_MS);
        if now_ms < self.idle_until_ms || !self.since.values().any(|since| is_due(&since)) || has_failed_owner(map) {
            return Vec::new();
        }
        let mut spare: BTreeSet<(usize, ShardId)> =
            map.shards().values().map(|shard| (live(map, shard).count(), shard.id)).filter(|(n, _)| *n > 1).collect();
        let mut moved: BTreeSet<NodeId> = BTreeSet::new();
        let mut moves = Vec::new();
        for (orphan, _) in self.since.iter().filter(|(_, since)| is_due(since)) {
            let zone =
                map.shard(orphan).and_then(|s| map.node(&s.primary)).map(|n| n.zone.as_str()).unwrap_or_default();
            // The richest first.
            while let Some((count, from)) = spare.pop_last() {
                let Some(shard) = map.shard(&from) else { continue };
                let may_go = |node: &&Node| {
                    node.migration_barrier.is_some_and(|barrier| count > barrier as usize)
                        && !node.no_failover
                        && node.replica_priority != 0
                        && !moved.contains(&node.id)
                        && is_alive(&node.id)
                };
                // Another zone than the primary's outlives the loss of that zone; a link in a chain stays if possible.
                let upstreams: BTreeSet<NodeId> = live(map, shard).filter_map(|other| other.upstream).collect();
                let key = |node: &&Node| (!zone.is_empty() && node.zone == zone, upstreams.contains(&node.id), node.id);
                // A shard whose replicas all have to stay is none to take from, for nobody.
                let Some(node) = live(map, shard).filter(may_go).min_by_key(key) else { continue };
                if count > 2 {
                    spare.insert((count - 1, from));
                }
                moved.insert(node.id);
                let command = Command::MoveReplica { node: node.id, from, to: *orphan };
                let note =
                    format!("the primary had no live replica for {MIGRATION_DELAY_MS} ms; this shard had {count}");
                moves.push(Decision { command, why: Why::note(note) });
                break;
            }
        }
        if moves.is_empty() {
            self.idle_until_ms = now_ms.saturating_add(RETRY_MS);
        }
        moves
    }
}

/// The replicas that have not failed.
fn live<'a>(map: &'a ClusterMap, shard: &'a Shard) -> impl Iterator<Item = &'a Node> {
    shard.replicas.iter().filter_map(|id| map.node(id)).filter(|node| !node.failed)
}

fn is_orphan(map: &ClusterMap, shard: &Shard) -> bool {
    shard.wants_replica
        && !shard.slots.is_empty()
        && map.node(&shard.primary).is_some_and(|node| !node.failed)
        && live(map, shard).next().is_none()
}

/// A slot has no live owner: the cluster has something more important to do.
fn has_failed_owner(map: &ClusterMap) -> bool {
    map.shards().values().any(|s| !s.slots.is_empty() && map.node(&s.primary).is_none_or(|node| node.failed))
}

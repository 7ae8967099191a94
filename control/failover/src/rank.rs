// SPDX-License-Identifier: BSD-3-Clause
//! Which replicas may take over a shard, and the best first.

use pando_liveness::{Evidence, Verdict};
use pando_root_state::WhyNot;
use pando_topology::{ClusterMap, Incarnation, NodeId, Shard, TopologyVersion};
use std::cmp::Reverse;

/// A replica that may be promoted.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Candidate {
    /// The replica.
    pub node: NodeId,
    /// Its process.
    pub incarnation: Incarnation,
    /// For `Command::Promote`.
    pub told_at: TopologyVersion,
    /// How long its promise to the primary still lasts.
    pub promise_left_ms: u64,
    /// Replication offset.
    pub offset: u64,
}

/// The replicas of a shard that live, have the data and were told that their promise is needed; the
/// best first: same history as the primary, link was up, largest offset, zone of the primary, lower
/// priority number, id. Those that are never to be promoted automatically are left out, and those
/// whose promise has not run out are kept: whether that matters is the caller's question.
pub fn candidates(now_ms: u64, map: &ClusterMap, evidence: &Evidence, shard: &Shard) -> Vec<Candidate> {
    let primary_zone = map.node(&shard.primary).map(|n| n.zone.as_str()).unwrap_or_default();
    let primary_replid = evidence.latest(now_ms, &shard.primary).map(|e| e.status.replid.as_str()).unwrap_or_default();
    let mut ranked: Vec<_> = shard
        .replicas
        .iter()
        .filter_map(|id| {
            let candidate = judge(now_ms, map, evidence, shard, id).ok()?;
            let (node, heard) = (map.node(id)?, evidence.latest(now_ms, id)?);
            let rank = (
                Reverse(!primary_replid.is_empty() && heard.status.replid == primary_replid),
                Reverse(heard.status.link_up),
                Reverse(heard.status.offset),
                Reverse(node.zone == primary_zone),
                node.replica_priority,
                *id,
            );
            Some((rank, candidate))
        })
        .collect();
    ranked.sort_by_key(|ranked| ranked.0);
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Whether a replica may be promoted automatically, its promise aside; and if not, why.
pub fn judge(
    now_ms: u64,
    map: &ClusterMap,
    evidence: &Evidence,
    shard: &Shard,
    id: &NodeId,
) -> Result<Candidate, WhyNot> {
    let node = map.node(id).ok_or(WhyNot::Unheard)?;
    if node.failed {
        return Err(WhyNot::Failed);
    }
    let heard = evidence.latest(now_ms, id).ok_or(WhyNot::Unheard)?;
    match evidence.verdict(now_ms, map, id) {
        Verdict::Alive => {}
        Verdict::Failed => return Err(WhyNot::Failed),
        Verdict::Open => return Err(WhyNot::NotAgreed),
    }
    if node.no_failover {
        return Err(WhyNot::NoFailover);
    }
    if node.replica_priority == 0 {
        return Err(WhyNot::PriorityZero);
    }
    if heard.incarnation != node.incarnation {
        return Err(WhyNot::Restarted);
    }
    if !heard.status.synced {
        return Err(WhyNot::NotSynced);
    }
    let told = heard.status.told.filter(|t| t.shard == shard.id && t.version >= node.promotable_since);
    let told = told.ok_or(WhyNot::NotTold)?;
    Ok(Candidate {
        node: *id,
        incarnation: node.incarnation,
        told_at: told.version,
        promise_left_ms: heard.status.promise_left_ms,
        offset: heard.status.offset,
    })
}

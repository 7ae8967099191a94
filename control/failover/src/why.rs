// SPDX-License-Identifier: BSD-3-Clause
//! The evidence that goes with a decision: what each root says of a node, and every replica with what speaks
//! against it. Only put together when something is decided or somebody asks. Pure.

use crate::rank::{candidates, judge};
use pando_liveness::{Evidence, NodeState, Verdict};
use pando_root_state::{Command, Decision, Opinion, SeenCandidate, Why, WhyNot};
use pando_topology::{ClusterMap, Incarnation, NodeId, Shard};

/// The roots whose opinions evidence has, in its order.
pub fn witnesses(map: &ClusterMap) -> Vec<NodeId> {
    map.roots().members().into_iter().collect()
}

/// What each of these roots says of a node, of which this process is in question.
pub fn opinions(
    now_ms: u64,
    evidence: &Evidence,
    roots: &[NodeId],
    node: &NodeId,
    process: Option<Incarnation>,
) -> Vec<Opinion> {
    let opinion = |root: &NodeId| match evidence.seen(now_ms, root, node) {
        None => Opinion::Missing,
        Some(seen) if process.is_some_and(|process| seen.incarnation > process) => Opinion::Restarted(seen.incarnation),
        Some(seen) => match seen.state {
            NodeState::Unknown => Opinion::Unknown,
            NodeState::Alive { left_ms } => Opinion::Alive(left_ms),
            NodeState::Silent { for_ms } => Opinion::Silent(for_ms),
            NodeState::Dead => Opinion::Dead,
        },
    };
    roots.iter().map(opinion).collect()
}

/// All replicas of a shard, best first, with what speaks against each; against the one at `chosen` nothing.
/// `is_bound`: a promise to the primary counts, because the primary may be alive.
pub fn seen_candidates(
    now_ms: u64,
    map: &ClusterMap,
    evidence: &Evidence,
    shard: &Shard,
    chosen: Option<&NodeId>,
    is_bound: bool,
) -> Vec<SeenCandidate> {
    let ranked = candidates(now_ms, map, evidence, shard);
    let is_ranked = |id: &&NodeId| ranked.iter().any(|candidate| candidate.node == **id);
    let others = shard.replicas.iter().filter(|id| !is_ranked(id));
    let mut seen = Vec::with_capacity(shard.replicas.len());
    for (id, bound_ms) in ranked.iter().map(|c| (&c.node, c.promise_left_ms)).chain(others.map(|id| (id, 0))) {
        let heard = evidence.latest(now_ms, id);
        let why_not = match judge(now_ms, map, evidence, shard, id) {
            _ if chosen == Some(id) => None,
            Err(why_not) => Some(why_not),
            Ok(_) if is_bound && bound_ms > 0 => Some(WhyNot::Bound(bound_ms)),
            Ok(_) => chosen.map(|_| WhyNot::Outranked(String::new())),
        };
        let node = map.node(id);
        seen.push(SeenCandidate {
            node: *id,
            offset: heard.map_or(0, |heard| heard.status.offset),
            zone: node.map(|node| node.zone.clone()).unwrap_or_default(),
            priority: node.map_or(0, |node| node.replica_priority),
            link_up: heard.is_some_and(|heard| heard.status.link_up),
            why_not,
        });
    }
    if let Some(best) = seen.iter().find(|candidate| candidate.why_not.is_none()).cloned() {
        let zone = map.node(&shard.primary).map(|node| node.zone.as_str()).unwrap_or_default();
        for candidate in &mut seen {
            if matches!(candidate.why_not, Some(WhyNot::Outranked(_))) {
                candidate.why_not = Some(WhyNot::Outranked(difference(&best, candidate, zone).to_owned()));
            }
        }
    }
    seen
}

/// By which of the criteria that a record tells the first is better.
fn difference(best: &SeenCandidate, other: &SeenCandidate, primary_zone: &str) -> &'static str {
    if best.link_up && !other.link_up {
        "its link to the primary was up"
    } else if best.offset > other.offset {
        "it has more of the data"
    } else if best.zone == primary_zone && other.zone != primary_zone {
        "it is in the zone of the primary"
    } else if best.priority < other.priority {
        "its replica-priority is a lower number"
    } else {
        "it comes first in the order of the ranking"
    }
}

/// A shard of which the primary is needed and away.
struct Away {
    restarted: bool,
    proven_dead: bool,
}

fn away(now_ms: u64, map: &ClusterMap, evidence: &Evidence, shard: &Shard) -> Option<Away> {
    let heard = evidence.latest(now_ms, &shard.primary);
    let restarted = heard.is_some_and(|heard| heard.incarnation > shard.primary_incarnation);
    let is_dead = |root: &NodeId| evidence.state(now_ms, root, &shard.primary) == Some(NodeState::Dead);
    let proven_dead = restarted || map.roots().is_quorum(is_dead);
    let failed = evidence.verdict(now_ms, map, &shard.primary) == Verdict::Failed;
    (failed || restarted).then_some(Away { restarted, proven_dead })
}

/// The evidence as it is about a shard: what the roots say of its primary, and its replicas.
pub fn why_shard(now_ms: u64, map: &ClusterMap, evidence: &Evidence, shard: &Shard, chosen: Option<&NodeId>) -> Why {
    let is_bound = away(now_ms, map, evidence, shard).is_none_or(|away| !away.proven_dead);
    Why {
        opinions: opinions(now_ms, evidence, &witnesses(map), &shard.primary, Some(shard.primary_incarnation)),
        candidates: seen_candidates(now_ms, map, evidence, shard, chosen, is_bound),
        note: String::new(),
    }
}

/// The evidence for verdicts over several nodes.
pub fn why_nodes(now_ms: u64, map: &ClusterMap, evidence: &Evidence, nodes: &[NodeId]) -> Why {
    let roots = witnesses(map);
    let opinions = nodes.iter().flat_map(|node| opinions(now_ms, evidence, &roots, node, None)).collect();
    Why { opinions, ..Why::default() }
}

/// The shards that own slots and whose primary is away, but that get no other: `Command::Refuse` for each, with
/// the evidence. The same every time until something changes; the caller keeps repetitions out of the log.
pub fn unrepaired(map: &ClusterMap, evidence: &Evidence, now_ms: u64) -> Vec<Decision> {
    if !evidence.has_quorum(now_ms, map) {
        return Vec::new();
    }
    let refusal = |shard: &Shard| {
        let away = away(now_ms, map, evidence, shard)?;
        let why = why_shard(now_ms, map, evidence, shard, None);
        let text = match why.candidates.len() {
            _ if why.candidates.iter().any(|candidate| candidate.why_not.is_none()) => return None,
            _ if away.restarted => return None,
            0 => "the primary has failed and has no replica".to_owned(),
            1 => "the primary has failed and its replica cannot replace it".to_owned(),
            count => format!("the primary has failed and none of its {count} replicas can replace it"),
        };
        Some(Decision { command: Command::Refuse { shard: shard.id, node: None, text }, why })
    };
    map.shards().values().filter(|shard| !shard.slots.is_empty()).filter_map(|shard| refusal(shard)).collect()
}

/// Two refusals for the same reasons, whatever the numbers in them.
pub fn is_same_refusal(one: &Why, other: &Why) -> bool {
    let alike = |one: &SeenCandidate, other: &SeenCandidate| {
        one.node == other.node
            && match (&one.why_not, &other.why_not) {
                (Some(one), Some(other)) => one.is_like(other),
                (one, other) => one == other,
            }
    };
    one.candidates.len() == other.candidates.len()
        && one.candidates.iter().all(|mine| other.candidates.iter().any(|theirs| alike(mine, theirs)))
}

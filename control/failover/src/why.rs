// SPDX-License-Identifier: BSD-3-Clause
//! The evidence that goes with a decision: what each root says of a node, and every replica with what speaks
//! against it. Only put together when something is decided or somebody asks. Pure.

use crate::rank::{Candidate, Policy, rank};
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
    policy: &Policy,
    chosen: Option<&NodeId>,
    is_bound: bool,
) -> Vec<SeenCandidate> {
    tell(map, &rank(now_ms, map, evidence, shard, policy), chosen, is_bound)
}

fn tell(map: &ClusterMap, ranked: &[Candidate], chosen: Option<&NodeId>, is_bound: bool) -> Vec<SeenCandidate> {
    let best = ranked.iter().find(|candidate| Some(&candidate.node) == chosen);
    let why_not = |candidate: &Candidate| match (candidate.unfit, best) {
        (_, Some(best)) if best.node == candidate.node => None,
        (Some(unfit), _) => Some(unfit.into()),
        (None, _) if is_bound && candidate.promise_left_ms > 0 => Some(WhyNot::Bound(candidate.promise_left_ms)),
        (None, Some(best)) => Some(WhyNot::Outranked(best.advantage(candidate).to_owned())),
        (None, None) => None,
    };
    let seen = |candidate: &Candidate| {
        let node = map.node(&candidate.node);
        SeenCandidate {
            node: candidate.node,
            offset: candidate.offset,
            zone: node.map(|node| node.zone.clone()).unwrap_or_default(),
            priority: node.map_or(0, |node| node.replica_priority),
            link_up: candidate.link_up,
            why_not: why_not(candidate),
        }
    };
    ranked.iter().map(seen).collect()
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
pub fn why_shard(
    now_ms: u64,
    map: &ClusterMap,
    evidence: &Evidence,
    shard: &Shard,
    policy: &Policy,
    chosen: Option<&NodeId>,
) -> Why {
    let is_bound = away(now_ms, map, evidence, shard).is_none_or(|away| !away.proven_dead);
    Why {
        opinions: opinions(now_ms, evidence, &witnesses(map), &shard.primary, Some(shard.primary_incarnation)),
        candidates: seen_candidates(now_ms, map, evidence, shard, policy, chosen, is_bound),
        note: String::new(),
    }
}

/// As [`why_shard`], where the rest is known: the witnesses, the candidates, and whether promises count.
pub(crate) fn why_ranked(
    look: (u64, &ClusterMap, &Evidence),
    roots: &[NodeId],
    shard: &Shard,
    ranked: &[Candidate],
    chosen: Option<&NodeId>,
    is_bound: bool,
) -> Why {
    let (now_ms, map, evidence) = look;
    Why {
        opinions: opinions(now_ms, evidence, roots, &shard.primary, Some(shard.primary_incarnation)),
        candidates: tell(map, ranked, chosen, is_bound),
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
pub fn unrepaired(map: &ClusterMap, evidence: &Evidence, now_ms: u64, policy: &Policy) -> Vec<Decision> {
    if !evidence.has_quorum(now_ms, map) {
        return Vec::new();
    }
    let refusal = |shard: &Shard| {
        let away = away(now_ms, map, evidence, shard)?;
        let why = why_shard(now_ms, map, evidence, shard, policy, None);
        let text = match why.candidates.len() {
            _ if why.candidates.iter().any(|candidate| candidate.why_not.is_none()) => return None,
            _ if away.restarted => return None,
            0 => "the primary has failed and has no replica".to_owned(),
            1 => "the primary has failed and its replica cannot replace it".to_owned(),
            count => format!("the primary has failed and none of its {count} replicas can replace it"),
        };
        Some(Decision { command: Command::Refuse { shard: shard.id, node: None, text }, why })
    };
    // Once more than one root says so it is marked; the rest need not be looked at.
    let is_marked = |shard: &Shard| map.node(&shard.primary).is_some_and(|node| node.failed);
    let shards = map.shards().values().filter(|shard| !shard.slots.is_empty() && is_marked(shard));
    shards.filter_map(|shard| refusal(shard)).collect()
}

/// What the leading root would do about a shard now, or what it waits for, in words.
pub fn outlook(map: &ClusterMap, evidence: &Evidence, now_ms: u64, shard: &Shard, policy: &Policy) -> String {
    if !evidence.has_quorum(now_ms, map) {
        return "the leading root waits for reports of a majority of the roots".to_owned();
    }
    let Some(away) = away(now_ms, map, evidence, shard) else {
        return match evidence.verdict(now_ms, map, &shard.primary) {
            Verdict::Alive => "nothing: a majority of the roots counts the primary as alive".to_owned(),
            Verdict::Failed | Verdict::Open => {
                "wait: no majority of the roots is of one opinion about the primary".to_owned()
            }
        };
    };
    let why = why_shard(now_ms, map, evidence, shard, policy, None);
    let best = why.candidates.iter().find(|candidate| candidate.why_not.is_none());
    let bound = why.candidates.iter().filter_map(|candidate| match candidate.why_not {
        Some(WhyNot::Bound(left_ms)) => Some(left_ms),
        _ => None,
    });
    match (best, bound.min()) {
        (Some(best), _) => format!("promote replica {}", best.node),
        (None, Some(left_ms)) => format!("wait {left_ms} ms: until then a replica has promised not to take over"),
        (None, None) if away.restarted => "let the new process of the primary go on".to_owned(),
        (None, None) if why.candidates.is_empty() => "wait for the primary: it has no replica".to_owned(),
        (None, None) => "wait: no replica may be promoted".to_owned(),
    }
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

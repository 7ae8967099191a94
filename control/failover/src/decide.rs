// SPDX-License-Identifier: BSD-3-Clause
//! One look at the whole cluster: every verdict and every shard, answered together so that it is one
//! entry of the log however many shards failed.

use crate::rank::{Candidate, candidates};
use crate::why::{why_nodes, why_shard};
use pando_liveness::{Evidence, NodeState, Verdict};
use pando_root_state::{Command, Decision, PromoteReason};
use pando_topology::{ClusterMap, NodeId, Shard};

/// What to propose now, with the evidence, as one `Command::Decide` (`witnesses` are its roots); empty if there is nothing to repair. Asking again
/// before the last answer is applied gives the same commands again, which their guards then refuse:
/// keep one batch under way at a time.
pub fn decide(map: &ClusterMap, evidence: &Evidence, now_ms: u64) -> Vec<Decision> {
    if !evidence.has_quorum(now_ms, map) {
        return Vec::new();
    }
    let verdicts = map.nodes().values().map(|n| (n, evidence.verdict(now_ms, map, &n.id)));
    let (mut failed, mut back) = (Vec::new(), Vec::new());
    for (node, verdict) in verdicts {
        match verdict {
            Verdict::Failed if !node.failed => failed.push(node.id),
            Verdict::Alive if node.failed => back.push(node.id),
            Verdict::Failed | Verdict::Alive | Verdict::Open => {}
        }
    }
    let mut commands = Vec::new();
    // Verdicts first: the promotions below see the cluster as it is after them.
    if !failed.is_empty() {
        let why = why_nodes(now_ms, map, evidence, &failed);
        commands.push(Decision { command: Command::MarkFailed { nodes: failed }, why });
    }
    if !back.is_empty() {
        let why = why_nodes(now_ms, map, evidence, &back);
        commands.push(Decision { command: Command::ClearFailed { nodes: back }, why });
    }
    commands.extend(map.shards().values().filter_map(|shard| decide_shard(map, evidence, now_ms, shard)));
    commands
}

fn decide_shard(map: &ClusterMap, evidence: &Evidence, now_ms: u64, shard: &Shard) -> Option<Decision> {
    let primary = map.node(&shard.primary)?;
    let heard = evidence.latest(now_ms, &shard.primary);
    let restarted = heard.is_some_and(|e| e.incarnation > shard.primary_incarnation);
    let verdict = evidence.verdict(now_ms, map, &shard.primary);
    // The process that reigned is gone for certain: a candidate need not wait for its promise, it
    // will find the proof itself.
    let proven_dead = restarted
        || map.roots().is_quorum(|root| evidence.state(now_ms, root, &shard.primary) == Some(NodeState::Dead));
    if verdict != Verdict::Failed && !restarted {
        return None;
    }
    let free = |c: &Candidate| proven_dead || c.promise_left_ms == 0;
    let best = candidates(now_ms, map, evidence, shard).into_iter().find(free);
    match best {
        Some(best) => {
            let reason = if restarted { PromoteReason::Restarted } else { PromoteReason::Failed };
            let why = why_shard(now_ms, map, evidence, shard, Some(&best.node));
            Some(Decision { command: promotion(shard, &best, reason), why })
        }
        // Nobody can replace it: the new process may go on, once it has registered.
        None if verdict == Verdict::Alive && primary.incarnation > shard.primary_incarnation => {
            let command = Command::ConfirmPrimary {
                shard: shard.id,
                node: primary.id,
                incarnation: primary.incarnation,
                expect_epoch: shard.epoch,
            };
            Some(Decision { command, why: why_shard(now_ms, map, evidence, shard, None) })
        }
        None => None,
    }
}

fn promotion(shard: &Shard, candidate: &Candidate, reason: PromoteReason) -> Command {
    Command::Promote {
        shard: shard.id,
        to: candidate.node,
        incarnation: candidate.incarnation,
        expect_epoch: shard.epoch,
        told_at: candidate.told_at,
        reason,
    }
}

/// The promotion of one replica that an operator asked for; its priority does not matter, everything
/// that safety needs does. None: it may not be promoted now.
pub fn manual_promotion(map: &ClusterMap, evidence: &Evidence, now_ms: u64, to: &NodeId) -> Option<Command> {
    let shard = map.shard_of(to).filter(|s| s.primary != *to)?;
    let node = map.node(to).filter(|n| !n.failed)?;
    let heard = evidence.latest(now_ms, to).filter(|e| e.incarnation == node.incarnation && e.status.synced)?;
    let told = heard.status.told.filter(|t| t.shard == shard.id && t.version >= node.promotable_since)?;
    let candidate = Candidate {
        node: *to,
        incarnation: node.incarnation,
        told_at: told.version,
        promise_left_ms: heard.status.promise_left_ms,
        offset: heard.status.offset,
    };
    Some(promotion(shard, &candidate, PromoteReason::Manual))
}

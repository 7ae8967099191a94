// SPDX-License-Identifier: BSD-3-Clause
//! One look at the whole cluster: every verdict and every shard, answered together so that it is one
//! entry of the log however many shards failed.

use crate::orphans::Orphans;
use crate::rank::{Candidate, Policy, Unfit, copies, rank, unheard};
use crate::why::{why_nodes, why_ranked, why_shard, witnesses};
use pando_liveness::{Claim, Evidence, NodeState, Verdict};
use pando_root_state::{Command, Decision, PromoteReason};
use pando_topology::{ClusterMap, NodeId, Shard, ShardId, TopologyVersion};
use std::collections::{BTreeMap, BTreeSet};

/// How long the leader waits for the last words of replicas whose primary's process is proven dead. They come with the
/// proof, because all its connections break at once; only one that hangs lets the others wait.
const LAST_WORDS_MS: u64 = 100;

/// The leader's judgement, and the little that it has to remember. May be lost.
#[derive(Clone, Debug, Default)]
pub struct Decider {
    /// Shards that wait for last words, since when.
    waiting: BTreeMap<ShardId, u64>,
    /// Nodes whose case is not closed: they are looked at again each time.
    open: BTreeSet<NodeId>,
    orphans: Orphans,
}

impl Decider {
    /// Whether something waits for a short time to pass: ask again soon.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What to propose now, with the evidence, as one `Command::Decide` (`witnesses` are its roots); empty if there
    /// is nothing to repair. Asking again before the last answer is applied gives the same commands again, which
    /// their guards then refuse: keep one batch under way at a time.
    pub fn decide(&mut self, policy: &Policy, map: &ClusterMap, evidence: &Evidence, now_ms: u64) -> Vec<Decision> {
        if !evidence.has_quorum(now_ms, map) {
            return Vec::new();
        }
        let all: BTreeSet<NodeId> = map.nodes().keys().copied().collect();
        self.decide_about(policy, map, evidence, now_ms, &all)
    }

    /// As `decide`, of nodes of which something has changed since they were last looked at, and of what was left
    /// undone then. Costs what has changed, so it does not notice a node that is not named: name all when the
    /// evidence counts (again) after it did not.
    pub fn decide_about(
        &mut self,
        policy: &Policy,
        map: &ClusterMap,
        evidence: &Evidence,
        now_ms: u64,
        nodes: &BTreeSet<NodeId>,
    ) -> Vec<Decision> {
        if !evidence.has_quorum(now_ms, map) {
            self.open.extend(nodes);
            return Vec::new();
        }
        let mut looked = std::mem::take(&mut self.open);
        looked.extend(nodes);
        let (mut failed, mut back) = (Vec::new(), Vec::new());
        let mut shards: BTreeSet<ShardId> = self.waiting.keys().copied().collect();
        for node in looked.iter().filter_map(|id| map.node(id)) {
            shards.extend(node.shard);
            match evidence.verdict(now_ms, map, &node.id) {
                Verdict::Failed if !node.failed => failed.push(node.id),
                Verdict::Alive if node.failed => back.push(node.id),
                Verdict::Open if node.failed || evidence.failure_reports(now_ms, map, &node.id) > 0 => {
                    self.open.insert(node.id);
                }
                Verdict::Failed | Verdict::Alive | Verdict::Open => {}
            }
        }
        // What is proposed may be refused.
        self.open.extend(failed.iter().chain(&back));
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
        let look = Look { policy, map, evidence, now_ms, roots: witnesses(map) };
        let waiting = std::mem::take(&mut self.waiting);
        let mut is_restarting = false;
        for shard in shards.iter().filter_map(|id| map.shard(id)) {
            let is_down = evidence.verdict(now_ms, map, &shard.primary) == Verdict::Failed;
            let heard = evidence.latest(now_ms, &shard.primary);
            let is_new = heard.is_some_and(|heard| heard.incarnation > shard.primary_incarnation);
            is_restarting |= is_new && !shard.slots.is_empty();
            // As long as its primary is gone or new, there may be something to do any moment.
            if is_down || is_new {
                self.open.insert(shard.primary);
            }
            match look.at(shard, is_down, waiting.get(&shard.id).copied()) {
                ShardVerdict::Nothing => {}
                ShardVerdict::Wait { since_ms } => drop(self.waiting.insert(shard.id, since_ms)),
                ShardVerdict::Do(decision) => commands.push(*decision),
            }
        }
        // One thing at a time: a replica that is moved may be needed where it was, and may have the only copy of what a
        // primary that restarts has lost.
        if commands.is_empty() && self.waiting.is_empty() && !is_restarting {
            let is_alive = |id: &NodeId| evidence.verdict(now_ms, map, id) == Verdict::Alive;
            commands = self.orphans.decide(map, now_ms, is_alive);
        }
        commands
    }
}

/// What there is to look at.
struct Look<'a> {
    policy: &'a Policy,
    map: &'a ClusterMap,
    evidence: &'a Evidence,
    now_ms: u64,
    /// Those whose opinions are recorded.
    roots: Vec<NodeId>,
}

/// What is to be done about one shard.
enum ShardVerdict {
    Nothing,
    /// For last words, since this time.
    Wait {
        since_ms: u64,
    },
    Do(Box<Decision>),
}

impl Look<'_> {
    fn at(&self, shard: &Shard, is_down: bool, waits_since_ms: Option<u64>) -> ShardVerdict {
        let Look { policy, map, evidence, now_ms, .. } = *self;
        let heard = evidence.latest(now_ms, &shard.primary);
        let restarted = heard.is_some_and(|e| e.incarnation > shard.primary_incarnation);
        if !is_down && !restarted {
            return ShardVerdict::Nothing;
        }
        // The process that reigned is gone for certain: a candidate need not wait for its promise, it
        // will find the proof itself.
        let proven_dead = restarted
            || map.roots().is_quorum(|root| evidence.state(now_ms, root, &shard.primary) == Some(NodeState::Dead));
        let ranked = rank(now_ms, map, evidence, shard, policy);
        let fit = || ranked.iter().filter(|candidate| candidate.unfit.is_none());
        if proven_dead && fit().nth(1).is_some() && fit().any(|c| self.is_silent(shard, c)) {
            let since_ms = waits_since_ms.unwrap_or(now_ms);
            if now_ms < since_ms + LAST_WORDS_MS {
                return ShardVerdict::Wait { since_ms };
            }
        }
        if restarted && evidence.verdict(now_ms, map, &shard.primary) == Verdict::Alive {
            return self.follow_restart(shard);
        }
        let free = |c: &&Candidate| proven_dead || c.promise_left_ms == 0;
        if let Some(best) = fit().find(free) {
            let reason = if restarted { PromoteReason::Restarted } else { PromoteReason::Failed };
            let look = (now_ms, map, evidence);
            let why = why_ranked(look, &self.roots, shard, &ranked, Some(&best.node), !proven_dead);
            // Ranked as fit without having been told: the reign of the dead primary is over for certain.
            let over = (best.told_at == TopologyVersion::ZERO).then_some(shard.reign);
            return ShardVerdict::Do(Box::new(Decision { command: promotion(shard, best, reason, over), why }));
        }
        ShardVerdict::Nothing
    }

    /// The primary runs as a new process, which has what it could load and nothing else: the most advanced copy of the
    /// data gets the shard. One that is never to be promoted automatically is better than none.
    fn follow_restart(&self, shard: &Shard) -> ShardVerdict {
        let Look { policy, map, evidence, now_ms, .. } = *self;
        let Some(primary) = map.node(&shard.primary) else { return ShardVerdict::Nothing };
        let Some(heard) = evidence.latest(now_ms, &shard.primary) else { return ShardVerdict::Nothing };
        let own = &heard.status;
        let is_registered = primary.incarnation > shard.primary_incarnation && heard.incarnation == primary.incarnation;
        // Offsets of another history say nothing.
        let is_better = |copy: &Candidate| !own.synced || copy.lineage.id != own.lineage.id || copy.offset > own.offset;
        let Some(best) = copies(now_ms, map, evidence, shard, policy).into_iter().find(is_better) else {
            if !is_registered {
                return ShardVerdict::Nothing;
            }
            let command = Command::ConfirmPrimary {
                shard: shard.id,
                node: primary.id,
                incarnation: primary.incarnation,
                expect_epoch: shard.epoch,
            };
            let why = why_shard(now_ms, map, evidence, shard, policy, None);
            return ShardVerdict::Do(Box::new(Decision { command, why }));
        };
        // If nobody told it, the new process of the primary has to answer for those who reigned before.
        let is_told = best.unfit != Some(Unfit::NotTold) && best.told_at > TopologyVersion::ZERO;
        let has_word = own.vouches == Some(Claim { shard: shard.id, reign: shard.reign });
        let over = match is_told {
            true => None,
            false if has_word && is_registered => Some(shard.reign),
            false => return ShardVerdict::Nothing,
        };
        let why = why_shard(now_ms, map, evidence, shard, policy, Some(&best.node));
        let command = promotion(shard, &best, PromoteReason::Restarted, over);
        ShardVerdict::Do(Box::new(Decision { command, why }))
    }

    /// It has not said yet what it has of the dead primary's last words. A chained one gets them from its upstream
    /// and cannot have more.
    fn is_silent(&self, shard: &Shard, candidate: &Candidate) -> bool {
        let upstream = self.map.upstream_of(&candidate.node);
        candidate.link_up && upstream.is_some_and(|upstream| upstream.id == shard.primary)
    }
}

/// Whose data would be given up by confirming this primary: replicas that cannot be asked what they have. Empty if
/// the primary has loaded data itself. To be asked before a `ConfirmPrimary` is proposed.
pub fn abandoned(map: &ClusterMap, evidence: &Evidence, now_ms: u64, shard: &ShardId) -> Vec<NodeId> {
    let Some(shard) = map.shard(shard) else { return Vec::new() };
    let has_data = evidence.latest(now_ms, &shard.primary).is_some_and(|heard| heard.status.synced);
    if has_data { Vec::new() } else { unheard(now_ms, map, evidence, shard) }
}

fn promotion(shard: &Shard, candidate: &Candidate, reason: PromoteReason, over: Option<TopologyVersion>) -> Command {
    Command::Promote {
        shard: shard.id,
        to: candidate.node,
        incarnation: candidate.incarnation,
        expect_epoch: shard.epoch,
        told_at: candidate.told_at,
        over,
        reason,
    }
}

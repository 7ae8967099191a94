// SPDX-License-Identifier: BSD-3-Clause
//! Which replicas may take over a shard, why the others may not, and the best first.
//!
//! Fit ones come first; among equals in that, in this order: history of the primary, offset, zone of the primary
//! (`cluster-failover-zone-affinity`), priority, position in the chain, id. Whether a link to the primary is up says
//! nothing: who has noticed the death already is not worse for it.

use pando_liveness::{Claim, Evidence, Lineage, NodeState, Verdict};
use pando_root_state::WhyNot;
use pando_topology::{ClusterMap, Incarnation, NodeId, Shard, TopologyVersion};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What the operators of the leading root want.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Policy {
    /// `cluster-failover-zone-affinity`: of equal replicas those in the zone of the failed primary.
    pub zone_affinity: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { zone_affinity: true }
    }
}

/// Why a replica is not to be promoted without being asked for: the gravest reason, which is the last here.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum Unfit {
    /// `cluster-replica-no-failover yes`.
    NoFailover,
    /// `replica-priority 0`.
    PriorityZero,
    /// Its link to the primary was down for longer than `cluster-replica-validity-factor` allows.
    Stale,
    /// No primary of the shard has told it that it needs its promise: somebody may write without it.
    NotTold,
    /// It has no complete copy of its primary's data.
    NotSynced,
    /// It runs as a process that has not registered yet.
    Restarted,
    /// No majority of the roots says that it lives.
    NotAgreed,
    /// It counts as failed.
    Failed,
    /// No root has heard of it lately.
    Unheard,
}

impl From<Unfit> for WhyNot {
    fn from(unfit: Unfit) -> WhyNot {
        match unfit {
            Unfit::NoFailover => WhyNot::NoFailover,
            Unfit::PriorityZero => WhyNot::PriorityZero,
            Unfit::Stale => WhyNot::Stale,
            Unfit::NotTold => WhyNot::NotTold,
            Unfit::NotSynced => WhyNot::NotSynced,
            Unfit::Restarted => WhyNot::Restarted,
            Unfit::NotAgreed => WhyNot::NotAgreed,
            Unfit::Failed => WhyNot::Failed,
            Unfit::Unheard => WhyNot::Unheard,
        }
    }
}

/// A replica, judged.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Candidate {
    /// The replica.
    pub node: NodeId,
    /// The process that was judged.
    pub incarnation: Incarnation,
    /// For `Command::Promote`; zero if no primary of the shard told it anything that counts.
    pub told_at: TopologyVersion,
    /// How long its promise to the primary still lasts.
    pub promise_left_ms: u64,
    /// Replication offset.
    pub offset: u64,
    /// What the offset counts.
    pub lineage: Lineage,
    /// Its last word is from before the death of the primary, or it has not noticed it.
    pub link_up: bool,
    /// None: it may be promoted, as soon as its promise is over.
    pub unfit: Option<Unfit>,
    /// Why it is not to be promoted although it could be: of the reasons that are less grave than `NotTold`.
    unwanted: Option<Unfit>,
    key: Key,
}

/// What candidates are sorted by, the smallest first.
type Key = (Reverse<bool>, Reverse<u64>, Reverse<bool>, u16, usize, NodeId);

impl Candidate {
    /// Why it comes before the other one, of those that are equally fit.
    pub fn advantage(&self, other: &Candidate) -> &'static str {
        let (a, b) = (&self.key, &other.key);
        if a.0 != b.0 {
            "it has the history of the primary"
        } else if a.1 != b.1 {
            "it has more of the data"
        } else if a.2 != b.2 {
            "it is in the zone of the primary"
        } else if a.3 != b.3 {
            "its replica-priority is a lower number"
        } else if a.4 != b.4 {
            "it is nearer to the primary in a chain"
        } else {
            "its id comes first"
        }
    }
}

/// The process that reigns is proven dead, and had said before that its reign was active: nobody can write for the
/// shard by that reign or an earlier one any more, whether or not a replica's promise was counted on.
pub fn is_reign_over(now_ms: u64, map: &ClusterMap, evidence: &Evidence, shard: &Shard) -> bool {
    let is_dead = |root: &NodeId| {
        let seen = evidence.seen(now_ms, root, &shard.primary);
        seen.is_some_and(|seen| seen.state == NodeState::Dead && seen.incarnation == shard.primary_incarnation)
    };
    let claim = Some(Claim { shard: shard.id, reign: shard.reign });
    let heard = evidence.latest(now_ms, &shard.primary);
    heard.is_some_and(|heard| heard.incarnation == shard.primary_incarnation && heard.status.active == claim)
        && map.roots().is_quorum(is_dead)
}

/// All replicas of a shard, the best first; those that may not be promoted last, with the reason. Those whose
/// promise has not run out are fit: whether that matters is the caller's question.
pub fn rank(now_ms: u64, map: &ClusterMap, evidence: &Evidence, shard: &Shard, policy: &Policy) -> Vec<Candidate> {
    let mut ranked: Vec<_> = shard.replicas.iter().map(|id| judge(now_ms, map, evidence, shard, policy, id)).collect();
    // What nobody told a replica matters only as long as somebody may write without it.
    if ranked.iter().any(|c: &Candidate| c.unfit == Some(Unfit::NotTold)) && is_reign_over(now_ms, map, evidence, shard)
    {
        for candidate in ranked.iter_mut().filter(|c| c.unfit == Some(Unfit::NotTold)) {
            candidate.unfit = candidate.unwanted;
        }
    }
    if let Some((lineage, offset)) = reference(now_ms, evidence, shard, &ranked) {
        for candidate in &mut ranked {
            let continues = candidate.lineage.before == lineage.id && lineage.begins(offset, &candidate.lineage);
            let is_same = candidate.lineage.begins(candidate.offset, &lineage) || continues;
            candidate.key.0 = Reverse(is_same);
        }
    }
    ranked.sort_by_key(|candidate| (candidate.unfit, candidate.key));
    ranked
}

/// Those of [`rank`] that may be promoted.
pub fn candidates(
    now_ms: u64,
    map: &ClusterMap,
    evidence: &Evidence,
    shard: &Shard,
    policy: &Policy,
) -> Vec<Candidate> {
    let mut ranked = rank(now_ms, map, evidence, shard, policy);
    ranked.retain(|candidate| candidate.unfit.is_none());
    ranked
}

/// The replicas of a shard that live and have data, told or not, the most advanced first; those that are not to be
/// promoted for another reason last.
pub fn copies(now_ms: u64, map: &ClusterMap, evidence: &Evidence, shard: &Shard, policy: &Policy) -> Vec<Candidate> {
    let mut ranked = rank(now_ms, map, evidence, shard, policy);
    ranked.retain(|copy| copy.unfit.is_none_or(|why| why <= Unfit::NotTold));
    ranked.sort_by_key(|copy| (copy.unfit.is_some_and(|why| why < Unfit::NotTold), copy.key));
    ranked
}

/// The replicas of a shard of which a majority of the roots does not know that they run, those whose new process has
/// data and has not registered yet, and those that still count as failed: they may have what the others have not.
pub fn unheard(now_ms: u64, map: &ClusterMap, evidence: &Evidence, shard: &Shard) -> Vec<NodeId> {
    let is_heard = |id: &NodeId| {
        let heard = evidence.latest(now_ms, id).filter(|_| evidence.verdict(now_ms, map, id) == Verdict::Alive);
        // One that `copies` judges; it does not look at others.
        let is_judged = |heard: Incarnation| map.node(id).is_some_and(|n| !n.failed && n.incarnation == heard);
        heard.is_some_and(|heard| !heard.status.synced || is_judged(heard.incarnation))
    };
    shard.replicas.iter().filter(|id| !is_heard(id)).copied().collect()
}

fn judge(now_ms: u64, map: &ClusterMap, evidence: &Evidence, shard: &Shard, policy: &Policy, id: &NodeId) -> Candidate {
    let zone = |id: &NodeId| map.node(id).map(|n| n.zone.as_str()).unwrap_or_default();
    let node = map.node(id);
    let is_near = policy.zone_affinity && zone(id) == zone(&shard.primary);
    let mut candidate = Candidate {
        node: *id,
        incarnation: Incarnation::ZERO,
        told_at: TopologyVersion::ZERO,
        promise_left_ms: 0,
        offset: 0,
        lineage: Lineage::default(),
        link_up: false,
        unfit: Some(Unfit::Unheard),
        unwanted: None,
        key: (Reverse(false), Reverse(0), Reverse(is_near), node.map_or(0, |n| n.replica_priority), 0, *id),
    };
    let (Some(node), Some(heard)) = (node, evidence.latest(now_ms, id)) else { return candidate };
    let status = &heard.status;
    let told = status.told.filter(|t| t.shard == shard.id && t.version >= node.promotable_since);
    candidate.incarnation = heard.incarnation;
    candidate.told_at = told.map(|told| told.version).unwrap_or_default();
    candidate.promise_left_ms = status.promise_left_ms;
    candidate.offset = status.offset;
    candidate.lineage = status.lineage;
    candidate.link_up = status.link_up;
    candidate.key.1 = Reverse(status.offset);
    candidate.key.4 = map.depth_of(id);
    let verdict = evidence.verdict(now_ms, map, id);
    let reasons = [
        (node.failed || verdict == Verdict::Failed, Unfit::Failed),
        (verdict != Verdict::Alive, Unfit::NotAgreed),
        (heard.incarnation != node.incarnation, Unfit::Restarted),
        (!status.synced, Unfit::NotSynced),
        (told.is_none(), Unfit::NotTold),
        (status.stale, Unfit::Stale),
        (node.replica_priority == 0, Unfit::PriorityZero),
        (node.no_failover, Unfit::NoFailover),
    ];
    let gravest = |reasons: &[(bool, Unfit)]| reasons.iter().find(|(applies, _)| *applies).map(|(_, reason)| *reason);
    candidate.unfit = gravest(&reasons);
    candidate.unwanted = gravest(&reasons[5..]);
    candidate
}

/// The stream of writes by which copies are compared: that of the process that reigned. If nothing is known of it,
/// the one of the copy that got furthest, unless another copy shows that the stream ended.
fn reference(now_ms: u64, evidence: &Evidence, shard: &Shard, copies: &[Candidate]) -> Option<(Lineage, u64)> {
    let reigned = evidence.latest(now_ms, &shard.primary).filter(|e| e.incarnation == shard.primary_incarnation);
    if let Some(known) = reigned.map(|e| &e.status).filter(|status| status.lineage.id != 0) {
        return Some((known.lineage, known.offset));
    }
    let usable = |copy: &&Candidate| copy.unfit.is_none_or(|why| why <= Unfit::NotTold);
    let ended: BTreeSet<u64> = copies.iter().filter(usable).map(|copy| copy.lineage.before).collect();
    let best = copies.iter().filter(usable).max_by_key(|copy| (!ended.contains(&copy.lineage.id), copy.offset));
    best.map(|copy| (copy.lineage, copy.offset))
}

// SPDX-License-Identifier: BSD-3-Clause
//! The promises that one root has given, and what it has heard. One per root process; nothing of
//! it is on disk, so a new one waits (see below). Called by the agent of a root.
//!
//! ```text
//!   a node, as this root sees it                    the promise for a shard
//!
//!   Unknown ──one lease──► Silent                   free ──claim──► given to (node, process)
//!      │                    │  ▲                      ▲                │ renewed by claims
//!      └──heartbeat──► Alive┘  │one lease             └── runs out, claim dropped,
//!                        │  ▲──┘                          death proven, newer process
//!                   proof│  │heartbeat
//!                        ▼  │
//!                        Dead
//! ```
//! A root that has just started grants nothing until its map has caught up with the committed log
//! (`note_caught_up`). A root that ended as planned has written down whom it promised what (`note`), and the
//! process after it goes on from there (`resume`). After any other end it has forgotten that. What it may
//! have promised for a shard, it promised to the reign in the map it has caught up with, or to one before.
//! So for one lease after its start it grants a shard only
//!
//! - to those who hold a promise of its predecessor and know that they speak to a new process,
//! - to that reign, when it says that it has become active: all before it are over for good,
//! - to a later one, when that reign has said so and is over: it claims nothing any more, or is dead.

use crate::messages::{
    Ack, Claim, Grant, Heartbeat, LedgerNote, NodeEvidence, NodeState, NodeStatus, NotedPromise, ProofOfDeath,
    RootReport,
};
use pando_topology::{ClusterMap, Incarnation, NodeId, ShardId, TopologyVersion};
use std::collections::BTreeMap;

/// The exclusive promise for a shard.
#[derive(Copy, Clone, Debug)]
struct Promise {
    node: NodeId,
    incarnation: Incarnation,
    reign: TopologyVersion,
    until_ms: u64,
}

/// What the leader hears of at once when it changes: alive or not, and whether the link to the primary is up.
type Reported = (std::mem::Discriminant<NodeState>, bool);

/// A node as this root has heard of it.
#[derive(Clone, Debug)]
struct Seen {
    incarnation: Incarnation,
    seq: u64,
    /// Not counted as failed before this.
    alive_until_ms: u64,
    /// It has sent a heartbeat to this process of the root.
    heard: bool,
    dead: bool,
    /// What it claims.
    claim: Option<Claim>,
    status: NodeStatus,
    /// How it was last reported, to find out what changed.
    reported: Option<Reported>,
}

/// The reign of a shard when this process started: the last one that its predecessor can have promised anything.
#[derive(Copy, Clone, Debug)]
struct Former {
    claim: Claim,
    incarnation: Incarnation,
    /// It has said that it has become active.
    is_settled: bool,
    /// It does not claim the shard any more, or its process is gone.
    is_over: bool,
}

impl Former {
    fn note(&mut self, incarnation: Incarnation, claim: Option<Claim>, active: Option<Claim>) {
        if incarnation > self.incarnation {
            self.is_over = true;
        } else if incarnation == self.incarnation {
            self.is_settled |= active == Some(self.claim);
            self.is_over |= claim != Some(self.claim);
        }
    }
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct RootLedger {
    me: NodeId,
    incarnation: Incarnation,
    lease_ms: u64,
    started_ms: u64,
    /// Before this time only promises of the process before are renewed.
    grants_from_ms: u64,
    caught_up: bool,
    promises: BTreeMap<ShardId, Promise>,
    /// By shard, and the shard of each of their primaries; needed while `grants_from_ms` is in the future.
    formers: BTreeMap<ShardId, Former>,
    former_of: BTreeMap<NodeId, ShardId>,
    nodes: BTreeMap<NodeId, Seen>,
    /// Tests break the rule on purpose, to see that the model notices.
    #[cfg(test)]
    pub(crate) break_exclusive: bool,
    #[cfg(test)]
    pub(crate) break_settled: bool,
}

impl RootLedger {
    /// A ledger for a root process that starts now and remembers nothing.
    pub fn new(me: NodeId, incarnation: Incarnation, lease_ms: u64, now_ms: u64) -> RootLedger {
        RootLedger {
            me,
            incarnation,
            lease_ms,
            started_ms: now_ms,
            grants_from_ms: now_ms.saturating_add(lease_ms),
            caught_up: false,
            promises: BTreeMap::new(),
            formers: BTreeMap::new(),
            former_of: BTreeMap::new(),
            nodes: BTreeMap::new(),
            #[cfg(test)]
            break_exclusive: false,
            #[cfg(test)]
            break_settled: false,
        }
    }

    /// This node has never been a root before: there is nothing that it can have forgotten, so it
    /// grants at once. It still counts nobody as failed in its first lease.
    pub fn first_ever(me: NodeId, incarnation: Incarnation, lease_ms: u64, now_ms: u64) -> RootLedger {
        RootLedger { grants_from_ms: now_ms, ..RootLedger::new(me, incarnation, lease_ms, now_ms) }
    }

    /// What the process after this one must know. This one must not answer anybody any more.
    pub fn note(&self, now_ms: u64) -> LedgerNote {
        let lasting = self.promises.iter().filter(|(_, p)| p.until_ms > now_ms);
        let noted = |(shard, p): (&ShardId, &Promise)| NotedPromise {
            claim: Claim { shard: *shard, reign: p.reign },
            node: p.node,
            incarnation: p.incarnation,
            left_ms: p.until_ms - now_ms,
        };
        LedgerNote { promises: lasting.map(noted).collect(), bound_ms: self.grants_from_ms.saturating_sub(now_ms) }
    }

    /// Goes on from what the process before this one has written at its end. However long ago that was, the
    /// time that was left then is enough.
    pub fn resume(&mut self, now_ms: u64, note: &LedgerNote) {
        self.grants_from_ms = now_ms.saturating_add(note.bound_ms);
        for noted in &note.promises {
            let promise = Promise {
                node: noted.node,
                incarnation: noted.incarnation,
                reign: noted.claim.reign,
                until_ms: now_ms.saturating_add(noted.left_ms),
            };
            self.promises.insert(noted.claim.shard, promise);
            // Processes before that one are over, whatever comes from them late.
            let lease_end = self.started_ms.saturating_add(self.lease_ms);
            let seen = self.nodes.entry(noted.node).or_insert_with(|| Seen::new(lease_end));
            seen.incarnation = seen.incarnation.max(noted.incarnation);
        }
    }

    /// The root's map now shows every entry that was committed when this process started (a read
    /// barrier at the leader went through). To be called once; before it no promise is given.
    pub fn note_caught_up(&mut self, map: &ClusterMap) {
        self.caught_up = true;
        for shard in map.shards().values() {
            let claim = Claim { shard: shard.id, reign: shard.reign };
            let incarnation = shard.primary_incarnation;
            let mut former = Former { claim, incarnation, is_settled: false, is_over: false };
            if let Some(seen) = self.nodes.get(&shard.primary) {
                if seen.heard {
                    former.note(seen.incarnation, seen.claim, seen.status.active);
                }
                former.is_over |= seen.dead && seen.incarnation >= incarnation;
            }
            self.formers.insert(shard.id, former);
            self.former_of.insert(shard.primary, shard.id);
        }
    }

    /// Whether `note_caught_up` was called.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// The first lease after the start is not over: nobody is counted as failed.
    pub fn is_warming_up(&self, now_ms: u64) -> bool {
        now_ms < self.started_ms.saturating_add(self.lease_ms)
    }

    /// Answers a heartbeat. None: it comes from a process that is over, or it is a repetition;
    /// then there is nothing to send. `map` is the root's own applied map.
    pub fn on_heartbeat(&mut self, now_ms: u64, beat: &Heartbeat, map: &ClusterMap) -> Option<Ack> {
        let lease_end = now_ms.saturating_add(self.lease_ms);
        let seen = self.nodes.entry(beat.node).or_insert_with(|| Seen::new(lease_end));
        if (beat.incarnation, beat.seq) <= (seen.incarnation, seen.seq) && seen.heard {
            return None;
        }
        if beat.incarnation < seen.incarnation {
            return None;
        }
        if beat.incarnation > seen.incarnation {
            // One directory runs one process: a newer one proves the older one dead.
            let before = seen.incarnation;
            self.promises.retain(|_, p| p.node != beat.node || p.incarnation > before);
        }
        seen.incarnation = beat.incarnation;
        seen.seq = beat.seq;
        seen.alive_until_ms = lease_end;
        seen.heard = true;
        seen.dead = false;
        seen.claim = beat.claim;
        seen.status = beat.status.clone();
        if now_ms >= self.grants_from_ms {
            self.formers.clear();
            self.former_of.clear();
        } else if let Some(former) = self.former_of.get(&beat.node).and_then(|shard| self.formers.get_mut(shard)) {
            former.note(beat.incarnation, beat.claim, beat.status.active);
        }
        // What it does not claim any more it gives back.
        let claimed = beat.claim.map(|c| c.shard);
        let mine = |p: &Promise| p.node == beat.node && p.incarnation == beat.incarnation;
        self.promises.retain(|shard, p| !mine(p) || Some(*shard) == claimed);
        let granted = beat.claim.and_then(|claim| self.grant(now_ms, beat, claim, map));
        Some(Ack {
            root: self.me,
            root_incarnation: self.incarnation,
            incarnation: beat.incarnation,
            seq: beat.seq,
            granted,
            version: map.version(),
        })
    }

    /// Looks again at the last heartbeat of a process whose claim could not be granted, because another's
    /// promise has ended or this root's map is newer now. None: nothing has changed for it. The holder counts
    /// from sending, so a late answer is only worth less to it.
    pub fn reconsider(&mut self, now_ms: u64, beat: &Heartbeat, map: &ClusterMap) -> Option<Ack> {
        let seen = self.nodes.get(&beat.node)?;
        if (seen.incarnation, seen.seq) != (beat.incarnation, beat.seq) || seen.dead || now_ms >= seen.alive_until_ms {
            return None;
        }
        // What it held when it sent this may have run out meanwhile.
        let beat = Heartbeat { holds_promise: false, ..beat.clone() };
        let granted = Some(self.grant(now_ms, &beat, beat.claim?, map)?);
        Some(Ack {
            root: self.me,
            root_incarnation: self.incarnation,
            incarnation: beat.incarnation,
            seq: beat.seq,
            granted,
            version: map.version(),
        })
    }

    fn grant(&mut self, now_ms: u64, beat: &Heartbeat, claim: Claim, map: &ClusterMap) -> Option<Grant> {
        // Only a voter's promise counts, and only towards claimants that count by the present voters.
        if !map.roots().contains(&self.me) || beat.roots_since < map.roots().since {
            return None;
        }
        let shard = map.shard(&claim.shard)?;
        if (shard.primary, shard.primary_incarnation, shard.reign) != (beat.node, beat.incarnation, claim.reign) {
            return None;
        }
        let knows_restart = beat.holds_promise && beat.root_incarnation == self.incarnation;
        let is_bound = now_ms < self.grants_from_ms && !self.is_free(claim);
        if !self.caught_up || (is_bound && !knows_restart && !self.was_given_to(beat, claim)) {
            return None;
        }
        if let Some(other) = self.promises.get(&claim.shard) {
            let outstanding = other.until_ms > now_ms;
            if outstanding && (other.node, other.incarnation) != (beat.node, beat.incarnation) && self.is_exclusive() {
                return None;
            }
        }
        let until_ms = now_ms.saturating_add(self.lease_ms);
        let promise = Promise { node: beat.node, incarnation: beat.incarnation, reign: claim.reign, until_ms };
        self.promises.insert(claim.shard, promise);
        Some(Grant { shard: claim.shard, reign: claim.reign, lease_ms: self.lease_ms })
    }

    /// This process of the root has given the claimant its promise already, and it has not run out
    /// for anyone else: it may be renewed even in the first lease.
    fn was_given_to(&self, beat: &Heartbeat, claim: Claim) -> bool {
        self.promises.get(&claim.shard).is_some_and(|p| (p.node, p.incarnation) == (beat.node, beat.incarnation))
    }

    /// Nothing that the process before this one may have promised stands against this claim; see the head of this file.
    fn is_free(&self, claim: Claim) -> bool {
        self.formers.get(&claim.shard).is_some_and(|former| {
            (former.is_settled || self.ignores_settled()) && (former.claim == claim || former.is_over)
        })
    }

    #[cfg(test)]
    fn ignores_settled(&self) -> bool {
        self.break_settled
    }

    #[cfg(not(test))]
    fn ignores_settled(&self) -> bool {
        false
    }

    #[cfg(test)]
    fn is_exclusive(&self) -> bool {
        !self.break_exclusive
    }

    #[cfg(not(test))]
    fn is_exclusive(&self) -> bool {
        true
    }

    /// Ends the promises to a process that is gone, and counts its node as failed. Ignored if a newer
    /// process has been heard of.
    pub fn on_proof_of_death(&mut self, now_ms: u64, proof: ProofOfDeath) {
        let lease_end = now_ms.saturating_add(self.lease_ms);
        let seen = self.nodes.entry(proof.node).or_insert_with(|| Seen::new(lease_end));
        if proof.incarnation < seen.incarnation {
            return;
        }
        seen.incarnation = proof.incarnation;
        seen.dead = true;
        self.promises.retain(|_, p| p.node != proof.node || p.incarnation > proof.incarnation);
        if let Some(former) = self.former_of.get(&proof.node).and_then(|shard| self.formers.get_mut(shard)) {
            former.is_over |= former.incarnation <= proof.incarnation;
        }
    }

    /// Whether this root has an unexpired promise to someone for the shard, and to whom.
    pub fn promised_to(&self, now_ms: u64, shard: &ShardId) -> Option<(NodeId, Incarnation)> {
        self.promises.get(shard).filter(|p| p.until_ms > now_ms).map(|p| (p.node, p.incarnation))
    }

    /// What this root can say about a node now.
    pub fn state_of(&self, now_ms: u64, node: &NodeId) -> Option<NodeState> {
        self.nodes.get(node).map(|seen| seen.state(now_ms, self.is_warming_up(now_ms)))
    }

    /// For how long the promise for a shard still lasts, and who has it.
    pub fn promise_left(&self, now_ms: u64, shard: &ShardId) -> Option<(NodeId, u64)> {
        self.promises.get(shard).filter(|p| p.until_ms > now_ms).map(|p| (p.node, p.until_ms - now_ms))
    }

    /// The replication offset of each node that was heard of.
    pub fn offsets(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.nodes.iter().filter(|(_, seen)| seen.heard).map(|(id, seen)| (*id, seen.status.offset))
    }

    /// The process of a node that was last heard of; zero if none.
    pub fn incarnation_of(&self, node: &NodeId) -> Incarnation {
        self.nodes.get(node).map_or(Incarnation::ZERO, |s| s.incarnation)
    }

    /// Everything, for the leader (every 100 ms).
    pub fn report(&mut self, now_ms: u64, map: &ClusterMap) -> RootReport {
        self.collect(now_ms, map, true)
    }

    /// What changed since the last report, for the leader at once; none if nothing did.
    pub fn changes(&mut self, now_ms: u64, map: &ClusterMap) -> Option<RootReport> {
        Some(self.collect(now_ms, map, false)).filter(|r| !r.nodes.is_empty())
    }

    fn collect(&mut self, now_ms: u64, map: &ClusterMap, full: bool) -> RootReport {
        let lease_end = now_ms.saturating_add(self.lease_ms);
        let warming_up = self.is_warming_up(now_ms);
        self.nodes.retain(|id, _| map.node(id).is_some());
        let mut nodes = BTreeMap::new();
        for id in map.nodes().keys() {
            let seen = self.nodes.entry(*id).or_insert_with(|| Seen::new(lease_end));
            let state = seen.state(now_ms, warming_up);
            let kind = Some((std::mem::discriminant(&state), seen.status.link_up));
            if full || seen.reported != kind {
                let status = seen.status.clone();
                nodes.insert(*id, NodeEvidence { incarnation: seen.incarnation, seq: seen.seq, state, status });
            }
            seen.reported = kind;
        }
        RootReport { root: self.me, incarnation: self.incarnation, version: map.version(), full, nodes }
    }

    /// The next time at which a node turns silent by itself, for the timer that sends `changes`.
    pub fn next_deadline_ms(&self, now_ms: u64) -> Option<u64> {
        self.nodes.values().map(|s| s.alive_until_ms).filter(|t| *t > now_ms).min()
    }

    /// Panics if the ledger breaks one of its rules.
    pub fn check_invariants(&self) {
        for promise in self.promises.values() {
            let Some(seen) = self.nodes.get(&promise.node) else { continue };
            assert!(promise.incarnation <= seen.incarnation, "a promise to a process from the future");
            assert!(promise.reign > TopologyVersion::ZERO, "a promise without a reign");
        }
    }
}

impl Seen {
    fn new(alive_until_ms: u64) -> Seen {
        Seen {
            incarnation: Incarnation::ZERO,
            seq: 0,
            alive_until_ms,
            heard: false,
            dead: false,
            claim: None,
            status: NodeStatus::default(),
            reported: None,
        }
    }

    fn state(&self, now_ms: u64, warming_up: bool) -> NodeState {
        if self.dead {
            NodeState::Dead
        } else if now_ms >= self.alive_until_ms {
            if warming_up { NodeState::Unknown } else { NodeState::Silent { for_ms: now_ms - self.alive_until_ms } }
        } else if self.heard {
            NodeState::Alive { left_ms: self.alive_until_ms - now_ms }
        } else {
            NodeState::Unknown
        }
    }
}

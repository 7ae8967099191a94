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
//!
//! A heartbeat costs the same however many nodes there are: what changes by itself is found by deadlines,
//! and only what has changed is reported. Tell the ledger of each new map (`on_map`, `on_changes`).

use crate::messages::{
    Ack, Claim, Grant, Heartbeat, LedgerNote, NodeEvidence, NodeState, NodeStatus, NotedPromise, ProofOfDeath,
    RootReport,
};
use pando_topology::{Change, ClusterMap, Incarnation, NodeId, ShardId, TopologyVersion};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// A node that has just joined is counted as failed after so many leases at the earliest, unless it was heard of: it
/// has to connect to each root first, perhaps together with thousands.
const NEWCOMER_LEASES: u64 = 3;

/// The exclusive promise for a shard.
#[derive(Copy, Clone, Debug)]
struct Promise {
    node: NodeId,
    incarnation: Incarnation,
    reign: TopologyVersion,
    until_ms: u64,
}

/// What the leader hears of at once when it changes: the process, alive or not, and whether the link to the primary is
/// up.
type Reported = (Incarnation, std::mem::Discriminant<NodeState>, bool);

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
    /// When `due` has it next; not later than `alive_until_ms` as long as that lies ahead.
    due_ms: Option<u64>,
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
    /// The shard for which each node holds a promise; there is at most one.
    holders: BTreeMap<NodeId, ShardId>,
    nodes: BTreeMap<NodeId, Seen>,
    /// When to look at which node, because it may have turned silent.
    due: BTreeSet<(u64, NodeId)>,
    /// Nodes that may have to be reported.
    changed: BTreeSet<NodeId>,
    /// Shards whose promise has ended before its time.
    freed: Vec<ShardId>,
    /// Number of the last report.
    reports: u64,
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
            holders: BTreeMap::new(),
            nodes: BTreeMap::new(),
            due: BTreeSet::new(),
            changed: BTreeSet::new(),
            freed: Vec::new(),
            reports: 0,
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
            self.holders.insert(noted.node, noted.claim.shard);
            // Processes before that one are over, whatever comes from them late.
            let lease_end = self.started_ms.saturating_add(self.lease_ms);
            self.meet(noted.node, lease_end);
            if let Some(seen) = self.nodes.get_mut(&noted.node) {
                seen.incarnation = seen.incarnation.max(noted.incarnation);
            }
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
        // One look-up for all that follows: ten thousand nodes beat every second.
        let seen = match self.nodes.entry(beat.node) {
            Entry::Occupied(seen) => seen.into_mut(),
            Entry::Vacant(unseen) => {
                self.changed.insert(beat.node);
                unseen.insert(Seen::new(lease_end))
            }
        };
        if (beat.incarnation, beat.seq) <= (seen.incarnation, seen.seq) && seen.heard {
            return None;
        }
        if beat.incarnation < seen.incarnation {
            return None;
        }
        // One directory runs one process: a newer one proves the older one dead.
        let before = (beat.incarnation > seen.incarnation).then_some(seen.incarnation);
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
            self.freed.push(former.claim.shard);
        }
        if seen.reported != Some(seen.as_reported(&NodeState::Alive { left_ms: self.lease_ms })) {
            self.changed.insert(beat.node);
        }
        if seen.due_ms.is_none() {
            seen.due_ms = Some(lease_end);
            self.due.insert((lease_end, beat.node));
        }
        if let Some(before) = before {
            self.end_promises(&beat.node, |p| p.incarnation <= before);
        }
        // What it does not claim any more it gives back.
        let claimed = beat.claim.map(|c| c.shard);
        let held = self.holders.get(&beat.node).copied();
        if held.is_some() && held != claimed {
            self.end_promises(&beat.node, |p| p.incarnation == beat.incarnation);
        }
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

    /// Begins to watch a node, if it does not yet.
    fn meet(&mut self, node: NodeId, lease_end: u64) {
        if let Entry::Vacant(unseen) = self.nodes.entry(node) {
            unseen.insert(Seen::new(lease_end));
            self.changed.insert(node);
            self.look_later(node);
        }
    }

    /// A node of the map: what is known of it is to be reported, if it was not in the map before.
    fn watch(&mut self, node: NodeId, lease_end: u64) {
        self.meet(node, lease_end);
        if self.nodes.get(&node).is_some_and(|seen| seen.reported.is_none()) {
            self.changed.insert(node);
        }
    }

    /// Sees to it that the node is looked at when its time has run out.
    fn look_later(&mut self, node: NodeId) {
        if let Some(seen) = self.nodes.get_mut(&node)
            && seen.due_ms.is_none()
        {
            seen.due_ms = Some(seen.alive_until_ms);
            self.due.insert((seen.alive_until_ms, node));
        }
    }

    /// Finds who has turned silent by now.
    fn look(&mut self, now_ms: u64) {
        while let Some((due_ms, node)) = self.due.first().copied().filter(|(due_ms, _)| *due_ms <= now_ms) {
            self.due.remove(&(due_ms, node));
            let Some(seen) = self.nodes.get_mut(&node) else { continue };
            seen.due_ms = None;
            if seen.alive_until_ms > now_ms {
                self.look_later(node);
            } else {
                self.changed.insert(node);
            }
        }
    }

    /// Ends the promise that a node holds, if it is such a one.
    fn end_promises(&mut self, node: &NodeId, is_such: impl Fn(&Promise) -> bool) {
        let Some(shard) = self.holders.get(node).copied() else { return };
        if self.promises.get(&shard).is_some_and(|p| p.node == *node && is_such(p)) {
            self.promises.remove(&shard);
            self.holders.remove(node);
            self.freed.push(shard);
        }
    }

    /// Shards whose promise has ended before its time since the last call: who waits for one may have it.
    pub fn take_freed(&mut self) -> Vec<ShardId> {
        std::mem::take(&mut self.freed)
    }

    /// When a claim of this shard by this process, refused now, may be granted although nothing else changes.
    pub fn grantable_ms(&self, now_ms: u64, node: &NodeId, claim: Claim) -> u64 {
        let other = self.promises.get(&claim.shard).filter(|p| p.node != *node && p.until_ms > now_ms);
        other.map_or(0, |p| p.until_ms).max(self.grants_from_ms)
    }

    /// A whole map: begins to watch its nodes, forgets those that are not in it.
    pub fn on_map(&mut self, now_ms: u64, map: &ClusterMap) {
        let lease_end = now_ms.saturating_add(self.lease_ms);
        for id in map.nodes().keys() {
            self.watch(*id, lease_end);
        }
        let gone: Vec<NodeId> = self.nodes.keys().filter(|id| map.node(id).is_none()).copied().collect();
        for id in gone {
            self.forget(&id);
        }
    }

    /// As `on_map`, of what is different from the map before.
    pub fn on_changes(&mut self, now_ms: u64, changes: &[Change]) {
        let patience_end = now_ms.saturating_add(NEWCOMER_LEASES * self.lease_ms);
        for change in changes {
            match change {
                Change::NodeUpsert(node) => self.watch(node.id, patience_end),
                Change::NodeRemove(id) => self.forget(id),
                Change::ShardUpsert(_) | Change::ShardRemove(_) | Change::Meta { .. } => {}
            }
        }
    }

    fn forget(&mut self, node: &NodeId) {
        if let Some(seen) = self.nodes.remove(node) {
            self.changed.remove(node);
            if let Some(due_ms) = seen.due_ms {
                self.due.remove(&(due_ms, *node));
            }
        }
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
        let former = self.promises.insert(claim.shard, promise);
        if let Some(former) = former.filter(|former| former.node != beat.node) {
            self.holders.remove(&former.node);
        }
        self.holders.insert(beat.node, claim.shard);
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
        self.meet(proof.node, now_ms.saturating_add(self.lease_ms));
        let Some(seen) = self.nodes.get_mut(&proof.node) else { return };
        if proof.incarnation < seen.incarnation {
            return;
        }
        seen.incarnation = proof.incarnation;
        seen.dead = true;
        self.changed.insert(proof.node);
        self.end_promises(&proof.node, |p| p.incarnation <= proof.incarnation);
        if let Some(former) = self.former_of.get(&proof.node).and_then(|shard| self.formers.get_mut(shard)) {
            former.is_over |= former.incarnation <= proof.incarnation;
            self.freed.push(former.claim.shard);
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

    /// What this root knows of a node, for the leader that asks for it: it goes into the next report.
    pub fn report_again(&mut self, node: &NodeId) {
        if let Some(seen) = self.nodes.get_mut(node) {
            seen.reported = None;
            self.changed.insert(*node);
        }
    }

    /// Everything, for a leader that has heard nothing yet.
    pub fn report(&mut self, now_ms: u64, map: &ClusterMap) -> RootReport {
        self.on_map(now_ms, map);
        self.changed = self.nodes.keys().copied().collect();
        for seen in self.nodes.values_mut() {
            seen.reported = None;
        }
        let nodes = self.collect(now_ms, map);
        RootReport { full: true, nodes, ..self.sign_of_life(map) }
    }

    /// What changed since the last report, for the leader at once; none if nothing did.
    pub fn changes(&mut self, now_ms: u64, map: &ClusterMap) -> Option<RootReport> {
        self.look(now_ms);
        if self.changed.is_empty() {
            return None;
        }
        let nodes = self.collect(now_ms, map);
        // Only what is sent has a number: a gap would mean that something was lost.
        (!nodes.is_empty()).then(|| RootReport { nodes, ..self.sign_of_life(map) })
    }

    /// Says that what was reported is still so; to be sent often enough for the reports to stay fresh.
    pub fn sign_of_life(&mut self, map: &ClusterMap) -> RootReport {
        self.reports += 1;
        RootReport {
            root: self.me,
            incarnation: self.incarnation,
            version: map.version(),
            seq: self.reports,
            full: false,
            nodes: BTreeMap::new(),
        }
    }

    fn collect(&mut self, now_ms: u64, map: &ClusterMap) -> BTreeMap<NodeId, NodeEvidence> {
        let warming_up = self.is_warming_up(now_ms);
        let mut nodes = BTreeMap::new();
        for id in std::mem::take(&mut self.changed) {
            // Nodes that the map does not show (yet, or any more) are nobody's business.
            let Some(seen) = self.nodes.get_mut(&id).filter(|_| map.node(&id).is_some()) else { continue };
            let state = seen.state(now_ms, warming_up);
            let kind = Some(seen.as_reported(&state));
            if seen.reported != kind {
                seen.reported = kind;
                let status = seen.status.clone();
                nodes.insert(id, NodeEvidence { incarnation: seen.incarnation, seq: seen.seq, state, status });
            }
        }
        nodes
    }

    /// When a node may turn silent by itself: `changes` is to be called then. Not earlier than it can happen, but
    /// it need not happen.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Whether this root counts the node as failed.
    pub fn counts_as_failed(&self, now_ms: u64, node: &NodeId) -> bool {
        let warming_up = self.is_warming_up(now_ms);
        self.nodes.get(node).is_some_and(|seen| seen.state(now_ms, warming_up).is_failed())
    }

    /// Whether `changes` has something to look at already.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Panics if the ledger breaks one of its rules.
    pub fn check_invariants(&self) {
        for promise in self.promises.values() {
            let Some(seen) = self.nodes.get(&promise.node) else { continue };
            assert!(promise.incarnation <= seen.incarnation, "a promise to a process from the future");
            assert!(promise.reign > TopologyVersion::ZERO, "a promise without a reign");
        }
        for (shard, promise) in &self.promises {
            assert_eq!(self.holders.get(&promise.node), Some(shard), "a promise whose holder is not noted");
        }
        assert_eq!(self.promises.len(), self.holders.len(), "a holder of two promises");
        for (node, seen) in &self.nodes {
            assert_eq!(seen.due_ms.is_some_and(|due| self.due.contains(&(due, *node))), seen.due_ms.is_some());
            let is_watched = seen.due_ms.is_some_and(|due| due <= seen.alive_until_ms);
            assert!(is_watched || seen.dead || self.changed.contains(node) || seen.reported.is_some());
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
            due_ms: None,
        }
    }

    fn as_reported(&self, state: &NodeState) -> Reported {
        (self.incarnation, std::mem::discriminant(state), self.status.link_up)
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

// SPDX-License-Identifier: BSD-3-Clause
//! The promises of one node to the primary of its shard: "I shall not activate a promotion for so
//! long". One per process; every data node has one, whatever its role. Called by the agent.
//!
//! After a restart it assumes that its predecessor has just promised, and waits one lease. `Told` is
//! the exception to "nothing on disk": the agent keeps the last one in its state file and hands it
//! to `restore_told`, else a replica that was restarted could not replace a primary that is gone.

use crate::messages::{BeatAck, Claim, Grant, PrimaryBeat, ProofOfDeath, Told};
use pando_topology::{ClusterMap, Incarnation, NodeId, TopologyVersion};
use std::collections::BTreeMap;

#[derive(Copy, Clone, Debug)]
struct Given {
    incarnation: Incarnation,
    seq: u64,
    until_ms: u64,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct ReplicaPromise {
    me: NodeId,
    lease_ms: u64,
    /// What the process before this one may have promised.
    forgotten_until_ms: u64,
    /// The last promise to each primary. A node has few of them.
    given: BTreeMap<NodeId, Given>,
    told: Option<Told>,
    /// The last reign of its shard that this node had on disk, and who reigns in it: no promise for an older one,
    /// however old the map is that it has.
    known: Option<(Claim, NodeId, Incarnation)>,
}

impl ReplicaPromise {
    /// For a process that starts now.
    pub fn new(me: NodeId, lease_ms: u64, now_ms: u64) -> ReplicaPromise {
        let forgotten_until_ms = now_ms.saturating_add(lease_ms);
        ReplicaPromise { me, lease_ms, forgotten_until_ms, given: BTreeMap::new(), told: None, known: None }
    }

    /// For a node that has never run before: nobody can have promised anything in its name.
    pub fn first_ever(me: NodeId, lease_ms: u64) -> ReplicaPromise {
        ReplicaPromise { me, lease_ms, forgotten_until_ms: 0, given: BTreeMap::new(), told: None, known: None }
    }

    /// What the state file says.
    pub fn restore_told(&mut self, told: Option<Told>) {
        self.told = told;
    }

    /// What the state file says of the last reign of the shard.
    pub fn restore_reign(&mut self, claim: Claim, primary: NodeId, incarnation: Incarnation) {
        self.known = Some((claim, primary, incarnation));
    }

    /// The last word of a primary that needs this node's promise; goes into heartbeats and to disk.
    pub fn told(&self) -> Option<Told> {
        self.told
    }

    /// Answers a primary. `map` is this node's own map; a primary of a reign older than the one in
    /// it gets nothing, whatever else is true. None: a repetition.
    pub fn on_beat(&mut self, now_ms: u64, beat: &PrimaryBeat, map: &ClusterMap) -> Option<BeatAck> {
        let until_ms = now_ms.saturating_add(self.lease_ms);
        let given =
            self.given.entry(beat.node).or_insert(Given { incarnation: Incarnation::ZERO, seq: 0, until_ms: 0 });
        if (beat.incarnation, beat.seq) <= (given.incarnation, given.seq) {
            return None;
        }
        // A newer process proves the one before it dead, and a release ends what it was given.
        if beat.incarnation > given.incarnation || beat.released {
            given.until_ms = 0;
        }
        given.incarnation = beat.incarnation;
        given.seq = beat.seq;
        let is_stale = |reign: TopologyVersion, primary: NodeId, incarnation: Incarnation| {
            reign > beat.reign || (reign == beat.reign && (primary, incarnation) != (beat.node, beat.incarnation))
        };
        let known = self.known.filter(|(claim, ..)| claim.shard == beat.shard);
        let is_superseded = map.node(&beat.node).is_some_and(|node| node.incarnation > beat.incarnation);
        let stale = is_superseded
            || map.shard(&beat.shard).is_some_and(|s| is_stale(s.reign, s.primary, s.primary_incarnation))
            || known.is_some_and(|(claim, primary, incarnation)| is_stale(claim.reign, primary, incarnation));
        let mut granted = None;
        if !stale && !beat.released && beat.node != self.me {
            given.until_ms = until_ms;
            granted = Some(Grant { shard: beat.shard, reign: beat.reign, lease_ms: self.lease_ms });
            if let Some(version) = beat.told {
                self.note_told(Told { shard: beat.shard, version });
            }
        }
        Some(BeatAck {
            replica: self.me,
            incarnation: beat.incarnation,
            seq: beat.seq,
            granted,
            version: map.version(),
        })
    }

    /// This node has itself become active: all earlier reigns are over, and every later one needs its promise from
    /// the start. So it can follow its successor without having been told by it.
    pub fn note_active(&mut self, told: Told) {
        self.note_told(told);
    }

    fn note_told(&mut self, told: Told) {
        if self.told.is_none_or(|t| t.shard != told.shard || t.version < told.version) {
            self.told = Some(told);
        }
    }

    /// Ends the promises to a process that is gone.
    pub fn on_proof_of_death(&mut self, proof: ProofOfDeath) {
        if let Some(given) = self.given.get_mut(&proof.node).filter(|g| g.incarnation <= proof.incarnation) {
            given.until_ms = 0;
        }
    }

    /// Until when this node must not activate a promotion.
    pub fn blocked_until_ms(&self) -> u64 {
        self.given.values().map(|g| g.until_ms).max().unwrap_or(0).max(self.forgotten_until_ms)
    }

    /// How long it must still wait; goes into heartbeats.
    pub fn left_ms(&self, now_ms: u64) -> u64 {
        self.blocked_until_ms().saturating_sub(now_ms)
    }
}

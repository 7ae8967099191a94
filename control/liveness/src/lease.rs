// SPDX-License-Identifier: BSD-3-Clause
//! The promises that one data node holds, and the lease that follows from them. One per process of a
//! data node, whatever its role. Called by the agent; the data plane sees only `Lease::until_ms`.
//!
//! ```text
//!                 map shows me (this process)            quorum of roots, own promises
//!                 as primary                             run out, map on disk
//!   Follower ────────────────────────► Claimant ─────────────────────────► Active
//!      ▲                                  │                                   │ writes while
//!      │        map shows another reign, or resign()                          │ (A) or (B) holds
//!      └──────────────────────────────────┴───────────────────────────────────┘
//! ```
//! Active does not mean writable: an active primary that is cut off has a lease that is over, and gets
//! a new one from (A) or (B) when it is back, unless the roots have gone on without it.

use crate::messages::{Ack, BeatAck, Claim, PrimaryBeat, Told};
use crate::replica::ReplicaPromise;
use pando_topology::{ClusterMap, Incarnation, NodeId, RootSet, ShardId, TopologyVersion};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A lease without an end: an active primary without replicas.
pub const UNLIMITED: u64 = u64::MAX;

/// The holder counts a promise for so much less than its giver: a 64th, because their clocks may go at different
/// rates (one in a hundred is allowed for), and two milliseconds for rounding.
fn counted(lease_ms: u64) -> u64 {
    lease_ms.saturating_sub(lease_ms / 64 + 2)
}

/// How many heartbeats may be on the way. An answer to an older one counts as lost.
const SENT_MAX: usize = 256;

/// What a node may do now.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Lease {
    /// Writes are allowed before this time; 0: not at all, `UNLIMITED`: for ever.
    pub until_ms: u64,
    /// Promises of a quorum of the roots last so long (also for a node that is not active).
    pub roots_until_ms: u64,
    /// Promises of all replicas last so long.
    pub replicas_until_ms: u64,
    /// The reign in which it may write.
    pub active: Option<Claim>,
}

/// The reign that the map gives to this process.
#[derive(Clone, Debug)]
struct Reign {
    claim: Claim,
    active: bool,
    /// Replicas that could be promoted, by this node's map: (B) needs all of them.
    needed: BTreeSet<NodeId>,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct PrimaryLease {
    me: NodeId,
    incarnation: Incarnation,
    seq: u64,
    /// When each of the last heartbeats was sent.
    sent: VecDeque<(u64, u64)>,
    /// Version of the map in use, and of the map on disk.
    version: TopologyVersion,
    durable: TopologyVersion,
    roots: RootSet,
    reign: Option<Reign>,
    /// The reign of the process before this one, as long as the map shows no later one.
    former: Option<Claim>,
    is_superseded: bool,
    /// The last reign that was given up; never claimed again.
    resigned: TopologyVersion,
    /// Per root: the process that promised, and until when.
    root_promises: BTreeMap<NodeId, (Incarnation, u64)>,
    /// The process of each root, as its last answer said.
    root_incarnations: BTreeMap<NodeId, Incarnation>,
    replica_promises: BTreeMap<NodeId, u64>,
}

impl PrimaryLease {
    /// A process starts without a lease, whatever role its files claim.
    pub fn new(me: NodeId, incarnation: Incarnation) -> PrimaryLease {
        PrimaryLease {
            me,
            incarnation,
            seq: 0,
            sent: VecDeque::new(),
            version: TopologyVersion::ZERO,
            durable: TopologyVersion::ZERO,
            roots: RootSet::default(),
            reign: None,
            former: None,
            is_superseded: false,
            resigned: TopologyVersion::ZERO,
            root_promises: BTreeMap::new(),
            root_incarnations: BTreeMap::new(),
            replica_promises: BTreeMap::new(),
        }
    }

    /// Takes over a newer map: a new reign begins, or the present one ends, or its replicas change.
    /// `poll` afterwards and stop writing if it says so, before anything is sent on the ground of
    /// the new map. Older maps are ignored.
    pub fn on_map(&mut self, map: &ClusterMap) {
        if map.version() < self.version {
            return;
        }
        self.version = map.version();
        self.roots = map.roots().clone();
        if map.node(&self.me).is_some_and(|node| node.incarnation > self.incarnation) {
            // Two processes of one node: somebody has copied its files. The newer one is the node.
            self.is_superseded = true;
            self.former = None;
            self.end_reign();
            return;
        }
        let former =
            map.shard_of(&self.me).filter(|s| s.primary == self.me && s.primary_incarnation < self.incarnation);
        self.former = former.map(|shard| Claim { shard: shard.id, reign: shard.reign });
        let mine = map
            .shard_of(&self.me)
            .filter(|s| s.primary == self.me && s.primary_incarnation == self.incarnation && s.reign > self.resigned);
        let Some(shard) = mine else {
            self.end_reign();
            return;
        };
        let claim = Claim { shard: shard.id, reign: shard.reign };
        if self.reign.as_ref().is_none_or(|r| r.claim != claim) {
            self.end_reign();
            self.reign = Some(Reign { claim, active: false, needed: BTreeSet::new() });
        }
        if let Some(reign) = &mut self.reign {
            let could_be_promoted = |id: &&NodeId| map.node(id).is_some_and(|n| !n.failed);
            reign.needed = shard.replicas.iter().filter(could_be_promoted).copied().collect();
        }
    }

    /// The map names a newer process of this node: this one gets no lease any more.
    pub fn is_superseded(&self) -> bool {
        self.is_superseded
    }

    /// A map of this version is on disk and would be found after a restart.
    pub fn note_durable(&mut self, version: TopologyVersion) {
        self.durable = self.durable.max(version);
    }

    /// Gives up the present reign for good; only a new one brings the lease back. Tell the roots
    /// and the replicas at once (`claim` and `beats` do), so that nobody waits.
    pub fn resign(&mut self) {
        self.end_reign();
    }

    fn end_reign(&mut self) {
        if let Some(reign) = self.reign.take() {
            self.resigned = self.resigned.max(reign.claim.reign);
        }
        self.root_promises.clear();
        self.replica_promises.clear();
        // Answers to what was sent before must not count for a later reign.
        self.sent.clear();
    }

    /// Starts a round of heartbeats, sent now (or later, never earlier): its number. The same
    /// number serves for all roots and replicas.
    pub fn next_seq(&mut self, now_ms: u64) -> u64 {
        self.seq += 1;
        self.sent.push_back((self.seq, now_ms));
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
        self.seq
    }

    /// What to claim in the heartbeats of the round.
    pub fn claim(&self) -> Option<Claim> {
        self.reign.as_ref().map(|r| r.claim)
    }

    /// The map version and the version of the set of roots that heartbeats carry.
    pub fn versions(&self) -> (TopologyVersion, TopologyVersion) {
        (self.version, self.roots.since)
    }

    /// For the heartbeat to one root: which process of it is known, and whether it holds an
    /// unexpired promise of that root.
    pub fn root_link(&self, now_ms: u64, root: &NodeId) -> (Incarnation, bool) {
        let holds = self.root_promises.get(root).is_some_and(|(_, until)| *until > now_ms);
        (self.root_incarnations.get(root).copied().unwrap_or_default(), holds)
    }

    /// Until when a root has promised.
    pub fn promise_of(&self, root: &NodeId) -> Option<u64> {
        self.root_promises.get(root).map(|(_, until)| *until)
    }

    /// The greeting of a root's process; answers carry it too.
    pub fn note_root(&mut self, root: NodeId, incarnation: Incarnation) {
        let known = self.root_incarnations.entry(root).or_default();
        *known = (*known).max(incarnation);
    }

    /// The beats of this round (number from `next_seq`) to the replicas: one for each that is needed.
    pub fn beats(&self, seq: u64) -> Vec<(NodeId, PrimaryBeat)> {
        let Some(reign) = &self.reign else { return Vec::new() };
        let told = reign.active.then_some(self.version);
        let beat = |replica: &NodeId| {
            let beat = PrimaryBeat {
                node: self.me,
                incarnation: self.incarnation,
                seq,
                shard: reign.claim.shard,
                reign: reign.claim.reign,
                told,
                released: false,
            };
            (*replica, beat)
        };
        reign.needed.iter().map(beat).collect()
    }

    /// What to tell the other nodes of a shard after its reign ended here.
    pub fn release(&self, seq: u64, ended: Claim) -> Option<PrimaryBeat> {
        (self.resigned >= ended.reign && self.claim() != Some(ended)).then_some(PrimaryBeat {
            node: self.me,
            incarnation: self.incarnation,
            seq,
            shard: ended.shard,
            reign: ended.reign,
            told: None,
            released: true,
        })
    }

    fn sent_at(&self, seq: u64) -> Option<u64> {
        let at = self.sent.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        self.sent.get(at).map(|(_, sent)| *sent)
    }

    /// A root has answered.
    pub fn on_root_ack(&mut self, ack: &Ack) {
        if ack.incarnation != self.incarnation {
            return;
        }
        self.note_root(ack.root, ack.root_incarnation);
        let (Some(sent), Some(grant), Some(reign)) = (self.sent_at(ack.seq), ack.granted, &self.reign) else { return };
        if (Claim { shard: grant.shard, reign: grant.reign }) != reign.claim {
            return;
        }
        let until = sent.saturating_add(counted(grant.lease_ms));
        let held = self.root_promises.entry(ack.root).or_insert((ack.root_incarnation, until));
        *held = (held.0.max(ack.root_incarnation), held.1.max(until));
    }

    /// A replica has answered.
    pub fn on_replica_ack(&mut self, ack: &BeatAck) {
        if ack.incarnation != self.incarnation {
            return;
        }
        let (Some(sent), Some(grant), Some(reign)) = (self.sent_at(ack.seq), ack.granted, &self.reign) else { return };
        if (Claim { shard: grant.shard, reign: grant.reign }) != reign.claim {
            return;
        }
        let held = self.replica_promises.entry(ack.replica).or_default();
        *held = (*held).max(sent.saturating_add(counted(grant.lease_ms)));
    }

    /// The lease as of now. `own` are the promises that this node itself has given: a reign is not
    /// activated before they have run out.
    pub fn poll(&mut self, now_ms: u64, own: &ReplicaPromise) -> Lease {
        let roots_until_ms = self.roots_until();
        let durable = self.durable;
        let replicas_until_ms = self.replicas_until_ms();
        let Some(reign) = &mut self.reign else { return Lease::default() };
        if !reign.active && roots_until_ms > now_ms && own.blocked_until_ms() <= now_ms && durable >= reign.claim.reign
        {
            reign.active = true;
        }
        let until_ms = if reign.active { roots_until_ms.max(replicas_until_ms) } else { 0 };
        let active = reign.active.then_some(reign.claim);
        Lease { until_ms, roots_until_ms, replicas_until_ms, active }
    }

    /// The reign of a process before this one that is still in the map, once all reigns before it are over: each
    /// of them needed the promise of this node, which has none outstanding and gives them no other, not even
    /// after a restart. That reign itself ended with its process. So any replica may follow, told or not.
    pub fn vouches(&self, now_ms: u64, own: &ReplicaPromise) -> Option<Claim> {
        self.former.filter(|former| self.durable >= former.reign && own.blocked_until_ms() <= now_ms)
    }

    /// What a node that has become active may note as told to itself (`ReplicaPromise::note_active`).
    pub fn told_by_itself(&self) -> Option<Told> {
        let reign = self.reign.as_ref().filter(|reign| reign.active)?;
        Some(Told { shard: reign.claim.shard, version: self.version })
    }

    /// The latest time to which a quorum of the roots has promised.
    fn roots_until(&self) -> u64 {
        let until = |id: &NodeId| self.root_promises.get(id).map_or(0, |(_, until)| *until);
        let mut times: Vec<u64> = self.roots.members().iter().map(until).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.into_iter().find(|t| *t > 0 && self.roots.is_quorum(|id| until(id) >= *t)).unwrap_or(0)
    }

    /// The latest time to which every needed replica has promised; 0 without a reign.
    pub fn replicas_until_ms(&self) -> u64 {
        let Some(reign) = &self.reign else { return 0 };
        let until = |id: &NodeId| self.replica_promises.get(id).copied().unwrap_or(0);
        reign.needed.iter().map(until).min().unwrap_or(UNLIMITED)
    }

    /// Panics if the state breaks one of its rules.
    pub fn check_invariants(&self) {
        assert!(self.sent.iter().zip(self.sent.iter().skip(1)).all(|(a, b)| a.0 < b.0 && a.1 <= b.1));
        match &self.reign {
            None => assert!(self.root_promises.is_empty() && self.replica_promises.is_empty()),
            Some(reign) => {
                assert!(reign.claim.reign > self.resigned, "a reign that was given up is claimed");
                assert!(reign.claim.reign <= self.version);
                assert!(!reign.active || self.durable >= reign.claim.reign);
                assert!(!reign.needed.contains(&self.me));
            }
        }
    }
}

/// The shard of a lease, for callers that only have the lease.
impl Lease {
    /// Writes are allowed at this moment.
    pub fn is_valid(&self, now_ms: u64) -> bool {
        self.active.is_some() && now_ms < self.until_ms
    }

    /// The shard for which it is.
    pub fn shard(&self) -> Option<ShardId> {
        self.active.map(|claim| claim.shard)
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! What the model's leader commits: at random, or as one who means well.

use super::{Break, LEASE, World, id, number, shard};
use crate::{Claim, ReplicaPromise};
use pando_root_state::{Command, NodeInfo, PromoteReason};
use pando_topology::{Incarnation, NodeId, ShardId, TopologyVersion};
use std::collections::BTreeMap;

impl World {
    pub(super) fn register(&mut self, n: usize) {
        let p = &self.processes[n];
        let (node, incarnation) = (p.id, Incarnation(p.incarnation));
        let Some(known) = self.state.map().node(&node) else { return };
        if known.incarnation < incarnation {
            let info = NodeInfo::of(known);
            self.commit(Command::Register { node, incarnation, info });
        }
    }

    /// The reign in the roots' map, if it is known to be over with all before it.
    pub(super) fn over(&self) -> Option<TopologyVersion> {
        let s = self.state.map().shard(&shard(0))?;
        let p = &self.processes[number(&s.primary)];
        let now = self.now + p.clock;
        let own = ReplicaPromise::first_ever(p.id, LEASE);
        let promise = if self.broken == Break::Vouch { &own } else { &p.promise };
        let vouched = p.lease.vouches(now, promise).filter(|_| p.up);
        let is_dead = Incarnation(p.incarnation) == s.primary_incarnation && (!p.up || self.broken == Break::Dead);
        let present = Claim { shard: s.id, reign: s.reign };
        let active = if self.broken == Break::Active { Some(present) } else { p.said_active };
        let dead = active.filter(|_| is_dead);
        vouched.or(dead).filter(|claim| claim.shard == s.id).map(|claim| claim.reign)
    }

    pub(super) fn confirm(&mut self) {
        let map = self.state.map();
        let Some(s) = map.shard(&shard(0)) else { return };
        let Some(primary) = map.node(&s.primary) else { return };
        let command = Command::ConfirmPrimary {
            shard: s.id,
            node: s.primary,
            incarnation: primary.incarnation,
            expect_epoch: s.epoch,
        };
        self.commit(command);
    }

    pub(super) fn settle_roots(&mut self) {
        let roots = self.state.map().roots().clone();
        let desired = roots.voters.clone();
        let settled = |node: &NodeId, version: TopologyVersion| {
            let p = &self.processes[usize::from(node.as_bytes()[0]) - 1];
            self.broken == Break::Settle
                || p.up && p.applied.iter().any(|(v, since)| *v >= version && since + LEASE <= self.now)
        };
        let step = pando_root_state::next_root_step(self.state.map(), &desired, settled);
        if let pando_root_state::RootStep::Settle(expect_since) = step {
            self.commit(Command::SettleRoots { expect_since });
        }
    }

    /// Entries that no sensible leader would propose at such times.
    pub(super) fn commits(&mut self) {
        let n = self.rng.node();
        let map = self.state.map();
        let Some(s) = map.shard(&shard(0)).cloned() else { return };
        match self.rng.below(40) {
            0..=3 => {
                let Some(node) = map.node(&id(n)).cloned() else { return };
                let told = self.processes[n].told_on_disk.filter(|t| t.shard == s.id);
                let mut told_at = told.map_or(TopologyVersion(0), |t| t.version);
                if self.broken == Break::Told {
                    told_at = TopologyVersion(u64::MAX);
                }
                let over = self.over();
                self.commit(Command::Promote {
                    shard: s.id,
                    to: node.id,
                    incarnation: node.incarnation,
                    expect_epoch: s.epoch,
                    told_at,
                    over,
                    reason: PromoteReason::Failed,
                });
            }
            4 | 5 => self.confirm(),
            6..=8 => self.register(n),
            9 => {
                self.commit(Command::MarkFailed { nodes: vec![id(n)] });
            }
            10..=12 => {
                self.commit(Command::ClearFailed { nodes: vec![id(n)] });
            }
            13 => {
                // A replica leaves the shard, or the last node's shard loses one to it.
                let of = if self.rng.one_in(4) { id(4) } else { s.primary };
                self.commit(Command::Replicate { node: id(n), of });
            }
            14 if self.rng.one_in(2) => {
                let detached = ShardId::from_bytes([100 + n as u8; 20]);
                self.commit(Command::Detach { node: id(n), shard: detached });
            }
            15 => {
                // One, three or five of all, which may replace any number of the present ones; or those before
                // again, while they still count: that calls the exchange off.
                let roots = map.roots().clone();
                let count = [1, 3, 5][self.rng.below(3) as usize];
                let mut voters = BTreeMap::new();
                while voters.len() < count {
                    let v = self.rng.node();
                    voters.insert(id(v), v as u64);
                }
                let voters = roots.previous.filter(|_| self.rng.one_in(4)).unwrap_or(voters);
                self.commit(Command::SetRoots { voters, expect_since: roots.since });
            }
            16..=20 => self.settle_roots(),
            _ => {}
        }
    }
}

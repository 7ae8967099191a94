// SPDX-License-Identifier: BSD-3-Clause
//! A write that was acknowledged as being on all members of its shard is only lost with the last process that has
//! it: no process that lives throws away the last copy, to follow a primary that does not have it or to go elsewhere.
//!
//! Copies are those of members, by their own maps, since they last took data as such: who was forgotten and comes back
//! has nothing to keep. Three things may end the last copy. An operator orders its node out of the shard (REPLICATE,
//! RESET, FORGET and the like). An operator has a replica without it take over (FAILOVER TAKEOVER). And the rule that
//! an empty shard is better than none (docs/operations.md): the primary has restarted without data, and for
//! [`PATIENCE_MS`] before it is confirmed nobody who has a copy could be asked by the roots.

use std::collections::BTreeMap;

use pando_topology::{Incarnation, NodeId, Role, Shard, ShardId, TopologyVersion};

use super::{Fact, Invariant, Order, Scene, Seen};
use crate::world::LEASE_MS;

/// How long the roots wait for copies: five leases, by a clock that may go faster by one in a hundred.
const PATIENCE_MS: u64 = 5 * LEASE_MS * 99 / 100 - 10;

/// Whom the roots can reach for so long without a break they know to be there.
const HEARD_AFTER_MS: u64 = 2 * LEASE_MS;

/// When an order of an operator may still be carried out.
const ORDER_MS: u64 = 10_000;

struct Kept {
    shard: ShardId,
    /// Its place in the log.
    at: usize,
    since_ms: u64,
}

/// What is remembered of a process.
#[derive(Default)]
struct Process {
    starts: u64,
    started_ms: u64,
    /// Its node and shard, by its own map.
    home: Option<(NodeId, ShardId)>,
    /// So many writes at the beginning of its log are from somewhere else.
    strange: usize,
    /// Since when the roots could hear it, and the last time that they must have.
    reached_since_ms: Option<u64>,
    heard_ms: u64,
}

/// See the head of this file.
#[derive(Default)]
pub struct CopiesKept {
    /// Each such write that is still somewhere.
    kept: BTreeMap<u64, Kept>,
    processes: BTreeMap<usize, Process>,
    /// Nodes that an operator has ordered out of their shards, or to take over, and when.
    leaving: BTreeMap<NodeId, u64>,
    taking: BTreeMap<NodeId, u64>,
    /// The last reign of each shard.
    reigns: BTreeMap<ShardId, (TopologyVersion, NodeId, Incarnation)>,
}

impl Invariant for CopiesKept {
    fn name(&self) -> &'static str {
        "the last copy is kept"
    }

    fn check(&mut self, scene: &Scene<'_>) -> Result<(), String> {
        let now = scene.now_ms;
        for fact in scene.facts {
            match fact {
                Fact::Kept { shard, write, at } => {
                    self.kept.insert(*write, Kept { shard: *shard, at: *at, since_ms: now });
                }
                Fact::Ordered { node, order: Order::Leave } => drop(self.leaving.insert(*node, now)),
                Fact::Ordered { node, order: Order::TakeOver } => drop(self.taking.insert(*node, now)),
                _ => {}
            }
        }
        let mut has_ended = false;
        for seen in scene.seen {
            has_ended |= self.note_process(scene, seen);
        }
        self.note_reigns(scene);
        for seen in scene.seen {
            has_ended |= self.note_home(scene, seen)?;
        }
        for fact in scene.facts {
            if let Fact::Replaced { host, shard: Some(shard), former } = fact {
                self.check_replaced(scene, *host, *shard, former.writes())?;
            }
        }
        if has_ended {
            let processes = &self.processes;
            self.kept.retain(|write, kept| scene.seen.iter().any(|seen| has(processes, seen, *write, kept)));
        }
        Ok(())
    }
}

/// A member of the shard has the write, as such.
fn has(processes: &BTreeMap<usize, Process>, seen: &Seen, write: u64, kept: &Kept) -> bool {
    let is_member = |process: &&Process| process.home.is_some_and(|(_, shard)| shard == kept.shard);
    let Some(process) = processes.get(&seen.host).filter(is_member) else { return false };
    seen.has_process && kept.at >= process.strange && seen.data.log().writes().get(kept.at) == Some(&write)
}

/// The process and a majority of the roots of its cluster reach each other.
fn is_reached(scene: &Scene<'_>, seen: &Seen) -> bool {
    let Some((own, _)) = &seen.plane.view else { return false };
    let views = || scene.seen.iter().filter_map(|other| Some((other, other.plane.view.as_ref()?)));
    let same = views().map(|(_, (map, _))| map).filter(|map| map.cluster_id() == own.cluster_id());
    let Some(map) = same.max_by_key(|map| map.version()) else { return false };
    let reached: Vec<NodeId> = views()
        .filter(|(other, _)| {
            other.is_running && (other.host == seen.host || !scene.network.is_cut(seen.host, other.host))
        })
        .map(|(_, (_, me))| *me)
        .collect();
    seen.is_running && map.roots().is_quorum(|root| reached.contains(root))
}

impl CopiesKept {
    /// Whether there is a new process, or none any more.
    fn note_process(&mut self, scene: &Scene<'_>, seen: &Seen) -> bool {
        let process = self.processes.entry(seen.host).or_default();
        let is_new = process.starts != seen.starts;
        if is_new || !seen.has_process {
            let has_ended = process.home.is_some();
            *process = Process { starts: seen.starts, started_ms: scene.now_ms, ..Process::default() };
            return has_ended;
        }
        if process.home.is_some() && is_reached(scene, seen) {
            let since = *process.reached_since_ms.get_or_insert(scene.now_ms);
            if scene.now_ms - since >= HEARD_AFTER_MS {
                process.heard_ms = scene.now_ms;
            }
        } else {
            process.reached_since_ms = None;
        }
        false
    }

    /// Writes whose copies the roots could not ask for are given up by the confirmation of a primary without data.
    fn note_reigns(&mut self, scene: &Scene<'_>) {
        for (map, _) in scene.seen.iter().filter_map(|seen| seen.plane.view.as_ref()) {
            for shard in map.shards().values() {
                let reign = (shard.reign, shard.primary, shard.primary_incarnation);
                let known = self.reigns.entry(shard.id).or_insert(reign);
                if known.0 >= shard.reign {
                    continue;
                }
                let before = std::mem::replace(known, reign);
                if before.1 == shard.primary && before.2 < shard.primary_incarnation {
                    self.give_up(scene, shard);
                }
            }
        }
    }

    fn give_up(&mut self, scene: &Scene<'_>, shard: &Shard) {
        let now = scene.now_ms;
        let processes = &self.processes;
        let is_primary = |process: &&Process| process.home.is_some_and(|(me, _)| me == shard.primary);
        let has_waited = processes.values().find(is_primary).is_some_and(|p| p.started_ms + PATIENCE_MS <= now);
        if has_waited {
            let is_silent = |seen: &Seen| processes[&seen.host].heard_ms + PATIENCE_MS <= now;
            self.kept.retain(|write, kept| {
                let mut copies = scene.seen.iter().filter(|seen| has(processes, seen, *write, kept));
                kept.shard != shard.id || copies.any(|seen| !is_silent(seen))
            });
        }
    }

    /// Whether a process has left its shard as it was ordered to.
    fn note_home(&mut self, scene: &Scene<'_>, seen: &Seen) -> Result<bool, String> {
        let Some((map, me)) = &seen.plane.view else { return Ok(false) };
        let Some(shard) = map.shard_of(me).map(|shard| shard.id) else { return Ok(false) };
        let is_following = map.role_of(me) == Some(Role::Replica) && seen.plane.link_up && seen.plane.has_data();
        let Some(process) = self.processes.get_mut(&seen.host) else { return Ok(false) };
        let left = process.home.replace((*me, shard)).filter(|(_, former)| *former != shard);
        let Some((node, former)) = left else {
            if is_following || seen.data.log().len() < process.strange {
                process.strange = 0;
            }
            return Ok(false);
        };
        let mine: Vec<u64> = writes_before(scene, seen);
        let strange = std::mem::replace(&mut process.strange, seen.data.log().len());
        let is_ordered = self.leaving.remove(&node).is_some_and(|at| scene.now_ms <= at + ORDER_MS);
        if !is_ordered && let Some(write) = self.last_copy(scene, former, strange, &mine) {
            let host = seen.host;
            return Err(format!("host {host} left shard {former} with the last copy of write {write}, unasked"));
        }
        Ok(true)
    }

    fn check_replaced(&mut self, scene: &Scene<'_>, host: usize, shard: ShardId, former: &[u64]) -> Result<(), String> {
        let strange = self.processes.get_mut(&host).map_or(0, |process| std::mem::take(&mut process.strange));
        while let Some(write) = self.last_copy(scene, shard, strange, former) {
            let primary = self.reigns.get(&shard).map(|(_, primary, _)| *primary);
            let taken_ms = primary.and_then(|primary| self.taking.get(&primary));
            let is_wanted = |kept: &Kept| taken_ms.is_some_and(|at| kept.since_ms <= at + ORDER_MS);
            if !self.kept.remove(&write).is_some_and(|kept| is_wanted(&kept)) {
                return Err(format!("host {host} threw away the last copy of write {write} of shard {shard}"));
            }
        }
        Ok(())
    }

    /// A write of these, from this place on, that no member of the shard has any more.
    fn last_copy(&self, scene: &Scene<'_>, shard: ShardId, strange: usize, writes: &[u64]) -> Option<u64> {
        let all = writes.iter().enumerate().skip(strange);
        let is_lost = |(at, write): &(usize, &u64)| {
            let kept = self.kept.get(write).filter(|kept| kept.shard == shard && kept.at == *at);
            kept.is_some_and(|kept| !scene.seen.iter().any(|seen| has(&self.processes, seen, **write, kept)))
        };
        all.into_iter().find(is_lost).map(|(_, write)| *write)
    }
}

/// What a process had before it threw something away in this step.
fn writes_before(scene: &Scene<'_>, seen: &Seen) -> Vec<u64> {
    let replaced = scene.facts.iter().find_map(|fact| match fact {
        Fact::Replaced { host, former, .. } if *host == seen.host => Some(former.writes().to_vec()),
        _ => None,
    });
    replaced.unwrap_or_else(|| seen.data.log().writes().to_vec())
}

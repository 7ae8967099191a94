// SPDX-License-Identifier: BSD-3-Clause
//! Bits that flip in the files of a node while its process does not run: in the log or the snapshot of a root, in the
//! state file, in the stored map. Whoever finds that must not go on as if nothing was: a root takes part as a new
//! voter, a node without its state does not start.
//!
//! A group of roots survives what a minority loses. So there is one damaged voter at a time, and none while the
//! others are not all there or one of them is on its way out.

use pando_env::{Rng, SeededRng};
use pando_topology::Role;

use super::{End, Kind, Plan, any, between};
use crate::world::World;

pub(super) const KINDS: &[Kind] = &[
    (5, "flipped bit in a log", log),
    (4, "flipped bit in a snapshot", snapshot),
    (3, "flipped bit in a state file", state_file),
    (3, "flipped bit in a stored map", stored_map),
];

impl Plan {
    /// A voter has lost its files and was not exchanged yet.
    pub(super) fn is_voter_damaged(&mut self, world: &World) -> bool {
        if let (Some(damaged), Some(map)) = (self.damaged, world.newest_map()) {
            let roots = map.roots();
            let is_voter = roots.voters.values().any(|voter| *voter == damaged);
            let was_voter = roots.previous.iter().flat_map(|p| p.values()).any(|voter| *voter == damaged);
            if !is_voter && !was_voter {
                self.damaged = None;
            }
        }
        self.damaged.is_some()
    }
}

/// What the root on this host has may be lost. Notes it as damaged.
fn can_lose(world: &World, plan: &mut Plan, host: usize) -> Option<()> {
    let map = world.newest_map()?;
    let node = map.node(&world.node_id(host)?)?;
    let hosts: Vec<usize> = (0..world.len())
        .filter(|host| {
            let view = world.plane(*host).state().view.clone();
            view.is_some_and(|(own, me)| {
                own.cluster_id() == map.cluster_id() && map.roots().voters.contains_key(&me) && map.node(&me).is_some()
            })
        })
        .collect();
    let is_settled = map.roots().previous.is_none() && map.roots().voters.len() >= 3;
    if plan.is_voter_damaged(world) || !is_settled || hosts.len() != map.roots().voters.len() {
        return None;
    }
    plan.damaged = node.root_id;
    Some(())
}

/// Flips a bit of a file and starts the node anew, at once or after a while.
fn flip(world: &mut World, plan: &mut Plan, host: usize, file: &str) -> Option<String> {
    let rng = SeededRng::new(world.rng().next_u64());
    let Some((path, at)) = world.host(host).disk.flip_bit(file, &rng) else {
        // Nothing was damaged after all.
        plan.damaged = None;
        return None;
    };
    world.crash(host);
    plan.later(world, between(world, 0, 1000), End::Start(host));
    Some(format!("n{host}, byte {at} of {}", path.display()))
}

fn of_a_root(world: &mut World, plan: &mut Plan, file: &str) -> Option<String> {
    let host = any(world);
    if !world.is_running(host) {
        return None;
    }
    can_lose(world, plan, host)?;
    flip(world, plan, host, file)
}

fn log(world: &mut World, plan: &mut Plan) -> Option<String> {
    of_a_root(world, plan, "/roots.aof")
}

fn snapshot(world: &mut World, plan: &mut Plan) -> Option<String> {
    of_a_root(world, plan, "/roots.rdb")
}

fn state_file(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = any(world);
    let (map, me) = world.plane(host).state().view.clone()?;
    let holds_slots =
        map.role_of(&me) == Some(Role::Primary) && map.shard_of(&me).is_some_and(|shard| !shard.slots.is_empty());
    // What only it had would be lost. In a small cluster too few would be left to be asked.
    if !world.is_running(host) || holds_slots || world.len() < 5 {
        return None;
    }
    can_lose(world, plan, host)?;
    let flipped = flip(world, plan, host, "/nodes.conf")?;
    plan.later(world, between(world, 1100, 3000), End::Replace(host));
    Some(flipped)
}

fn stored_map(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = Some(any(world)).filter(|host| world.is_running(*host))?;
    let before = plan.damaged;
    let flipped = flip(world, plan, host, "/nodes.conf.map");
    plan.damaged = before;
    flipped
}

/// The operator's answer to a node that does not start: a new one in its place.
pub(super) fn replace(world: &mut World, host: usize) {
    if world.handle(host).is_some() {
        world.fail(format!("host {host} has started with a damaged state file"));
        return;
    }
    world.kill(host);
    world.empty_disk(host);
    world.restart(host);
}

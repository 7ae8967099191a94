// SPDX-License-Identifier: BSD-3-Clause
//! Operators at work while everything else happens: failovers asked for, replicas moved, nodes forgotten, reset
//! and joined again, processes told to end. Refusals are part of it. Reads of the topology are asked everywhere.

use std::time::Duration;

use pando_agent::{FailoverMode, Request, SetSlot};
use pando_env::Rng;
use pando_topology::{NodeId, Role, SLOT_COUNT, Slot};

use super::{End, Kind, Plan, any, between};
use crate::world::World;

pub(super) const KINDS: &[Kind] = &[
    (5, "planned failover", planned),
    (3, "forced failover", forced),
    (3, "replica moved", moved),
    (3, "node forgotten", forgotten),
    (2, "node reset", reset),
    (4, "island joins", join),
    (4, "told to end", told_to_end),
    (3, "epoch bumped", bump),
    (8, "reads everywhere", reads),
    (5, "number of roots set", root_count),
    (4, "slots moved", slots),
];

/// A random running host that has this role in a cluster of several.
fn with_role(world: &World, role: Role) -> Option<usize> {
    let found: Vec<usize> = (0..world.len())
        .filter(|host| {
            let view = world.plane(*host).state().view.clone();
            world.handle(*host).is_some()
                && view.is_some_and(|(map, me)| map.nodes().len() > 1 && map.role_of(&me) == Some(role))
        })
        .collect();
    found.get(world.rng().below(found.len() as u64) as usize).copied()
}

fn planned(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = with_role(world, Role::Replica)?;
    world.ask(host, Request::Failover(FailoverMode::Planned));
    Some(format!("to n{host}"))
}

fn forced(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = with_role(world, Role::Replica)?;
    let mode = if world.rng().below(2) == 0 { FailoverMode::Force } else { FailoverMode::Takeover };
    world.ask(host, Request::Failover(mode));
    Some(format!("to n{host}"))
}

fn moved(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = with_role(world, Role::Replica)?;
    let (map, _) = world.plane(host).state().view.clone()?;
    let shards: Vec<NodeId> =
        map.shards().values().filter(|shard| !shard.slots.is_empty()).map(|shard| shard.primary).collect();
    let of = *shards.get(world.rng().below(shards.len() as u64) as usize)?;
    world.ask(host, Request::Replicate(of));
    Some(format!("n{host}"))
}

/// A host other than `host`, and the node there.
fn somebody(world: &World, host: usize) -> Option<(usize, NodeId)> {
    let other = any(world);
    (other != host).then_some(())?;
    Some((other, world.node_id(other)?))
}

fn forgotten(world: &mut World, plan: &mut Plan) -> Option<String> {
    let by = any(world);
    if plan.is_voter_damaged(world) {
        return None;
    }
    let victim = with_role(world, Role::Replica)?;
    // Small clusters would be left with nothing.
    if victim == by || world.len() < 5 {
        return None;
    }
    world.ask(by, Request::Forget(world.node_id(victim)?));
    Some(format!("n{victim} by n{by}"))
}

fn reset(world: &mut World, plan: &mut Plan) -> Option<String> {
    let is_damaged = plan.is_voter_damaged(world);
    let host = with_role(world, Role::Replica).filter(|_| world.len() >= 5 && !is_damaged)?;
    let hard = world.rng().below(2) == 0;
    world.ask(host, Request::Reset { hard, as_replica: true });
    Some(format!("n{host}{}", if hard { ", hard" } else { "" }))
}

fn join(world: &mut World, _: &mut Plan) -> Option<String> {
    let main = world.cluster()?;
    let alone = (0..world.len()).find(|host| {
        let view = world.plane(*host).state().view.clone();
        world.handle(*host).is_some() && view.is_some_and(|(map, _)| map.cluster_id() != main)
    })?;
    let (to, _) = somebody(world, alone)?;
    let target = world.addr(to).to_string();
    world.ask(alone, Request::Meet { host: target, port: world.port(to), cluster_port: 0 });
    Some(format!("n{alone} meets n{to}"))
}

fn told_to_end(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = any(world);
    world.handle(host)?;
    let limit = between(world, 100, 3000);
    world.ask(host, Request::HandOver(Duration::from_millis(limit)));
    plan.later(world, limit, End::ShutDown(host));
    Some(format!("n{host} within {limit} ms"))
}

fn bump(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = with_role(world, Role::Primary)?;
    world.ask(host, Request::BumpEpoch);
    Some(format!("n{host}"))
}

fn root_count(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = any(world);
    let main = world.cluster()?;
    let view = world.plane(host).state().view.clone()?;
    // An island has a number of its own, with which it would come along.
    (view.0.cluster_id() == main && world.handle(host).is_some()).then_some(())?;
    let count = [3, 5, 7][world.rng().below(3) as usize];
    world.ask(host, Request::SetRootCount(count));
    Some(format!("to {count} by n{host}"))
}

/// Some slots of a primary go to another one, one after the other.
fn slots(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = with_role(world, Role::Primary)?;
    let (map, me) = world.plane(host).state().view.clone()?;
    let shard = map.shard_of(&me)?;
    let others: Vec<NodeId> = map.shards().values().map(|other| other.primary).filter(|other| *other != me).collect();
    let to = *others.get(world.rng().below(others.len() as u64) as usize)?;
    let first = world.rng().below(SLOT_COUNT as u64);
    let count = between(world, 1, 4);
    let slots = (first..first + count).filter_map(|slot| Slot::new((slot % SLOT_COUNT as u64) as u16));
    let slots: Vec<Slot> = slots.filter(|slot| shard.slots.contains(*slot)).collect();
    for slot in &slots {
        world.ask(host, Request::SetSlot(*slot, SetSlot::Node(to)));
    }
    (!slots.is_empty()).then(|| format!("{} of n{host}", slots.len()))
}

fn reads(world: &mut World, _: &mut Plan) -> Option<String> {
    for host in 0..world.len() {
        if world.handle(host).is_some() {
            world.ask(host, Request::ReadBarrier);
        }
    }
    Some(String::new())
}

/// What an operator does about nodes that ended up outside of the cluster, or without data in it.
pub(super) fn tidy_up(world: &mut World) {
    let Some(main) = world.cluster() else { return };
    let views: Vec<_> = (0..world.len()).map(|host| world.plane(host).state().view.clone()).collect();
    let inside = views.iter().flatten().find(|(map, _)| map.cluster_id() == main).cloned();
    let Some((map, _)) = inside else { return };
    let target = (0..world.len()).find(|host| {
        views[*host].as_ref().is_some_and(|(map, _)| map.cluster_id() == main) && world.handle(*host).is_some()
    });
    let Some(target) = target else { return };
    let finds_roots = |host: usize| world.handle(host).is_some_and(|handle| handle.info().quorum);
    for (host, view) in views.iter().enumerate() {
        let Some((own, me)) = view else { continue };
        if own.cluster_id() == main && own.nodes().len() > 1 && !finds_roots(host) {
            // All whose addresses it knew have moved, perhaps. It is told of the others.
            for other in (0..world.len()).filter(|other| *other != host && world.handle(*other).is_some()) {
                let target = world.addr(other).to_string();
                world.ask(host, Request::Meet { host: target, port: world.port(other), cluster_port: 0 });
            }
        }
        if own.cluster_id() != main && own.nodes().len() > 1 {
            // Some that were left outside have found each other.
            world.ask(host, Request::Reset { hard: false, as_replica: false });
        } else if own.cluster_id() != main {
            let (target, port) = (world.addr(target).to_string(), world.port(target));
            world.ask(host, Request::Meet { host: target, port, cluster_port: 0 });
        } else if let Some(shard) = map.shard_of(me).filter(|shard| shard.primary == *me && shard.slots.is_empty()) {
            let smallest = map.shards().values().filter(|s| !s.slots.is_empty() && s.id != shard.id);
            if let Some(of) = smallest.min_by_key(|s| s.replicas.len()) {
                world.ask(host, Request::Replicate(of.primary));
            }
        }
    }
    // Nodes that were reset for good left their former selves behind.
    let live: Vec<NodeId> = views.iter().flatten().map(|(_, me)| *me).collect();
    for node in map.nodes().keys().filter(|node| !live.contains(node)) {
        world.ask(target, Request::Forget(*node));
    }
}

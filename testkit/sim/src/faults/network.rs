// SPDX-License-Identifier: BSD-3-Clause
//! Partitions of every shape, and paths that are slow or lose packets. Cuts last until the plan heals all of them.

use pando_env::Rng;

use super::{End, Kind, Plan, any, between, two};
use crate::world::World;

pub(super) const KINDS: &[Kind] = &[
    (4, "cut between two", cut),
    (4, "one-way cut", one_way),
    (4, "host cut off", isolate),
    (3, "host is mute", mute),
    (3, "host is deaf", deaf),
    (4, "two halves", halves),
    (3, "two halves with a bridge", bridge),
    (3, "one root cut from one node", root_from_node),
    (3, "packets held back", hold),
    (3, "slow network", slow),
    (3, "slow path", slow_path),
    (3, "lossy path", lossy),
];

fn cut(world: &mut World, _: &mut Plan) -> Option<String> {
    let (a, b) = two(world);
    world.cut(a, b);
    Some(format!("n{a} n{b}"))
}

fn one_way(world: &mut World, _: &mut Plan) -> Option<String> {
    let (a, b) = two(world);
    world.cut_oneway(a, b);
    Some(format!("n{a} to n{b}"))
}

fn isolate(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = any(world);
    world.isolate(host);
    Some(format!("n{host}"))
}

fn mute(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = any(world);
    for other in (0..world.len()).filter(|other| *other != host) {
        world.cut_oneway(host, other);
    }
    Some(format!("n{host}"))
}

fn deaf(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = any(world);
    for other in (0..world.len()).filter(|other| *other != host) {
        world.cut_oneway(other, host);
    }
    Some(format!("n{host}"))
}

/// Splits the hosts at random, with at least one on each side.
fn split(world: &World) -> (Vec<usize>, Vec<usize>) {
    let (first, second) = two(world);
    let is_left: Vec<bool> =
        (0..world.len()).map(|host| host == first || (host != second && world.rng().below(2) == 0)).collect();
    (0..world.len()).partition(|host| is_left[*host])
}

fn halves(world: &mut World, _: &mut Plan) -> Option<String> {
    let (left, right) = split(world);
    for a in &left {
        for b in &right {
            world.cut(*a, *b);
        }
    }
    Some(format!("{left:?} {right:?}"))
}

fn bridge(world: &mut World, _: &mut Plan) -> Option<String> {
    let (left, right) = split(world);
    let bridge = any(world);
    for a in &left {
        for b in &right {
            if *a != bridge && *b != bridge {
                world.cut(*a, *b);
            }
        }
    }
    Some(format!("{left:?} {right:?} n{bridge}"))
}

fn root_from_node(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = any(world);
    let (map, _) = world.plane(host).state().view.clone()?;
    let roots: Vec<usize> = (0..world.len())
        .filter(|other| *other != host && world.node_id(*other).is_some_and(|id| map.roots().contains(&id)))
        .collect();
    let root = *roots.get(world.rng().below(roots.len() as u64) as usize)?;
    world.cut(root, host);
    Some(format!("n{root} n{host}"))
}

fn hold(world: &mut World, plan: &mut Plan) -> Option<String> {
    let (a, b) = two(world);
    world.hold(a, b);
    let ms = between(world, 20, 1500);
    plan.run(world, ms);
    world.heal();
    Some(format!("n{a} n{b} for {ms} ms"))
}

fn slow(world: &mut World, plan: &mut Plan) -> Option<String> {
    let ms = [10, 30, 80][world.rng().below(3) as usize];
    world.set_latency_max(ms);
    plan.later(world, between(world, 200, 2000), End::Calm);
    Some(format!("up to {ms} ms"))
}

fn slow_path(world: &mut World, plan: &mut Plan) -> Option<String> {
    let (a, b) = two(world);
    let ms = between(world, 20, 400);
    world.network().set_slow(a, b, ms);
    plan.later(world, between(world, 200, 2000), End::Calm);
    Some(format!("n{a} to n{b}, up to {ms} ms"))
}

fn lossy(world: &mut World, plan: &mut Plan) -> Option<String> {
    let (a, b) = two(world);
    let per_mille = between(world, 50, 500);
    world.network().set_lossy(a, b, per_mille);
    world.network().set_lossy(b, a, per_mille);
    plan.later(world, between(world, 200, 2000), End::Calm);
    Some(format!("n{a} n{b}, {per_mille} in a thousand"))
}

// SPDX-License-Identifier: BSD-3-Clause
//! Processes that die, stand still and start again, and machines that lose power.

use super::{End, Kind, Plan, any, between};
use crate::world::World;

pub(super) const KINDS: &[Kind] = &[
    (6, "kill", kill),
    (6, "crash", crash),
    (4, "power cut", power_cut),
    (5, "crash and start", bounce),
    (2, "all crash", crash_all),
    (6, "start all", start_all),
    (6, "pause", pause),
    (3, "pause of many", pause_many),
    (3, "sleep of a machine", sleep),
];

fn victim(world: &World) -> Option<usize> {
    Some(any(world)).filter(|host| world.is_running(*host))
}

fn kill(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = victim(world)?;
    world.kill(host);
    Some(format!("n{host}"))
}

fn crash(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = victim(world)?;
    world.crash(host);
    Some(format!("n{host}"))
}

fn power_cut(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = victim(world)?;
    world.power_off(host);
    plan.later(world, between(world, 100, 4000), End::Start(host));
    Some(format!("n{host}"))
}

fn bounce(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = victim(world)?;
    world.crash(host);
    world.restart(host);
    Some(format!("n{host}"))
}

fn crash_all(world: &mut World, plan: &mut Plan) -> Option<String> {
    for host in 0..world.len() {
        world.crash(host);
    }
    // In any order, some of them much later.
    for host in 0..world.len() {
        plan.later(world, between(world, 0, 1500), End::Start(host));
    }
    Some(String::new())
}

fn start_all(world: &mut World, _: &mut Plan) -> Option<String> {
    let dead: Vec<usize> = (0..world.len()).filter(|host| !world.is_running(*host)).collect();
    for host in &dead {
        world.restart(*host);
    }
    (!dead.is_empty()).then(|| format!("{dead:?}"))
}

fn pause(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = victim(world)?;
    let ms = between(world, 10, 2500);
    world.host_mut(host).pause();
    plan.later(world, ms, End::Resume(host));
    Some(format!("n{host} for {ms} ms"))
}

fn pause_many(world: &mut World, plan: &mut Plan) -> Option<String> {
    let ms = between(world, 10, 1500);
    let mut hosts = Vec::new();
    for host in 0..world.len() {
        if world.is_running(host) && between(world, 0, 1) == 0 {
            world.host_mut(host).pause();
            plan.later(world, ms + between(world, 0, 20), End::Resume(host));
            hosts.push(host);
        }
    }
    Some(format!("{hosts:?} for {ms} ms"))
}

fn sleep(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = victim(world)?;
    let ms = between(world, 100, 2500);
    world.host_mut(host).sleep();
    plan.later(world, ms, End::Resume(host));
    Some(format!("n{host} for {ms} ms"))
}

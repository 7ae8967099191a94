// SPDX-License-Identifier: BSD-3-Clause
//! Disks that are slow, fail, are full or flip bits. Each such fault ends after a while, and then whoever had an
//! error is started anew, as an operator would do. Lost and torn writes come with the crashes of `processes`.

use std::time::Duration;

use pando_env::Rng;

use super::{End, Kind, Plan, any, between};
use crate::world::World;

pub(super) const KINDS: &[Kind] = &[
    (4, "slow disk", slow),
    (2, "failing syncs", failing_syncs),
    (2, "failing disk", failing),
    (2, "full disk", full),
];

/// The disk works again.
pub(super) fn mend(world: &mut World, host: usize) {
    let disk = &world.host(host).disk;
    disk.set_failing(false);
    disk.set_failing_syncs(false);
    disk.set_room(None);
    disk.set_slow(Duration::ZERO);
}

fn slow(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = any(world);
    let ms = [5, 50, 400][world.rng().below(3) as usize];
    world.host(host).disk.set_slow(Duration::from_millis(ms));
    plan.later(world, between(world, 300, 3000), End::Mend(host));
    Some(format!("n{host}, {ms} ms"))
}

fn broken(world: &mut World, plan: &mut Plan, host: usize) -> Option<String> {
    plan.disturbed.insert(host);
    plan.later(world, between(world, 200, 3000), End::Mend(host));
    Some(format!("n{host}"))
}

fn failing_syncs(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = any(world);
    world.host(host).disk.set_failing_syncs(true);
    broken(world, plan, host)
}

fn failing(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = any(world);
    world.host(host).disk.set_failing(true);
    broken(world, plan, host)
}

fn full(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = any(world);
    world.host(host).disk.set_room(Some(between(world, 0, 3000) as usize));
    broken(world, plan, host)
}

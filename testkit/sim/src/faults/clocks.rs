// SPDX-License-Identifier: BSD-3-Clause
//! Clocks: the calendar jumps, and the monotonic clocks of the hosts go at different rates, within the bound
//! that leases allow for.

use pando_env::Rng;

use super::{DRIFT_PPM, Kind, Plan, any};
use crate::world::World;

pub(super) const KINDS: &[Kind] = &[(3, "calendar jumps", calendar), (3, "clock drifts", drift)];

fn calendar(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = any(world);
    let by_ms = world.rng().below(20_000_000_000) as i64 - 10_000_000_000;
    world.host(host).set_calendar(by_ms);
    Some(format!("n{host} by {by_ms} ms"))
}

fn drift(world: &mut World, _: &mut Plan) -> Option<String> {
    let host = any(world);
    // Half the bound each way, so that two hosts differ by all of it at most.
    let ppm = world.rng().below(DRIFT_PPM as u64 + 1) as i64 - DRIFT_PPM / 2;
    world.host_mut(host).rate_ppm = ppm;
    Some(format!("n{host} by {ppm} ppm"))
}

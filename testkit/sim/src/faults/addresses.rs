// SPDX-License-Identifier: BSD-3-Clause
//! Nodes that come back somewhere else: with another IP address or other ports, as a rescheduled pod does, or where
//! another node was before. Their files and so their identities stay what they were.

use std::net::{IpAddr, Ipv4Addr};

use pando_env::Rng;

use super::{End, Kind, Plan, any, between, two};
use crate::world::World;

pub(super) const KINDS: &[Kind] =
    &[(4, "another IP", another_ip), (3, "other ports", other_ports), (3, "addresses exchanged", exchanged)];

/// The process ends, and the next one is somewhere else, at once or after a while.
fn moves(world: &mut World, plan: &mut Plan, host: usize, addr: IpAddr, port: u16) {
    if between(world, 0, 1) == 0 {
        world.kill(host);
    } else {
        world.crash(host);
    }
    world.relocate(host, addr, port);
    let away_ms = if between(world, 0, 1) == 0 { between(world, 0, 30) } else { between(world, 30, 2500) };
    plan.later(world, away_ms, End::Start(host));
}

/// A host whose process runs; a machine that is off stays where it is.
fn mover(world: &World) -> Option<usize> {
    Some(any(world)).filter(|host| world.is_running(*host))
}

fn another_ip(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = mover(world)?;
    plan.addresses = plan.addresses.checked_add(1)?;
    let addr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, plan.addresses));
    moves(world, plan, host, addr, world.port(host));
    Some(format!("n{host} at {addr}"))
}

fn other_ports(world: &mut World, plan: &mut Plan) -> Option<String> {
    let host = mover(world)?;
    let port = 7000 + world.rng().below(1000) as u16;
    moves(world, plan, host, world.addr(host), port);
    Some(format!("n{host} with {port}"))
}

fn exchanged(world: &mut World, plan: &mut Plan) -> Option<String> {
    let (a, b) = two(world);
    if !(world.is_running(a) && world.is_running(b)) {
        return None;
    }
    let (of_a, of_b) = ((world.addr(a), world.port(a)), (world.addr(b), world.port(b)));
    moves(world, plan, a, of_b.0, of_b.1);
    moves(world, plan, b, of_a.0, of_a.1);
    Some(format!("n{a} n{b}"))
}

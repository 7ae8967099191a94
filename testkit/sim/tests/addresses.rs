// SPDX-License-Identifier: BSD-3-Clause
//! Nodes that come back somewhere else, in clusters that were put together by CLUSTER MEET and have no names to ask:
//! whoever knows the node by its files finds it.

use std::net::{IpAddr, Ipv4Addr};

use pando_agent::Request;
use pando_sim::faults::heal_all;
use pando_sim::world::{LEASE_MS, PORT, World};

fn formed(seed: u64) -> (World, Vec<usize>) {
    let mut world = World::new(seed, 6);
    world.form(3);
    world.run_ms(500);
    let (map, _) = world.plane(0).state().view.clone().expect("a view");
    let roots = (0..6).filter(|host| map.roots().contains(&world.node_id(*host).expect("a view"))).collect::<Vec<_>>();
    assert_eq!(roots.len(), 3);
    (world, roots)
}

fn elsewhere(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 2, number as u8 + 1))
}

/// The node's process ends and starts again at another address.
fn moves(world: &mut World, host: usize, addr: IpAddr, port: u16) {
    world.crash(host);
    world.relocate(host, addr, port);
    world.restart(host);
}

fn whole_within(world: &mut World, limit_ms: u64) {
    let is_whole = world.until(limit_ms, World::has_converged);
    world.assert_safe();
    assert!(is_whole, "seed {}: {}", world.trace_hash(), world.describe());
}

#[test]
fn a_node_with_another_address_is_the_same_node_within_a_second() {
    for seed in 300..304 {
        let (mut world, _) = formed(seed);
        let host = seed as usize % 6;
        let id = world.node_id(host);
        if seed % 2 == 0 {
            moves(&mut world, host, elsewhere(host), 6379);
        } else {
            let addr = world.addr(host);
            moves(&mut world, host, addr, 7001);
        }
        let here = (world.addr(host).to_string(), world.port(host));
        let is_known = world.until(1_000, |world| {
            let is_shown = |other: usize| {
                let view = world.plane(other).state().view.clone();
                let node = view.and_then(|(map, _)| map.node(&id?).cloned());
                node.is_some_and(|node| (node.host, node.port) == here)
            };
            (0..6).all(is_shown)
        });
        world.assert_safe();
        assert!(is_known, "seed {seed}: {}", world.describe());
        whole_within(&mut world, 10_000);
        assert_eq!(world.node_id(host), id);
    }
}

#[test]
fn a_node_that_was_away_while_all_roots_moved_finds_them() {
    for seed in 310..312 {
        let (mut world, roots) = formed(seed);
        let away = (3..6).find(|host| !roots.contains(host)).expect("a replica that is no root");
        world.crash(away);
        for host in roots {
            moves(&mut world, host, elsewhere(host), 6379);
            world.run_ms(4 * LEASE_MS);
        }
        world.restart(away);
        whole_within(&mut world, 15_000);
    }
}

#[test]
fn roots_that_all_move_at_once_find_each_other_by_a_node_that_stayed() {
    for seed in 320..322 {
        let (mut world, roots) = formed(seed);
        for host in &roots {
            world.crash(*host);
            world.relocate(*host, elsewhere(*host), 6379);
        }
        world.run_ms(100);
        heal_all(&mut world);
        whole_within(&mut world, 20_000);
    }
}

#[test]
fn two_roots_that_exchange_their_addresses_stay_who_they_are() {
    for seed in 330..332 {
        let (mut world, roots) = formed(seed);
        let ids: Vec<_> = (0..6).map(|host| world.node_id(host)).collect();
        let (a, b) = (roots[0], roots[1]);
        let (of_a, of_b) = (world.addr(a), world.addr(b));
        world.crash(a);
        world.crash(b);
        world.relocate(a, of_b, 6379);
        world.relocate(b, of_a, 6379);
        world.run_ms(50);
        heal_all(&mut world);
        whole_within(&mut world, 15_000);
        let after: Vec<_> = (0..6).map(|host| world.node_id(host)).collect();
        assert_eq!(after, ids);
    }
}

/// Nobody is where anybody knows it, and an operator tells one of them where another is.
#[test]
fn nodes_that_have_all_moved_find_each_other_when_one_is_told_to_meet_another() {
    let (mut world, _) = formed(340);
    for host in 0..6 {
        world.crash(host);
        world.relocate(host, elsewhere(host), 6379);
    }
    heal_all(&mut world);
    world.run_ms(5 * LEASE_MS);
    assert!(!world.has_converged());
    for other in 1..6 {
        let target = world.addr(other).to_string();
        world.ask(0, Request::Meet { host: target, port: PORT, cluster_port: 0 });
    }
    whole_within(&mut world, 20_000);
}

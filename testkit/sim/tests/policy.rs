// SPDX-License-Identifier: BSD-3-Clause
//! Who is promoted, and who replicates whom: scenarios for each rule of `control/failover` and of chains.

use pando_agent::{FailoverMode, Request};
use pando_sim::faults::heal_all;
use pando_sim::world::{LEASE_MS, World, answer};
use pando_topology::{ClusterMap, NodeId, Slot};
use std::sync::Arc;

/// For how long a primary must be without a live replica before it is given one.
const MIGRATION_DELAY_MS: u64 = 5000;

/// First slot of one of `primaries` primaries.
fn slot(host: usize, primaries: usize) -> Slot {
    pando_sim::forming::share(host, primaries).first().expect("a share has slots")
}

fn id(world: &World, host: usize) -> NodeId {
    world.node_id(host).expect("a view")
}

fn map(world: &World, host: usize) -> Arc<ClusterMap> {
    world.plane(host).state().view.clone().expect("a view").0
}

fn host_of(world: &World, id: NodeId) -> Option<usize> {
    (0..world.len()).find(|host| world.node_id(*host) == Some(id))
}

/// From which host another one takes its data, by its own map.
fn upstream(world: &World, host: usize) -> Option<usize> {
    let node = map(world, host).upstream_of(&id(world, host)).map(|node| node.id)?;
    host_of(world, node)
}

fn must(world: &mut World, limit_ms: u64, what: &str, test: impl FnMut(&World) -> bool) {
    let holds = world.until(limit_ms, test);
    world.assert_safe();
    assert!(holds, "{what}: {}", world.describe());
}

fn follows(world: &World, host: usize) -> bool {
    let state = world.plane(host).state();
    state.link_up && state.has_data()
}

fn whole_again(world: &mut World) {
    heal_all(world);
    must(world, 30_000, "whole again", World::has_converged);
}

#[test]
fn an_orphan_gets_a_replica_that_can_take_over() {
    let mut world = World::new(201, 7);
    // Hosts 3 and 6 follow host 0, host 4 follows host 1, host 5 follows host 2.
    world.form(3);
    world.crash(4);
    let start = world.now_ms();
    let shard = map(&world, 1).shard_of(&id(&world, 1)).expect("a shard").id;
    let moved = |world: &World| {
        let map = map(world, 2);
        let ids = [3, 6].map(|host| (host, id(world, host)));
        ids.into_iter().find(|(_, id)| map.node(id).and_then(|node| node.shard) == Some(shard)).map(|(host, _)| host)
    };
    must(&mut world, MIGRATION_DELAY_MS + 2 * LEASE_MS, "moved", |world| moved(world).is_some());
    assert!(world.now_ms() - start >= MIGRATION_DELAY_MS, "too early");
    let moved = moved(&world).expect("a replica");
    must(&mut world, 5_000, "a copy of the new primary's data", |world| follows(world, moved));
    world.run_ms(LEASE_MS);
    world.crash(1);
    must(&mut world, 5_000, "the moved replica takes over", |world| world.writer_of(slot(1, 3)) == Some(moved));
    whole_again(&mut world);
}

#[test]
fn a_replica_stays_below_the_barrier() {
    let mut world = World::with_config(202, 7, |_, config| config.migration_barrier = Some(2));
    world.form(3);
    world.crash(4);
    let before = [3, 6].map(|host| upstream(&world, host));
    world.run_ms(2 * MIGRATION_DELAY_MS);
    world.assert_safe();
    assert_eq!([3, 6].map(|host| upstream(&world, host)), before);
}

#[test]
fn a_chain_ends_at_the_primary_when_a_link_is_lost() {
    let mut world = World::new(203, 6);
    // Hosts 2 and 4 follow host 0.
    world.form(2);
    let to = id(&world, 2);
    world.must(4, Request::Chain(to));
    assert_eq!(upstream(&world, 4), Some(2));
    must(&mut world, 1_000, "data by way of the chain", |world| follows(world, 4));
    world.run_ms(2 * LEASE_MS);
    world.crash(2);
    must(&mut world, 2 * LEASE_MS, "re-attached", |world| upstream(world, 4) == Some(0) && follows(world, 4));
    whole_again(&mut world);
    assert_eq!(upstream(&world, 4), Some(0), "for good");
}

#[test]
fn a_chain_survives_the_death_of_the_primary() {
    for seed in 204..208 {
        let mut world = World::new(seed, 6);
        world.form(2);
        let to = id(&world, 2);
        world.must(4, Request::Chain(to));
        world.run_ms(2 * LEASE_MS);
        let start = world.now_ms();
        world.crash(0);
        // The one that is nearer to the primary has at least as much.
        must(&mut world, 2 * LEASE_MS, "promoted", |world| world.writer_of(slot(0, 2)) == Some(2));
        assert!(world.now_ms() - start < LEASE_MS, "{} ms", world.now_ms() - start);
        must(&mut world, 2 * LEASE_MS, "it follows the new primary", |world| {
            upstream(world, 4) == Some(2) && follows(world, 4)
        });
        whole_again(&mut world);
    }
}

/// Kills a primary with two replicas, of which the second is in its zone; whether that one replaces it.
fn the_near_one_wins(seed: u64, affinity: bool) -> bool {
    let mut world = World::with_config(seed, 6, move |host, config| {
        config.zone = if host == 2 { "far".into() } else { "near".into() };
        config.zone_affinity = affinity;
    });
    world.form(2);
    world.run_ms(LEASE_MS);
    let ids = [2, 4].map(|host| id(&world, host));
    world.crash(0);
    must(&mut world, 2 * LEASE_MS, "replaced", |world| world.writer_of(slot(0, 2)).is_some());
    let winner = world.writer_of(slot(0, 2)).expect("a writer");
    if !affinity {
        assert_eq!(winner, if ids[0] < ids[1] { 2 } else { 4 }, "the lower id");
    }
    winner == 4
}

#[test]
fn the_zone_of_the_primary_is_preferred() {
    for seed in 210..215 {
        assert!(the_near_one_wins(seed, true), "seed {seed}");
    }
    assert!((210..220).any(|seed| !the_near_one_wins(seed, false)));
}

#[test]
fn data_that_are_too_old_wait_for_an_operator() {
    for (seed, factor) in [(220, 1), (221, 0)] {
        let mut world = World::with_config(seed, 6, move |_, config| {
            (config.validity_factor, config.repl_ping_ms) = (factor, 0);
        });
        world.form(3);
        world.cut(3, 0);
        world.run_ms(4 * LEASE_MS);
        world.crash(0);
        if factor == 0 {
            must(&mut world, 3 * LEASE_MS, "promoted whatever the age", |w| w.writer_of(slot(0, 3)) == Some(3));
        } else {
            let is_replaced = world.until(6 * LEASE_MS, |world| world.writer_of(slot(0, 3)).is_some());
            world.assert_safe();
            assert!(!is_replaced, "too old");
            world.must(3, Request::Failover(FailoverMode::Force));
            must(&mut world, 2 * LEASE_MS, "forced", |world| world.writer_of(slot(0, 3)) == Some(3));
        }
        whole_again(&mut world);
    }
}

#[test]
fn force_works_with_a_primary_that_lives_and_with_one_that_is_cut_off() {
    for (seed, cut_off) in [(230, false), (231, true)] {
        let mut world = World::new(seed, 6);
        world.form(3);
        world.run_ms(LEASE_MS);
        if cut_off {
            world.isolate(0);
        }
        let start = world.now_ms();
        world.must(3, Request::Failover(FailoverMode::Force));
        must(&mut world, 3 * LEASE_MS, "forced", |world| world.writer_of(slot(0, 3)) == Some(3));
        let took = world.now_ms() - start;
        println!("cut off {cut_off}: {took} ms");
        // One that cannot be asked writes until its promises run out.
        assert_eq!(took > LEASE_MS / 2, cut_off, "{took} ms");
        whole_again(&mut world);
    }
}

#[test]
fn takeover_without_roots_leaves_the_primary_alone() {
    for mode in [FailoverMode::Takeover, FailoverMode::Force] {
        let mut world = World::new(240, 6);
        world.form(3);
        world.run_ms(LEASE_MS);
        // Hosts 0 to 2 are the roots.
        world.crash(1);
        world.crash(2);
        let pending = world.ask(3, Request::Failover(mode));
        must(&mut world, 10_000, "answered", |_| answer(&pending).is_some());
        let text = answer(&pending).expect("an answer").expect_err("no majority");
        let silent = [1, 2].map(|host| format!("{}:16379", world.addr(host)));
        assert!(text.starts_with("CLUSTERDOWN No majority of the roots is reachable: 2 of 3 do not answer"), "{text}");
        assert!(silent.iter().all(|address| text.contains(address)), "{text}");
        world.run_ms(3 * LEASE_MS);
        world.assert_safe();
        assert_eq!(world.writer_of(slot(0, 3)), Some(0), "{}", world.describe());
        whole_again(&mut world);
    }
}

#[test]
fn a_detached_replica_has_a_shard_of_its_own() {
    let mut world = World::new(250, 6);
    world.form(3);
    world.must(3, Request::Detach);
    let map = map(&world, 3);
    let shard = map.shard_of(&id(&world, 3)).expect("a shard");
    assert!(shard.primary == id(&world, 3) && shard.slots.is_empty() && shard.replicas.is_empty());
    let to = id(&world, 0);
    world.must(3, Request::Replicate(to));
    must(&mut world, 5_000, "back", |world| world.has_converged());
}

#[test]
fn what_a_node_registers_follows_its_configuration() {
    let mut world = World::new(260, 3);
    world.form(1);
    let mut config = world.host(1).config.clone();
    (config.replica_priority, config.no_failover, config.zone) = (7, true, "z".into());
    (config.hostname, config.port, config.migration_barrier) = ("name".into(), 1234, None);
    world.handle(1).expect("it runs").configure(config);
    let node = id(&world, 1);
    must(&mut world, 1_000, "everybody knows", |world| {
        (0..3).all(|host| {
            let map = map(world, host);
            let node = map.node(&node).expect("the node");
            (node.replica_priority, node.no_failover, node.zone.as_str(), node.hostname.as_str())
                == (7, true, "z", "name")
                && (node.port, node.migration_barrier) == (1234, None)
        })
    });
}

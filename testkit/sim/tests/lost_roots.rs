// SPDX-License-Identifier: BSD-3-Clause
//! Roots that restart one after the other, and shards that have no roots for a while.

use pando_agent::{FailoverMode, Request};
use pando_env::Rng;
use pando_sim::faults::heal_all;
use pando_sim::world::{LEASE_MS, World};
use pando_topology::{NodeId, Slot};

fn slot(shard: usize) -> Slot {
    pando_sim::forming::share(shard, 3).first().expect("a share has slots")
}

/// Hosts n, n + 3, ... are a shard; the roots are hosts 0 to 2.
fn formed(seed: u64, hosts: usize) -> World {
    let mut world = World::new(seed, hosts);
    world.form(3);
    world.run_ms(500);
    world
}

fn whole_again(world: &mut World) {
    heal_all(world);
    let is_whole = world.until(30_000, World::has_converged);
    world.assert_safe();
    assert!(is_whole, "{}", world.describe());
}

/// Two roots that do not lead.
fn followers(world: &World) -> (usize, usize) {
    let leader: Option<NodeId> = world.handle(0).and_then(|handle| handle.info().leader);
    let mut others = (0..3).filter(|host| world.node_id(*host) != leader);
    (others.next().expect("a root"), others.next().expect("another"))
}

/// Milliseconds until all shards are served.
fn served_after(world: &mut World) -> u64 {
    let start = world.now_ms();
    let is_served = world.until(10 * LEASE_MS, |world| (0..3).all(|n| world.writer_of(slot(n)).is_some()));
    world.assert_safe();
    assert!(is_served, "{}", world.describe());
    world.now_ms() - start
}

#[test]
fn a_second_kill_soon_after_a_root_has_restarted_costs_no_lease() {
    for seed in 300..304 {
        let mut world = formed(seed, 6);
        let (first, second) = followers(&world);
        world.crash(first);
        served_after(&mut world);
        world.restart(first);
        // It has caught up, and everybody has sent it a heartbeat.
        world.run_ms(200);
        world.crash(second);
        let took = served_after(&mut world);
        println!("second kill: {took} ms");
        assert!(took < LEASE_MS / 2, "seed {seed}: {took} ms: {}", world.describe());
        whole_again(&mut world);
    }
}

/// A rolling restart of the roots, each of which hands its slots over and ends as planned. What counts is how long a
/// shard cannot write.
#[test]
fn a_rolling_restart_of_the_roots_costs_no_lease() {
    for seed in 310..313 {
        let mut world = formed(seed, 6);
        for root in 0..3 {
            let limit = std::time::Duration::from_secs(5);
            let answer = world.ask(root, Request::HandOver(limit));
            let mut gap = 0;
            let mut longest = 0;
            let mut look = |world: &World| {
                let is_served = (0..3).all(|n| world.writer_of(slot(n)).is_some());
                gap = if is_served { 0 } else { gap + 1 };
                longest = longest.max(gap);
            };
            let handed = world.until(6_000, |world| {
                look(world);
                pando_sim::world::answer(&answer).is_some()
            });
            assert!(handed, "seed {seed}: {}", world.describe());
            assert!(world.end(root), "seed {seed}: root {root} does not end");
            world.restart(root);
            // The next one goes as soon as this one has a replica's data, which is well within a lease.
            for _ in 0..250 {
                world.step();
                look(&world);
            }
            world.assert_safe();
            println!("root {root}: longest gap {longest} ms");
            assert!(longest < LEASE_MS / 2, "seed {seed}: {longest} ms at root {root}: {}", world.describe());
        }
        whole_again(&mut world);
    }
}

/// Cuts a shard's members off from everybody else.
fn seclude(world: &mut World, members: &[usize]) {
    for other in (0..world.len()).filter(|host| !members.contains(host)) {
        for member in members {
            world.cut(*member, other);
        }
    }
}

#[test]
fn without_roots_a_primary_needs_all_its_replicas() {
    let mut world = formed(320, 9);
    seclude(&mut world, &[0, 3, 6]);
    world.run_ms(5 * LEASE_MS);
    world.assert_safe();
    assert_eq!(world.writer_of(slot(0)), Some(0), "{}", world.describe());
    // One of the two is gone, and nobody can say that it has failed: it might be promoted elsewhere.
    world.cut(6, 0);
    world.cut(6, 3);
    world.run_ms(2 * LEASE_MS);
    world.assert_safe();
    assert_eq!(world.writer_of(slot(0)), None, "{}", world.describe());
    world.mend(6, 0);
    let is_back = world.until(5 * LEASE_MS, |world| world.writer_of(slot(0)) == Some(0));
    world.assert_safe();
    assert!(is_back, "{}", world.describe());
    whole_again(&mut world);
}

#[test]
fn without_roots_a_replica_may_restart() {
    let mut world = formed(321, 6);
    seclude(&mut world, &[0, 3]);
    world.run_ms(3 * LEASE_MS);
    for _ in 0..3 {
        world.crash(3);
        world.run_ms(LEASE_MS / 4);
        world.restart(3);
        for _ in 0..3 * LEASE_MS {
            world.step();
            assert_eq!(world.writer_of(slot(0)), Some(0), "{}", world.describe());
        }
    }
    // A primary that restarts has nobody to confirm it, and keeps its hands off the copy.
    let has = world.plane(3).state().offset;
    world.crash(0);
    world.run_ms(50);
    world.restart(0);
    world.run_ms(3 * LEASE_MS);
    world.assert_safe();
    assert_eq!(world.writer_of(slot(0)), None);
    assert!(world.plane(3).state().offset >= has, "{}", world.describe());
    whole_again(&mut world);
    assert!(world.plane(3).state().offset >= has, "{}", world.describe());
}

#[test]
fn two_of_three_roots_die_for_good_and_come_back_in_another_order() {
    for seed in 330..333 {
        let mut world = formed(seed, 6);
        world.crash(1);
        world.crash(2);
        world.run_ms(4 * LEASE_MS);
        world.assert_safe();
        // The shard of the root that is left has its replica's promise.
        assert_eq!(world.writer_of(slot(0)), Some(0), "{}", world.describe());
        world.crash(0);
        world.run_ms(2 * LEASE_MS);
        for root in [2, 0, 1] {
            world.restart(root);
            let pause = world.rng().below(2 * LEASE_MS);
            world.run_ms(pause);
        }
        whole_again(&mut world);
    }
}

#[test]
fn roots_are_lost_while_a_handover_is_under_way() {
    for seed in 340..346 {
        let mut world = formed(seed, 6);
        let answer = world.ask(3, Request::Failover(FailoverMode::Planned));
        let soon = world.rng().below(40);
        world.run_ms(soon);
        seclude(&mut world, &[0, 3]);
        world.run_ms(12 * LEASE_MS);
        world.assert_safe();
        // Whoever was primary when the roots went has the promise of the other: the writes that waited go on.
        let writer = world.writer_of(slot(0));
        assert!(writer.is_some(), "seed {seed}: {:?} {}", answer, world.describe());
        let offset = world.plane(writer.expect("a writer")).state().offset;
        whole_again(&mut world);
        let writer = world.writer_of(slot(0)).expect("a writer");
        assert!(world.plane(writer).state().offset >= offset, "seed {seed}: {}", world.describe());
    }
}

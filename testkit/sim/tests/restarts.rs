// SPDX-License-Identifier: BSD-3-Clause
//! Primaries that restart without their data: the most advanced copy gets the shard, and no copy is overwritten by an
//! empty one.

use pando_agent::{FailoverMode, Request};
use pando_env::Rng;
use pando_sim::faults::heal_all;
use pando_sim::world::{LEASE_MS, World};
use pando_topology::Slot;

/// What a replica may miss: it lags behind by some milliseconds, and a write comes with each.
const LAG: u64 = 40;

fn slot(shard: usize) -> Slot {
    pando_sim::forming::share(shard, 3).first().expect("a share has slots")
}

/// Host n and host n + 3 are a shard; the roots are hosts 0 to 2.
fn formed(seed: u64) -> World {
    let mut world = World::new(seed, 6);
    world.form(3);
    world.run_ms(500);
    world
}

/// Waits until somebody writes for the shard, and checks that it has what was there.
fn served_with(world: &mut World, shard: usize, offset: u64, limit_ms: u64) -> usize {
    let seed = world.trace_hash();
    let is_served = world.until(limit_ms, |world| world.writer_of(slot(shard)).is_some());
    world.assert_safe();
    assert!(is_served, "{seed}: {}", world.describe());
    let writer = world.writer_of(slot(shard)).expect("somebody writes");
    let has = world.plane(writer).state().offset;
    assert!(has + LAG >= offset, "host {writer} has {has} of {offset}: {}", world.describe());
    writer
}

/// Waits until a host that stands still counts as failed.
fn fails(world: &mut World, host: usize) {
    let id = world.node_id(host).expect("a view");
    let has_failed = world.until(10 * LEASE_MS, |world| {
        let (map, _) = world.plane(0).state().view.clone().expect("a view");
        map.node(&id).is_some_and(|node| node.failed)
    });
    assert!(has_failed, "{}", world.describe());
}

fn whole_again(world: &mut World) {
    heal_all(world);
    let is_whole = world.until(30_000, World::has_converged);
    world.assert_safe();
    assert!(is_whole, "{}", world.describe());
}

#[test]
fn a_primary_that_is_back_at_once_does_not_empty_its_replica() {
    for seed in 200..206 {
        let mut world = formed(seed);
        let shard = seed as usize % 3;
        let offset = world.plane(shard).state().offset;
        world.crash(shard);
        let away = world.rng().below(30);
        world.run_ms(away);
        world.restart(shard);
        let writer = served_with(&mut world, shard, offset, 10 * LEASE_MS);
        assert_eq!(writer, shard + 3);
        whole_again(&mut world);
    }
}

#[test]
fn one_that_dies_right_after_its_promotion_is_followed_by_the_one_before() {
    for seed in 220..226 {
        let mut world = formed(seed);
        world.ask(3, Request::Failover(FailoverMode::Planned));
        let taken = world.until(10_000, |world| world.writer_of(slot(0)) == Some(3));
        assert!(taken, "{}", world.describe());
        let offset = world.plane(3).state().offset;
        let later = world.rng().below(8);
        world.run_ms(later);
        world.crash(3);
        let away = world.rng().below(60);
        world.run_ms(away);
        world.restart(3);
        let writer = served_with(&mut world, 0, offset, 10 * LEASE_MS);
        assert_eq!(writer, 0);
        whole_again(&mut world);
    }
}

#[test]
fn a_replica_that_is_cut_off_is_waited_for() {
    let mut world = formed(240);
    let offset = world.plane(1).state().offset;
    world.isolate(4);
    world.crash(1);
    world.run_ms(50);
    world.restart(1);
    world.run_ms(3 * LEASE_MS);
    world.assert_safe();
    assert_eq!(world.writer_of(slot(1)), None, "{}", world.describe());
    world.heal();
    assert_eq!(served_with(&mut world, 1, offset, 10 * LEASE_MS), 4);
    whole_again(&mut world);
}

/// It stood still, as a process that swaps does, and counts as failed: the roots hear of it and clear the failure, and
/// its copy counts from that moment on.
#[test]
fn a_replica_that_counted_as_failed_is_asked_when_it_is_back() {
    for seed in 250..256 {
        let mut world = formed(seed);
        world.add_clients(2);
        world.run_ms(100);
        world.host_mut(4).pause();
        let offset = world.plane(1).state().offset;
        fails(&mut world, 4);
        world.crash(1);
        world.restart(1);
        let later = LEASE_MS / 2 + world.rng().below(LEASE_MS);
        world.run_ms(later);
        world.assert_safe();
        assert_eq!(world.writer_of(slot(1)), None, "{}", world.describe());
        world.host_mut(4).resume();
        assert_eq!(served_with(&mut world, 1, offset, 10 * LEASE_MS), 4);
        whole_again(&mut world);
    }
}

/// Nobody knows whether it ever comes back, so its shard goes on without its data. That is the one case in which a
/// copy is thrown away that an operator might still want.
#[test]
fn a_replica_that_stands_still_for_long_is_given_up() {
    let mut world = formed(256);
    world.add_clients(2);
    world.run_ms(100);
    world.host_mut(4).pause();
    fails(&mut world, 4);
    world.crash(1);
    world.restart(1);
    let start = world.now_ms();
    assert_eq!(served_with(&mut world, 1, 0, 10 * LEASE_MS), 1);
    assert!(world.now_ms() - start > 5 * LEASE_MS, "too early");
    world.host_mut(4).resume();
    world.run_ms(LEASE_MS);
    assert!(world.plane(4).state().link_up, "it follows: {}", world.describe());
    whole_again(&mut world);
}

#[test]
fn a_replica_that_is_gone_is_given_up_after_a_while() {
    let mut world = formed(241);
    world.crash(4);
    world.run_ms(100);
    world.crash(1);
    world.run_ms(50);
    world.restart(1);
    world.run_ms(3 * LEASE_MS);
    world.assert_safe();
    assert_eq!(world.writer_of(slot(1)), None, "{}", world.describe());
    assert_eq!(served_with(&mut world, 1, 0, 10 * LEASE_MS), 1);
    whole_again(&mut world);
}

#[test]
fn without_roots_nobody_empties_anybody() {
    let mut world = formed(242);
    let offset = world.plane(0).state().offset;
    for root in [1, 2] {
        world.crash(root);
    }
    world.run_ms(50);
    world.crash(0);
    world.run_ms(20);
    world.restart(0);
    world.run_ms(5 * LEASE_MS);
    world.assert_safe();
    assert_eq!(world.writer_of(slot(0)), None, "{}", world.describe());
    assert!(world.plane(3).state().offset + LAG >= offset, "{}", world.describe());
    for root in [1, 2] {
        world.restart(root);
    }
    assert_eq!(served_with(&mut world, 0, offset, 20 * LEASE_MS), 3);
    whole_again(&mut world);
}

/// The replica has failed and is back, which its primary cannot know: it is cut off from the other roots. So the
/// replica has all data and was told nothing.
#[test]
fn a_replica_that_was_not_told_follows_when_the_new_process_vouches() {
    let mut world = formed(243);
    world.isolate(5);
    let is_failed = |world: &World, failed: bool| {
        let (map, _) = world.plane(0).state().view.clone().expect("a view");
        map.node(&world.node_id(5).expect("a view")).is_some_and(|node| node.failed == failed)
    };
    assert!(world.until(10 * LEASE_MS, |world| is_failed(world, true) && is_failed(world, true)));
    world.run_ms(200);
    for other in [0, 1, 3, 4] {
        world.cut(2, other);
    }
    let offset = world.plane(2).state().offset;
    // Everybody but the primary can be reached by the replica, then the primary as well.
    for other in [0, 1, 3, 4] {
        world.mend(5, other);
    }
    assert!(world.until(10 * LEASE_MS, |world| is_failed(world, false)), "{}", world.describe());
    world.mend(5, 2);
    let caught_up = world.until(5 * LEASE_MS, |world| world.plane(5).state().offset > offset);
    assert!(caught_up, "{}", world.describe());
    let offset = world.plane(2).state().offset;
    world.crash(2);
    world.run_ms(20);
    world.restart(2);
    world.heal();
    assert_eq!(served_with(&mut world, 2, offset, 20 * LEASE_MS), 5);
    whole_again(&mut world);
}

// SPDX-License-Identifier: BSD-3-Clause
//! The checks themselves: each property is broken on purpose once, and the checker of that property says so. What
//! cannot be broken from outside is broken by disks that lie, clocks out of bounds, data planes that lie, or by
//! answers that nobody gave.

use std::sync::Arc;

use pando_agent::{DataPlane, FailoverMode, Request};
use pando_sim::faults::heal_all;
use pando_sim::forming::share;
use pando_sim::invariants::{
    CopiesKept, Fact, FreshReads, HandoverKeeps, Invariant, Once, OneLeader, OneLog, OneWriter, SilentMinority,
    SlotsStay, VersionsGrow, missing,
};
use pando_sim::world::{LEASE_MS, World, answer};
use pando_topology::{ClusterMap, MapParts, Role, Shard, SlotSet, TopologyVersion};

/// A formed cluster under the eyes of one checker.
fn world(seed: u64, hosts: usize, primaries: usize, invariant: impl Invariant + 'static) -> World {
    let mut world = World::new(seed, hosts);
    world.check_only(Box::new(invariant));
    world.form(primaries);
    world.run_ms(500);
    world
}

fn fires(world: &World, text: &str) {
    let failure = world.failure.clone().expect("the checker fires");
    assert!(failure.contains(text), "{failure}");
}

/// The first replica of host 0.
fn replica(world: &World) -> usize {
    let (map, primary) = world.plane(0).state().view.clone().expect("a view");
    let is_its = |host: &usize| {
        let id = world.node_id(*host).expect("a view");
        map.role_of(&id) == Some(Role::Replica) && map.shard_of(&id).map(|s| s.primary) == Some(primary)
    };
    (0..world.len()).find(is_its).expect("it has a replica")
}

#[test]
fn a_second_writer_is_noticed() {
    let mut world = world(21, 4, 2, OneWriter);
    // A replica that takes itself for the primary: its map says so, and it ignores its lease.
    let view = world.plane(0).state().view.clone();
    let plane = world.plane(replica(&world));
    plane.state().view = view;
    plane.lease(u64::MAX, true);
    world.run_ms(1);
    fires(&world, "accept writes for shard");
}

/// A replica is promoted while the promises to the former primary stand, by the clock of that one: it goes much
/// slower than leases allow for.
#[test]
fn a_clock_out_of_bounds_is_noticed() {
    let mut world = world(23, 6, 2, OneWriter);
    world.host_mut(0).rate_ppm = -500_000;
    world.run_ms(200);
    world.isolate(0);
    world.run_ms(4 * LEASE_MS);
    fires(&world, "accept writes for shard");
}

#[test]
fn an_older_map_is_noticed() {
    let mut world = world(22, 3, 2, VersionsGrow::default());
    let (map, me) = world.plane(0).state().view.clone().expect("a view");
    let older = MapParts { version: TopologyVersion(map.version().get() - 1), ..map.parts().clone() };
    let since = older.roots.since;
    if since <= older.version
        && let Ok(older) = ClusterMap::new(older)
    {
        world.plane(0).topology(Arc::new(older), me);
    } else {
        world.plane(0).topology(Arc::new(ClusterMap::empty(map.cluster_id())), me);
    }
    world.run_ms(1);
    fires(&world, "after");
}

#[test]
fn lost_slots_are_noticed() {
    let mut world = world(24, 3, 2, SlotsStay::default());
    let (map, me) = world.plane(0).state().view.clone().expect("a view");
    let mut parts = MapParts { version: TopologyVersion(map.version().get() + 1), ..map.parts().clone() };
    let (id, shard) = parts.shards.iter().next().map(|(id, shard)| (*id, (**shard).clone())).expect("a shard");
    parts.shards.insert(id, Arc::new(Shard { slots: SlotSet::new(), ..shard }));
    world.plane(0).topology(Arc::new(ClusterMap::new(parts).expect("valid")), me);
    world.run_ms(1);
    fires(&world, "has lost slots");
}

/// All disks forget what they said was synced, so the roots do things a second time.
fn forgetful(seed: u64, invariant: impl Invariant + 'static) -> World {
    let mut world = world(seed, 3, 1, invariant);
    for host in 0..3 {
        world.host(host).disk.set_lying(true);
    }
    for round in 0..10 {
        for _ in 0..3 {
            world.ask(0, Request::BumpEpoch);
            world.run_ms(30);
        }
        // Another leader, or the same one again.
        world.crash(round % 3);
        world.run_ms(3 * LEASE_MS);
        for host in 0..3 {
            world.crash(host);
        }
        heal_all(&mut world);
        world.run_ms(3 * LEASE_MS);
        if world.failure.is_some() {
            break;
        }
    }
    world
}

/// What was forgotten need not be done again: some seed shows it.
fn some_fires<I: Invariant + Default + 'static>(seeds: std::ops::Range<u64>, text: &str) {
    let fires = |seed| forgetful(seed, I::default()).failure.is_some_and(|failure| failure.contains(text));
    assert!(seeds.into_iter().any(fires), "the checker fires");
}

#[test]
fn a_log_that_was_forgotten_is_noticed() {
    some_fires::<OneLog>(2500..2510, "have applied different entries");
}

#[test]
fn a_vote_that_was_forgotten_is_noticed() {
    some_fires::<OneLeader>(2600..2610, "both lead in term");
}

#[test]
fn an_old_answer_is_noticed() {
    let mut world = world(27, 3, 1, FreshReads::default());
    let (map, _) = world.plane(0).state().view.clone().expect("a view");
    let (cluster, version) = (map.cluster_id(), map.version());
    world.pretend(Fact::Changed { host: 0, cluster, version });
    world.pretend(Fact::ReadBegan { host: 1, number: 1 });
    world.run_ms(1);
    let read = |version| Fact::ReadEnded { host: 1, number: 1, cluster: Some(cluster), version: Some(version) };
    world.pretend(read(version));
    world.run_ms(1);
    world.assert_safe();
    world.pretend(Fact::ReadBegan { host: 1, number: 1 });
    world.run_ms(1);
    world.pretend(read(TopologyVersion(version.get() - 1)));
    world.run_ms(1);
    fires(&world, "was known before");
}

#[test]
fn an_answer_of_a_minority_is_noticed() {
    let mut world = world(28, 5, 2, SilentMinority::default());
    let (map, _) = world.plane(0).state().view.clone().expect("a view");
    world.isolate(4);
    world.pretend(Fact::ReadBegan { host: 4, number: 1 });
    world.run_ms(1);
    let (cluster, version) = (Some(map.cluster_id()), Some(map.version()));
    world.pretend(Fact::ReadEnded { host: 4, number: 1, cluster, version });
    world.run_ms(1);
    fires(&world, "reaches no majority");
}

/// A write is acknowledged as being everywhere, and is only on a primary that is cut off.
#[test]
fn a_lost_write_is_noticed() {
    let mut world = world(29, 6, 2, CopiesKept::default());
    let shard = world.plane(0).state().shard().expect("it has a shard");
    world.isolate(0);
    world.run_ms(LEASE_MS / 2);
    let at = world.plane(0).log().len() - 1;
    let write = world.plane(0).log().writes()[at];
    world.pretend(Fact::Kept { shard, write, at });
    world.run_ms(4 * LEASE_MS);
    world.heal();
    world.run_ms(4 * LEASE_MS);
    fires(&world, "threw away the last copy");
}

/// The replica says that it has no data, so its primary, which has restarted without any, is confirmed.
#[test]
fn a_copy_that_was_denied_is_noticed() {
    let mut world = world(33, 6, 3, CopiesKept::default());
    let shard = world.plane(1).state().shard().expect("it has a shard");
    let at = world.plane(4).log().len() - 1;
    let write = world.plane(4).log().writes()[at];
    world.pretend(Fact::Kept { shard, write, at });
    world.run_ms(1);
    world.crash(1);
    world.plane(4).state().holds = None;
    world.run_ms(2);
    world.restart(1);
    world.run_ms(4 * LEASE_MS);
    fires(&world, "threw away the last copy");
}

/// A replica has what its primary has not, and goes to another shard.
fn leaves_with_a_copy(seed: u64, ask: impl FnOnce(&World, Request)) -> World {
    let mut world = world(seed, 6, 3, CopiesKept::default());
    let shard = world.plane(1).state().shard().expect("it has a shard");
    world.cut(1, 4);
    world.run_ms(10);
    let at = world.plane(4).log().len();
    world.plane(4).write(u64::MAX);
    world.pretend(Fact::Kept { shard, write: u64::MAX, at });
    world.run_ms(1);
    let other = world.node_id(0).expect("a view");
    ask(&world, Request::Replicate(other));
    world.run_ms(2 * LEASE_MS);
    world
}

#[test]
fn a_copy_that_is_taken_elsewhere_is_noticed() {
    let unasked = leaves_with_a_copy(34, |world, request| {
        world.handle(4).expect("it runs").submit(request, Box::new(|_| ()));
    });
    fires(&unasked, "with the last copy");
    let asked = leaves_with_a_copy(35, |world, request| drop(world.ask(4, request)));
    asked.assert_safe();
}

/// A replica says that it has everything, and takes over with less.
#[test]
fn a_failover_that_loses_writes_is_noticed() {
    let mut world = world(30, 4, 2, HandoverKeeps);
    let heir = replica(&world);
    world.plane(heir).state().lies = true;
    world.run_ms(100);
    world.ask(heir, Request::Failover(FailoverMode::Planned));
    world.run_ms(4 * LEASE_MS);
    fires(&world, "does not have all");
}

/// The new primary stands still before it answers, and its predecessor has long written on when it does.
#[test]
fn what_is_written_after_a_failover_is_not_asked_of_it() {
    let mut world = world(36, 6, 3, HandoverKeeps);
    let asked = world.ask(4, Request::Failover(FailoverMode::Planned));
    let node = world.node_id(4).expect("a view");
    let is_primary = |world: &World| {
        world.plane(4).state().view.as_ref().is_some_and(|(map, _)| map.role_of(&node) == Some(Role::Primary))
    };
    assert!(world.until(5_000, is_primary), "{}", world.describe());
    assert!(answer(&asked).is_none(), "too late for this test");
    world.host_mut(4).pause();
    let slot = share(1, 3).first().expect("a slot");
    assert!(world.until(10 * LEASE_MS, |world| world.writer_of(slot) == Some(1)), "{}", world.describe());
    world.run_ms(LEASE_MS);
    world.host_mut(4).resume();
    world.until(5_000, |_| answer(&asked).is_some());
    world.assert_safe();
    assert!(matches!(answer(&asked), Some(Ok(_))), "{:?}", answer(&asked));
}

#[test]
fn a_write_that_was_done_twice_is_noticed() {
    let mut world = world(31, 3, 1, Once::default());
    let write = world.plane(0).log().writes()[0];
    world.plane(0).write(write);
    world.run_ms(1);
    fires(&world, "twice");
}

#[test]
fn a_cluster_that_is_not_whole_is_noticed() {
    let mut world = world(32, 4, 2, OneWriter);
    assert_eq!(missing(&world), None);
    let heir = replica(&world);
    world.plane(heir).state().lies = true;
    world.plane(heir).state().link_up = false;
    assert!(missing(&world).is_some_and(|text| text.contains("does not follow")));
    world.plane(heir).state().lies = false;
    world.crash(0);
    world.run_ms(1);
    assert!(missing(&world).is_some());
    let slot = share(0, 2).first().expect("a slot");
    assert_eq!(world.writer_of(slot), None);
    heal_all(&mut world);
    assert!(world.until(20_000, World::has_converged), "{}", world.describe());
}

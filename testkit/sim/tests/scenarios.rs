// SPDX-License-Identifier: BSD-3-Clause
//! Scenarios with one fault each, and what has to come of it.

use pando_agent::{FailoverMode, Request};
use pando_sim::faults::heal_all;
use pando_sim::world::{LEASE_MS, World, answer};
use pando_topology::{Role, Slot};

fn slot(host: usize, primaries: usize) -> Slot {
    pando_sim::forming::share(host, primaries).first().expect("a share has slots")
}

/// The host of the leading root, and a primary that is another one.
fn leader_and_other(world: &World, primaries: usize) -> (usize, usize) {
    let leader = world.handle(0).and_then(|handle| handle.info().leader).expect("a leader");
    let leader = (0..world.len()).find(|host| world.node_id(*host) == Some(leader)).expect("a host");
    let other = (0..primaries).find(|host| *host != leader).expect("another primary");
    (leader, other)
}

fn whole_again(world: &mut World) {
    heal_all(world);
    let is_whole = world.until(30_000, World::has_converged);
    world.assert_safe();
    assert!(is_whole, "{}", world.describe());
}

/// Does something to a primary and gives the milliseconds until another host writes for its slots.
fn replaced_after(seed: u64, fault: impl FnOnce(&mut World, usize)) -> u64 {
    let mut world = World::new(seed, 6);
    world.form(3);
    world.run_ms(500);
    let (_, victim) = leader_and_other(&world, 3);
    let start = world.now_ms();
    fault(&mut world, victim);
    let is_replaced =
        world.until(10 * LEASE_MS, |world| world.writer_of(slot(victim, 3)).is_some_and(|writer| writer != victim));
    world.assert_safe();
    assert!(is_replaced, "{}", world.describe());
    let took = world.now_ms() - start;
    whole_again(&mut world);
    took
}

#[test]
fn a_killed_primary_is_replaced_at_once() {
    let took = replaced_after(11, |world, victim| world.crash(victim));
    println!("killed: {took} ms");
    assert!(took < LEASE_MS / 2, "{took} ms");
}

#[test]
fn a_primary_that_is_cut_off_is_replaced_after_the_lease() {
    let took = replaced_after(12, |world, victim| world.isolate(victim));
    println!("cut off: {took} ms");
    assert!((LEASE_MS / 2..3 * LEASE_MS).contains(&took), "{took} ms");
}

#[test]
fn a_primary_whose_words_do_not_arrive_is_replaced_after_the_lease() {
    let took = replaced_after(13, |world, victim| {
        for host in 0..world.len() {
            if host != victim {
                world.cut_oneway(victim, host);
            }
        }
    });
    println!("mute: {took} ms");
    assert!(took < 3 * LEASE_MS, "{took} ms");
}

#[test]
fn the_leading_root_with_its_primary_dies() {
    let mut world = World::new(14, 6);
    world.form(3);
    world.run_ms(500);
    let (leader, _) = leader_and_other(&world, 3);
    world.crash(leader);
    let start = world.now_ms();
    let slots: Vec<Slot> = (0..3).map(|host| slot(host, 3)).collect();
    let is_served = world.until(10 * LEASE_MS, |world| slots.iter().all(|slot| world.writer_of(*slot).is_some()));
    world.assert_safe();
    assert!(is_served, "{}", world.describe());
    println!("leading root and primary killed: {} ms", world.now_ms() - start);
    whole_again(&mut world);
}

/// A root dies and another one takes its place; `is_due` says when it comes back, and then the
/// leading root dies. Two of the former three and two of the present three live, so the cluster heals.
fn heals_without_leader_when_a_root_came_back(seed: u64, is_due: fn(&World) -> bool) {
    let mut world = World::new(seed, 6);
    world.form(3);
    world.run_ms(500);
    let (leader, other) = leader_and_other(&world, 3);
    world.crash(other);
    let came = world.until(20 * LEASE_MS, is_due);
    world.assert_safe();
    assert!(came, "{}", world.describe());
    world.restart(other);
    world.run_ms(40);
    world.crash(leader);
    let slots: Vec<Slot> = (0..3).map(|host| slot(host, 3)).collect();
    let is_served = world.until(10 * LEASE_MS, |world| slots.iter().all(|slot| world.writer_of(*slot).is_some()));
    world.assert_safe();
    assert!(is_served, "{}", world.describe());
    whole_again(&mut world);
}

fn is_exchanging(world: &World) -> bool {
    (0..world.len())
        .filter(|host| world.is_running(*host))
        .any(|host| world.plane(host).state().view.as_ref().is_some_and(|(map, _)| map.roots().previous.is_some()))
}

#[test]
fn the_leader_dies_while_a_root_that_restarted_is_being_replaced() {
    for seed in 30..34 {
        heals_without_leader_when_a_root_came_back(seed, is_exchanging);
    }
}

#[test]
fn the_leader_dies_when_another_root_has_just_restarted() {
    heals_without_leader_when_a_root_came_back(40, |_| true);
}

/// One island's root becomes three; the former only one dies as soon as the group has its new voters,
/// while promises still need it.
#[test]
fn the_first_root_dies_while_the_roots_grow() {
    for seed in 50..54 {
        let mut world = World::new(seed, 6);
        world.form_unsettled(3);
        assert!(is_exchanging(&world), "seed {seed}: too late: {}", world.describe());
        let (leader, _) = leader_and_other(&world, 3);
        world.run_ms(100);
        world.crash(leader);
        let slots: Vec<Slot> = (0..3).map(|host| slot(host, 3)).collect();
        let is_served = world.until(10 * LEASE_MS, |world| slots.iter().all(|slot| world.writer_of(*slot).is_some()));
        world.assert_safe();
        assert!(is_served, "seed {seed}: {}", world.describe());
        whole_again(&mut world);
    }
}

#[test]
fn roots_that_leave_one_after_the_other_are_replaced() {
    let mut world = World::new(60, 6);
    world.form(3);
    world.run_ms(500);
    for _ in 0..2 {
        let info = world.handle(5).expect("it runs").info();
        let leaving = (0..6).find(|host| world.node_id(*host) == info.leader).expect("a host");
        // Its slots stay with the cluster.
        let shard = |world: &World, host: usize| {
            world.plane(host).state().view.as_ref().and_then(|(map, me)| map.shard_of(me).map(|shard| shard.id))
        };
        let heir = (0..6).find(|host| *host != leaving && shard(&world, *host) == shard(&world, leaving));
        world.must(heir.expect("a replica"), Request::Failover(FailoverMode::Planned));
        let start = world.now_ms();
        world.must(leaving, Request::Reset { hard: false, as_replica: true });
        let took = world.now_ms() - start;
        assert!(took < 5 * LEASE_MS, "host {leaving} took {took} ms: {}", world.describe());
    }
    let staying = |world: &World| {
        let maps = (0..6).filter_map(|host| world.plane(host).state().view.clone());
        maps.filter(|(map, _)| {
            map.nodes().len() == 4 && map.roots().voters.len() == 3 && map.roots().previous.is_none()
        })
        .count()
    };
    let is_settled = world.until(10 * LEASE_MS, |world| staying(world) == 4);
    world.assert_safe();
    assert!(is_settled, "{}", world.describe());
    world.must(5, Request::ReadBarrier);
}

#[test]
fn shards_that_see_each_other_go_on_without_roots() {
    let mut world = World::new(15, 6);
    world.form(3);
    world.run_ms(500);
    let map = world.plane(0).state().view.clone().expect("a view").0;
    let (roots, others): (Vec<usize>, Vec<usize>) =
        (0..6).partition(|host| map.roots().contains(&world.node_id(*host).expect("a view")));
    // A shard none of whose members is a root does not exist here; cut the links to roots instead.
    for root in &roots {
        for other in &others {
            let same_shard = map.node(&world.node_id(*root).expect("a view")).map(|n| n.shard)
                == map.node(&world.node_id(*other).expect("a view")).map(|n| n.shard);
            if !same_shard {
                world.cut(*root, *other);
            }
        }
    }
    for a in &roots {
        for b in &roots {
            if a < b {
                world.cut(*a, *b);
            }
        }
    }
    world.run_ms(5 * LEASE_MS);
    world.assert_safe();
    for host in 0..3 {
        assert!(world.writer_of(slot(host, 3)).is_some(), "shard {host}: {}", world.describe());
    }
    whole_again(&mut world);
}

/// A shard moves from host 0 to host 3 by this request to `asked`, and nothing that was acknowledged is lost.
fn moves_and_loses_nothing(seed: u64, asked: usize, request: Request, disturb: fn(&mut World)) -> u64 {
    let mut world = World::new(seed, 6);
    world.form(3);
    world.run_ms(500);
    let start = world.now_ms();
    let answer = world.ask(asked, request);
    disturb(&mut world);
    let mut acknowledged = 0;
    let is_done = world.until(10_000, |world| {
        if world.writer_of(slot(0, 3)) == Some(0) {
            acknowledged = world.plane(0).state().offset;
        }
        world.writer_of(slot(0, 3)) == Some(3)
    });
    world.assert_safe();
    assert!(is_done, "seed {seed}: {:?} {}", answer.lock(), world.describe());
    let took = world.now_ms() - start;
    assert!(world.plane(3).state().offset >= acknowledged, "seed {seed}: {acknowledged} were acknowledged");
    whole_again(&mut world);
    took
}

#[test]
fn a_planned_failover_loses_no_write() {
    let took = moves_and_loses_nothing(16, 3, Request::Failover(FailoverMode::Planned), |_| {});
    println!("planned failover: {took} ms");
}

#[test]
fn a_primary_that_ends_hands_over_and_loses_no_write() {
    for seed in 80..84 {
        let request = Request::HandOver(std::time::Duration::from_secs(5));
        let took = moves_and_loses_nothing(seed, 0, request, |_| {});
        println!("handed over: {took} ms");
    }
}

#[test]
fn a_primary_that_dies_while_it_hands_over_is_replaced() {
    for seed in 90..98 {
        let request = Request::HandOver(std::time::Duration::from_secs(5));
        moves_and_loses_nothing(seed, 0, request, |world| {
            world.run_ms(world.now_ms() % 40);
            if world.writer_of(slot(0, 3)) != Some(3) {
                world.crash(0);
            }
        });
    }
}

#[test]
fn everything_restarts_at_once() {
    let mut world = World::new(17, 6);
    world.form(3);
    world.run_ms(500);
    let before = world.plane(0).state().view.clone().expect("a view").0;
    for host in 0..6 {
        world.crash(host);
    }
    world.run_ms(100);
    whole_again(&mut world);
    let after = world.plane(0).state().view.clone().expect("a view").0;
    assert_eq!(after.cluster_id(), before.cluster_id());
    assert!(after.version() > before.version());
    assert_eq!(after.nodes().len(), 6);
}

#[test]
fn two_islands_that_meet_each_other_become_one_cluster() {
    let mut world = World::new(18, 2);
    world.until(3_000, |world| (0..2).all(|host| world.handle(host).is_some()));
    for host in 0..2 {
        let other = world.addr(1 - host).to_string();
        world.ask(host, Request::Meet { host: other, port: pando_sim::world::PORT, cluster_port: 0 });
    }
    let is_one = world.until(10_000, |world| {
        let maps: Vec<_> = (0..2).map(|host| world.plane(host).state().view.clone()).collect();
        maps.iter().all(|view| view.as_ref().is_some_and(|(map, _)| map.nodes().len() == 2))
    });
    world.assert_safe();
    assert!(is_one, "{}", world.describe());
}

#[test]
fn roles_follow_the_committed_map() {
    let mut world = World::new(19, 5);
    world.form(2);
    for host in 0..5 {
        let (map, me) = world.plane(host).state().view.clone().expect("a view");
        let expected = if host < 2 { Role::Primary } else { Role::Replica };
        assert_eq!(map.role_of(&me), Some(expected), "host {host}");
    }
}

/// A node has the map that does not name it any more, and ends before it could start afresh.
#[test]
fn a_forgotten_node_that_dies_at_once_starts_afresh() {
    let mut world = World::new(61, 5);
    world.form(2);
    world.run_ms(500);
    let (leader, _) = leader_and_other(&world, 2);
    let (map, _) = world.plane(0).state().view.clone().expect("a view");
    let is_victim = |host: &usize| {
        let id = world.node_id(*host).expect("a view");
        *host != leader && map.role_of(&id) == Some(Role::Replica) && map.roots().contains(&id)
    };
    let victim = (0..5).find(is_victim).expect("a root that is a replica and does not lead");
    let by = (0..2).find(|host| *host != victim).expect("a primary");
    let former = map.cluster_id();
    world.must(by, Request::Forget(world.node_id(victim).expect("a view")));
    let version = world.handle(by).expect("it runs").info().version;
    let knows = world.until(2_000, |world| world.handle(victim).is_some_and(|handle| handle.info().version >= version));
    assert!(knows, "{}", world.describe());
    world.kill(victim);
    world.restart(victim);
    let is_island = world.until(10_000, |world| {
        let view = world.plane(victim).state().view.clone();
        view.is_some_and(|(map, _)| map.cluster_id() != former && map.nodes().len() == 1)
    });
    world.assert_safe();
    assert!(is_island, "{}", world.describe());
}

/// An operator asks a replica to leave while it is made the primary: whichever comes first, the slots and their data stay.
#[test]
fn a_replica_that_becomes_a_primary_does_not_leave_with_the_slots() {
    let mut refused = 0;
    for seed in 170..182 {
        let mut world = World::new(seed, 6);
        world.form(3);
        world.run_ms(500);
        let offset = world.plane(0).state().offset;
        let requests = [Request::Reset { hard: false, as_replica: true }, Request::Detach];
        world.ask(3, Request::Failover(FailoverMode::Force));
        let leaving = world.ask(3, requests[seed as usize % 2].clone());
        world.until(15_000, |_| answer(&leaving).is_some());
        if let Some(Err(text)) = answer(&leaving) {
            assert!(text.contains("has just become the primary"), "{text}");
            refused += 1;
        }
        let slot = slot(0, 3);
        assert!(world.until(5_000, |world| world.writer_of(slot).is_some()), "{}", world.describe());
        let writer = world.writer_of(slot).expect("a writer");
        assert!(world.plane(writer).state().offset >= offset, "{}", world.describe());
        world.assert_safe();
    }
    assert!(refused > 0, "none of them was late");
}

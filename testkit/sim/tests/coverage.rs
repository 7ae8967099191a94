// SPDX-License-Identifier: BSD-3-Clause
//! What a shard without a primary means for the other ones: nothing while it can be taken over soon, and that the
//! cluster is down (`cluster-require-full-coverage`) if it is not, or if nobody is left who could.

use pando_sim::world::{LEASE_MS, World};

/// Hosts 3 and 6 follow host 0, and are never promoted by themselves.
fn formed(seed: u64, coverage: bool) -> World {
    let mut world = World::with_config(seed, 7, |host, config| {
        config.no_failover = host == 3 || host == 6;
        config.require_full_coverage = coverage;
        config.migration_barrier = None;
        // Hosts 4 and later are roots, too, so that the death of two nodes leaves a majority.
        config.root_count = 5;
    });
    world.form(3);
    world.run_ms(500);
    world
}

/// The others say so at this moment.
fn is_ok(world: &World) -> bool {
    let said: Vec<bool> = [1, 2, 4, 5].map(|host| world.plane(host).state().cluster_ok).to_vec();
    assert!(said.iter().all(|ok| *ok == said[0]), "{}", world.describe());
    said[0]
}

#[test]
fn a_shard_that_may_be_taken_over_soon_is_no_matter_of_the_others() {
    let mut world = formed(600, true);
    let id = world.node_id(0);
    world.crash(0);
    let begin = world.now_ms();
    let shown = world.until(LEASE_MS, |world| {
        let view = world.plane(1).state().view.clone();
        view.zip(id).is_some_and(|((map, _), id)| map.node(&id).is_some_and(|node| node.failed))
    });
    assert!(shown, "{}", world.describe());
    while world.now_ms() < begin + LEASE_MS * 3 / 4 {
        world.step();
        assert!([1, 2, 4, 5].iter().all(|host| world.plane(*host).state().cluster_ok), "{}", world.describe());
    }
    world.run_ms(LEASE_MS);
    assert!(!is_ok(&world), "nobody took it over: {}", world.describe());
    world.assert_safe();
}

#[test]
fn a_shard_without_anybody_left_is_seen_at_once() {
    let mut world = formed(601, true);
    for host in [3, 6, 0] {
        world.crash(host);
    }
    let is_lost = |world: &World| {
        let view = world.plane(1).state().view.clone();
        view.is_some_and(|(map, _)| map.lost_shards() > 0)
    };
    assert!(world.until(5 * LEASE_MS, is_lost), "{}", world.describe());
    assert!(!world.plane(1).state().cluster_ok, "{}", world.describe());
    world.assert_safe();
}

#[test]
fn without_full_coverage_the_others_do_not_mind() {
    let mut world = formed(602, false);
    for host in [3, 6, 0] {
        world.crash(host);
    }
    world.run_ms(3 * LEASE_MS);
    assert!(is_ok(&world), "{}", world.describe());
    world.assert_safe();
}

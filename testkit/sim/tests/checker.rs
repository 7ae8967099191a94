// SPDX-License-Identifier: BSD-3-Clause
//! The checks themselves: a property that is broken on purpose is noticed.

use pando_agent::DataPlane;
use pando_sim::world::World;
use pando_topology::Role;

#[test]
fn a_second_writer_is_noticed() {
    let mut world = World::new(21, 4);
    world.form(2);
    // A replica that takes itself for the primary: its map says so, and it ignores its lease.
    let (map, primary) = world.plane(0).state().view.clone().expect("a view");
    let replica = (0..4).find(|host| {
        let id = world.node_id(*host).expect("a view");
        map.role_of(&id) == Some(Role::Replica) && map.shard_of(&id).map(|s| s.primary) == Some(primary)
    });
    let plane = world.plane(replica.expect("it has a replica"));
    plane.state().view = Some((map, primary));
    plane.lease(u64::MAX, true);
    world.run_ms(1);
    let failure = world.failure.clone().expect("the checker fires");
    assert!(failure.contains("accept writes for shard"), "{failure}");
}

#[test]
fn an_older_map_is_noticed() {
    let mut world = World::new(22, 3);
    let early = {
        world.until(3_000, |world| world.plane(0).state().view.is_some());
        world.plane(0).state().view.clone().expect("a view").0
    };
    world.form(2);
    let current = world.plane(0).state().view.clone().expect("a view");
    if early.cluster_id() == current.0.cluster_id() {
        world.plane(0).topology(early, current.1);
        world.run_ms(1);
        let failure = world.failure.clone().expect("the checker fires");
        assert!(failure.contains("after"), "{failure}");
    }
}

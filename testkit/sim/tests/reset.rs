// SPDX-License-Identifier: BSD-3-Clause
//! CLUSTER RESET of a replica that is promoted at the same moment: it leaves as a replica or stays as the primary, but
//! never takes the slots of its shard away.

use pando_agent::{FailoverMode, Request};
use pando_env::Rng;
use pando_sim::world::World;
use pando_topology::SLOT_COUNT;

#[test]
fn a_replica_that_is_reset_while_it_is_promoted_takes_no_slots_away() {
    for seed in 500..510 {
        let mut world = World::new(seed, 6);
        world.form(3);
        world.run_ms(500);
        // Whether the promotion comes by itself or is asked for.
        let later = match seed % 2 {
            0 => {
                world.crash(0);
                world.rng().below(40)
            }
            _ => {
                world.ask(3, Request::Failover(FailoverMode::Force));
                world.rng().below(12)
            }
        };
        world.run_ms(later);
        world.ask(3, Request::Reset { hard: false, as_replica: true });
        world.run_ms(1_000);
        world.assert_safe();
        let map = world.newest_map().expect("a cluster");
        assert_eq!(map.slots_assigned(), SLOT_COUNT);
    }
}

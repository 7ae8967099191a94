// SPDX-License-Identifier: BSD-3-Clause
//! Clocks whose rates differ as far as leases allow for, in the worst places.

use pando_agent::{FailoverMode, Request};
use pando_sim::faults::{DRIFT_PPM, heal_all};
use pando_sim::world::World;

/// The primary's clock is the slowest, all others are the fastest, and the replica is promoted long before the
/// promises to the primary end: it may write as soon as they have ended by the roots' clocks.
#[test]
fn a_slow_clock_of_a_primary_that_is_cut_off_is_covered() {
    for seed in 100..108 {
        // As long as in production: the difference grows with it.
        let mut world = World::with_config(seed, 5, |_, config| config.lease_ms = 3000);
        world.form(1);
        for host in 0..5 {
            world.host_mut(host).rate_ppm = if host == 0 { -DRIFT_PPM / 2 } else { DRIFT_PPM / 2 };
        }
        // Ticks of different hosts come to different times of each other.
        world.run_ms(300 + 1_300 * (seed - 100));
        world.isolate(0);
        world.run_ms(20);
        world.ask(1, Request::Failover(FailoverMode::Force));
        let slot = pando_topology::Slot::MIN;
        let is_replaced = world.until(5_000, |world| world.writer_of(slot).is_some_and(|writer| writer != 0));
        world.assert_safe();
        assert!(is_replaced, "seed {seed}: {}", world.describe());
        heal_all(&mut world);
        assert!(world.until(20_000, World::has_converged), "seed {seed}: {}", world.describe());
        world.assert_safe();
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Random faults, drawn from the seed: what a run does to its cluster before it is healed.

use pando_env::Rng;

use crate::world::World;

/// Runs the cluster for about `ms` with faults, then heals everything. Stops early when a property
/// is broken.
pub fn torment(world: &mut World<'_>, ms: u64) {
    let end = world.now_ms() + ms;
    let hosts = world.len() as u64;
    while world.now_ms() < end && world.failure.is_none() {
        let a = world.rng().below(hosts) as usize;
        let b = (a + 1 + world.rng().below(hosts - 1) as usize) % world.len();
        match world.rng().below(10) {
            0 | 1 => world.crash(a),
            2..=4 => {
                for host in 0..world.len() {
                    world.restart(host);
                }
            }
            5 => world.cut(a, b),
            6 => world.cut_oneway(a, b),
            7 => world.isolate(a),
            8 => {
                let latency = [3, 20, 80][world.rng().below(3) as usize];
                world.set_latency_max(latency);
            }
            _ => {
                world.hold(a, b);
                let ms = 20 + world.rng().below(1500);
                world.run_ms(ms);
                world.heal();
            }
        }
        let pause = 10 + world.rng().below(700);
        world.run_ms(pause);
        if world.rng().below(3) == 0 {
            world.heal();
        }
    }
    heal_all(world);
}

/// Ends all faults.
pub fn heal_all(world: &mut World<'_>) {
    world.heal();
    world.set_latency_max(3);
    for host in 0..world.len() {
        world.restart(host);
    }
}

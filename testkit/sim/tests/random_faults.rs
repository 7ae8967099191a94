// SPDX-License-Identifier: BSD-3-Clause
//! Random runs: form a cluster, torment it, heal it; safe at every step, whole at the end. A seed
//! that fails is printed and repeats with `PANDO_SIM_FIRST=<seed> PANDO_SIM_SEEDS=1`.

use pando_sim::faults::torment;
use pando_sim::seeds;
use pando_sim::world::World;

fn run(seed: u64, hosts: usize, primaries: usize) -> u64 {
    let mut world = World::new(seed, hosts);
    world.form(primaries);
    torment(&mut world, 8_000);
    world.assert_safe();
    let is_whole = world.until(30_000, World::has_converged);
    world.assert_safe();
    assert!(is_whole, "seed {seed}: not whole after healing: {}", world.describe());
    world.trace_hash()
}

#[test]
fn clusters_survive_random_faults() {
    for seed in seeds(8) {
        println!("seed {seed}");
        run(seed, 6, 2 + (seed % 2) as usize);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let first = seeds(1).start;
    let hash = run(first, 5, 2);
    println!("seed {first}: trace {hash:016x}");
    assert_eq!(hash, run(first, 5, 2));
}

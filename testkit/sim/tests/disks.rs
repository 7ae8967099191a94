// SPDX-License-Identifier: BSD-3-Clause
//! Roots whose disks fail them: the others go on, and the root is one again without help.

use pando_agent::Request;
use pando_sim::world::{LEASE_MS, World, answer};

/// The file of a root's log, and nothing else.
const LOG: &str = "roots.aof";

fn leader(world: &World) -> Option<usize> {
    let leader = world.handle(0)?.info().leader?;
    (0..world.len()).find(|host| world.node_id(*host) == Some(leader))
}

fn is_root(world: &World, host: usize) -> bool {
    world.handle(host).is_some_and(|handle| handle.info().is_root)
}

/// The Raft ids by which the cluster knows its roots.
fn voters(world: &World) -> Vec<u64> {
    let view = world.plane(0).state().view.clone();
    view.map(|(map, _)| map.roots().voters.values().copied().collect()).unwrap_or_default()
}

/// A cluster of six with three roots, whose leader is known.
fn formed(seed: u64) -> (World, usize) {
    let mut world = World::new(seed, 6);
    world.form(3);
    assert!(world.until(5_000, |world| leader(world).is_some() && voters(world).len() == 3), "{}", world.describe());
    let leader = leader(&world).expect("just seen");
    (world, leader)
}

/// A change is committed within the time, asked of a primary whose disk works.
fn commits(world: &mut World, but: Option<usize>) -> Result<(), String> {
    let writers: Vec<_> = (0..3).filter_map(|share| world.writer_of(slot(share))).collect();
    let asked = writers.into_iter().find(|host| Some(*host) != but).ok_or("nobody writes")?;
    let pending = world.ask(asked, Request::BumpEpoch);
    world.until(10_000, |_| answer(&pending).is_some());
    answer(&pending).ok_or("no answer")?.map(drop).map_err(|text| format!("host {asked}: {text}\n{}", world.describe()))
}

fn slot(share: usize) -> pando_topology::Slot {
    pando_sim::forming::share(share, 3).first().expect("a share has slots")
}

fn whole_again(world: &mut World) {
    let is_whole = world.until(30_000, World::has_converged);
    world.assert_safe();
    assert!(is_whole, "{}", world.describe());
}

/// The disk of the leading root is unusable for a while: nothing stops, and it takes part again afterwards.
fn goes_on_without(seed: u64, spoil: fn(&World, usize), repair: fn(&World, usize)) {
    let (world, leader) = formed(seed);
    goes_on_without_host(world, leader, spoil, repair);
}

fn goes_on_without_host(mut world: World, host: usize, spoil: fn(&World, usize), repair: fn(&World, usize)) {
    spoil(&world, host);
    commits(&mut world, Some(host)).expect("the others commit");
    world.run_ms(LEASE_MS);
    repair(&world, host);
    whole_again(&mut world);
    assert!(voters(&world).len() == 3);
    // With a second root gone the one that was repaired is needed.
    world.run_ms(2 * LEASE_MS);
    let lost = (0..6).find(|other| *other != host && is_root(&world, *other)).expect("another root");
    world.kill(lost);
    commits(&mut world, Some(lost)).expect("two roots are a majority");
    world.assert_safe();
}

#[test]
fn a_leading_root_with_a_full_disk_is_a_root_again_when_there_is_room() {
    goes_on_without(31, |w, host| w.host(host).disk.set_room(Some(100)), |w, host| w.host(host).disk.set_room(None));
}

/// Its member stops while the leader's connection to it is open: the leader must find the next one behind another.
#[test]
fn a_following_root_with_a_full_disk_is_reached_again() {
    for seed in 39..42 {
        let (world, leader) = formed(seed);
        let host = (0..6).find(|host| *host != leader && is_root(&world, *host)).expect("another root");
        let (spoil, repair) = (
            |w: &World, host: usize| w.host(host).disk.set_room(Some(100)),
            |w: &World, host: usize| {
                w.host(host).disk.set_room(None);
            },
        );
        goes_on_without_host(world, host, spoil, repair);
    }
}

#[test]
fn a_leading_root_whose_syncs_fail_is_a_root_again_when_they_work() {
    goes_on_without(
        32,
        |w, host| w.host(host).disk.set_failing_syncs(true),
        |w, host| w.host(host).disk.set_failing_syncs(false),
    );
}

#[test]
fn a_root_with_a_flipped_bit_becomes_another_voter() {
    for seed in 33..37 {
        let (mut world, leader) = formed(seed);
        let before = voters(&world);
        world.crash(leader);
        let rng = pando_env::SeededRng::new(seed);
        let flipped = world.host(leader).disk.flip_bit(LOG, &rng);
        assert!(flipped.is_some(), "it has a log");
        world.run_ms(200);
        world.restart(leader);
        whole_again(&mut world);
        let is_exchanged = world.until(10 * LEASE_MS, |world| voters(world).len() == 3 && voters(world) != before);
        assert!(
            is_exchanged,
            "seed {seed}, {flipped:?}: the former voter's id is not used again: {}",
            world.describe()
        );
        commits(&mut world, None).expect("a change");
        world.assert_safe();
    }
}

#[test]
fn shards_go_on_while_no_root_can_write() {
    let (mut world, _) = formed(38);
    for host in 0..6 {
        world.host(host).disk.set_room(Some(50));
    }
    let pending = world.ask(0, Request::BumpEpoch);
    world.run_ms(4 * LEASE_MS);
    assert!(!matches!(answer(&pending), Some(Ok(_))), "nothing is committed");
    for host in 0..3 {
        assert!(world.writer_of(slot(host)).is_some(), "shard {host}: {}", world.describe());
    }
    for host in 0..6 {
        world.host(host).disk.set_room(None);
    }
    whole_again(&mut world);
    commits(&mut world, None).expect("a change");
}

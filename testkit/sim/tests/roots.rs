// SPDX-License-Identifier: BSD-3-Clause
//! The roots' own membership: spread, replacement, growth, departures and returns, with deaths at every moment.
//! What must hold at each step (one writer, nothing lost) is checked by the world.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pando_agent::{Request, Roles};
use pando_env::Rng;
use pando_sim::world::{LEASE_MS, PORT, World, answer};
use pando_topology::{ClusterMap, NodeId};

/// Longer than an exchange with an election in the middle, and the patience for a lost root before it.
const LONG: u64 = 40 * LEASE_MS;

/// The newest map that any running host shows.
fn map(world: &World) -> Option<Arc<ClusterMap>> {
    let shown = (0..world.len())
        .filter(|host| world.is_running(*host))
        .filter_map(|host| world.plane(host).state().view.clone());
    shown.map(|(map, _)| map).max_by_key(|map| map.version())
}

fn ids(world: &World) -> BTreeMap<NodeId, usize> {
    (0..world.len()).filter_map(|host| Some((world.node_id(host)?, host))).collect()
}

/// The hosts of the voters, if no exchange is under way.
fn voters(world: &World) -> Option<Vec<usize>> {
    let map = map(world)?;
    let ids = ids(world);
    let hosts: Vec<usize> = map.roots().voters.keys().filter_map(|id| ids.get(id).copied()).collect();
    (map.roots().previous.is_none() && hosts.len() == map.roots().voters.len()).then_some(hosts)
}

fn leader(world: &World) -> Option<usize> {
    // Not who was forgotten, which leads a cluster of its own.
    let map = map(world)?;
    let is_member = |host: &usize| world.node_id(*host).is_some_and(|id| map.node(&id).is_some());
    let leads = |host: &usize| world.handle(*host).is_some_and(|handle| handle.info().is_leader);
    let newest = |host: &usize| world.handle(*host).map(|handle| handle.info().term);
    (0..world.len()).filter(|host| world.is_running(*host)).filter(is_member).filter(leads).max_by_key(newest)
}

#[track_caller]
fn wait(world: &mut World, what: &str, test: impl FnMut(&World) -> bool) -> u64 {
    let start = world.now_ms();
    let is_so = world.until(LONG, test);
    world.assert_safe();
    assert!(is_so, "{what}: {}", world.describe());
    world.now_ms() - start
}

/// Voters as asked for, all of which run.
fn has_voters(world: &World, count: usize) -> bool {
    voters(world).is_some_and(|hosts| hosts.len() == count && hosts.iter().all(|host| world.is_running(*host)))
}

/// One cluster of all hosts: the first `data` share the slots, the others hold no data.
fn gather(seed: u64, hosts: usize, data: usize, zones: usize, count: usize) -> World {
    let mut world = World::with_config(seed, hosts, move |index, config| {
        config.roles = Roles { data: index < data, root: true };
        config.root_count = count;
        if zones > 0 {
            config.zone = format!("z{}", index % zones);
        }
    });
    wait(&mut world, "all agents start", |world| (0..hosts).all(|host| world.handle(host).is_some()));
    for host in 0..data {
        world.must(host, Request::AddSlots(pando_sim::forming::share(host, data)));
    }
    for host in 1..hosts {
        let target = world.addr(0).to_string();
        world.must(host, Request::Meet { host: target, port: PORT, cluster_port: 0 });
    }
    let size = count.min((hosts - 1) | 1);
    wait(&mut world, "the roots are there", |world| has_voters(world, size));
    world
}

fn zone_counts(world: &World) -> Vec<usize> {
    let map = map(world).expect("a map");
    let mut zones: BTreeMap<String, usize> = BTreeMap::new();
    for id in map.roots().voters.keys() {
        *zones.entry(map.node(id).map(|node| node.zone.clone()).unwrap_or_default()).or_default() += 1;
    }
    let mut counts: Vec<usize> = zones.into_values().collect();
    counts.sort_unstable();
    counts
}

/// Something is committed by whoever is asked.
fn commits(world: &mut World, host: usize, count: u8) {
    world.must(host, Request::SetRootCount(count));
    world.must(host, Request::ReadBarrier);
}

#[test]
fn lost_roots_are_replaced_one_after_the_other_and_return_without_harm() {
    for seed in 200..202 {
        let mut world = gather(seed, 7, 2, 3, 5);
        // The moves for the sake of the spread come later than the first five.
        wait(&mut world, "spread", |world| voters(world).is_some() && zone_counts(world) == [1, 2, 2]);
        let mut lost = Vec::new();
        for host in [0, 1, 0] {
            world.must(host, Request::HandOver(Duration::from_secs(2)));
        }
        world.run_ms(LEASE_MS);
        for leads in [false, true] {
            let hosts = voters(&world).expect("settled");
            let leading = leader(&world);
            // Primaries stay: their shards have no replica here.
            let victim = hosts.iter().copied().find(|host| *host >= 2 && (Some(*host) == leading) == leads);
            let Some(victim) = victim else { continue };
            world.crash(victim);
            lost.push(victim);
            let took = wait(&mut world, "replaced", |world| {
                has_voters(world, 5) && !voters(world).is_some_and(|v| v.contains(&victim))
            });
            println!("seed {seed}: root {victim} (leading: {leads}) was replaced after {took} ms");
            commits(&mut world, 0, 5);
        }
        assert!(!lost.is_empty());
        let term = leader(&world).and_then(|host| world.handle(host)).map(|handle| handle.info().term);
        for host in lost {
            world.restart(host);
        }
        world.run_ms(10 * LEASE_MS);
        wait(&mut world, "at rest", |world| has_voters(world, 5) && zone_counts(world) == [1, 2, 2]);
        let after = leader(&world).and_then(|host| world.handle(host)).map(|handle| handle.info().term);
        assert!(after <= term.map(|term| term + 2), "the returns unseated leaders: {term:?} {after:?}");
        commits(&mut world, 1, 5);
    }
}

#[test]
fn a_lost_zone_takes_no_majority_and_gets_its_root_back() {
    let mut world = gather(210, 6, 1, 3, 3);
    wait(&mut world, "one in each zone", |world| voters(world).is_some() && zone_counts(world) == [1, 1, 1]);
    for host in [2, 5] {
        world.crash(host);
    }
    commits(&mut world, 0, 3);
    wait(&mut world, "replaced", |world| has_voters(world, 3) && zone_counts(world) == [1, 2]);
    for host in [2, 5] {
        world.restart(host);
    }
    wait(&mut world, "one in each zone again", |world| has_voters(world, 3) && zone_counts(world) == [1, 1, 1]);
    // And then there is nothing left to move.
    let version = map(&world).expect("a map").version();
    world.run_ms(20 * LEASE_MS);
    assert_eq!(map(&world).expect("a map").version(), version, "the roots do not come to rest");
}

#[test]
fn a_node_that_comes_and_goes_takes_no_vote_each_time() {
    let mut world = gather(215, 5, 1, 0, 3);
    // Only host 4 is elsewhere, and it never stays for long.
    world.crash(4);
    world.host_mut(4).config.zone = "far".into();
    let before = voters(&world).expect("settled");
    for _ in 0..8 {
        world.restart(4);
        world.run_ms(LEASE_MS);
        world.crash(4);
        world.run_ms(LEASE_MS);
        assert_eq!(voters(&world).as_ref(), Some(&before), "a vote moved to a node that does not stay");
    }
    world.restart(4);
    wait(&mut world, "it stays, and gets a vote", |world| voters(world).is_some_and(|hosts| hosts.contains(&4)));
}

#[test]
fn the_leading_root_is_forgotten() {
    for seed in 220..222 {
        let mut world = gather(seed, 5, 1, 0, 3);
        for _ in 0..2 {
            // Host 0 holds the slots: another one is to lead.
            world.must(0, Request::HandOver(Duration::from_secs(2)));
            wait(&mut world, "another leads", |world| leader(world).is_some_and(|host| host != 0));
            let gone = leader(&world).expect("it leads");
            let id = world.node_id(gone).expect("a view");
            let start = world.now_ms();
            world.must(0, Request::Forget(id));
            let took = world.now_ms() - start;
            println!("seed {seed}: the leading root was forgotten within {took} ms");
            assert!(took < 2 * LEASE_MS, "{took} ms");
            assert_ne!(leader(&world), Some(gone), "leadership was not handed over first");
            world.must(0, Request::ReadBarrier);
            wait(&mut world, "three others", |world| voters(world).is_some_and(|hosts| !hosts.contains(&gone)));
        }
        commits(&mut world, 0, 3);
    }
}

#[test]
fn a_root_that_was_cut_off_returns_without_an_election() {
    let mut world = World::with_config(230, 5, |_, config| {
        config.root_count = 5;
        config.root_patience_ms = 3_600_000;
    });
    world.form(2);
    world.run_ms(500);
    let leading = leader(&world).expect("a leader");
    let term = world.handle(leading).map(|handle| handle.info().term);
    let away = (0..5).find(|host| *host != leading && *host >= 2).expect("another root");
    world.isolate(away);
    world.run_ms(10_000);
    let refused = world.ask(away, Request::ReadBarrier);
    world.until(10_000, |_| answer(&refused).is_some());
    assert!(matches!(answer(&refused), Some(Err(text)) if text.starts_with("CLUSTERDOWN")), "{:?}", answer(&refused));
    world.heal();
    world.run_ms(3_000);
    world.assert_safe();
    assert_eq!(leader(&world), Some(leading), "the healthy leader was unseated");
    assert_eq!(world.handle(leading).map(|handle| handle.info().term), term);
    wait(&mut world, "whole", World::has_converged);
}

#[test]
fn a_root_that_is_to_hold_data_only_is_replaced() {
    let mut world = gather(240, 5, 1, 0, 3);
    let leading = leader(&world).expect("a leader");
    let changed =
        voters(&world).expect("settled").into_iter().find(|host| *host != leading && *host != 0).expect("one");
    world.crash(changed);
    world.host_mut(changed).config.roles = Roles { data: false, root: false };
    world.restart(changed);
    wait(&mut world, "replaced", |world| has_voters(world, 3) && !voters(world).is_some_and(|v| v.contains(&changed)));
    commits(&mut world, 0, 3);
}

#[test]
fn the_number_of_roots_changes_while_roots_die() {
    for seed in 250..252 {
        let mut world = gather(seed, 7, 1, 3, 1);
        for count in [3, 5, 7, 5, 3, 1, 3] {
            world.must(0, Request::SetRootCount(count));
            // A death in the middle of the change, of the leader or of somebody else.
            let pause = world.rng().below(2 * LEASE_MS);
            world.run_ms(pause);
            let victim = match world.rng().below(2) {
                0 => leader(&world).filter(|_| count > 1),
                _ => Some(1 + world.rng().below(6) as usize),
            };
            // The only voter must come back for anything to happen.
            if let Some(victim) = victim {
                world.crash(victim);
                let pause = world.rng().below(6 * LEASE_MS);
                world.run_ms(pause);
                world.restart(victim);
            }
            let took = wait(&mut world, "so many roots", |world| has_voters(world, usize::from(count)));
            println!("seed {seed}: {count} roots {took} ms after a death");
            wait(&mut world, "all run", |world| (0..7).all(|host| world.handle(host).is_some()));
            world.must(0, Request::ReadBarrier);
        }
    }
}

/// The leader dies, so many milliseconds after five roots were asked for; it comes back much later or never.
#[test]
fn the_leader_dies_at_any_moment_of_an_exchange() {
    for (seed, after) in (260..).zip([5, 20, 60, 120, 200, 400, 650]) {
        let mut world = gather(seed, 7, 0, 0, 3);
        world.must(0, Request::SetRootCount(5));
        world.run_ms(after);
        let victim = leader(&world).expect("a leader");
        world.crash(victim);
        let took = wait(&mut world, "five roots", |world| has_voters(world, 5));
        println!("the leader died after {after} ms, five roots {took} ms later");
        world.restart(victim);
        world.run_ms(2 * LEASE_MS);
        world.must(victim, Request::ReadBarrier);
    }
}

/// Nodes that were to become roots die before they can: the leader takes others, or goes back to those before.
#[test]
fn new_roots_die_before_they_get_their_vote() {
    for seed in 270..274 {
        let mut world = gather(seed, 6, 0, 0, 3);
        let before = voters(&world).expect("settled");
        world.must(before[0], Request::SetRootCount(5));
        let pause = world.rng().below(60);
        world.run_ms(pause);
        for host in (0..6).filter(|host| !before.contains(host)).take(2) {
            world.crash(host);
        }
        world.run_ms(10 * LEASE_MS);
        world.must(before[0], Request::ReadBarrier);
        for host in 0..6 {
            world.restart(host);
        }
        wait(&mut world, "five roots", |world| has_voters(world, 5));
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Larger groups and changes of their voters: five voters in odd networks, leaders that die in the middle
//! of a joint change, roots that lost their files, and returns that must disturb nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pando_env::SimDisk;
use tokio::time::Instant;

use super::world::{Root, World, address, commit, grow, host, join, leader, until};

const SYNC: Duration = Duration::from_millis(1);

fn nodes(root: &Root) -> usize {
    root.raft.map().nodes().len()
}

fn voters(roots: &[Root], bytes: &[u8]) -> BTreeSet<u64> {
    roots.iter().filter(|root| bytes.contains(&root.byte)).map(|root| root.raft.voter()).collect()
}

#[tokio::test(start_paused = true)]
async fn five_voters_survive_two_deaths_and_a_leader_among_them() {
    let world = World::new(21);
    let mut roots = world.many(5, SYNC).await;
    commit(&roots, &join(1)).await;
    let mut dead = BTreeMap::new();
    for number in 2..4 {
        let at = leader(&roots).await;
        let root = roots.remove(at);
        let byte = root.byte;
        dead.insert(byte, world.kill(root).await);
        commit(&roots, &join(number)).await;
    }
    let term = roots[leader(&roots).await].raft.status().term;
    for (byte, disk) in dead {
        roots.push(world.start(byte, disk).await);
    }
    for root in &roots {
        until("all have applied it", || nodes(root) == 3).await;
    }
    assert_eq!(roots[leader(&roots).await].raft.status().term, term, "the returning roots disturbed the leader");
}

#[tokio::test(start_paused = true)]
async fn two_of_five_that_were_cut_off_together_return_quietly() {
    let world = World::new(22);
    let roots = world.many(5, SYNC).await;
    let at = leader(&roots).await;
    let status = roots[at].raft.status();
    let away: Vec<&Root> = roots.iter().filter(|root| root.byte != roots[at].byte).take(2).collect();
    for lost in &away {
        for other in roots.iter().filter(|root| away.iter().all(|lost| lost.byte != root.byte)) {
            world.hub.part(&host(lost.byte), &host(other.byte));
        }
    }
    commit(&roots, &join(1)).await;
    // Long enough for many elections of the two, were they not held back by pre-votes.
    tokio::time::sleep(Duration::from_secs(10)).await;
    for lost in &away {
        assert_eq!(lost.raft.status().term, status.term, "a minority stood for election");
        assert!(lost.raft.read_barrier().await.is_err(), "a minority answered");
    }
    world.hub.join_all();
    for root in &roots {
        until("all have applied it", || nodes(root) == 1).await;
    }
    let now = roots[at].raft.status();
    assert_eq!((now.term, now.is_leader), (status.term, true), "the healthy leader was unseated");
}

/// The leader reaches nobody but one voter, which reaches everybody; the others reach only that one. As long as
/// the leader kept that voter quiet, nobody else could be elected.
#[tokio::test(start_paused = true)]
async fn a_leader_that_reaches_only_a_bridge_gives_way() {
    let world = World::new(23);
    let roots = world.many(5, SYNC).await;
    let at = leader(&roots).await;
    let bridge = (at + 1) % 5;
    for a in 0..5 {
        for b in (0..5).filter(|b| a < *b && a != bridge && *b != bridge) {
            world.hub.part(&host(roots[a].byte), &host(roots[b].byte));
        }
    }
    let began = Instant::now();
    until("the bridge leads", || roots[bridge].raft.is_leader()).await;
    // The others may stand for election once more, and the bridge has a majority again.
    while roots[bridge].raft.propose(&join(1)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("a bridge voter took over after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
    world.hub.join_all();
    for root in &roots {
        until("all have applied it", || nodes(root) == 1).await;
    }
}

/// Replaces two of three voters at once and kills the leader after so many milliseconds of it: whoever leads then
/// can finish the change, and nothing confirmed is lost.
async fn leader_dies_during_a_change(after: Duration) -> (bool, bool) {
    let world = World::new(after.as_millis() as u64 + 100);
    let mut roots = Vec::new();
    for byte in 1..=5 {
        roots.push(world.start(byte, SimDisk::with_sync_latency(Duration::from_millis(3))).await);
    }
    roots[0].raft.initialize(address(1)).await.unwrap();
    until("the first root leads", || roots[0].raft.is_leader()).await;
    grow(&roots[..3]).await;
    for root in &roots[3..] {
        roots[0].raft.add_learner(root.raft.voter(), address(root.byte)).await.unwrap();
    }
    for number in 1..=5 {
        commit(&roots[..3], &join(number)).await;
    }
    let target = voters(&roots, &[3, 4, 5]);
    let changing = {
        let (raft, target) = (roots[0].raft.clone(), target.clone());
        tokio::spawn(async move { raft.exchange_voters(target).await.is_ok() })
    };
    tokio::time::sleep(after).await;
    let was_finished = changing.is_finished();
    changing.abort();
    let lost = roots.remove(0);
    let disk = world.kill(lost).await;
    let at = leader(&roots).await;
    let was_joint = roots[at].raft.status().is_joint;
    // What the agent does: the same change again, whatever the former leader left.
    let mut tries = 0;
    loop {
        let at = leader(&roots).await;
        let status = roots[at].raft.status();
        if !status.is_joint && status.voters == target {
            break;
        }
        roots[at].raft.exchange_voters(target.clone()).await.ok();
        tries += 1;
        assert!(tries < 50, "after {after:?}: {status:?}");
    }
    commit(&roots, &join(6)).await;
    roots.push(world.start(1, disk).await);
    for root in roots.iter().filter(|root| root.byte >= 3) {
        until("the new voters have everything", || nodes(root) == 6).await;
        assert!(root.raft.status().stopped.is_none());
    }
    (was_joint, was_finished)
}

#[tokio::test(start_paused = true)]
async fn a_change_survives_the_death_of_the_leader_at_each_step() {
    let (mut joint, mut finished, mut untouched) = (0, 0, 0);
    for ms in (0..40).step_by(2) {
        match leader_dies_during_a_change(Duration::from_millis(ms)).await {
            (true, _) => joint += 1,
            (false, true) => finished += 1,
            (false, false) => untouched += 1,
        }
    }
    println!("left behind: {joint} joint, {finished} finished, {untouched} other");
    assert!(joint > 0 && finished > 0, "the death never came in the middle: {joint} {finished} {untouched}");
}

#[tokio::test(start_paused = true)]
async fn groups_grow_to_seven_and_shrink_to_one_under_load() {
    let world = World::new(24);
    let mut roots = Vec::new();
    for byte in 1..=7 {
        roots.push(world.start(byte, SimDisk::with_sync_latency(SYNC)).await);
    }
    roots[0].raft.initialize(address(1)).await.unwrap();
    until("the first root leads", || roots[0].raft.is_leader()).await;
    let mut number = 0;
    for count in [3, 5, 7, 5, 3, 1] {
        let at = leader(&roots).await;
        let mut wanted: Vec<u8> = roots.iter().map(|root| root.byte).collect();
        // The leader stays, as the agent sees to.
        wanted.sort_by_key(|byte| (*byte != roots[at].byte, *byte));
        wanted.truncate(count);
        let target = voters(&roots, &wanted);
        let raft = roots[at].raft.clone();
        let changing = async {
            for root in roots.iter().filter(|root| wanted.contains(&root.byte)) {
                raft.add_learner(root.raft.voter(), address(root.byte)).await.ok();
            }
            raft.change_voters(target.clone()).await
        };
        let load = async {
            for _ in 0..20 {
                number += 1;
                raft.propose(&join(number)).await.unwrap();
            }
        };
        let (changed, ()) = tokio::join!(changing, load);
        changed.unwrap();
        assert_eq!(raft.status().voters, target, "{count} voters");
    }
    let at = leader(&roots).await;
    assert_eq!(nodes(&roots[at]), 120);
}

/// A root comes back with its node id and without its files. What it once confirmed it does not know any more, so
/// its vote must not help anybody.
#[tokio::test(start_paused = true)]
async fn a_root_that_lost_its_files_does_not_vote() {
    let world = World::new(25);
    let mut roots = world.many(3, SYNC).await;
    let at = leader(&roots).await;
    let leading = roots.remove(at);
    let byte = leading.byte;
    // Confirmed by the leader and the one that will forget it; the third does not have it.
    let ignorant = roots[1].byte;
    world.hub.cut(&host(ignorant));
    leading.raft.propose(&join(1)).await.unwrap();
    let disk = world.kill(leading).await;
    let wiped = roots.remove(0);
    let (wiped_byte, voter) = (wiped.byte, wiped.raft.voter());
    drop(world.kill(wiped).await);
    world.hub.heal(&host(ignorant));
    roots.push(world.start(wiped_byte, SimDisk::new()).await);
    assert_ne!(roots[1].raft.voter(), voter, "new files, new voter");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(roots.iter().all(|root| !root.raft.is_leader()), "elected with a vote that had forgotten an entry");
    assert!(roots[0].raft.propose(&join(2)).await.is_err());
    // The one that knows comes back; the wiped one becomes a new voter.
    roots.push(world.start(byte, disk).await);
    let at = leader(&roots).await;
    let raft = roots[at].raft.clone();
    until("the entry is there", || nodes(&roots[at]) == 1).await;
    raft.add_learner(roots[1].raft.voter(), address(wiped_byte)).await.unwrap();
    let target: BTreeSet<u64> = roots.iter().map(|root| root.raft.voter()).collect();
    raft.change_voters(target).await.unwrap();
    commit(&roots, &join(3)).await;
    for root in &roots {
        until("all have applied it", || nodes(root) == 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn leadership_goes_to_a_voter_that_is_there() {
    let world = World::new(26);
    let mut roots = world.many(5, SYNC).await;
    commit(&roots, &join(1)).await;
    // Up to date when they died, so their logs say nothing against them.
    for _ in 0..2 {
        let leading = leader(&roots).await;
        let at = if leading + 1 == roots.len() { 0 } else { roots.len() - 1 };
        let root = roots.remove(at);
        world.kill(root).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let at = leader(&roots).await;
    let began = Instant::now();
    roots[at].raft.transfer_leader(None).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(150), "took {:?}", began.elapsed());
    assert_ne!(leader(&roots).await, at);
    // To one of a list.
    let at = leader(&roots).await;
    let heir = (at + 1) % roots.len();
    roots[at].raft.transfer_leader(Some(&voters(&roots, &[roots[heir].byte]))).await.unwrap();
    assert_eq!(leader(&roots).await, heir);
}

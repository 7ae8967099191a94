// SPDX-License-Identifier: BSD-3-Clause
//! Groups of roots: election, proposals, partitions, crashes, snapshots, members.

use std::collections::BTreeSet;
use std::time::Duration;

use pando_env::SimDisk;

use super::world::{Root, World, address, commit, host, join, leader, until};
use crate::log::LOG_FILE;
use crate::{ProposeError, ReadError};

fn nodes(root: &Root) -> usize {
    root.raft.map().nodes().len()
}

async fn all_have(roots: &[Root], count: usize) {
    for root in roots {
        until("all have applied it", || nodes(root) == count).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_root_leads_itself_and_survives_a_power_cut() {
    let world = World::new(1);
    let root = world.start(1, SimDisk::new()).await;
    assert!(!root.raft.is_initialized().await.unwrap());
    root.raft.initialize(address(1)).await.unwrap();
    let roots = [root];
    let committed = commit(&roots, &join(1)).await;
    assert_eq!((nodes(&roots[0]), roots[0].raft.map().version().get()), (1, committed.index));
    let voter = roots[0].raft.voter();
    let [root] = roots;
    let disk = world.kill(root).await;
    let root = world.start(1, disk).await;
    assert_eq!(root.raft.voter(), voter);
    assert!(root.raft.is_initialized().await.unwrap());
    let roots = [root];
    leader(&roots).await;
    assert_eq!(nodes(&roots[0]), 1);
    // The same request again changes nothing.
    let again = commit(&roots, &join(1)).await;
    assert_eq!((again.outcome, nodes(&roots[0])), (committed.outcome, 1));
}

#[tokio::test(start_paused = true)]
async fn three_roots_replace_a_dead_leader_and_take_it_back() {
    let world = World::new(2);
    let mut roots = world.three().await;
    commit(&roots, &join(1)).await;
    all_have(&roots, 1).await;
    let at = leader(&roots).await;
    let (byte, dead) = (roots[at].byte, roots.remove(at));
    let term = dead.raft.status().term;
    let disk = world.kill(dead).await;
    let killed_at = tokio::time::Instant::now();
    commit(&roots, &join(2)).await;
    assert!(killed_at.elapsed() < Duration::from_millis(1500), "took {:?}", killed_at.elapsed());
    let now = roots[0].raft.status();
    assert!(now.term > term && !now.is_leader || now.leader == Some(now.voter));
    roots.push(world.start(byte, disk).await);
    all_have(&roots, 2).await;
    // Its return disturbs nobody.
    let at = leader(&roots).await;
    assert_ne!(roots[at].byte, byte);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_refuses_reads_and_writes_and_rejoins_quietly() {
    let world = World::new(3);
    let roots = world.three().await;
    let old = leader(&roots).await;
    world.hub.cut(&host(roots[old].byte));
    let refused = roots[old].raft.read_barrier().await;
    assert!(matches!(refused, Err(ReadError::NoQuorum | ReadError::Timeout)), "{refused:?}");
    until("the lease has run out", || {
        let acked = roots[old].raft.status().quorum_acked_at_ms;
        acked.is_none_or(|at| at > 0)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let refused = roots[old].raft.propose(&join(1)).await;
    assert_eq!(refused, Err(ProposeError::NoQuorum));
    let others: Vec<&Root> = roots.iter().filter(|root| root.byte != roots[old].byte).collect();
    until("the others elect a leader", || others.iter().any(|root| root.raft.is_leader())).await;
    let new = others.iter().position(|root| root.raft.is_leader()).unwrap();
    others[new].raft.propose(&join(2)).await.unwrap();
    assert!(others[1 - new].raft.read_barrier().await.is_ok());
    let term = others[new].raft.status().term;
    // Long enough for many elections of the lonely root, were they not held back by pre-votes.
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.hub.heal(&host(roots[old].byte));
    all_have(&roots, 1).await;
    assert_eq!(others[new].raft.status().term, term, "the returning root disturbed the leader");
    assert!(others[new].raft.is_leader());
    assert!(roots[old].raft.read_barrier().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_cut_off_refuses_reads() {
    let world = World::new(4);
    let roots = world.three().await;
    let at = (leader(&roots).await + 1) % 3;
    let committed = commit(&roots, &join(1)).await;
    assert!(roots[at].raft.read_barrier().await.unwrap() >= committed.index);
    assert_eq!(nodes(&roots[at]), 1, "a barrier at a follower shows what was committed before");
    let refused = roots[at].raft.propose(&join(2)).await;
    assert!(matches!(&refused, Err(ProposeError::NotLeader(Some((_, there)))) if there.port == address(1).port));
    world.hub.cut(&host(roots[at].byte));
    let refused = roots[at].raft.read_barrier().await;
    assert!(matches!(refused, Err(ReadError::NoLeader | ReadError::Timeout)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_survives_a_power_cut_of_all() {
    let world = World::new(5);
    let mut roots = world.three().await;
    for round in 0..5 {
        for number in 0..10 {
            commit(&roots, &join(round * 10 + number)).await;
        }
        let mut disks = Vec::new();
        for root in roots.drain(..) {
            let byte = root.byte;
            disks.push((byte, world.kill(root).await));
        }
        for (byte, disk) in disks {
            roots.push(world.start(byte, disk).await);
        }
        leader(&roots).await;
        all_have(&roots, (round as usize + 1) * 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_stays_bounded_and_a_laggard_gets_a_snapshot() {
    let mut world = World::new(6);
    world.tune = |config| {
        config.log_bytes_max = 32 * 1024;
        config.snapshot_every_entries = 50;
        config.keep_entries = 10;
        config.snapshot_chunk_bytes = 1000;
    };
    let mut roots = world.three().await;
    let at = (leader(&roots).await + 1) % 3;
    let laggard = roots.remove(at);
    let byte = laggard.byte;
    let disk = world.kill(laggard).await;
    for number in 0..500 {
        commit(&roots, &join(number)).await;
    }
    for root in &roots {
        // Of many nodes twice the snapshot, which is written anew each time.
        let core = root.raft.core();
        until("the log was compacted", || core.log.file_bytes() < 64 * 1024 + 2 * core.store.snapshot_bytes()).await;
        assert!(root.raft.status().snapshot >= 450);
    }
    roots.push(world.start(byte, disk).await);
    all_have(&roots, 500).await;
    assert!(roots[2].raft.status().snapshot > 0, "it cannot have had the log");
    // And everybody can start from such files.
    let mut disks = Vec::new();
    for root in roots.drain(..) {
        let byte = root.byte;
        disks.push((byte, world.kill(root).await));
    }
    for (byte, disk) in disks {
        roots.push(world.start(byte, disk).await);
    }
    leader(&roots).await;
    all_have(&roots, 500).await;
    roots[0].raft.compact().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_over_and_members_leave() {
    let world = World::new(7);
    let roots = world.three().await;
    let old = leader(&roots).await;
    let term = roots[old].raft.status().term;
    let started = tokio::time::Instant::now();
    roots[old].raft.transfer_leader(None).await.unwrap();
    let new = leader(&roots).await;
    assert_ne!(old, new);
    assert!(started.elapsed() < Duration::from_millis(150), "took {:?}", started.elapsed());
    assert_eq!(roots[new].raft.status().term, term + 1);
    // A follower hands over nothing.
    roots[old].raft.transfer_leader(None).await.unwrap();
    // Down to one voter and up again.
    let alone = BTreeSet::from([roots[new].raft.voter()]);
    roots[new].raft.change_voters(alone.clone()).await.unwrap();
    until("one voter is left", || roots[new].raft.status().voters == alone).await;
    commit(&roots[new..=new], &join(1)).await;
    roots[new].raft.finish_change().await.unwrap();
    let refused = roots[new].raft.transfer_leader(None).await;
    assert!(refused.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_failing_disk_stops_the_root() {
    let world = World::new(8);
    let roots = world.three().await;
    let at = leader(&roots).await;
    roots[at].disk.set_failing_syncs(true);
    let refused = roots[at].raft.propose(&join(1)).await;
    assert!(matches!(refused, Err(ProposeError::Stopped(_) | ProposeError::Unknown)), "{refused:?}");
    assert!(!roots[at].raft.stopped().await.is_empty());
    let others: Vec<Root> = roots.into_iter().enumerate().filter(|(i, _)| *i != at).map(|(_, root)| root).collect();
    commit(&others, &join(2)).await;
    assert!(others[0].disk.sync_count() > 0 && !LOG_FILE.is_empty());
}

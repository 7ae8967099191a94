// SPDX-License-Identifier: BSD-3-Clause
//! Random crashes, cuts and proposals; what was confirmed must be there in the end, and a read
//! behind a barrier must show all that was confirmed before it.

use std::collections::BTreeSet;
use std::time::Duration;

use pando_env::{Rng, SeededRng};
use pando_root_state::Command;
use pando_topology::NodeId;

use super::world::{Root, World, commit, host, join, leader, until};

fn joined(number: u64) -> NodeId {
    match join(number).command {
        Command::Join { node, .. } => node.id,
        other => panic!("{other:?}"),
    }
}

fn has_all(root: &Root, confirmed: &BTreeSet<u64>) -> bool {
    let map = root.raft.map();
    confirmed.iter().all(|number| map.node(&joined(*number)).is_some())
}

async fn run(seed: u64) {
    let mut world = World::new(seed);
    world.tune = |config| {
        config.log_bytes_max = 16 * 1024;
        config.snapshot_every_entries = 20;
        config.keep_entries = 5;
        config.propose_timeout_ms = 1_000;
    };
    let dice = SeededRng::new(seed ^ 0xd1ce);
    let mut roots = world.three().await;
    let mut confirmed = BTreeSet::new();
    let mut cut: Option<u8> = None;
    for number in 0..60 {
        match dice.below(10) {
            0 => {
                let root = roots.remove(dice.below(3) as usize);
                let byte = root.byte;
                let disk = world.kill(root).await;
                cut = cut.filter(|b| *b != byte);
                tokio::time::sleep(Duration::from_millis(dice.below(800))).await;
                roots.push(world.start(byte, disk).await);
            }
            1 if cut.is_none() => {
                let byte = roots[dice.below(3) as usize].byte;
                world.hub.cut(&host(byte));
                cut = Some(byte);
            }
            2 | 3 => {
                if let Some(byte) = cut.take() {
                    world.hub.heal(&host(byte));
                }
            }
            _ => tokio::time::sleep(Duration::from_millis(dice.below(100))).await,
        }
        let root = &roots[dice.below(3) as usize];
        if root.raft.propose(&join(number)).await.is_ok() {
            confirmed.insert(number);
        }
        let reader = &roots[dice.below(3) as usize];
        if reader.raft.read_barrier().await.is_ok() {
            assert!(has_all(reader, &confirmed), "seed {seed}: a stale read at step {number}");
        }
    }
    if let Some(byte) = cut {
        world.hub.heal(&host(byte));
    }
    leader(&roots).await;
    commit(&roots, &join(1_000)).await;
    confirmed.insert(1_000);
    for root in &roots {
        until("everybody has everything", || has_all(root, &confirmed)).await;
        assert!(root.raft.status().stopped.is_none(), "seed {seed}: a root stopped");
    }
    assert!(confirmed.len() > 5, "seed {seed}: only {} confirmed", confirmed.len());
}

#[tokio::test(start_paused = true)]
async fn nothing_confirmed_is_lost_and_no_read_is_stale() {
    // About three CPU seconds each in a debug build; the simulator runs many more.
    for seed in 0..4 {
        run(seed).await;
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Scripts for the model: states that random faults rarely reach, one for each rule that guards them.
//! Each is played with the rule, and then without it, which must show two writers.

use super::{Break, LEASE, NODES, STEP, World, id, shard};
use pando_root_state::{Command, PromoteReason};
use pando_topology::TopologyVersion;

/// The replica of every script; it is no root.
const REPLICA: usize = 3;

impl World {
    /// No faults but those of the script; everybody knows everything and node 0 writes.
    fn scripted(broken: Break, has_replica: bool) -> World {
        let mut world = World::new(0, broken);
        world.faulty = false;
        if has_replica {
            assert!(world.commit(Command::Replicate { node: id(REPLICA), of: id(0) }));
        }
        (0..NODES).for_each(|n| world.teach(n));
        world.play(3 * LEASE).expect("nothing has happened yet");
        assert_eq!(world.writers(), [0]);
        world
    }

    /// A node learns the newest map, keeps it on disk, and has applied it as a root.
    fn teach(&mut self, n: usize) {
        let last = self.history.len() - 1;
        let p = &mut self.processes[n];
        (p.at, p.disk, p.root_at) = (last, last, last);
        p.lease.on_map(&self.history[last]);
        p.lease.note_durable(self.history[last].version());
        if !p.ledger.is_caught_up() {
            p.ledger.note_caught_up();
        }
        self.poll(n);
    }

    /// Heartbeats and their answers for so long, and no maps.
    fn play(&mut self, ms: u64) -> Result<(), String> {
        for _ in 0..ms / STEP {
            self.now += STEP;
            for n in 0..NODES {
                if self.runs(n) {
                    self.poll(n);
                    self.beat(n);
                }
            }
            self.deliver();
            let writers = self.writers();
            if writers.len() > 1 {
                return Err(format!("nodes {writers:?} may write at {}", self.now));
            }
        }
        Ok(())
    }

    fn cut_off(&mut self, n: usize, others: &[usize]) {
        for other in others {
            (self.cut[n][*other], self.cut[*other][n]) = (true, true);
        }
    }

    /// The commit of a promotion, by what the replica can show; whether it was not refused.
    fn promote(&mut self) -> bool {
        let Some(s) = self.state.map().shard(&shard(0)).cloned() else { return false };
        let Some(node) = self.state.map().node(&id(REPLICA)).cloned() else { return false };
        let told = self.processes[REPLICA].told_on_disk.filter(|told| told.shard == s.id);
        let told_at = match self.broken {
            Break::Told => TopologyVersion(u64::MAX),
            _ => told.map_or(TopologyVersion(0), |told| told.version),
        };
        self.commit(Command::Promote {
            shard: s.id,
            to: node.id,
            incarnation: node.incarnation,
            expect_epoch: s.epoch,
            told_at,
            reason: PromoteReason::Failed,
        })
    }
}

/// A node becomes a replica while the primary is cut off. The primary writes on without anybody's
/// promise, because the map that it knows shows no replica.
fn promoted_unknown_to_the_primary(broken: Break) -> Result<(), String> {
    let mut world = World::scripted(broken, false);
    world.cut_off(0, &[1, 2, 3, 4]);
    assert!(world.commit(Command::Replicate { node: id(REPLICA), of: id(0) }));
    (1..NODES).for_each(|n| world.teach(n));
    world.play(2 * LEASE)?;
    assert_eq!(world.writers(), [0]);
    let is_promoted = world.promote();
    assert_eq!(is_promoted, broken == Break::Told);
    (1..NODES).for_each(|n| world.teach(n));
    world.play(3 * LEASE)
}

/// A primary that only its replica can hear writes by the replica's promise, and that replica is
/// promoted.
fn promoted_against_its_promise(broken: Break) -> Result<(), String> {
    let mut world = World::scripted(broken, true);
    world.cut_off(0, &[1, 2, 4]);
    world.play(2 * LEASE)?;
    assert_eq!(world.writers(), [0]);
    assert!(world.promote());
    (1..NODES).for_each(|n| world.teach(n));
    world.play(4 * LEASE)?;
    assert_eq!(world.writers(), [REPLICA]);
    Ok(())
}

/// Two of three roots have promised the primary a lease and restart; a replica that has given no
/// promise for long is promoted.
fn promoted_by_forgetful_roots(broken: Break) -> Result<(), String> {
    let mut world = World::scripted(broken, true);
    world.cut_off(0, &[REPLICA]);
    world.play(2 * LEASE)?;
    assert_eq!(world.writers(), [0]);
    world.cut_off(0, &[1, 2, 4]);
    for root in [1, 2] {
        world.crash(root);
        world.restart(root);
        world.register(root);
    }
    assert!(world.promote());
    (1..NODES).for_each(|n| world.teach(n));
    world.play(4 * LEASE)?;
    assert_eq!(world.writers(), [REPLICA]);
    Ok(())
}

/// Three roots are exchanged for three others. The primary and two of the former ones are cut off and know nothing
/// of it, and a replica is promoted.
fn promoted_behind_the_back_of_former_roots(broken: Break) -> Result<(), String> {
    let mut world = World::scripted(broken, true);
    world.cut_off(0, &[2, 3, 4, 5, 6]);
    world.cut_off(1, &[2, 3, 4, 5, 6]);
    let voters = [2, 4, 5].map(|n| (id(n), n as u64)).into();
    let expect_since = world.state.map().roots().since;
    assert!(world.commit(Command::SetRoots { voters, expect_since }));
    (2..NODES).for_each(|n| world.teach(n));
    world.play(2 * LEASE)?;
    world.settle_roots();
    assert_eq!(world.state.map().roots().previous.is_none(), broken == Break::Settle);
    assert!(world.promote());
    (2..NODES).for_each(|n| world.teach(n));
    world.play(4 * LEASE)?;
    assert_eq!(world.writers(), [0]);
    Ok(())
}

/// The script is safe with all rules and shows two writers without this one.
fn check(broken: Break, script: fn(Break) -> Result<(), String>) {
    assert_eq!(script(Break::Nothing), Ok(()));
    let without = script(broken);
    assert!(without.is_err_and(|e| e.contains("may write at")), "nobody noticed that a rule is broken: {broken:?}");
}

#[test]
fn exchanges_that_are_settled_too_early_are_noticed() {
    check(Break::Settle, promoted_behind_the_back_of_former_roots);
}

#[test]
fn promotions_of_replicas_that_were_not_told_are_noticed() {
    check(Break::Told, promoted_unknown_to_the_primary);
}

#[test]
fn activations_against_ones_own_promise_are_noticed() {
    check(Break::OwnPromise, promoted_against_its_promise);
}

#[test]
fn roots_that_forget_what_they_promised_are_noticed() {
    check(Break::WarmUp, promoted_by_forgetful_roots);
}

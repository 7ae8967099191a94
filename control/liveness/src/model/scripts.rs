// SPDX-License-Identifier: BSD-3-Clause
//! Scripts for the model: states that random faults rarely reach, one for each rule that guards them.
//! Each is played with the rule, and then without it, which must show two writers.

use super::{Break, LEASE, NODES, STEP, World, id, shard};
use crate::ProofOfDeath;
use pando_root_state::{Command, PromoteReason};
use pando_topology::{Incarnation, TopologyVersion};

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
            p.ledger.note_caught_up(&self.history[last]);
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

    fn promote_to(&mut self, n: usize, told_at: TopologyVersion) -> bool {
        let Some(s) = self.state.map().shard(&shard(0)).cloned() else { return false };
        let Some(node) = self.state.map().node(&id(n)).cloned() else { return false };
        self.commit(Command::Promote {
            shard: s.id,
            to: node.id,
            incarnation: node.incarnation,
            expect_epoch: s.epoch,
            told_at,
            over: self.over(),
            reason: PromoteReason::Failed,
        })
    }

    /// The commit of a promotion, by what the replica can show; whether it was not refused.
    fn promote(&mut self) -> bool {
        let Some(s) = self.state.map().shard(&shard(0)).cloned() else { return false };
        let told = self.processes[REPLICA].told_on_disk.filter(|told| told.shard == s.id);
        let told_at = match self.broken {
            Break::Told => TopologyVersion(u64::MAX),
            _ => told.map_or(TopologyVersion(0), |told| told.version),
        };
        self.promote_to(REPLICA, told_at)
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

/// The same, but the roots end as planned and know what they have promised.
fn promoted_by_roots_with_a_note(broken: Break) -> Result<(), String> {
    let mut world = World::scripted(broken, true);
    world.cut_off(0, &[REPLICA]);
    world.play(2 * LEASE)?;
    world.cut_off(0, &[1, 2, 4]);
    for root in [1, 2] {
        world.end(root);
        world.restart(root);
        world.register(root);
    }
    assert!(world.promote());
    (1..NODES).for_each(|n| world.teach(n));
    world.play(2 * LEASE)?;
    assert_eq!(world.writers(), [REPLICA]);
    Ok(())
}

/// Node 0 writes by the promises of two roots that forget them. Before they are back, node 4 has become primary and
/// died; after that the replica does. What the roots find in the map is over, but what was before it is not.
fn promoted_after_a_reign_that_never_was(broken: Break) -> Result<(), String> {
    let mut world = World::scripted(broken, true);
    assert!(world.commit(Command::Replicate { node: id(4), of: id(0) }));
    (0..NODES).for_each(|n| world.teach(n));
    world.play(LEASE)?;
    world.cut_off(0, &[REPLICA, 4]);
    world.play(2 * LEASE)?;
    assert_eq!(world.writers(), [0]);
    world.cut_off(0, &[1, 2]);
    let told_at = |world: &World, n: usize| world.processes[n].told_on_disk.map(|told| told.version).expect("told");
    let told = told_at(&world, 4);
    assert!(world.promote_to(4, told));
    world.crash(4);
    for root in [1, 2] {
        world.crash(root);
        world.restart(root);
        world.register(root);
        world.teach(root);
    }
    world.restart(4);
    world.register(4);
    world.teach(4);
    world.play(25)?;
    let told = told_at(&world, REPLICA);
    assert!(world.promote_to(REPLICA, told));
    (1..NODES).for_each(|n| world.teach(n));
    world.play(4 * LEASE)?;
    assert_eq!(world.writers(), [REPLICA]);
    Ok(())
}

/// A root that has restarted grants at once what can have been promised to nobody else any more: to the reign that
/// was active all the time, and to the one after it when that is over.
#[test]
fn restarted_roots_do_not_wait_for_what_is_over() {
    let mut world = World::scripted(Break::Nothing, true);
    for root in [1, 2] {
        world.crash(root);
        world.restart(root);
        world.register(root);
        world.teach(root);
    }
    world.play(40).expect("safe");
    let until = |world: &World, n: usize| {
        world.processes[n].held.roots_until_ms.saturating_sub(world.now + world.processes[n].clock)
    };
    assert!(until(&world, 0) > LEASE / 2, "the primary's promises are renewed");
    world.crash(0);
    for witness in [1, 2, REPLICA] {
        let proof = ProofOfDeath { node: id(0), incarnation: Incarnation(1) };
        let w = &mut world.processes[witness];
        w.ledger.on_proof_of_death(world.now + w.clock, proof);
        w.promise.on_proof_of_death(proof);
    }
    assert!(world.promote());
    (1..NODES).for_each(|n| world.teach(n));
    world.play(40).expect("safe");
    assert_eq!(world.writers(), [REPLICA]);
}

/// Node 4 is promoted while node 0 is cut off and writes by its promise, and dies before it can activate. Node 0 has
/// never heard of the replica.
fn dead_before_it_was_active(broken: Break) -> Result<World, String> {
    let mut world = World::scripted(broken, false);
    assert!(world.commit(Command::Replicate { node: id(4), of: id(0) }));
    (0..NODES).for_each(|n| world.teach(n));
    world.play(LEASE)?;
    world.cut_off(0, &[1, 2, 3]);
    world.play(2 * LEASE)?;
    assert_eq!(world.writers(), [0]);
    assert!(world.commit(Command::Replicate { node: id(REPLICA), of: id(0) }));
    let told_at = world.processes[4].told_on_disk.map(|told| told.version).expect("node 0 has told it");
    assert!(world.promote_to(4, told_at));
    (1..NODES).for_each(|n| world.teach(n));
    world.play(STEP)?;
    world.crash(4);
    Ok(world)
}

/// Node 4 comes back, and the replica is promoted after it.
fn promoted_by_a_word_too_early(broken: Break) -> Result<(), String> {
    let mut world = dead_before_it_was_active(broken)?;
    world.restart(4);
    world.register(4);
    world.teach(4);
    let is_early = world.promote();
    assert_eq!(is_early, broken == Break::Vouch);
    if !is_early {
        world.play(2 * LEASE)?;
        assert!(world.promote(), "it vouches now");
    }
    (1..NODES).for_each(|n| world.teach(n));
    world.play(4 * LEASE)?;
    assert_eq!(world.writers(), [REPLICA]);
    Ok(())
}

/// The primary is proven dead, and nobody ever told its replica anything.
fn promoted_after_a_death(broken: Break) -> Result<(), String> {
    let mut world = World::scripted(broken, false);
    // It knows of the replica, which hears nothing of it.
    world.cut_off(0, &[REPLICA]);
    assert!(world.commit(Command::Replicate { node: id(REPLICA), of: id(0) }));
    (1..NODES).for_each(|n| world.teach(n));
    world.play(LEASE)?;
    assert_eq!(world.writers(), [0]);
    assert!(world.commit(Command::MarkFailed { nodes: vec![id(0)] }));
    assert_eq!(world.promote(), broken == Break::Dead, "it runs");
    if broken == Break::Nothing {
        world.crash(0);
        assert!(world.promote(), "its reign is over");
    }
    world.cut_off(0, &[1, 2, 4]);
    (1..NODES).for_each(|n| world.teach(n));
    world.play(4 * LEASE)?;
    assert_eq!(world.writers(), [REPLICA]);
    Ok(())
}

/// Node 4 does not come back, and the replica is promoted after it.
fn promoted_after_a_death_too_early(broken: Break) -> Result<(), String> {
    let mut world = dead_before_it_was_active(broken)?;
    assert!(world.commit(Command::MarkFailed { nodes: vec![id(4)] }));
    assert_eq!(world.promote(), broken == Break::Active);
    (1..NODES).for_each(|n| world.teach(n));
    world.play(4 * LEASE)
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
fn reigns_that_are_not_known_to_be_over_are_noticed() {
    check(Break::Dead, promoted_after_a_death);
    check(Break::Active, promoted_after_a_death_too_early);
}

#[test]
fn activations_against_ones_own_promise_are_noticed() {
    check(Break::OwnPromise, promoted_against_its_promise);
}

#[test]
fn roots_that_forget_what_they_promised_are_noticed() {
    check(Break::WarmUp, promoted_by_forgetful_roots);
}

#[test]
fn roots_that_lose_their_notes_are_noticed() {
    check(Break::Note, promoted_by_roots_with_a_note);
}

#[test]
fn grants_after_a_reign_that_never_was_are_noticed() {
    check(Break::Settled, promoted_after_a_reign_that_never_was);
}

#[test]
fn words_for_an_unfinished_past_are_noticed() {
    check(Break::Vouch, promoted_by_a_word_too_early);
}

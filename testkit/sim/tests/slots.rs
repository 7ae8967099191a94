// SPDX-License-Identifier: BSD-3-Clause
//! Slots that a primary gives away: nobody writes for a slot while another one does (the world checks it after each
//! step), and whatever happens to the giver, somebody owns the slot afterwards.

use pando_agent::{Request, SetSlot};
use pando_env::Rng;
use pando_sim::faults::heal_all;
use pando_sim::world::{LEASE_MS, World, answer};
use pando_topology::Slot;

const FROM: usize = 0;
const TO: usize = 1;

/// Hosts 0 to 2 are the primaries, host n + 3 follows host n.
fn formed(seed: u64) -> World {
    // Writes are held for less than a run takes: what keeps a giver from writing is that it has no lease.
    let mut world = World::with_config(seed, 6, |_, config| config.manual_failover_ms = 300);
    world.form(3);
    world.run_ms(500);
    world
}

fn slot() -> Slot {
    pando_sim::forming::share(FROM, 3).first().expect("a share has slots")
}

fn whole_again(world: &mut World) {
    heal_all(world);
    let is_whole = world.until(30_000, World::has_converged);
    world.assert_safe();
    assert!(is_whole, "{}", world.describe());
    assert!(world.writer_of(slot()).is_some(), "{}", world.describe());
}

fn give(world: &World) -> pando_sim::world::Pending {
    let to = world.node_id(TO).expect("a view");
    world.ask(FROM, Request::SetSlot(slot(), SetSlot::Node(to)))
}

#[test]
fn a_slot_that_moves_has_one_writer_at_a_time() {
    for seed in 400..406 {
        let mut world = formed(seed);
        let given = give(&world);
        assert!(world.until(5_000, |world| world.writer_of(slot()) == Some(TO)), "{}", world.describe());
        assert!(world.until(1_000, |_| answer(&given).is_some_and(|result| result.is_ok())));
        // The giver goes on with what it has kept.
        let kept = Slot::new(slot().index() as u16 + 1).expect("a slot");
        assert!(world.until(1_000, |world| world.writer_of(kept) == Some(FROM)), "{}", world.describe());
        world.assert_safe();
    }
}

#[test]
fn a_giver_that_is_cut_off_or_dies_meanwhile_never_writes_for_what_it_gave() {
    for seed in 420..428 {
        let mut world = formed(seed);
        give(&world);
        let later = world.rng().below(25);
        world.run_ms(later);
        match seed % 4 {
            0 => world.isolate(FROM),
            1 => world.crash(FROM),
            2 => (0..6).for_each(|host| {
                if host != FROM && host != FROM + 3 {
                    world.cut(FROM, host)
                }
            }),
            _ => {
                world.crash(FROM);
                world.restart(FROM);
            }
        }
        world.run_ms(3 * LEASE_MS);
        world.assert_safe();
        whole_again(&mut world);
    }
}

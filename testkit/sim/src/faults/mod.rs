// SPDX-License-Identifier: BSD-3-Clause
//! Random faults, drawn from the seed by weight: one file for each family. A [`Plan`] says what it did, when, and
//! how often each kind was seen.

mod addresses;
mod clocks;
mod damage;
mod disks;
mod members;
mod network;
mod processes;

use std::collections::{BTreeMap, BTreeSet};

use pando_env::Rng;

use crate::world::World;

/// How far apart the rates of two clocks may be, in parts per million: what leases allow for.
pub const DRIFT_PPM: i64 = 10_000;

/// Something that ends by itself.
pub(crate) enum End {
    /// A process that stands still goes on.
    Resume(usize),
    /// A process is started.
    Start(usize),
    /// A disk works again; whoever had an error is started anew.
    Mend(usize),
    /// All paths are as they should be.
    Calm,
    /// The agent is told to stop.
    ShutDown(usize),
    /// It had its time; the process is gone, and another one is started.
    Ended(usize),
    /// A node that cannot start with its files is replaced by one without.
    Replace(usize),
}

/// A kind of fault: its weight, its name, and the function that does it and says what it did (`None`: not now).
pub(crate) type Kind = (u64, &'static str, fn(&mut World, &mut Plan) -> Option<String>);

/// See the head of this file.
#[derive(Default)]
pub struct Plan {
    /// How often each kind of fault was done.
    pub counts: BTreeMap<&'static str, u64>,
    /// What was done, in order, with the true time.
    pub log: Vec<String>,
    ends: BTreeMap<(u64, usize), End>,
    /// Hosts whose process has seen an error of its disk.
    pub(crate) disturbed: BTreeSet<usize>,
    /// The voter whose files were damaged last, by its id in the root group.
    pub(crate) damaged: Option<u64>,
    /// How many addresses were used so far beside the first ones.
    pub(crate) addresses: u8,
    /// Families that take part; all of them if empty.
    pub only: Vec<&'static str>,
}

impl Plan {
    /// Runs the cluster for about `ms` with faults, then ends all of them. Stops early when a property is broken.
    pub fn torment(&mut self, world: &mut World, ms: u64) {
        let kinds = self.kinds();
        let total: u64 = kinds.iter().map(|(weight, ..)| weight).sum();
        let end = world.now_ms() + ms;
        while world.now_ms() < end && world.failure.is_none() {
            let mut drawn = world.rng().below(total);
            let kind = kinds.iter().find(|(weight, ..)| {
                let is_it = drawn < *weight;
                drawn = drawn.saturating_sub(*weight);
                is_it
            });
            if let Some((_, name, strike)) = kind {
                self.strike(world, name, *strike);
            }
            let pause = 5 + world.rng().below(500);
            self.run(world, pause);
            if world.rng().below(4) == 0 {
                self.note(world, "heal", String::new());
                world.heal();
            }
        }
        self.heal_all(world);
    }

    fn kinds(&self) -> Vec<Kind> {
        let families: [(&'static str, &[Kind]); 7] = [
            ("network", network::KINDS),
            ("processes", processes::KINDS),
            ("disks", disks::KINDS),
            ("damage", damage::KINDS),
            ("addresses", addresses::KINDS),
            ("clocks", clocks::KINDS),
            ("members", members::KINDS),
        ];
        let wanted = families.iter().filter(|(name, _)| self.only.is_empty() || self.only.contains(name));
        wanted.flat_map(|(_, kinds)| kinds.iter().copied()).collect()
    }

    fn strike(&mut self, world: &mut World, name: &'static str, strike: fn(&mut World, &mut Plan) -> Option<String>) {
        if let Some(what) = strike(world, self) {
            self.note(world, name, what);
        }
    }

    fn note(&mut self, world: &World, name: &'static str, what: String) {
        *self.counts.entry(name).or_default() += 1;
        self.log.push(format!("{:>7} {name} {what}", world.now_ms()));
    }

    /// Something ends after so long.
    pub(crate) fn later(&mut self, world: &World, after_ms: u64, end: End) {
        let number = self.log.len() * 100 + self.ends.len();
        self.ends.insert((world.now_ms() + after_ms, number), end);
    }

    /// Steps for so long, and ends what is due.
    pub fn run(&mut self, world: &mut World, ms: u64) {
        for _ in 0..ms {
            if world.failure.is_some() {
                return;
            }
            world.step();
            while let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= world.now_ms()) {
                let end = entry.remove();
                self.end(world, end);
            }
        }
    }

    fn end(&mut self, world: &mut World, end: End) {
        match end {
            End::Resume(host) => world.host_mut(host).resume(),
            End::Start(host) => {
                world.restart(host);
            }
            End::Mend(host) => {
                disks::mend(world, host);
                if self.disturbed.remove(&host) {
                    // As an operator would: the process may have given up a part of itself.
                    self.note(world, "restart after a disk error", format!("n{host}"));
                    world.kill(host);
                    world.restart(host);
                }
            }
            End::Calm => world.network().mend(),
            End::ShutDown(host) => {
                world.host(host).shut_down();
                self.later(world, 300, End::Ended(host));
            }
            End::Ended(host) => {
                world.kill(host);
                world.restart(host);
            }
            End::Replace(host) => {
                self.note(world, "replaced without files", format!("n{host}"));
                damage::replace(world, host);
            }
        }
    }

    /// Ends all faults and runs everything.
    pub fn heal_all(&mut self, world: &mut World) {
        self.note(world, "end of faults", String::new());
        world.heal();
        world.network().mend();
        for end in std::mem::take(&mut self.ends).into_values() {
            // Whoever was to end later stays.
            if !matches!(end, End::ShutDown(_)) {
                self.end(world, end);
            }
        }
        for host in 0..world.len() {
            world.host_mut(host).resume();
            disks::mend(world, host);
            world.restart(host);
        }
    }

    /// Waits until the cluster is whole, with an operator who brings back what was forgotten or reset. False if it
    /// is not within this time.
    pub fn settle(&mut self, world: &mut World, limit_ms: u64) -> bool {
        let end = world.now_ms() + limit_ms;
        while world.now_ms() < end && world.failure.is_none() {
            if world.until(500, World::has_converged) {
                return true;
            }
            members::tidy_up(world);
        }
        false
    }

    /// What was done, for a report.
    pub fn describe(&self) -> String {
        self.log.join("\n")
    }
}

/// Ends all faults of a scenario.
pub fn heal_all(world: &mut World) {
    Plan::default().heal_all(world);
}

/// A random host.
pub(crate) fn any(world: &World) -> usize {
    world.rng().below(world.len() as u64) as usize
}

/// Two different random hosts.
pub(crate) fn two(world: &World) -> (usize, usize) {
    let a = any(world);
    let step = 1 + world.rng().below(world.len() as u64 - 1) as usize;
    (a, (a + step) % world.len())
}

/// A number from `low` to `high`.
pub(crate) fn between(world: &World, low: u64, high: u64) -> u64 {
    low + world.rng().below(high - low + 1)
}

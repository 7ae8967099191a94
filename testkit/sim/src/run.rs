// SPDX-License-Identifier: BSD-3-Clause
//! One random run from a seed: form a cluster of a random shape, torment it, heal it, see whether it becomes
//! whole. Used by the tests and by `cargo xtask sim`.

use std::collections::BTreeMap;

use pando_env::{Rng, SeededRng};

use crate::faults::Plan;
use crate::log;
use crate::world::World;

/// How long the faults last.
const FAULTS_MS: u64 = 8_000;
/// How long the cluster may take to become whole afterwards.
const HEAL_MS: u64 = 30_000;

/// What came of a run.
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The shape of the cluster.
    pub shape: String,
    /// What broke, if anything did, with what everybody thought then.
    pub failure: Option<String>,
    /// What was done.
    pub plan: Plan,
    /// True milliseconds that were simulated.
    pub steps: u64,
    /// Primaries that were replaced.
    pub failovers: u64,
    /// Milliseconds from the end of the faults until the cluster was whole.
    pub healed_ms: u64,
    /// Writes that were acknowledged without and with waiting, and those that were not.
    pub writes: [u64; 3],
    /// Requests of operators that were answered well and badly, by kind.
    pub answers: BTreeMap<&'static str, [u64; 2]>,
    /// Equal for equal runs.
    pub trace: u64,
}

impl Outcome {
    /// Lines for people and for `cargo xtask sim`.
    pub fn report(&self) -> String {
        let mut text = String::new();
        if self.failure.is_some() || std::env::var_os("PANDO_SIM_LOG").is_some() {
            text.push_str(&self.plan.describe());
            text.push('\n');
        }
        for (kind, count) in &self.plan.counts {
            text.push_str(&format!("fault {count} {kind}\n"));
        }
        for (kind, [good, bad]) in &self.answers {
            text.push_str(&format!("answered {good} {kind}\nrefused {bad} {kind}\n"));
        }
        let [plain, waited, unknown] = self.writes;
        text.push_str(&format!("writes {plain} plain\nwrites {waited} waited\nwrites {unknown} unknown\n"));
        let Outcome { seed, shape, steps, failovers, healed_ms, trace, .. } = self;
        text.push_str(&format!("seed {seed} {shape} steps {steps} failovers {failovers} healed {healed_ms}\n"));
        text + &format!("trace {trace:016x}")
    }
}

/// Runs a seed.
pub fn run(seed: u64) -> Outcome {
    log::start();
    let dice = SeededRng::new(seed ^ 0xd1ce);
    let hosts = 3 + dice.below(7) as usize;
    let roots = match dice.below(6) {
        0 | 1 if hosts >= 5 => 5,
        2 if hosts >= 7 => 7,
        _ => 3,
    };
    let primaries = 1 + dice.below((hosts as u64 / 2).min(3)) as usize;
    let zones = dice.below(4) as usize;
    let snapshot_entries = [10, 30, 5000][dice.below(3) as usize];
    let shape = format!("{hosts} hosts, {primaries} primaries, {roots} roots, {zones} zones");
    let mut world = World::with_config(seed, hosts, |index, config| {
        config.root_count = roots;
        // A run is some hundred entries long.
        config.snapshot_entries = snapshot_entries;
        if zones > 0 {
            config.zone = format!("z{}", index % zones);
        }
    });
    for host in 0..hosts {
        world.host(host).disk.set_holes(true);
    }
    let mut plan = Plan::default();
    world.form(primaries);
    world.add_clients(2 + dice.below(6) as usize);
    plan.torment(&mut world, FAULTS_MS);
    let start = world.now_ms();
    let is_whole = plan.settle(&mut world, HEAL_MS);
    let failure = match (&world.failure, is_whole) {
        (Some(failure), _) => Some(format!("{failure}\n{}", world.describe())),
        (None, false) => Some(format!("not whole after healing: {}", world.describe())),
        (None, true) => None,
    };
    let (steps, trace) = (world.now_ms(), world.trace_hash());
    Outcome {
        seed,
        shape,
        failure,
        plan,
        steps,
        failovers: world.failovers(),
        healed_ms: steps - start,
        writes: world.writes(),
        answers: world.answers(),
        trace,
    }
}

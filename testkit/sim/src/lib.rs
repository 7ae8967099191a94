// SPDX-License-Identifier: BSD-3-Clause
//! A whole cluster in one thread: the real agents over a simulated network, simulated clocks, disks that lose
//! what was not synced, and a data plane that counts writes. Everything follows from a seed.
//!
//! ```text
//!   tests/* ── scenario or random faults ──► World (world.rs) ──► hosts (host.rs), one Agent each
//!                                             │ after each step      over net/, engine.rs, data.rs
//!                                             ▼
//!                         invariants/* : one file per property, checked on a snapshot of all planes
//! ```
//! A run has two phases: faults, during which only safety is checked, then everything is healed and
//! the cluster has to converge. docs/simulation.md says how to run and repeat it.

pub mod admin;
pub mod clients;
pub mod data;
pub mod engine;
pub mod faults;
pub mod forming;
pub mod host;
pub mod invariants;
pub mod log;
pub mod net;
pub mod plane;
pub mod run;
pub mod world;

/// How many seeds to run: `PANDO_SIM_SEEDS`, or what CI can afford.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("PANDO_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let first = std::env::var("PANDO_SIM_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    first..first + asked.unwrap_or(default)
}

// SPDX-License-Identifier: BSD-3-Clause
//! Active defragmentation (`activedefrag`): when the slab has much more memory than its entries need, passes over all
//! entries empty its sparse pages, with the share of a core that the directives allow.
//!
//! Not here: how entries are moved (the keyspace). Called by the cron thread.

use crate::server::Server;
use pando_keyspace::Compaction;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Between two looks at the memory.
const CHECK_PERIOD: Duration = Duration::from_secs(1);
/// Entries between two looks at the clock.
const ENTRIES_PER_STEP: usize = 64;

/// For INFO.
#[derive(Debug, Default)]
pub struct DefragStats {
    /// Percent of a core that the running pass may use; zero when none runs.
    pub running: AtomicU64,
    /// Entries moved.
    pub hits: AtomicU64,
    /// Entries left where they were.
    pub misses: AtomicU64,
    /// Time in passes that ended, in milliseconds.
    pub total_ms: AtomicU64,
    /// Time in the running pass, in milliseconds.
    pub current_ms: AtomicU64,
}

struct Pass {
    compaction: Compaction,
    started: Instant,
    /// Percent of a core.
    effort: u32,
    cycle: Duration,
}

/// The running pass, if any.
#[derive(Default)]
pub struct Defrag {
    pass: Option<Pass>,
    next_check: Option<Instant>,
}

impl Defrag {
    /// Does some work if it is time for it. Returns when to come again; `None` while it is switched off.
    pub fn step(&mut self, server: &Server) -> Option<Duration> {
        let now = Instant::now();
        let wait = self.next_check.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if wait.is_zero() {
            self.next_check = Some(now + CHECK_PERIOD);
            self.check(server);
        }
        let Some(pass) = &mut self.pass else {
            // Off: the cron thread comes by often enough to see the directive change.
            return (server.defrag.running.load(Relaxed) != 0).then_some(CHECK_PERIOD);
        };
        let (moved, kept) = (pass.compaction.moved, pass.compaction.kept);
        let mut is_done = false;
        while !is_done && now.elapsed() < pass.cycle {
            is_done = pass.compaction.step(&server.engine.keyspace, ENTRIES_PER_STEP);
        }
        server.defrag.hits.fetch_add(pass.compaction.moved - moved, Relaxed);
        server.defrag.misses.fetch_add(pass.compaction.kept - kept, Relaxed);
        server.defrag.current_ms.store(pass.started.elapsed().as_millis() as u64, Relaxed);
        if is_done {
            self.finish(server);
            return Some(CHECK_PERIOD);
        }
        Some(now.elapsed() * (100 - pass.effort.min(99)) / pass.effort.max(1))
    }

    fn check(&mut self, server: &Server) {
        let values = server.config.values();
        if !values.is_yes("activedefrag") {
            self.finish(server);
            return;
        }
        if self.pass.is_some() {
            return;
        }
        let keyspace = &server.engine.keyspace;
        let number = |name: &str| u64::try_from(values.number(name)).unwrap_or(0);
        let used = keyspace.slab_block_bytes().max(1);
        let wasted = keyspace.slab_page_bytes().saturating_sub(used);
        let percent = wasted * 100 / used;
        let (lower, upper) = (number("active-defrag-threshold-lower"), number("active-defrag-threshold-upper"));
        if wasted < number("active-defrag-ignore-bytes") || percent < lower {
            return;
        }
        let Some(compaction) = keyspace.begin_compaction(lower as usize) else { return };
        let (min, max) = (number("active-defrag-cycle-min"), number("active-defrag-cycle-max"));
        let above = percent.min(upper).saturating_sub(lower);
        let effort = (min + max.saturating_sub(min) * above / upper.saturating_sub(lower).max(1)) as u32;
        let cycle = Duration::from_micros(number("active-defrag-cycle-us").max(100));
        server.defrag.running.store(u64::from(effort.max(1)), Relaxed);
        self.pass = Some(Pass { compaction, started: Instant::now(), effort, cycle });
    }

    fn finish(&mut self, server: &Server) {
        if let Some(pass) = self.pass.take() {
            server.defrag.total_ms.fetch_add(pass.started.elapsed().as_millis() as u64, Relaxed);
            server.defrag.current_ms.store(0, Relaxed);
            server.defrag.running.store(0, Relaxed);
        }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Active defragmentation (`activedefrag`): when the slab and the heap have much more memory than what is in them needs,
//! passes over all entries empty their sparse pages, with the share of a core that the directives allow.
//!
//! Not here: how entries and values are moved (the keyspace), what the allocator knows (`info::allocator`). Called by the
//! cron thread.

use crate::info::allocator::{self, SparseHeap};
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

/// How long a state is left alone that a pass could not make much better: something else fills the pages.
const HOPELESS_PERIOD: Duration = Duration::from_secs(60);

/// Memory of the slab and the heap.
#[derive(Copy, Clone)]
struct Memory {
    used: u64,
    /// Free within pages that are in use.
    wasted: u64,
}

impl Memory {
    fn measure(server: &Server) -> Memory {
        let keyspace = &server.engine.keyspace;
        let (slab_used, slab_pages) = (keyspace.slab_block_bytes(), keyspace.slab_page_bytes());
        let (heap_used, heap_pages) = allocator::stats().map_or((0, 0), |stats| (stats.allocated, stats.active));
        let wasted = slab_pages.saturating_sub(slab_used) + heap_pages.saturating_sub(heap_used);
        Memory { used: slab_used + heap_used, wasted }
    }
}

struct Pass {
    compaction: Compaction,
    heap: Option<SparseHeap>,
    wasted_before: u64,
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
    /// Until when so much waste is left alone.
    hopeless: Option<(Instant, u64)>,
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
        let heap = &pass.heap;
        let mut is_sparse = |address: *const u8| heap.as_ref().is_some_and(|heap| heap.is_sparse(address));
        while !is_done && now.elapsed() < pass.cycle {
            is_done = pass.compaction.step(&server.engine.keyspace, ENTRIES_PER_STEP, &mut is_sparse);
        }
        server.defrag.hits.fetch_add(pass.compaction.moved - moved, Relaxed);
        server.defrag.misses.fetch_add(pass.compaction.kept - kept, Relaxed);
        server.defrag.current_ms.store(pass.started.elapsed().as_millis() as u64, Relaxed);
        if is_done {
            let before = pass.wasted_before;
            self.finish(server);
            allocator::purge();
            let left = Memory::measure(server).wasted;
            self.hopeless = (left > before / 4 * 3).then(|| (Instant::now() + HOPELESS_PERIOD, left + left / 8));
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
        let Memory { used, wasted } = Memory::measure(server);
        let percent = wasted * 100 / used.max(1);
        let (lower, upper) = (number("active-defrag-threshold-lower"), number("active-defrag-threshold-upper"));
        if wasted < number("active-defrag-ignore-bytes") || percent < lower {
            return;
        }
        if self.hopeless.is_some_and(|(until, bytes)| Instant::now() < until && wasted < bytes) {
            return;
        }
        let heap = SparseHeap::new();
        let Some(compaction) = keyspace.begin_compaction(lower as usize, heap.is_some()) else { return };
        let (min, max) = (number("active-defrag-cycle-min"), number("active-defrag-cycle-max"));
        let above = percent.min(upper).saturating_sub(lower);
        let effort = (min + max.saturating_sub(min) * above / upper.saturating_sub(lower).max(1)) as u32;
        let cycle = Duration::from_micros(number("active-defrag-cycle-us").max(100));
        server.defrag.running.store(u64::from(effort.max(1)), Relaxed);
        self.pass = Some(Pass { compaction, heap, wasted_before: wasted, started: Instant::now(), effort, cycle });
    }

    fn finish(&mut self, server: &Server) {
        if let Some(pass) = self.pass.take() {
            server.defrag.total_ms.fetch_add(pass.started.elapsed().as_millis() as u64, Relaxed);
            server.defrag.current_ms.store(0, Relaxed);
            server.defrag.running.store(0, Relaxed);
        }
    }
}

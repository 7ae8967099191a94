// SPDX-License-Identifier: BSD-3-Clause
//! Counters. Those of every command are kept per worker, written by that worker alone, and summed
//! when somebody reads them; rare ones are shared.

use crate::latency::{LatencyHistogram, percentiles};
use pando_commands::COMMAND_ID_COUNT;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with one writer: no read-modify-write instruction is needed.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owner may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value, from any thread.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// Counters of one command on one worker.
#[derive(Debug, Default)]
pub struct CommandCounters {
    pub(crate) calls: Counter,
    pub(crate) nanoseconds: Counter,
    pub(crate) rejected: Counter,
    pub(crate) failed: Counter,
    pub(crate) latency: LatencyHistogram,
}

/// A line of `INFO commandstats`.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct CommandStat {
    /// Executions.
    pub calls: u64,
    /// Time in them, in nanoseconds.
    pub nanoseconds: u64,
    /// Refused before execution.
    pub rejected: u64,
    /// Executions that answered with an error.
    pub failed: u64,
}

/// Counters of one worker.
#[derive(Debug)]
pub struct WorkerStats {
    pub(crate) commands: Box<[CommandCounters]>,
    pub(crate) total_commands: Counter,
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) expired: Counter,
    pub(crate) expired_fields: Counter,
    pub(crate) dirty: Counter,
}

impl WorkerStats {
    pub(crate) fn new() -> Self {
        Self {
            commands: (0..COMMAND_ID_COUNT).map(|_| CommandCounters::default()).collect(),
            total_commands: Counter::default(),
            hits: Counter::default(),
            misses: Counter::default(),
            expired: Counter::default(),
            expired_fields: Counter::default(),
            dirty: Counter::default(),
        }
    }
}

/// Sums over all workers.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Totals {
    /// Commands executed.
    pub commands: u64,
    /// Lookups for reading that found a key.
    pub keyspace_hits: u64,
    /// Lookups for reading that found none.
    pub keyspace_misses: u64,
    /// Keys deleted because they were past due (by commands; add those of the expire cycle).
    pub expired_keys: u64,
    /// Fields of hashes deleted because they were past due (by commands; add those of the expire cycle).
    pub expired_fields: u64,
    /// Changes, ever.
    pub dirty: u64,
    /// Nanoseconds in commands.
    pub commands_ns: u64,
}

/// More different codes than this are counted together, so that scripts cannot fill memory.
const ERROR_CODES_MAX: usize = 128;
const ERROR_OVERFLOW: &str = "ERRORSTATS_OVERFLOW";

/// All counters of the process that sessions write.
#[derive(Debug, Default)]
pub struct Stats {
    workers: Mutex<Vec<Arc<WorkerStats>>>,
    errors: Mutex<BTreeMap<String, u64>>,
    /// Error replies, ever.
    pub total_error_replies: AtomicU64,
    /// Connections accepted; the server counts.
    pub connections_received: AtomicU64,
    /// Keys deleted by the expire cycle; the server counts.
    pub expired_by_cycle: AtomicU64,
    /// Fields of hashes deleted by the expire cycle; the server counts.
    pub expired_fields_by_cycle: AtomicU64,
    /// Keys evicted.
    pub evicted_keys: AtomicU64,
}

impl Stats {
    pub(crate) fn register(&self) -> Arc<WorkerStats> {
        let stats = Arc::new(WorkerStats::new());
        self.workers.lock().push(stats.clone());
        stats
    }

    /// Counts an error reply by its code: the first word of `line` (without the `-`).
    pub fn count_error(&self, line: &[u8]) {
        self.total_error_replies.fetch_add(1, Relaxed);
        let code = line.split(|&b| b == b' ').next().unwrap_or(b"");
        let code = String::from_utf8_lossy(code);
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(&*code) {
            *count += 1;
        } else if errors.len() < ERROR_CODES_MAX {
            errors.insert(code.into_owned(), 1);
        } else {
            *errors.entry(ERROR_OVERFLOW.to_owned()).or_default() += 1;
        }
    }

    /// `INFO errorstats`.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// Counters of one command (by [`pando_commands::CommandSpec::id`]).
    pub fn command(&self, id: u16) -> CommandStat {
        let mut sum = CommandStat::default();
        for worker in self.workers.lock().iter() {
            let counters = &worker.commands[usize::from(id)];
            sum.calls += counters.calls.get();
            sum.nanoseconds += counters.nanoseconds.get();
            sum.rejected += counters.rejected.get();
            sum.failed += counters.failed.get();
        }
        sum
    }

    /// For each percentile the nanoseconds that so many executions of a command took at most; empty if none was
    /// measured.
    pub fn latency(&self, id: u16, wanted: &[f64]) -> Vec<u64> {
        let mut sums = Vec::new();
        for worker in self.workers.lock().iter() {
            worker.commands[usize::from(id)].latency.add_to(&mut sums);
        }
        percentiles(&sums, wanted)
    }

    /// Sums over all workers.
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for worker in self.workers.lock().iter() {
            sum.commands += worker.total_commands.get();
            sum.keyspace_hits += worker.hits.get();
            sum.keyspace_misses += worker.misses.get();
            sum.expired_keys += worker.expired.get();
            sum.expired_fields += worker.expired_fields.get();
            sum.dirty += worker.dirty.get();
            sum.commands_ns += worker.commands.iter().map(|counters| counters.nanoseconds.get()).sum::<u64>();
        }
        sum
    }

    /// CONFIG RESETSTAT. What workers count at this very moment may survive.
    pub fn reset(&self) {
        for worker in self.workers.lock().iter() {
            for counters in &worker.commands {
                counters.calls.reset();
                counters.nanoseconds.reset();
                counters.rejected.reset();
                counters.failed.reset();
                counters.latency.reset();
            }
            worker.total_commands.reset();
            worker.hits.reset();
            worker.misses.reset();
            worker.expired.reset();
            worker.expired_fields.reset();
        }
        self.errors.lock().clear();
        self.total_error_replies.store(0, Relaxed);
        self.connections_received.store(0, Relaxed);
        self.expired_by_cycle.store(0, Relaxed);
        self.expired_fields_by_cycle.store(0, Relaxed);
        self.evicted_keys.store(0, Relaxed);
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! The cron thread: deletes expired keys when they fall due, compacts memory, and samples rates while there is something
//! to sample. It sleeps until the next due time, and is woken when a key is given a nearer one, or by a worker that has
//! something to do when its rates are zero: an idle primary without expiring keys hardly wakes it.

use crate::defrag::Defrag;
use crate::server::Server;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Keys deleted in one step; a slot is held for a part of them only.
const KEYS_PER_STEP: usize = 256;
/// While deleting keeps up it rests as long as a step lasted. With a backlog older than this it does not rest.
const BACKLOG_MS: u64 = 50;
/// Samples are averaged over this many periods, as Valkey does.
const SAMPLES: usize = 16;
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);
/// Between two samples of the rates, while anything happens.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// The same when nothing happens: a worker calls when something does.
const IDLE_SLEEP: Duration = Duration::from_secs(10);
/// Between two looks whether this server may delete what is past due. Those that may not for long are replicas, and what
/// their primaries send calls nobody.
const FORBIDDEN_SLEEP: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct AlarmState {
    is_stopped: bool,
    is_rung: bool,
}

/// Wakes the cron thread or ends it.
#[derive(Debug, Default)]
pub struct Alarm {
    state: Mutex<AlarmState>,
    changed: Condvar,
    /// The thread sleeps long, because nothing happens.
    is_idle: AtomicBool,
}

/// How a sleep ended.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Woken {
    ByTime,
    ByRing,
    ToStop,
}

impl Alarm {
    /// Ends the thread.
    pub fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// Wakes the thread, or keeps it from its next sleep.
    pub fn ring(&self) {
        self.state.lock().is_rung = true;
        self.changed.notify_all();
    }

    /// A worker has something to do. Costs a look at a flag, unless nothing has happened for a while.
    pub fn note_activity(&self) {
        if self.is_idle.load(Relaxed) && self.is_idle.swap(false, Relaxed) {
            self.ring();
        }
    }

    fn sleep(&self, duration: Duration, is_idle: bool) -> Woken {
        self.is_idle.store(is_idle, Relaxed);
        let mut state = self.state.lock();
        if !state.is_stopped && !state.is_rung && !duration.is_zero() {
            self.changed.wait_for(&mut state, duration);
        }
        self.is_idle.store(false, Relaxed);
        let is_rung = std::mem::take(&mut state.is_rung);
        match (state.is_stopped, is_rung) {
            (true, _) => Woken::ToStop,
            (false, true) => Woken::ByRing,
            (false, false) => Woken::ByTime,
        }
    }
}

#[derive(Copy, Clone, Default)]
struct Sample {
    commands: u64,
    net_in: u64,
    net_out: u64,
    cycles: u64,
}

/// Averages over the last samples.
struct Sampler {
    last: Sample,
    last_at: Instant,
    /// Differences and their durations.
    window: VecDeque<(Sample, Duration)>,
}

impl Sampler {
    fn new() -> Sampler {
        Sampler { last: Sample::default(), last_at: Instant::now(), window: VecDeque::with_capacity(SAMPLES) }
    }

    /// True if anything happened lately. `is_first`: it began just now, after a long time without.
    fn sample(&mut self, server: &Server, is_first: bool) -> bool {
        let mut elapsed = self.last_at.elapsed();
        if elapsed < SAMPLE_PERIOD {
            return true;
        }
        if is_first {
            elapsed = SAMPLE_PERIOD;
        }
        let net = server.net_totals();
        let commands = server.engine.stats.totals().commands;
        let now = Sample { commands, net_in: net.net_in, net_out: net.net_out, cycles: net.cycles };
        let difference = Sample {
            commands: now.commands.saturating_sub(self.last.commands),
            net_in: now.net_in.saturating_sub(self.last.net_in),
            net_out: now.net_out.saturating_sub(self.last.net_out),
            cycles: now.cycles.saturating_sub(self.last.cycles),
        };
        self.last = now;
        self.last_at = Instant::now();
        if self.window.len() == SAMPLES {
            self.window.pop_front();
        }
        self.window.push_back((difference, elapsed));
        let time_ms: u64 = self.window.iter().map(|(_, time)| time.as_millis() as u64).sum::<u64>().max(1);
        let rate = |of: fn(&Sample) -> u64| self.window.iter().map(|(s, _)| of(s)).sum::<u64>() * 1000 / time_ms;
        server.rates.commands.store(rate(|s| s.commands), Relaxed);
        server.rates.net_in.store(rate(|s| s.net_in), Relaxed);
        server.rates.net_out.store(rate(|s| s.net_out), Relaxed);
        server.rates.cycles.store(rate(|s| s.cycles), Relaxed);
        self.window.iter().any(|(s, _)| s.commands + s.net_in + s.net_out > 0)
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Deletes some keys that are past due. Returns the time until it should be called again, if that is known.
fn expire(server: &Server) -> Option<Duration> {
    let engine = &server.engine;
    // Before the checks: a change after them is seen as another epoch.
    let epoch = engine.gate.epoch();
    // A replica waits for its primary's DEL; one that is being filled has nothing of its own to delete.
    if !server.active_expire.load(Relaxed)
        || engine.gate.role() != pando_session::Role::Primary
        || engine.gate.is_loading()
        || !engine.gate.may_write_now()
        || engine.gate.paused().is_some()
    {
        // Without a key that will ever be past due there is nothing to wait for: the first one rings.
        let due = if engine.gate.is_loading() { Some(0) } else { engine.keyspace.arm() };
        return due.map(|due| Duration::from_millis(due.saturating_sub(unix_ms())).max(FORBIDDEN_SLEEP));
    }
    let started = Instant::now();
    let now_ms = unix_ms();
    let step = engine.keyspace.expire_step(
        now_ms,
        KEYS_PER_STEP,
        // Asked under each slot's lock: after a change of role, which waits for all locks, nothing is deleted.
        &|| engine.gate.epoch() == epoch,
        &mut |slot, db, what, locked| engine.expired(slot, db, what, locked),
    );
    engine.stats.expired_by_cycle.fetch_add(step.expired as u64, Relaxed);
    engine.stats.expired_fields_by_cycle.fetch_add(step.expired_fields as u64, Relaxed);
    server.expire_lag.record(&step);
    let elapsed = started.elapsed();
    server.expire_lag.busy_us.fetch_add(elapsed.as_micros() as u64, Relaxed);
    if step.has_more {
        return Some(if step.lag_max_ms > BACKLOG_MS { Duration::ZERO } else { elapsed });
    }
    server.expire_lag.now_ms.store(0, Relaxed);
    engine.keyspace.arm().map(|due| Duration::from_millis(due.saturating_sub(unix_ms())).max(elapsed))
}

/// How late keys are deleted.
#[derive(Debug, Default)]
pub struct ExpireLag {
    /// In the last step; zero when nothing is past due.
    pub now_ms: AtomicU64,
    /// The longest since the counters were reset.
    pub max_ms: AtomicU64,
    /// Of all keys together.
    pub sum_ms: AtomicU64,
    /// Time spent on deleting.
    pub busy_us: AtomicU64,
}

impl ExpireLag {
    /// CONFIG RESETSTAT. The lag of this moment stays.
    pub fn reset(&self) {
        self.max_ms.store(0, Relaxed);
        self.sum_ms.store(0, Relaxed);
        self.busy_us.store(0, Relaxed);
    }

    fn record(&self, step: &pando_keyspace::ExpireStep) {
        self.now_ms.store(step.lag_max_ms, Relaxed);
        self.max_ms.fetch_max(step.lag_max_ms, Relaxed);
        self.sum_ms.fetch_add(step.lag_sum_ms, Relaxed);
    }
}

/// The thread's body.
pub fn run(server: &Arc<Server>) {
    let ringer = Arc::downgrade(server);
    server.engine.keyspace.on_nearer_due(Box::new(move || {
        if let Some(server) = ringer.upgrade() {
            server.cron.ring();
        }
    }));
    let mut sampler = Sampler::new();
    let mut defrag = Defrag::default();
    let mut is_active = true;
    let mut woken = Woken::ByTime;
    while woken != Woken::ToStop {
        let due = expire(server);
        let defrag_in = defrag.step(server);
        is_active = sampler.sample(server, !is_active && woken == Woken::ByRing);
        let longest = if is_active { LONGEST_SLEEP } else { IDLE_SLEEP };
        let sleep = [due, defrag_in].into_iter().flatten().fold(longest, Duration::min);
        woken = server.cron.sleep(sleep, !is_active);
    }
}

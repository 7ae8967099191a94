// SPDX-License-Identifier: BSD-3-Clause
//! The cron thread: deletes expired keys when they fall due and samples rates while there is something to sample. It
//! sleeps until the next due time; an idle server without expiring keys wakes it once a second at most, and not at all
//! once its rates are zero.

use crate::server::Server;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Keys deleted in one step, so that no slot is held for long.
const KEYS_PER_STEP: usize = 256;
/// Share of the time that deleting may take: rest at least this many times as long as a step lasted.
const REST_FACTOR: u32 = 3;
/// Samples are averaged over this many periods, as Valkey does.
const SAMPLES: usize = 16;
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);
/// Without a sleep longer than this, a due time that moved closer is noticed in time.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// The same when nothing happens.
const IDLE_SLEEP: Duration = Duration::from_secs(1);

/// Wakes the cron thread or ends it.
#[derive(Debug, Default)]
pub struct Alarm {
    is_stopped: Mutex<bool>,
    rung: Condvar,
}

impl Alarm {
    /// Ends the thread.
    pub fn stop(&self) {
        *self.is_stopped.lock() = true;
        self.rung.notify_all();
    }

    /// Wakes the thread.
    pub fn ring(&self) {
        self.rung.notify_all();
    }

    /// Sleeps; true if the thread is to end.
    fn sleep(&self, duration: Duration) -> bool {
        let mut stopped = self.is_stopped.lock();
        if !*stopped && !duration.is_zero() {
            self.rung.wait_for(&mut stopped, duration);
        }
        *stopped
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

    /// True if anything happened lately.
    fn sample(&mut self, server: &Server) -> bool {
        let elapsed = self.last_at.elapsed();
        if elapsed < SAMPLE_PERIOD {
            return true;
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

/// Deletes some keys that are past due. Returns the time until more are.
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
        return None;
    }
    let started = Instant::now();
    let now_ms = unix_ms();
    let step = engine.keyspace.expire_step(
        now_ms,
        KEYS_PER_STEP,
        // Asked under each slot's lock: after a change of role, which waits for all locks, nothing is deleted.
        &|| engine.gate.epoch() == epoch,
        &mut |slot, db, key, locked| engine.key_expired(slot, db, key, locked),
    );
    engine.stats.expired_by_cycle.fetch_add(step.expired as u64, Relaxed);
    let due_in = step.next_due_ms.map(|due| Duration::from_millis(due.saturating_sub(unix_ms())));
    due_in.map(|due| due.max(started.elapsed() * REST_FACTOR))
}

/// The thread's body.
pub fn run(server: &Arc<Server>) {
    let mut sampler = Sampler::new();
    loop {
        let due = expire(server);
        let is_active = sampler.sample(server);
        // Keys that get a due time before the next one do not ring: they wait for the end of this sleep at most.
        let longest = if is_active { LONGEST_SLEEP } else { IDLE_SLEEP };
        if server.cron.sleep(due.map_or(longest, |due| due.min(longest))) {
            return;
        }
    }
}

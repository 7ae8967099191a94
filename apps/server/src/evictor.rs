// SPDX-License-Identifier: BSD-3-Clause
//! The evictor thread: keeps memory below `maxmemory` ahead of the writers, and clients' buffers below
//! `maxmemory-clients`.
//!
//! It keeps as much room free as memory grows in a short time, so that writers seldom meet the limit, and spends at most
//! `eviction-cpu-budget` percent of one core. Without growth it keeps none: data that fits stays. Not here: who goes
//! (`pando-keyspace`), what a write at the limit does (`pando-session`).

use crate::os;
use crate::server::Server;
use pando_keyspace::EvictionPolicy;
use pando_session::{ClientKind, Evicting, Settings};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Sleep while memory is near the limit and grows.
const SHORT_SLEEP: Duration = Duration::from_millis(4);
/// Sleep while there is a limit.
const LONG_SLEEP: Duration = Duration::from_millis(100);
/// Sleep while nothing grows.
const QUIET_SLEEP: Duration = Duration::from_secs(1);
/// Sleep without one.
const IDLE_SLEEP: Duration = Duration::from_secs(60);
/// The rest of the process is measured this often, and more often near the limit.
const MEASURE_PERIOD: Duration = Duration::from_millis(100);
const MEASURE_PERIOD_NEAR: Duration = Duration::from_millis(20);
/// The room that is kept free is what memory grows in this time.
const LEAD: f64 = 0.012;
/// Parts of the limit that the room is at least (under growth) and at most.
const HEADROOM_PART_MIN: u64 = 1000;
const HEADROOM_PART_MAX: u64 = 50;
/// Growth is averaged over about this time.
const RATE_MEMORY: f64 = 0.2;
/// Victims between looks at the clock.
const VICTIMS_PER_LOOK: u32 = 16;
/// One stretch of work without a rest is no longer than this.
const STRETCH_MAX: Duration = Duration::from_micros(500);

/// Wakes the thread or ends it.
#[derive(Debug, Default)]
pub struct Bell {
    /// Rung since the last sleep: whoever rings then need not lock.
    is_rung: AtomicBool,
    is_stopped: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Ends the thread.
    pub fn stop(&self) {
        *self.is_stopped.lock() = true;
        self.changed.notify_all();
    }

    /// Has the thread look at memory soon. Cheap when it will anyway.
    pub fn ring(&self) {
        if !self.is_rung.swap(true, Relaxed) {
            // Under the lock, lest it falls between the sleeper's look at the flag and its sleep.
            let _stopped = self.is_stopped.lock();
            self.changed.notify_all();
        }
    }

    /// Sleeps; a rest does not end early. True if the thread is to end.
    fn sleep(&self, sleep: Sleep) -> bool {
        let mut stopped = self.is_stopped.lock();
        let until = Instant::now() + sleep.time;
        // Calls come with every write at the limit; one turn serves all of a short time.
        let earliest = if sleep.is_rest { until } else { until.min(Instant::now() + SHORT_SLEEP) };
        while !*stopped {
            let end = if self.is_rung.load(Relaxed) { earliest } else { until };
            if Instant::now() >= end {
                break;
            }
            self.changed.wait_until(&mut stopped, end);
        }
        self.is_rung.store(false, Relaxed);
        *stopped
    }
}

#[derive(Copy, Clone)]
struct Sleep {
    time: Duration,
    /// Owed to the CPU budget: a call does not end it.
    is_rest: bool,
}

/// What the thread remembers between turns.
struct Pace {
    last_at: Instant,
    /// Memory in use, and victims' bytes, at the last turn.
    last_used: u64,
    last_evicted: u64,
    /// Bytes per second.
    growth: f64,
    measured_at: Option<Instant>,
}

fn unix_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Pace {
    fn measure(&mut self, server: &Server, period: Duration) {
        if self.measured_at.is_none_or(|at| at.elapsed() >= period) {
            self.measured_at = Some(Instant::now());
            server.measure_memory();
        }
    }

    /// Takes part of the new growth into the average.
    fn note_growth(&mut self, used: u64, evicted: u64) {
        let seconds = self.last_at.elapsed().as_secs_f64();
        if seconds < 0.001 {
            return;
        }
        let grown = (used as f64 - self.last_used as f64 + evicted.wrapping_sub(self.last_evicted) as f64).max(0.0);
        let weight = (seconds / RATE_MEMORY).min(1.0);
        self.growth += (grown / seconds - self.growth) * weight;
        (self.last_at, self.last_used, self.last_evicted) = (Instant::now(), used, evicted);
    }

    fn headroom(&self, limit: u64) -> u64 {
        let wanted = (self.growth * LEAD) as u64;
        // Noise is no growth: an idle node at its limit gives nothing up.
        if wanted < 16 * 1024 { 0 } else { wanted.clamp(limit / HEADROOM_PART_MIN, limit / HEADROOM_PART_MAX) }
    }

    fn turn(&mut self, server: &Server) -> Sleep {
        let sleep = |time: Duration| Sleep { time, is_rest: false };
        let engine = &server.engine;
        let settings = engine.settings.load_full();
        if settings.maxmemory_clients > 0 {
            evict_clients(server, settings.maxmemory_clients);
        }
        let limit = settings.maxmemory;
        if limit == 0 {
            return sleep(if settings.maxmemory_clients > 0 { LONG_SLEEP } else { IDLE_SLEEP });
        }
        let is_near = engine.counted_memory() > limit - limit / 10;
        self.measure(server, if is_near { MEASURE_PERIOD_NEAR } else { MEASURE_PERIOD });
        let evicted = engine.eviction.evicted_bytes.load(Relaxed);
        let used = engine.counted_memory();
        self.note_growth(used, evicted);
        let headroom = self.headroom(limit);
        let target = limit - headroom;
        let (is_behind, spent) =
            if settings.maxmemory_policy != EvictionPolicy::NoEviction && engine.may_evict(&settings) {
                self.evict(server, &settings, target)
            } else {
                (false, Duration::ZERO)
            };
        let used = engine.counted_memory();
        engine.settle_memory(limit, used);
        let state = &engine.eviction;
        state.growth.store(self.growth as u64, Relaxed);
        state.headroom.store(headroom, Relaxed);
        state.lag_bytes.store(if is_behind { used.saturating_sub(target) } else { 0 }, Relaxed);
        // Writers call when they have used up the room: at nine tenths of the limit, then half way to it.
        let room = (limit - limit / 10).saturating_sub(used).max(limit.saturating_sub(used) / 2);
        engine.arm_memory(limit, room);
        if is_behind {
            let budget = settings.eviction_cpu_budget.clamp(1, 100);
            return Sleep { time: spent * (100 - budget) / budget, is_rest: true };
        }
        if headroom > 0 && used > limit - limit / 10 {
            return Sleep { time: SHORT_SLEEP, is_rest: true };
        }
        // Whoever writes much will call.
        let is_quiet = self.growth < 1.0 && used <= limit && settings.maxmemory_clients == 0;
        sleep(if is_quiet { QUIET_SLEEP } else { LONG_SLEEP })
    }

    /// Evicts down to the target for one stretch of time. Whether more is to be done, and the time that it took.
    fn evict(&self, server: &Server, settings: &Settings, target: u64) -> (bool, Duration) {
        let engine = &server.engine;
        let mut excess = engine.counted_memory().saturating_sub(target);
        if excess == 0 {
            return (false, Duration::ZERO);
        }
        let (started, now_ms) = (os::thread_cpu_time(), unix_ms());
        let mut victims = 0;
        let mut is_behind = false;
        while excess > 0 {
            let Some(freed) = engine.evict_one(settings, now_ms, Evicting::Background) else { break };
            victims += 1;
            excess = excess.saturating_sub(freed);
            if victims % VICTIMS_PER_LOOK == 0 {
                excess = engine.counted_memory().saturating_sub(target);
                if excess > 0 && os::thread_cpu_time().saturating_sub(started) >= STRETCH_MAX {
                    is_behind = true;
                    break;
                }
            }
        }
        let spent = os::thread_cpu_time().saturating_sub(started);
        engine.eviction.background_us.fetch_add(spent.as_micros() as u64, Relaxed);
        (is_behind, spent)
    }
}

/// Closes the clients with the largest buffers until all together are below the limit, as Valkey does: replicas and
/// primaries do not count; those under CLIENT NO-EVICT count and stay.
fn evict_clients(server: &Server, limit: u64) {
    let engine = &server.engine;
    let all = engine.clients.all();
    let counted = all.iter().filter(|client| client.kind() == ClientKind::Normal && !client.killed.load(Relaxed));
    let mut total = 0;
    let mut clients: Vec<(u64, u64)> = Vec::new();
    for client in counted {
        let bytes = client.memory_bytes();
        total += bytes;
        if bytes > 0 && !client.is_no_evict.load(Relaxed) {
            clients.push((bytes, client.id));
        }
    }
    if total <= limit {
        return;
    }
    clients.sort_unstable_by(|a, b| b.cmp(a));
    for (bytes, id) in clients {
        if total <= limit {
            return;
        }
        if engine.kill(id) {
            tracing::info!("Evicting client: id={id} tot-mem={bytes}");
            engine.eviction.evicted_clients.fetch_add(1, Relaxed);
        }
        total -= bytes;
    }
}

/// The thread's body.
pub fn run(server: &Arc<Server>) {
    // Where cores are short, workers go first: they can evict for themselves.
    os::lower_priority();
    let mut pace = Pace { last_at: Instant::now(), last_used: 0, last_evicted: 0, growth: 0.0, measured_at: None };
    pace.last_used = server.engine.counted_memory();
    loop {
        let sleep = pace.turn(server);
        if server.evictor.sleep(sleep) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::Instant;

    #[test]
    fn headroom_follows_growth() {
        let limit = 1 << 30;
        for (growth, expected) in [
            (0.0, 0),
            (100_000.0, 0),
            (2_000_000.0, limit / 1000),
            (100_000_000.0, 1_200_000),
            (10_000_000_000.0, limit / 50),
        ] {
            let pace = Pace { last_at: Instant::now(), last_used: 0, last_evicted: 0, growth, measured_at: None };
            assert_eq!(pace.headroom(limit), expected, "{growth}");
        }
    }
}

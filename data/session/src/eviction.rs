// SPDX-License-Identifier: BSD-3-Clause
//! The memory limit: how much is in use, room for a write, and what the eviction of a key entails.
//!
//! Memory in use is what the keyspace counts, which is cheap and current, plus the rest of the process, which the
//! background thread measures now and then. Far from the limit a write looks at one flag: the keyspace's alarm, armed
//! with the room that is left. Not here: who is chosen (`pando-keyspace`), the thread and its pace (apps/server).

use crate::engine::Engine;
use crate::gate::Role;
use crate::settings::Settings;
use pando_commands::EventClass;
use pando_keyspace::{DbIndex, EvictionPolicy, Evictor, LockedSlots};
use pando_resp::encode_command;
use pando_topology::Slot;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Threads that may choose victims at once.
const EVICTORS: usize = 4;
/// Victims between looks at the clock and at all counters.
const VICTIMS_PER_LOOK: u32 = 8;
/// A write evicts no more keys than this, even if they are less than what it brings.
const VICTIMS_MAX: u32 = 1024;
/// A write that brings more than it could evict is let in up to this part of the limit above it.
const SLACK_PART: u64 = 200;
/// With less room than this, arming the alarm costs more than adding up the counters.
const ROOM_WORTH_ARMING: u64 = 64 * 1024;

/// Who evicts.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Evicting {
    /// The background thread, ahead of need. One thread only.
    Background,
    /// A write that found no room.
    Write,
}

/// The state of eviction. The counters are for INFO; whoever does something writes them.
#[derive(Debug, Default)]
pub struct Eviction {
    /// The first is the background's. A writer takes any that is free: it must not wait for a background thread that
    /// was put aside while it held one.
    evictors: [Mutex<Evictor>; EVICTORS],
    /// Memory that counts beside the keyspace's; may be negative when the keyspace frees in the background.
    overhead: AtomicI64,
    /// The limit that the keyspace's alarm is armed for.
    armed_limit: AtomicU64,
    /// Above this writes are refused: the limit and a little, or what was in use when the limit was lowered.
    ceiling: AtomicU64,
    /// Since when memory is above the limit, in microseconds of `epoch`; 0 when it is not.
    exceeded_since_us: AtomicU64,
    exceeded_total_us: AtomicU64,
    /// Bytes of all victims, ever.
    pub evicted_bytes: AtomicU64,
    /// Keys that writers evicted themselves, because the background had not made room.
    pub evicted_by_writers: AtomicU64,
    /// Clients closed because of `maxmemory-clients`.
    pub evicted_clients: AtomicU64,
    /// Time that the background thread used, in microseconds.
    pub background_us: AtomicU64,
    /// Room that the background keeps free at present, in bytes.
    pub headroom: AtomicU64,
    /// How fast memory grows, victims added, in bytes per second.
    pub growth: AtomicU64,
    /// Bytes by which the background is behind.
    pub lag_bytes: AtomicU64,
}

fn monotonic_us() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// How long a write may evict (`maxmemory-eviction-tenacity`), as in Valkey: up to 0.5 ms at the default of 10.
fn time_limit(tenacity: u32) -> Option<Duration> {
    match tenacity {
        0..=10 => Some(Duration::from_micros(50 * u64::from(tenacity))),
        11..=99 => Some(Duration::from_micros((500.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64)),
        _ => None,
    }
}

impl Eviction {
    /// Tells what the whole process uses, without what does not count for eviction; `keyspace` is what the keyspace
    /// counted at the same time.
    pub fn measured(&self, counted: u64, keyspace: u64) {
        self.overhead.store(counted as i64 - keyspace as i64, Relaxed);
    }

    /// Whether a write certainly has room. Cheap.
    #[inline]
    pub(crate) fn has_room(&self, engine: &Engine, limit: u64) -> bool {
        self.armed_limit.load(Relaxed) == limit && !engine.keyspace.memory_alarm()
    }

    /// Notes whether memory is above the limit, for `total_eviction_exceeded_time`.
    fn note_exceeded(&self, is_exceeded: bool) {
        let since = self.exceeded_since_us.load(Relaxed);
        if is_exceeded && since == 0 {
            self.exceeded_since_us.store(monotonic_us(), Relaxed);
        } else if !is_exceeded && since != 0 && self.exceeded_since_us.swap(0, Relaxed) == since {
            self.exceeded_total_us.fetch_add(monotonic_us().saturating_sub(since), Relaxed);
        }
    }

    /// Milliseconds above the limit: in all, and since memory was last below it.
    pub fn exceeded_ms(&self) -> (u64, u64) {
        let since = self.exceeded_since_us.load(Relaxed);
        let current = if since == 0 { 0 } else { monotonic_us().saturating_sub(since) };
        ((self.exceeded_total_us.load(Relaxed) + current) / 1000, current / 1000)
    }

    /// CONFIG RESETSTAT.
    pub fn reset_stats(&self) {
        self.exceeded_total_us.store(0, Relaxed);
        if self.exceeded_since_us.load(Relaxed) != 0 {
            self.exceeded_since_us.store(monotonic_us(), Relaxed);
        }
        self.evicted_by_writers.store(0, Relaxed);
        self.evicted_clients.store(0, Relaxed);
    }
}

impl Engine {
    /// Memory in use as far as the limit is concerned: current for the keyspace, for the rest as last measured.
    pub fn counted_memory(&self) -> u64 {
        (self.keyspace.used_bytes() as i64 + self.eviction.overhead.load(Relaxed)).max(0) as u64
    }

    /// Whether this node evicts at this moment. If not, the limit holds nobody back either.
    pub fn may_evict(&self, settings: &Settings) -> bool {
        let is_left_to_the_primary = settings.replica_ignore_maxmemory && self.gate.role() == Role::Replica;
        let is_open = !self.gate.is_loading() && self.gate.paused().is_none() && self.gate.may_write_now();
        !is_left_to_the_primary && is_open
    }

    /// The limit or what follows from it was changed: the next write looks anew.
    pub fn memory_limit_changed(&self, limit: u64) {
        self.eviction.armed_limit.store(0, Relaxed);
        self.eviction.ceiling.store(if limit == 0 { 0 } else { self.counted_memory() }, Relaxed);
        if limit == 0 {
            self.eviction.note_exceeded(false);
        }
    }

    /// Lets writers grow the keyspace by `room` before they look at the limit.
    pub fn arm_memory(&self, limit: u64, room: u64) {
        if room < ROOM_WORTH_ARMING {
            // Armed without room, the alarm would let one more write pass.
            self.eviction.armed_limit.store(0, Relaxed);
            return;
        }
        self.keyspace.arm_memory_alarm(room);
        self.eviction.armed_limit.store(limit, Relaxed);
    }

    /// Called by the background thread after it evicted: brings what is reported, and the ceiling, up to date.
    pub fn settle_memory(&self, limit: u64, used: u64) {
        self.eviction.note_exceeded(used > limit);
        // A lowered limit is reached step by step, and what was evicted is not given back.
        self.eviction.ceiling.fetch_min(used.max(limit).saturating_add(limit / SLACK_PART), Relaxed);
    }

    /// Makes room for a write that brings about `incoming` bytes; false if it must be refused (OOM). The caller holds no
    /// slot. Evicts for a bounded time; usually the background thread has made room before.
    pub(crate) fn make_room(&self, settings: &Settings, incoming: u64, now_ms: u64) -> bool {
        let limit = settings.maxmemory;
        if limit == 0 || self.eviction.has_room(self, limit) || !self.may_evict(settings) {
            return true;
        }
        let used = self.counted_memory();
        let can_evict = settings.maxmemory_policy != EvictionPolicy::NoEviction;
        if let Some(host) = self.host.get().filter(|_| can_evict) {
            host.wake_evictor();
        }
        if used.saturating_add(incoming) <= limit {
            let room = limit - used;
            if room >= ROOM_WORTH_ARMING {
                self.arm_memory(limit, room);
            }
            return true;
        }
        if !can_evict {
            self.eviction.note_exceeded(used > limit);
            return used <= limit;
        }
        let started = Instant::now();
        let time_limit = time_limit(settings.maxmemory_eviction_tenacity);
        let mut excess = used.saturating_add(incoming) - limit;
        let (mut victims, mut freed_bytes) = (0, 0);
        loop {
            let Some(freed) = self.evict_one(settings, now_ms, Evicting::Write) else {
                let used = self.counted_memory();
                self.eviction.note_exceeded(used > limit);
                return used <= limit;
            };
            victims += 1;
            freed_bytes += freed;
            excess = excess.saturating_sub(freed);
            if excess == 0 {
                break;
            }
            if victims % VICTIMS_PER_LOOK == 0 {
                // Others evict and write meanwhile.
                excess = self.counted_memory().saturating_add(incoming).saturating_sub(limit);
                let is_late = || time_limit.is_some_and(|limit| started.elapsed() >= limit);
                if excess == 0 || (freed_bytes >= incoming && is_late()) || victims >= VICTIMS_MAX {
                    break;
                }
            }
        }
        self.eviction.evicted_by_writers.fetch_add(u64::from(victims), Relaxed);
        if excess == 0 {
            self.eviction.note_exceeded(false);
            return true;
        }
        let used = self.counted_memory();
        self.eviction.note_exceeded(used > limit);
        if freed_bytes >= incoming {
            // Not back at the limit yet, but no farther from it either, whatever took the memory.
            return true;
        }
        used <= self.eviction.ceiling.load(Relaxed).max(limit.saturating_add(limit / SLACK_PART))
    }

    /// Evicts one key by the policy of the settings, with all that follows from it. The bytes that the keyspace counts
    /// less; `None` if no key may go. The caller holds no slot.
    pub fn evict_one(&self, settings: &Settings, now_ms: u64, by: Evicting) -> Option<u64> {
        let [first, others @ ..] = &self.eviction.evictors;
        let mut evictor = match by {
            Evicting::Background => first.lock(),
            Evicting::Write => others.iter().find_map(Mutex::try_lock).unwrap_or_else(|| others[0].lock()),
        };
        evictor.configure(settings.maxmemory_policy, settings.maxmemory_samples);
        let gone = evictor.evict_one(&self.keyspace, now_ms, &mut |slot, db, key, locked| {
            self.key_evicted(settings, slot, db, key, locked);
        });
        drop(evictor);
        let gone = gone?;
        self.eviction.evicted_bytes.fetch_add(gone.bytes, Relaxed);
        if let Some(garbage) = gone.garbage {
            if settings.lazyfree_lazy_eviction {
                self.drop_later(vec![garbage]);
            } else {
                drop(garbage);
            }
        }
        Some(gone.bytes)
    }

    /// A key was evicted, under its slot's lock: log, watchers, event, counter.
    fn key_evicted(&self, settings: &Settings, slot: Slot, db: DbIndex, key: &[u8], locked: &mut LockedSlots<'_>) {
        self.stats.evicted_keys.fetch_add(1, Relaxed);
        // A replica that keeps a limit of its own evicts for itself: its log is its primary's.
        if let Some(log) = self.active_log()
            && self.gate.role() == Role::Primary
        {
            let mut record = Vec::with_capacity(key.len() + 32);
            let name: &[u8] = if settings.lazyfree_lazy_eviction { b"UNLINK" } else { b"DEL" };
            encode_command(&mut record, &[name, key]);
            let offset = log.append(db, &record);
            locked.set_write_offset(slot, offset);
        }
        if self.watchers.any() {
            locked.touch_watchers(slot, db, key);
        }
        if settings.notify_keyspace_events.has(EventClass::EVICTED) && !self.pubsub.is_empty() {
            self.notify_event(EventClass::EVICTED, "evicted", db, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::time_limit;
    use std::time::Duration;

    #[test]
    fn tenacity_is_valkeys() {
        for (tenacity, expected_us) in
            [(0, Some(0)), (1, Some(50)), (10, Some(500)), (11, Some(575)), (20, Some(2022)), (100, None)]
        {
            assert_eq!(time_limit(tenacity), expected_us.map(Duration::from_micros), "{tenacity}");
        }
    }
}

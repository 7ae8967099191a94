// SPDX-License-Identifier: BSD-3-Clause
//! Who is evicted: an approximation of each of Valkey's policies by sampling, with a pool of the best candidates so far.
//!
//! One sample looks at a few entries of one slot under its lock; slots are chosen by how many keys they hold. What came
//! into the pool is judged again before it goes, so a key that was used since stays. Not here: when and how much to
//! evict, and who is told (the session). Called by `pando-session`.

use crate::clock::{TICK_MS, random};
use crate::entry::Entry;
use crate::keyspace::Keyspace;
use crate::locked::LockedSlots;
use crate::slot::DbData;
use crate::table::hash_key;
use crate::{DbIndex, Garbage};
use pando_topology::{SLOT_COUNT, Slot};

/// Candidates that are remembered. Valkey remembers 16; more cost little and come closer to the true order.
const POOL_LEN: usize = 32;
/// Entries looked at for each that `maxmemory-samples` asks for: neighbours in a table, fetched at once, cost little, and
/// twice as many come closer to the true order than Valkey does.
const SAMPLES_FACTOR: usize = 2;
/// Victims after which the slots are weighed again.
const PLAN_USES: u32 = 4096;
/// Samples and candidates that one victim may cost: bounds the work when hardly any key may go.
const ATTEMPTS: usize = 128;
/// Values of at least this many bytes are handed back, to be freed elsewhere.
const HEAVY_BYTES: usize = 64 * 1024;
/// Slots that may turn out to be empty before they are weighed again.
const SLOTS_TRIED_MIN: usize = 8;

/// `maxmemory-policy`.
#[allow(missing_docs)]
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum EvictionPolicy {
    #[default]
    NoEviction,
    AllkeysLru,
    AllkeysLfu,
    AllkeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
}

impl EvictionPolicy {
    /// By Valkey's name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "noeviction" => Self::NoEviction,
            "allkeys-lru" => Self::AllkeysLru,
            "allkeys-lfu" => Self::AllkeysLfu,
            "allkeys-random" => Self::AllkeysRandom,
            "volatile-lru" => Self::VolatileLru,
            "volatile-lfu" => Self::VolatileLfu,
            "volatile-random" => Self::VolatileRandom,
            "volatile-ttl" => Self::VolatileTtl,
            _ => return None,
        })
    }

    fn is_volatile(self) -> bool {
        matches!(self, Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl)
    }

    fn is_random(self) -> bool {
        matches!(self, Self::AllkeysRandom | Self::VolatileRandom)
    }
}

/// Told of each victim, after it is gone, under its slot's lock.
pub type EvictedSink<'s> = dyn FnMut(Slot, DbIndex, &[u8], &mut LockedSlots<'_>) + 's;

/// What the eviction of one key gave.
#[derive(Debug)]
pub struct Evicted {
    /// Bytes that the keyspace counts less.
    pub bytes: u64,
    /// A large value: dropping it frees the memory, which takes a while.
    pub garbage: Option<Garbage>,
}

struct Candidate {
    /// Larger goes first. Grows with time at most, unless the key is used.
    score: u64,
    slot: Slot,
    db: DbIndex,
    key: Vec<u8>,
}

/// How likely each slot of a database is to be sampled: running sums of keys.
struct Plan {
    db: DbIndex,
    sums: Vec<u64>,
}

/// Chooses victims. One per thread that evicts, or shared under a lock.
#[derive(Default)]
pub struct Evictor {
    policy: EvictionPolicy,
    samples: usize,
    /// By score, best last.
    pool: Vec<Candidate>,
    spare: Vec<Vec<u8>>,
    plans: Vec<Plan>,
    plan_uses: u32,
}

impl std::fmt::Debug for Evictor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evictor").field("policy", &self.policy).field("pool", &self.pool.len()).finish_non_exhaustive()
    }
}

impl Evictor {
    /// Follows `maxmemory-policy` and `maxmemory-samples`; cheap when they did not change.
    pub fn configure(&mut self, policy: EvictionPolicy, samples: usize) {
        if policy != self.policy {
            self.policy = policy;
            self.pool.clear();
            self.plan_uses = 0;
        }
        self.samples = samples.max(1) * SAMPLES_FACTOR;
    }

    /// Evicts one key; `None` when none was found that may go. Takes one slot's lock at a time, each for a few entries:
    /// the caller must hold none.
    pub fn evict_one(&mut self, keyspace: &Keyspace, now_ms: u64, evicted: &mut EvictedSink<'_>) -> Option<Evicted> {
        if self.policy == EvictionPolicy::NoEviction {
            return None;
        }
        for _ in 0..ATTEMPTS {
            if self.plan_uses == 0 {
                self.weigh(keyspace);
                self.plan_uses = PLAN_USES;
            }
            self.plan_uses -= 1;
            // Small slots do not hold a whole sample: several make one.
            let wanted = if self.policy.is_random() { 1 } else { self.samples };
            let mut seen = 0;
            for _ in 0..wanted.max(SLOTS_TRIED_MIN) {
                let Some((db, slot)) = self.choose_slot() else { break };
                seen += self.sample(keyspace, db, slot, wanted - seen, now_ms);
                if seen >= wanted {
                    break;
                }
            }
            if seen == 0 {
                if self.pool.is_empty() && self.plan_uses == PLAN_USES - 1 {
                    return None;
                }
                // Keys went and came since the slots were weighed.
                self.plan_uses = 0;
            }
            let Some(candidate) = self.pool.pop() else { continue };
            let result = self.evict(keyspace, &candidate, now_ms, evicted);
            match result {
                Verdict::Gone(gone) => {
                    self.recycle(candidate);
                    return Some(gone);
                }
                Verdict::Used(score) => self.remember(score, candidate.slot, candidate.db, &candidate.key),
                Verdict::Missing => self.recycle(candidate),
            }
        }
        None
    }

    fn recycle(&mut self, candidate: Candidate) {
        let mut key = candidate.key;
        // The buffer of a huge key is not worth keeping.
        if key.capacity() <= 1024 && self.spare.len() < POOL_LEN {
            key.clear();
            self.spare.push(key);
        }
    }

    /// Weighs the slots by their keys. For the volatile policies those without expire buckets weigh nothing.
    fn weigh(&mut self, keyspace: &Keyspace) {
        self.plans.clear();
        for db in 0..keyspace.databases() {
            if keyspace.is_empty(db) {
                continue;
            }
            let mut sum = 0;
            let sums: Vec<u64> = (0..SLOT_COUNT)
                .map(|slot| {
                    if !self.policy.is_volatile() || keyspace.due_ms(slot) != u64::MAX {
                        sum += u64::from(keyspace.count(slot, db));
                    }
                    sum
                })
                .collect();
            if sum > 0 {
                self.plans.push(Plan { db, sums });
            }
        }
    }

    fn choose_slot(&self) -> Option<(DbIndex, Slot)> {
        let total = |plan: &Plan| plan.sums.last().copied().unwrap_or(0);
        let all: u64 = self.plans.iter().map(total).sum();
        let mut at = random() % all.max(1);
        for plan in &self.plans {
            if at < total(plan) {
                let slot = plan.sums.partition_point(|&sum| sum <= at);
                return Slot::new(slot as u16).map(|slot| (plan.db, slot));
            }
            at -= total(plan);
        }
        None
    }

    /// Looks at up to `count` entries of the slot and remembers the best; returns how many there were.
    fn sample(&mut self, keyspace: &Keyspace, db: DbIndex, slot: Slot, count: usize, now_ms: u64) -> usize {
        let mut guard = keyspace.lock_one(slot);
        let Some(data) = guard.state.data(keyspace, slot.index()).db(db) else { return 0 };
        let (policy, random) = (self.policy, random());
        let mut seen = 0;
        let mut visit = |entry: Entry| {
            seen += 1;
            self.remember(score(policy, keyspace, entry, now_ms), slot, db, entry.key());
        };
        if !policy.is_volatile() {
            data.table.sample(random, count, &mut visit);
            return seen;
        }
        let mut by_hash = |hash: u32| {
            if let Some(place) = data.table.find_by(hash, |entry| entry.expire_at().is_some()) {
                visit(data.table.entry(place));
            }
        };
        if let Some(expiry) = data.expiry() {
            expiry.sample(random, count, policy == EvictionPolicy::VolatileTtl, &mut by_hash);
        }
        seen
    }

    fn remember(&mut self, score: u64, slot: Slot, db: DbIndex, key: &[u8]) {
        let is_full = self.pool.len() == POOL_LEN;
        if is_full && self.pool[0].score >= score {
            return;
        }
        let at = self.pool.partition_point(|candidate| candidate.score < score);
        let is_known = |candidate: &&Candidate| candidate.score == score;
        if self.pool[at..].iter().take_while(is_known).any(|c| c.slot == slot && c.db == db && c.key == key) {
            return;
        }
        if is_full {
            let worst = &mut self.pool[0];
            (worst.score, worst.slot, worst.db) = (score, slot, db);
            worst.key.clear();
            worst.key.extend_from_slice(key);
            self.pool[..at].rotate_left(1);
            return;
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.extend_from_slice(key);
        self.pool.insert(at, Candidate { score, slot, db, key: copy });
    }

    fn evict(&self, keyspace: &Keyspace, candidate: &Candidate, now_ms: u64, evicted: &mut EvictedSink<'_>) -> Verdict {
        let Candidate { slot, db, ref key, .. } = *candidate;
        let mut guard = keyspace.lock_one(slot);
        guard.set_now(now_ms);
        let Some(data) = guard.state.data(keyspace, slot.index()).db(db) else { return Verdict::Missing };
        let Some(place) = data.table.find(hash_key(key), key) else { return Verdict::Missing };
        let entry = data.table.entry(place);
        if self.policy.is_volatile() && entry.expire_at().is_none() {
            return Verdict::Missing;
        }
        let score = score(self.policy, keyspace, entry, now_ms);
        if score < candidate.score && self.pool.last().is_some_and(|next| next.score > score) {
            return Verdict::Used(score);
        }
        let before = DbData::bytes(data);
        let heavy = entry.bytes() >= HEAVY_BYTES;
        let mut garbage = None;
        if heavy {
            garbage = guard.db(db).take_value(key).map(|owned| Garbage::of_value(owned.value));
        } else {
            guard.db(db).remove(key);
        }
        let after = guard.state.data(keyspace, slot.index()).db(db).map_or(0, DbData::bytes);
        evicted(slot, db, key, &mut guard);
        Verdict::Gone(Evicted { bytes: before.saturating_sub(after) as u64, garbage })
    }
}

enum Verdict {
    Gone(Evicted),
    /// It was used since it was sampled, and others are better.
    Used(u64),
    Missing,
}

/// How much the entry deserves to go. A point in time, not a span, so that candidates of different moments compare.
fn score(policy: EvictionPolicy, keyspace: &Keyspace, entry: Entry, now_ms: u64) -> u64 {
    let access = keyspace.policy();
    match policy {
        EvictionPolicy::AllkeysLru | EvictionPolicy::VolatileLru => {
            let used_ms = now_ms.saturating_sub(access.idle_ms(entry.access(), now_ms));
            // Whole ticks, whatever the moment of the look.
            u64::MAX - used_ms / TICK_MS
        }
        EvictionPolicy::AllkeysLfu | EvictionPolicy::VolatileLfu => {
            255 - u64::from(access.freq(entry.access(), now_ms))
        }
        EvictionPolicy::VolatileTtl => u64::MAX - entry.expire_at().unwrap_or(u64::MAX),
        EvictionPolicy::AllkeysRandom | EvictionPolicy::VolatileRandom | EvictionPolicy::NoEviction => 0,
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! The 24-bit access clock of an entry: quarters of a second at the last access (LRU; Valkey counts seconds, which tell
//! less in a cache that turns over quickly), or minutes and a counter (LFU), as in Valkey.
//!
//! Not here: where it is stored (`entry`), who is evicted. Called by `db`.

use std::cell::Cell;

const MASK: u32 = 0xff_ffff;
pub(crate) const TICK_MS: u64 = 250;
/// Where Valkey starts the counter of a new key.
const LFU_START: u32 = 5;

/// How accesses are recorded.
#[derive(Copy, Clone, Debug)]
pub(crate) struct AccessPolicy {
    pub(crate) lfu: bool,
    pub(crate) lfu_log_factor: u32,
    pub(crate) lfu_decay_minutes: u32,
}

/// A fast, bad random number for sampling decisions.
pub(crate) fn random() -> u64 {
    thread_local!(static STATE: Cell<u64> = Cell::new(u64::from(crate::table::hash_key(b"seed")) << 1 | 1));
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

fn minutes(now_ms: u64) -> u32 {
    (now_ms / 60_000) as u32 & 0xffff
}

fn ticks(now_ms: u64) -> u32 {
    (now_ms / TICK_MS) as u32 & MASK
}

/// The LRU clock of a key that has been idle so long; 48 days are the most it can tell.
pub(crate) fn idle_since(idle_s: u64, now_ms: u64) -> u32 {
    let idle_ms = idle_s.saturating_mul(1000).min(u64::from(MASK) * TICK_MS);
    ticks(now_ms.saturating_sub(idle_ms))
}

impl AccessPolicy {
    pub(crate) fn fresh(&self, now_ms: u64) -> u32 {
        if self.lfu { minutes(now_ms) << 8 | LFU_START } else { ticks(now_ms) }
    }

    pub(crate) fn touched(&self, access: u32, now_ms: u64) -> u32 {
        if !self.lfu {
            return ticks(now_ms);
        }
        let mut counter = u32::from(self.freq(access, now_ms));
        if counter < 255 {
            let excess = counter.saturating_sub(LFU_START);
            let odds = u64::from(excess) * u64::from(self.lfu_log_factor) + 1;
            if random().is_multiple_of(odds) {
                counter += 1;
            }
        }
        minutes(now_ms) << 8 | counter
    }

    pub(crate) fn freq(&self, access: u32, now_ms: u64) -> u8 {
        let counter = access & 255;
        let elapsed = minutes(now_ms).wrapping_sub(access >> 8) & 0xffff;
        let periods = elapsed.checked_div(self.lfu_decay_minutes).unwrap_or(0);
        counter.saturating_sub(periods) as u8
    }

    /// Time since the last access, in ticks of the clock; zero under LFU.
    pub(crate) fn idle_ms(&self, access: u32, now_ms: u64) -> u64 {
        if self.lfu { 0 } else { u64::from(ticks(now_ms).wrapping_sub(access) & MASK) * TICK_MS }
    }

    pub(crate) fn idle_s(&self, access: u32, now_ms: u64) -> u64 {
        self.idle_ms(access, now_ms) / 1000
    }
}

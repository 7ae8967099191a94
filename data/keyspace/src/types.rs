// SPDX-License-Identifier: BSD-3-Clause
//! Plain values that go in and out of the keyspace.
//!
//! Not here: anything with behaviour. Called by everyone who uses the keyspace.

use pando_values::{Encoding, Value, ValueType};

/// Number of a database.
pub type DbIndex = u16;

/// What a keyspace is made with.
#[derive(Clone, Debug)]
pub struct KeyspaceConfig {
    /// How many databases there are.
    pub databases: DbIndex,
    /// LFU instead of LRU access clocks.
    pub lfu: bool,
    /// `lfu-log-factor`.
    pub lfu_log_factor: u32,
    /// `lfu-decay-time`.
    pub lfu_decay_minutes: u32,
}

impl Default for KeyspaceConfig {
    fn default() -> Self {
        Self { databases: 16, lfu: false, lfu_log_factor: 10, lfu_decay_minutes: 1 }
    }
}

/// What a write does with the key's TTL.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Ttl {
    /// Leaves it.
    Keep,
    /// Removes it.
    Clear,
    /// Due at this time, in Unix milliseconds.
    At(u64),
}

/// What a write met.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct SetOutcome {
    /// The key was live before.
    pub existed: bool,
}

/// What a change of a collection came to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct EditedTyped<R> {
    /// What the change returned.
    pub result: R,
    /// Nothing was left, so the key is gone.
    pub is_emptied: bool,
}

/// What is known about a key besides its value.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Meta {
    /// `TYPE`.
    pub type_: ValueType,
    /// `OBJECT ENCODING`.
    pub encoding: Encoding,
    /// When it is due, in Unix milliseconds.
    pub expire_at: Option<u64>,
    /// Seconds since the last access; zero under LFU.
    pub idle_s: u64,
    /// The LFU counter; meaningless under LRU.
    pub lfu_freq: u8,
    /// Bytes of the entry, of what it points to, and of its share of the table (`MEMORY USAGE`).
    pub bytes: usize,
}

impl Meta {
    /// Whether it is past due at this time.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.expire_at.is_some_and(|at_ms| at_ms <= now_ms)
    }
}

/// A value outside the keyspace, with what moves along with it.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedEntry {
    /// The value.
    pub value: Value,
    /// When it is due, in Unix milliseconds.
    pub expire_at: Option<u64>,
    /// The access clock.
    pub access: u32,
}

/// What clients did in one slot, as far as it was counted.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct SlotUsage {
    /// Time of their commands.
    pub cpu_us: u64,
    /// Their requests.
    pub bytes_in: u64,
    /// Their replies.
    pub bytes_out: u64,
}

/// Numbers of one database for `INFO keyspace`.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct DbStats {
    /// Keys, past-due ones included.
    pub keys: u64,
    /// Keys with a TTL.
    pub volatile: u64,
    /// Mean remaining time of keys with a TTL.
    pub avg_ttl_ms: u64,
    /// Hashes with fields that have a time.
    pub with_volatile_fields: u64,
}

/// What a step of active expiry did.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct ExpireStep {
    /// Keys that were removed because they were due.
    pub expired: usize,
    /// Fields of hashes that were removed.
    pub expired_fields: usize,
    /// The budget ran out: there is more to do now.
    pub has_more: bool,
    /// How long after their due times the keys were removed: the longest, and all together.
    pub lag_max_ms: u64,
    /// See `lag_max_ms`.
    pub lag_sum_ms: u64,
}

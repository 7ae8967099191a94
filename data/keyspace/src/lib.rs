// SPDX-License-Identifier: BSD-3-Clause
//! The keyspace: 16384 independently locked slots and everything that is stored in them.
//!
//! ```text
//! Keyspace ─ slots ─► SlotCell: lock + SlotData ─ one DbData per database ─► Table (64-byte buckets) ─► Entry (slab)
//!     └ LockedSlots (guard) ─ Db (keys)                            └► Expiry (expire buckets)
//! ```
//! Any thread may take any slot; nothing here knows commands, sockets, the log or the clock (callers say what time it
//! is). `unsafe` is in `entry`, `lock`, `slot`, where `locked` and `keyspace` take and give back locks, and where `compact`
//! changes entries of a locked slot.
//! Called by `pando-commands`, `pando-session`, `pando-replication`.

mod blocked;
mod buckets;
mod clock;
mod compact;
mod db;
mod entry;
mod eviction;
mod expiry;
mod hashed;
mod keyspace;
mod lock;
mod locked;
mod scan;
mod slot;
mod table;
mod types;
mod walk;
mod watch;

pub use blocked::{Awaited, Claim, ReadyKey, Waiter};
pub use compact::Compaction;
pub use db::Db;
pub use eviction::{Evicted, EvictedSink, EvictionPolicy, Evictor};
pub use hashed::HashedKey;
pub use keyspace::Keyspace;
pub use lock::lock_waits_of_this_thread;
pub use locked::{Garbage, LockedSlots};
pub use pando_values::{Encoding, IntText, StrHint, Typed, Value, ValueRef, ValueType};
pub use scan::{Expired, ExpiredSink};
pub use types::{
    DbIndex, DbStats, EditedTyped, ExpireStep, KeyspaceConfig, Meta, OwnedEntry, SetOutcome, SlotUsage, Ttl,
};
pub use walk::{Walk, WalkBusy, WalkSink, Walked};
pub use watch::WatchFlag;

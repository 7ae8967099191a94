// SPDX-License-Identifier: BSD-3-Clause
//! Values as the bytes that Valkey keeps of them in RDB images and DUMP payloads, and back.
//!
//! [`save`] writes a value in the form that Valkey 9.1 writes it; [`load`] takes every form that Valkey 9.1 takes. What is
//! loaded may hold anything: every packed encoding is checked whole, a length is never believed before its bytes are
//! there, and what would break a rule of its type (a member twice, a score that is no number) is refused.
//!
//! Not here: keys, expire times, files (base/formats), where values are stored. Called by data/commands (DUMP, RESTORE) and
//! data/replication (full syncs).

mod hash;
mod list;
mod load;
mod packed;
mod payload;
mod save;
mod set;
mod stream;
mod zset;

pub use load::{LoadContext, LoadError, Loaded, load};
pub use payload::{FooterChecks, RestoreError, payload, restore};
pub use save::{kind_of, save};

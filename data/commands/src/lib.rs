// SPDX-License-Identifier: BSD-3-Clause
//! The commands that work on keys. One family per file, its table first; a handler gets a locked view ([`Ctx`]), writes a
//! reply and records [`Effects`]. Not here: sockets, the log, the clock, AUTH/ACL/MULTI (data/session), encodings
//! (data/values) and storage (data/keyspace).
//!
//! ```text
//!   commands.json --build.rs--> spec.rs --+--> registry.rs (name -> spec + handler) --> session
//!   summaries.json                        +--> key_positions.rs (which slots to lock)
//!                                         +--> introspect.rs (COMMAND ...)
//!   handler(ctx, args) -> reply + effects (log records, events, changed keys)
//! ```

mod args;
mod bitfield;
mod bitmaps;
mod bitop;
mod blocking;
mod blocking_lists;
mod blocking_zsets;
mod collections;
mod context;
mod counters;
mod databases;
mod dump;
mod effects;
mod error;
mod expire;
mod geo;
mod geo_search;
mod geo_shape;
mod get_set;
pub mod glob;
mod hash_expire;
mod hashes;
mod hyperloglog;
pub mod introspect;
mod key_positions;
mod keys;
mod lcs;
mod list_pops;
mod lists;
mod lookup;
mod move_keys;
mod object;
mod partial_sort;
mod ranges;
mod registry;
mod scan;
mod scan_values;
mod set;
mod set_algebra;
mod sets;
mod sort;
mod spec;
mod stream_add;
mod stream_claim;
mod stream_group;
mod stream_ids;
mod stream_info;
mod stream_log;
mod stream_pending;
mod stream_range;
mod stream_read;
mod stream_read_group;
mod stream_trim;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod zset_add;
mod zset_args;
mod zset_combine;
mod zset_pop;
mod zset_range;
mod zset_read;

pub use blocking::{Awaited, Block, owned_args, timeout_of_ms, timeout_of_seconds};
pub use context::{Ctx, DataFn, ExecEnv};
pub use effects::{Effects, Event, EventClass, Propagation, WholeChange};
pub use error::CommandError;
pub use key_positions::{KeyError, KeyPosition, KeyVec, keys_of, reads_unnamed_keys, sole_key};
pub use object::reply_help;
pub use registry::{
    Exec, Lookup, Registry, RenameError, SessionCommandId, UnknownRow, unknown_command_error, unknown_subcommand_error,
};
pub use spec::{
    AclCategories, ArgDoc, BeginSearch, CATEGORY_NAMES, COMMAND_ID_COUNT, COMMANDS, CommandSpec, FLAG_NAMES, FindKeys,
    Flags, KEY_FLAG_NAMES, KeyFlags, KeySpec, find_spec, touches_all,
};

// SPDX-License-Identifier: BSD-3-Clause
//! The roots' Raft group: an adapter around the openraft library that lets none of its types out.
//!
//! ```text
//!   control/agent ── Raft (handle: propose, read_barrier, members, watches)
//!                      │
//!                  openraft core ── log.rs        one AOF file: votes, entries, markers
//!                      │         ── machine.rs    root-state + snapshot.rdb
//!                      │         ── transport.rs  frames to the other roots (control/wire)
//!   agent's listener ─ RaftHandler (handler.rs)   frames from the other roots
//! ```
//!
//! Not here: what the commands mean (control/root-state), who should be a root (control/agent).
//! Rules that the adapter keeps and openraft's defaults do not: pre-vote and transfer really go over
//! the wire, nothing is read without a barrier, an fsync never runs on the core task.

mod config;
mod error;
mod handle;
mod handler;
mod log;
mod log_writer;
mod machine;
mod members;
mod record;
mod root_machine;
mod rpc;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod transport;
mod types;

pub use config::{RaftConfig, Resolver};
pub use error::{MembersError, ProposeError, ReadError, StartError};
pub use handle::{Committed, Raft};
pub use handler::RaftHandler;
pub use status::Status;
pub use types::{RootAddress, VoterId};

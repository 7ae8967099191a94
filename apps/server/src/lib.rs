// SPDX-License-Identifier: BSD-3-Clause
//! The server: configuration, sockets, worker threads, server commands, signals. Wires the data plane to the network;
//! what a command means is decided below, in `data/`. Called by the `pando` binary.
//!
//! ```text
//!   boot ─► Server (shared) ─┬─ worker threads: net + data/session     one epoll loop each
//!                            ├─ cron thread: expiry, compaction, rates
//!                            ├─ evictor thread: room below maxmemory
//!                            ├─ replication runtime (tokio): data/replication
//!                            └─ cluster runtime (tokio): control/agent, in cluster mode
//! ```

mod apply;
pub mod boot;
mod cluster;
mod commands;
pub mod config;
mod cron;
mod defrag;
mod ending;
mod evictor;
mod failover;
mod info;
mod logging;
mod net;
mod os;
mod replication;
mod sentinels;
pub mod server;
mod worker;

pub use boot::{Running, StartError, main, start};
pub use info::allocator::enable as enable_allocator_stats;

// SPDX-License-Identifier: BSD-3-Clause
//! Replication: the log of writes, the primary's side of a replica link and the replica's side.
//!
//! ```text
//! workers ── append under slot locks ──► log ──► link task per replica (tokio) ──► socket
//! primary's socket ──► network task (tokio) ──► apply thread ──► engine, then relayed into the same log
//! ```
//!
//! Every node of a chain has the same bytes at the same offsets, so any of them can serve a partial resync, before and
//! after a promotion. It does not decide roles: apps/server (REPLICAOF) and the cluster agent call
//! [`Replication::replica_of`] and [`Replication::promote`]. It does not accept sockets either: the server hands over
//! a client that sent PSYNC.

pub mod log;

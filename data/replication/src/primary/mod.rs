// SPDX-License-Identifier: BSD-3-Clause
//! The side that gives: replicas of this node, whether it is a primary or a replica itself.
//!
//! ```text
//!  accept (PSYNC) ─┬─ fits the backlog ──► +CONTINUE ───────────────────────────────► Online
//!                  └─ else ──► WaitBgsave ──(walk is free)──► SendBulk ──(first ACK)──► Online
//! ```
//!
//! One task per replica owns the socket; a second one reads acknowledgements. Called by the server, which hands over a
//! client that sent PSYNC, and by the clock task of [`crate::Replication`].

mod acks;
mod full_sync;
mod link;
mod payload;

pub(crate) use link::{ReplicaLink, serve};

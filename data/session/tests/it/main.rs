// SPDX-License-Identifier: BSD-3-Clause
//! Tests of sessions against the public API, in one process, with a mailbox that only collects.

mod apply;
mod blocking;
mod blocking_stress;
mod cluster;
mod commands;
mod eviction;
mod gate;
mod harness;
mod pubsub;
mod stress;
mod transactions;

// SPDX-License-Identifier: BSD-3-Clause
//! Tests of the adapter: `storage` on one log and one snapshot, `cluster` on groups of roots in one
//! process over a network and disks in memory, in virtual time.

mod cluster;
mod net;
mod storage;
mod world;

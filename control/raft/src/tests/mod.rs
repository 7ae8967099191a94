// SPDX-License-Identifier: BSD-3-Clause
//! Tests of the adapter: `storage` on one log and one snapshot, `cluster` on groups of roots in one
//! process over a network and disks in memory, in virtual time.

mod chaos;
mod cluster;
mod net;
mod real;
mod storage;
mod voters;
mod world;

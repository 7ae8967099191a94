// SPDX-License-Identifier: BSD-3-Clause
//! The two byte formats of Valkey's world, as pure code over bytes: RDB (snapshots, full syncs) and AOF (logs of
//! commands).
//!
//! Nothing here opens a file or a socket, knows what a key means, or depends on another crate of ours. Callers are
//! the data plane (full sync, snapshots) and the roots (Raft log and snapshots are AOF and RDB files). The layouts are
//! drawn byte by byte in `docs/formats/`.

pub mod aof;
pub mod crc64;
pub mod lzf;
pub mod packed;
pub mod rdb;
pub mod ziplist;
pub mod zipmap;

// SPDX-License-Identifier: BSD-3-Clause
//! Up to which sizes values stay packed: Valkey's thresholds, by its names.
//!
//! Not here: where they come from (CONFIG). Called by everything that changes a value.

/// See the head of this file. Lengths in elements unless a name says bytes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// `list-max-listpack-size`: elements, or a class of bytes when negative (-1: 4 KiB ... -5: 64 KiB).
    pub list_max_listpack_size: i32,
    /// `list-compress-depth`.
    pub list_compress_depth: u32,
    /// `DEBUG QUICKLIST-PACKED-THRESHOLD`: list elements of so many bytes get a node of their own; zero: the usual rule.
    pub list_plain_from_bytes: usize,
    /// `hash-max-listpack-entries`.
    pub hash_max_listpack_entries: usize,
    /// `hash-max-listpack-value`, bytes.
    pub hash_max_listpack_value: usize,
    /// `set-max-intset-entries`.
    pub set_max_intset_entries: usize,
    /// `set-max-listpack-entries`.
    pub set_max_listpack_entries: usize,
    /// `set-max-listpack-value`, bytes.
    pub set_max_listpack_value: usize,
    /// `zset-max-listpack-entries`.
    pub zset_max_listpack_entries: usize,
    /// `zset-max-listpack-value`, bytes.
    pub zset_max_listpack_value: usize,
    /// `stream-node-max-bytes`, zero for no limit.
    pub stream_node_max_bytes: usize,
    /// `stream-node-max-entries`, zero for no limit.
    pub stream_node_max_entries: usize,
    /// `hll-sparse-max-bytes`.
    pub hll_sparse_max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            list_plain_from_bytes: 0,
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            hll_sparse_max_bytes: 3000,
        }
    }
}

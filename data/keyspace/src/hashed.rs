// SPDX-License-Identifier: BSD-3-Clause
//! What is computed from a key's bytes, so that one command computes it once: for prefetching, locking and finding.
//!
//! Not here: the functions themselves (`table`, `pando-topology`). Made by the server's workers for a batch of requests.

use crate::table::hash_key;
use pando_topology::Slot;

/// Slot and hash of a key, which is recognised by its address: only for a key that stays where it is, unchanged, for as
/// long as this is used.
#[derive(Copy, Clone, Debug)]
pub struct HashedKey {
    /// Zero, where no slice begins, for none.
    address: usize,
    len: usize,
    slot: Slot,
    hash: u32,
}

impl HashedKey {
    /// Stands for no key.
    pub const NONE: HashedKey = HashedKey { address: 0, len: 0, slot: Slot::MIN, hash: 0 };

    /// Computes both.
    #[inline]
    pub fn of(key: &[u8]) -> HashedKey {
        HashedKey { address: key.as_ptr().addr(), len: key.len(), slot: Slot::of_key(key), hash: hash_key(key) }
    }

    /// Whether it stands for a key.
    #[inline]
    pub fn is_some(&self) -> bool {
        self.address != 0
    }

    #[inline]
    fn is_of(&self, key: &[u8]) -> bool {
        self.address == key.as_ptr().addr() && self.len == key.len()
    }

    /// The slot of any key.
    #[inline]
    pub fn slot_of(&self, key: &[u8]) -> Slot {
        if self.is_of(key) { self.slot } else { Slot::of_key(key) }
    }

    /// The hash of any key.
    #[inline]
    pub(crate) fn hash_of(&self, key: &[u8]) -> u32 {
        if self.is_of(key) { self.hash } else { hash_key(key) }
    }

    #[inline]
    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    #[inline]
    pub(crate) fn hash(&self) -> u32 {
        self.hash
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Hash: not built yet; nothing makes one.

use crate::collection::Collection;
use crate::encoding::Encoding;

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hash(());

impl Hash {
    /// Without elements.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Collection for Hash {
    fn len(&self) -> usize {
        0
    }

    fn encoding(&self) -> Encoding {
        Encoding::ListPack
    }

    fn heap_bytes(&self) -> usize {
        0
    }

    fn free_effort(&self) -> usize {
        0
    }
}

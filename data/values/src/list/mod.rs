// SPDX-License-Identifier: BSD-3-Clause
//! List: not built yet; nothing makes one.

use crate::collection::Collection;
use crate::encoding::Encoding;

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List(());

impl List {
    /// Without elements.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Collection for List {
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

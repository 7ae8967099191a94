// SPDX-License-Identifier: BSD-3-Clause
//! Iteration over a listpack's elements, from either end.

use super::entry::{self, Element};

/// The elements of a listpack.
#[derive(Clone, Debug, Default)]
pub struct Iter<'a> {
    /// The entries that are left.
    entries: &'a [u8],
}

impl<'a> Iter<'a> {
    pub(super) fn new(entries: &'a [u8]) -> Iter<'a> {
        Iter { entries }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.entries.is_empty() {
            return None;
        }
        let (entry, rest) = self.entries.split_at(entry::whole_len(self.entries));
        self.entries = rest;
        Some(entry::decode(entry))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.entries.is_empty() {
            return None;
        }
        let (rest, entry) = self.entries.split_at(self.entries.len() - entry::whole_len_backwards(self.entries));
        self.entries = rest;
        Some(entry::decode(entry))
    }
}

impl std::iter::FusedIterator for Iter<'_> {}

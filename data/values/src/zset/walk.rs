// SPDX-License-Identifier: BSD-3-Clause
//! Walks over the large form of a sorted set, from any rank, in either direction, leaf by leaf.

use super::large::{Large, Path};
use super::leaf::Leaf;

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    set: &'a Large,
    path: Path,
    leaf: &'a Leaf,
    at: usize,
    left: usize,
    reverse: bool,
}

impl Large {
    /// At most `count` elements from `rank` on, towards higher ranks or, in `reverse`, lower ones.
    pub(super) fn walk(&self, rank: usize, count: usize, reverse: bool) -> Walk<'_> {
        let available = if rank >= self.len() {
            0
        } else if reverse {
            rank + 1
        } else {
            self.len() - rank
        };
        let (path, at) = self.path_to_rank(rank.min(self.len().saturating_sub(1)));
        Walk { set: self, path, leaf: self.leaves.get(path.leaf), at, left: count.min(available), reverse }
    }
}

impl<'a> Walk<'a> {
    /// The element that is next, and onwards.
    #[inline]
    pub(super) fn next(&mut self) -> Option<(&'a [u8], f64)> {
        if self.left == 0 {
            return None;
        }
        let found = (self.leaf.member(self.at), self.leaf.score(self.at));
        self.left -= 1;
        if self.left > 0 {
            if self.reverse {
                if self.at == 0 {
                    self.turn_page();
                    self.at = self.leaf.len();
                }
                self.at -= 1;
            } else {
                self.at += 1;
                if self.at == self.leaf.len() {
                    self.turn_page();
                    self.at = 0;
                }
            }
        }
        Some(found)
    }

    pub(super) fn remaining(&self) -> usize {
        self.left
    }

    /// Goes to the neighbouring leaf, which exists while elements are left.
    fn turn_page(&mut self) {
        let mut depth = self.set.height;
        // Up to the first node that has another child on that side.
        loop {
            depth -= 1;
            let (node, child) = &mut self.path.steps[depth];
            let inner = self.set.inners.get(*node);
            if self.reverse && *child > 0 {
                *child -= 1;
            } else if !self.reverse && usize::from(*child) + 1 < inner.len() {
                *child += 1;
            } else {
                continue;
            }
            let mut id = inner.id(usize::from(*child));
            for depth in depth + 1..self.set.height {
                let inner = self.set.inners.get(id);
                let child = if self.reverse { inner.len() - 1 } else { 0 };
                self.path.steps[depth] = (id, child as u8);
                id = inner.id(child);
            }
            self.path.leaf = id;
            self.leaf = self.set.leaves.get(id);
            return;
        }
    }
}

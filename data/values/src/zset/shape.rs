// SPDX-License-Identifier: BSD-3-Clause
//! How the ordered index of a sorted set keeps its shape: full nodes are split, sparse ones joined with a neighbour. Members
//! that change leaves are told to the member index. Not here: what callers see ([`super::large`]).

use super::inner::{FANOUT, Inner, Separator};
use super::large::{Large, Path};
use super::leaf::Leaf;
use super::members::hash_member;

/// Below this many children a node is joined with a neighbour, where that fits.
const CHILDREN_MIN: usize = FANOUT / 4;
const CHILDREN_JOINED_MAX: usize = FANOUT * 3 / 4;

impl Large {
    pub(super) fn edit_leaf<R>(&mut self, id: u32, edit: impl FnOnce(&mut Leaf) -> R) -> R {
        let before = self.leaves.get(id).heap_bytes();
        let leaf = self.leaves.get_mut(id);
        let result = edit(leaf);
        self.leaf_bytes = self.leaf_bytes + leaf.heap_bytes() - before;
        result
    }

    pub(super) fn edit_inner<R>(&mut self, id: u32, edit: impl FnOnce(&mut Inner) -> R) -> R {
        let inner = self.inners.get_mut(id);
        let before = inner.heap_bytes();
        let result = edit(inner);
        self.inner_bytes = self.inner_bytes + inner.heap_bytes() - before;
        result
    }

    /// Splits a full leaf, with an eye to where the next element goes: ascending and descending inserts leave full leaves.
    pub(super) fn split_leaf(&mut self, path: &Path, insert_at: usize) {
        let left = path.leaf;
        let leaf = self.leaves.get(left);
        let len = leaf.len();
        let middle = match insert_at {
            at if at == len => len - (len / 16).max(1),
            0 => (len / 16).max(1),
            _ => leaf.middle(),
        };
        let separator = Separator::between(
            (leaf.score(middle - 1), leaf.member(middle - 1)),
            (leaf.score(middle), leaf.member(middle)),
        );
        let new = self.edit_leaf(left, |leaf| leaf.split_off(middle));
        let counts = (middle as u64, new.len() as u64);
        self.leaf_bytes += new.heap_bytes();
        let right = self.leaves.add(new);
        self.move_members(right, left, right);
        self.add_child(path, self.height, right, counts, separator);
    }

    /// The members that `leaf` holds are no longer in `from` but in `to`.
    fn move_members(&mut self, leaf: u32, from: u32, to: u32) {
        let leaf = self.leaves.get(leaf);
        for at in 0..leaf.len() {
            self.members.relocate(hash_member(leaf.member(at)), from, to);
        }
    }

    /// Adds a node behind the one at `depth` of the path, from which it was split off; `counts` are the elements beneath both.
    fn add_child(&mut self, path: &Path, depth: usize, id: u32, counts: (u64, u64), separator: Separator) {
        if depth == 0 {
            let mut root = Inner::new();
            root.insert(0, self.root, counts.0, Separator::default());
            root.insert(1, id, counts.1, separator);
            self.inner_bytes += root.heap_bytes();
            self.root = self.inners.add(root);
            self.height += 1;
            return;
        }
        let (mut parent, child) = path.steps[depth - 1];
        let mut at = usize::from(child);
        if self.inners.get(parent).len() == FANOUT {
            let middle = if at + 1 == FANOUT { FANOUT - FANOUT / 16 } else { FANOUT / 2 };
            let border = self.inners.get(parent).separator(middle);
            let new = self.edit_inner(parent, |inner| inner.split_off(middle));
            self.inner_bytes += new.heap_bytes();
            let totals = (self.inners.get(parent).total(), new.total());
            let right = self.inners.add(new);
            self.add_child(path, depth - 1, right, totals, border);
            if at >= middle {
                (parent, at) = (right, at - middle);
            }
        }
        self.edit_inner(parent, |inner| {
            *inner.count_mut(at) = counts.0;
            inner.insert(at + 1, id, counts.1, separator);
        });
    }

    /// Joins the path's sparse leaf with a neighbour where that fits, or removes it when it is empty.
    pub(super) fn mend_leaf(&mut self, path: &Path) {
        let (parent, child) = path.steps[self.height - 1];
        let at = usize::from(child);
        if self.leaves.get(path.leaf).len() == 0 {
            let leaf = self.leaves.remove(path.leaf);
            self.leaf_bytes -= leaf.heap_bytes();
            self.remove_child(path, self.height, at);
            return;
        }
        let inner = self.inners.get(parent);
        let fits = |left: usize| {
            left + 1 < inner.len() && self.leaves.get(inner.id(left)).can_join(self.leaves.get(inner.id(left + 1)))
        };
        let Some(left_at) = [at, at.wrapping_sub(1)].into_iter().find(|left| *left < FANOUT && fits(*left)) else {
            return;
        };
        let (left, right) = (inner.id(left_at), inner.id(left_at + 1));
        let counts = inner.count(left_at) + inner.count(left_at + 1);
        // The leaf with more members keeps its number.
        let (keeps, goes) =
            if self.leaves.get(left).len() >= self.leaves.get(right).len() { (left, right) } else { (right, left) };
        self.move_members(goes, goes, keeps);
        let gone = self.leaves.remove(goes);
        self.leaf_bytes -= gone.heap_bytes();
        self.edit_leaf(keeps, |leaf| if keeps == left { leaf.append(&gone, 0) } else { leaf.prepend(&gone) });
        self.edit_inner(parent, |inner| {
            inner.set_id(left_at, keeps);
            *inner.count_mut(left_at) = counts;
        });
        self.remove_child(path, self.height, left_at + 1);
    }

    /// Removes a child of the inner node above `depth` of the path, then mends that node.
    fn remove_child(&mut self, path: &Path, depth: usize, child: usize) {
        let (node, _) = path.steps[depth - 1];
        self.edit_inner(node, |inner| inner.remove(child));
        let len = self.inners.get(node).len();
        if depth == 1 {
            self.lower_root();
            return;
        }
        let (parent, at) = path.steps[depth - 2];
        let at = usize::from(at);
        if len == 0 {
            let inner = self.inners.remove(node);
            self.inner_bytes -= inner.heap_bytes();
            self.remove_child(path, depth - 1, at);
        } else if len < CHILDREN_MIN {
            let inner = self.inners.get(parent);
            let fits = |left: usize| {
                let len = |at: usize| self.inners.get(inner.id(at)).len();
                left + 1 < inner.len() && len(left) + len(left + 1) <= CHILDREN_JOINED_MAX
            };
            let Some(left_at) = [at, at.wrapping_sub(1)].into_iter().find(|left| *left < FANOUT && fits(*left)) else {
                return;
            };
            let (left, right) = (inner.id(left_at), inner.id(left_at + 1));
            let counts = inner.count(left_at) + inner.count(left_at + 1);
            let border = inner.separator(left_at + 1);
            let gone = self.inners.remove(right);
            self.inner_bytes -= gone.heap_bytes();
            self.edit_inner(left, |inner| inner.append(&gone, border));
            self.edit_inner(parent, |inner| *inner.count_mut(left_at) = counts);
            self.remove_child(path, depth - 1, left_at + 1);
        }
    }

    /// A root with one child is not needed; one without any means that the set is empty.
    fn lower_root(&mut self) {
        while self.height > 0 && self.inners.get(self.root).len() <= 1 {
            let inner = self.inners.remove(self.root);
            self.inner_bytes -= inner.heap_bytes();
            self.height -= 1;
            if inner.len() == 0 {
                self.height = 0;
                self.root = self.leaves.add(Leaf::default());
            } else {
                self.root = inner.id(0);
            }
        }
    }
}

#[cfg(test)]
impl Large {
    /// Panics when the structure is inconsistent.
    pub(super) fn check(&self) {
        self.members.check();
        let (mut leaf_bytes, mut inner_bytes) = (0, 0);
        let total = self.check_beneath(self.root, self.height, &mut leaf_bytes, &mut inner_bytes);
        assert_eq!((total, leaf_bytes, inner_bytes), (self.len() as u64, self.leaf_bytes, self.inner_bytes));
    }

    fn check_beneath(&self, id: u32, height: usize, leaf_bytes: &mut usize, inner_bytes: &mut usize) -> u64 {
        if height == 0 {
            let leaf = self.leaves.get(id);
            *leaf_bytes += leaf.heap_bytes();
            for at in 0..leaf.len() {
                let hash = hash_member(leaf.member(at));
                assert_eq!(leaf.tag(at), hash as u8);
                assert!(self.members.leaves(hash).any(|leaf| leaf == id));
            }
            assert!(leaf.len() > 0 || self.height == 0);
            return leaf.len() as u64;
        }
        let inner = self.inners.get(id);
        *inner_bytes += inner.heap_bytes();
        assert!(inner.len() > usize::from(height == self.height));
        for at in 0..inner.len() {
            let count = self.check_beneath(inner.id(at), height - 1, leaf_bytes, inner_bytes);
            assert_eq!(inner.count(at), count);
        }
        inner.total()
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! The large form of a sorted set: elements once, packed in the leaves of a counted B+tree in the order of score and member,
//! and a hash table from members to leaves.
//!
//! ```text
//!   Members: hash -> leaf number        Inner (counts, separators)
//!                        |                 |      |
//!                        +-------------> Leaf   Leaf   ...
//! ```
//! Nodes are numbered and shared with clones until either writes ([`Table`]). Rank, access by rank and by score take a walk
//! from the root; an element moves at most with one leaf's neighbours. Not here: the small form, walks ([`super::walk`]).

use super::inner::Inner;
use super::leaf::{Leaf, order};
use super::members::{Members, hash_member};
use super::table::Table;
use crate::relocate::Mover;
use std::cmp::Ordering;

/// Levels of inner nodes at most: a node that is not alone has a dozen children, so this is never reached.
pub(super) const HEIGHT_MAX: usize = 16;

/// The way from the root to a leaf: inner nodes and the child that was taken in each.
#[derive(Copy, Clone, Debug)]
pub(super) struct Path {
    pub(super) steps: [(u32, u8); HEIGHT_MAX],
    pub(super) leaf: u32,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Large {
    pub(super) leaves: Table<Leaf>,
    pub(super) inners: Table<Inner>,
    pub(super) members: Members,
    /// A leaf at height 0.
    pub(super) root: u32,
    pub(super) height: usize,
    len: usize,
    pub(super) leaf_bytes: usize,
    pub(super) inner_bytes: usize,
}

impl Large {
    pub(super) fn new() -> Large {
        let mut leaves = Table::new();
        let root = leaves.add(Leaf::default());
        Large {
            leaves,
            inners: Table::new(),
            members: Members::new(),
            root,
            height: 0,
            len: 0,
            leaf_bytes: 0,
            inner_bytes: 0,
        }
    }

    /// Moves what lies in sparse memory: see `Collection::relocate`.
    pub(super) fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        // The parts of the three tables follow each other.
        let leaves = self.leaves.places();
        let inners = leaves + self.inners.places();
        let mut from = from;
        if from < leaves {
            match self.leaves.relocate(from, mover, Leaf::relocate) {
                0 => from = leaves,
                at => return at,
            }
        }
        if from < inners {
            match self.inners.relocate(from - leaves, mover, |_, _| ()) {
                0 => from = inners,
                at => return leaves + at,
            }
        }
        match self.members.move_segments(from - inners, mover) {
            0 => 0,
            at => inners + at,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.leaf_bytes
            + self.inner_bytes
            + self.leaves.heap_bytes()
            + self.inners.heap_bytes()
            + self.members.heap_bytes()
    }

    pub(super) fn allocations(&self) -> usize {
        // A leaf has its bytes, and may have long members.
        2 * self.leaves.allocations() + self.inners.allocations() + self.members.allocations() + self.leaf_bytes / 4096
    }

    /// Where the member is: leaf and index.
    #[inline]
    fn locate(&self, hash: u32, member: &[u8]) -> Option<(u32, usize)> {
        self.members.leaves(hash).find_map(|leaf| Some((leaf, self.leaves.get(leaf).find(hash as u8, member)?)))
    }

    #[inline]
    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        let (leaf, at) = self.locate(hash_member(member), member)?;
        Some(self.leaves.get(leaf).score(at))
    }

    /// The member's number of predecessors, and its score.
    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        let mut node = self.root;
        let mut rank = 0;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            let child = inner.child_by(|other, prefix| is_at_or_before(other, prefix, score, member));
            rank += inner.count_before(child);
            node = inner.id(child);
        }
        Some((rank as usize + self.leaves.get(node).lower_bound(score, member), score))
    }

    /// The number of leading elements for which `is_before` holds; it must hold for a prefix of the order.
    pub(super) fn partition(&self, is_before: &dyn Fn(f64, &[u8]) -> bool) -> usize {
        let mut node = self.root;
        let mut rank = 0;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            let child = inner.child_by(|score, prefix| is_before(score, prefix()));
            rank += inner.count_before(child);
            node = inner.id(child);
        }
        rank as usize + self.leaves.get(node).partition(|score, member| is_before(score, member()))
    }

    /// [`Large::partition`] by score alone, which reads no member.
    pub(super) fn partition_by_score(&self, is_before: impl Fn(f64) -> bool) -> usize {
        let mut node = self.root;
        let mut rank = 0;
        for _ in 0..self.height {
            let inner = self.inners.get(node);
            let child = inner.child_by(|score, _| is_before(score));
            rank += inner.count_before(child);
            node = inner.id(child);
        }
        rank as usize + self.leaves.get(node).partition(|score, _| is_before(score))
    }

    /// The way to the leaf where the element is or belongs.
    fn path_to(&self, score: f64, member: &[u8]) -> Path {
        let mut path = Path { steps: [(0, 0); HEIGHT_MAX], leaf: self.root };
        for depth in 0..self.height {
            let inner = self.inners.get(path.leaf);
            let child = inner.child_by(|other, prefix| is_at_or_before(other, prefix, score, member));
            path.steps[depth] = (path.leaf, child as u8);
            path.leaf = inner.id(child);
        }
        path
    }

    /// The way to the leaf of a rank, and the index in it.
    pub(super) fn path_to_rank(&self, rank: usize) -> (Path, usize) {
        let mut path = Path { steps: [(0, 0); HEIGHT_MAX], leaf: self.root };
        let mut rest = rank as u64;
        for depth in 0..self.height {
            let inner = self.inners.get(path.leaf);
            let (child, beneath) = inner.child_by_rank(rest);
            path.steps[depth] = (path.leaf, child as u8);
            path.leaf = inner.id(child);
            rest = beneath;
        }
        (path, rest as usize)
    }

    /// Sets the member's score; the earlier one, when it is not new.
    pub(super) fn add(&mut self, score: f64, member: &[u8]) -> Option<f64> {
        let mut old = None;
        self.update(member, |current| {
            old = current;
            Some(score)
        });
        old
    }

    /// Hands the member's score to `decide` (`None` for a new one) and sets the one that it returns, if any.
    pub(super) fn update(&mut self, member: &[u8], decide: impl FnOnce(Option<f64>) -> Option<f64>) {
        let hash = hash_member(member);
        let Some((leaf, at)) = self.locate(hash, member) else {
            if let Some(score) = decide(None) {
                let leaf = self.insert_into_tree(score, hash as u8, member);
                self.members.insert(hash, leaf);
                self.len += 1;
            }
            return;
        };
        let node = self.leaves.get(leaf);
        let old = node.score(at);
        let Some(score) = decide(Some(old)) else { return };
        if old == score {
            return;
        }
        let stays = at > 0
            && at + 1 < node.len()
            && order(node.score(at - 1), node.member(at - 1), score, member) == Ordering::Less
            && order(score, member, node.score(at + 1), node.member(at + 1)) == Ordering::Less;
        if stays {
            self.leaves.get_mut(leaf).set_score(at, score);
            return;
        }
        let path = self.path_to(old, member);
        debug_assert_eq!(path.leaf, leaf);
        self.remove_from_tree(&path, at, at + 1);
        let to = self.insert_into_tree(score, hash as u8, member);
        // Joining and splitting meanwhile may have given the number `leaf` to another; the entry is still this one.
        if to != leaf {
            self.members.relocate(hash, leaf, to);
        }
    }

    /// Removes the member; its score.
    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let hash = hash_member(member);
        let (leaf, at) = self.locate(hash, member)?;
        let score = self.leaves.get(leaf).score(at);
        let path = self.path_to(score, member);
        debug_assert_eq!(path.leaf, leaf);
        self.members.remove(hash, leaf);
        self.remove_from_tree(&path, at, at + 1);
        self.len -= 1;
        Some(score)
    }

    /// Removes the elements with ranks from `from` up to `to`.
    pub(super) fn remove_ranks(&mut self, from: usize, to: usize) {
        let mut rest = to.min(self.len).saturating_sub(from);
        while rest > 0 {
            let (path, at) = self.path_to_rank(from);
            let leaf = self.leaves.get(path.leaf);
            let end = leaf.len().min(at + rest);
            for gone in at..end {
                self.members.remove(hash_member(leaf.member(gone)), path.leaf);
            }
            self.remove_from_tree(&path, at, end);
            self.len -= end - at;
            rest -= end - at;
        }
    }

    /// Visits members by their hash from `from` on; see [`Members::scan`].
    pub(super) fn scan(&self, from: u32, count: usize, visit: &mut dyn FnMut(&[u8], f64)) -> Option<u32> {
        // Several members of one hash may be in one leaf: each of its entries stands for the next of them.
        let mut last = (0, 0, 0);
        self.members.scan(from, count, |hash, id| {
            let leaf = self.leaves.get(id);
            let start = if (last.0, last.1) == (hash, id) { last.2 } else { 0 };
            let of_hash = |at: &usize| leaf.tag(*at) == hash as u8 && hash_member(leaf.member(*at)) == hash;
            if let Some(at) = (start..leaf.len()).find(of_hash) {
                visit(leaf.member(at), leaf.score(at));
                last = (hash, id, at + 1);
            }
        })
    }

    /// Inserts an element that is not there. Returns its leaf.
    fn insert_into_tree(&mut self, score: f64, tag: u8, member: &[u8]) -> u32 {
        loop {
            let path = self.path_to(score, member);
            let leaf = self.leaves.get(path.leaf);
            let at = leaf.lower_bound(score, member);
            if !leaf.has_room(member.len()) {
                self.split_leaf(&path, at);
                continue;
            }
            self.edit_leaf(path.leaf, |leaf| leaf.insert(at, score, tag, member));
            for (id, child) in &path.steps[..self.height] {
                *self.inners.get_mut(*id).count_mut(usize::from(*child)) += 1;
            }
            return path.leaf;
        }
    }

    /// Removes elements of the path's leaf, which no longer have entries in the member index.
    fn remove_from_tree(&mut self, path: &Path, from: usize, to: usize) {
        self.edit_leaf(path.leaf, |leaf| leaf.remove_range(from, to));
        for (id, child) in &path.steps[..self.height] {
            *self.inners.get_mut(*id).count_mut(usize::from(*child)) -= (to - from) as u64;
        }
        if self.height > 0 && self.leaves.get(path.leaf).is_sparse() {
            self.mend_leaf(path);
        }
    }
}

/// Whether the separator is not above the element.
#[inline]
fn is_at_or_before<'a>(score: f64, prefix: &dyn Fn() -> &'a [u8], element_score: f64, member: &[u8]) -> bool {
    score < element_score || (score == element_score && prefix() <= member)
}

// SPDX-License-Identifier: BSD-3-Clause
//! An inner node of a sorted set's ordered index: children with the number of elements beneath each, and separators.
//!
//! A separator is a score and a prefix of a member, as short as tells its two neighbours apart; mostly the score is enough.
//! Elements beneath child `n` are not below separator `n`, and below separator `n + 1`. Not here: leaves, the tree.

use crate::size_class;
use std::sync::Arc;

/// Children of a node at most.
pub(super) const FANOUT: usize = 64;

/// A lower bound of a child. No member is the empty one.
#[derive(Clone, Debug, Default)]
pub(super) struct Separator {
    pub(super) score: f64,
    pub(super) member: Option<Arc<[u8]>>,
}

impl Separator {
    /// The shortest one above the element on the left that is not above the one on the right.
    pub(super) fn between(left: (f64, &[u8]), right: (f64, &[u8])) -> Separator {
        if left.0 < right.0 {
            return Separator { score: right.0, member: None };
        }
        let same = left.1.iter().zip(right.1).take_while(|(one, other)| one == other).count();
        Separator { score: right.0, member: Some(Arc::from(&right.1[..(same + 1).min(right.1.len())])) }
    }
}

type Prefixes = [Option<Arc<[u8]>>; FANOUT];

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Inner {
    len: u8,
    ids: [u32; FANOUT],
    counts: [u64; FANOUT],
    scores: [f64; FANOUT],
    /// Absent while scores alone separate.
    prefixes: Option<Box<Prefixes>>,
    prefix_bytes: usize,
}

impl Default for Inner {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    pub(super) fn new() -> Inner {
        Inner { len: 0, ids: [0; FANOUT], counts: [0; FANOUT], scores: [0.0; FANOUT], prefixes: None, prefix_bytes: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    #[inline]
    pub(super) fn id(&self, at: usize) -> u32 {
        self.ids[at]
    }

    pub(super) fn set_id(&mut self, at: usize, id: u32) {
        self.ids[at] = id;
    }

    #[inline]
    pub(super) fn count(&self, at: usize) -> u64 {
        self.counts[at]
    }

    #[inline]
    pub(super) fn count_mut(&mut self, at: usize) -> &mut u64 {
        &mut self.counts[at]
    }

    /// Elements beneath the children before `at`.
    #[inline]
    pub(super) fn count_before(&self, at: usize) -> u64 {
        self.counts[..at].iter().sum()
    }

    pub(super) fn total(&self) -> u64 {
        self.count_before(self.len())
    }

    /// Heap bytes, the struct itself not included.
    pub(super) fn heap_bytes(&self) -> usize {
        self.prefix_bytes + self.prefixes.as_ref().map_or(0, |_| size_of::<Prefixes>())
    }

    #[inline]
    fn prefix(&self, at: usize) -> &[u8] {
        match &self.prefixes {
            None => &[],
            Some(prefixes) => prefixes[at].as_deref().unwrap_or_default(),
        }
    }

    /// The last child whose separator `is_before` accepts, the first child at least. It must accept a prefix.
    #[inline]
    pub(super) fn child_by<'a>(&'a self, is_before: impl Fn(f64, &dyn Fn() -> &'a [u8]) -> bool) -> usize {
        let (mut low, mut high) = (1, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if is_before(self.scores[middle], &|| self.prefix(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low - 1
    }

    /// The child that has the element of this rank, and the rank beneath it. A rank beyond the end is of the last child.
    #[inline]
    pub(super) fn child_by_rank(&self, rank: u64) -> (usize, u64) {
        let mut rest = rank;
        for at in 0..self.len() - 1 {
            if rest < self.counts[at] {
                return (at, rest);
            }
            rest -= self.counts[at];
        }
        (self.len() - 1, rest)
    }

    pub(super) fn separator(&self, at: usize) -> Separator {
        let member = self.prefixes.as_ref().and_then(|prefixes| prefixes[at].clone());
        Separator { score: self.scores[at], member }
    }

    fn set_prefix(&mut self, at: usize, prefix: Option<Arc<[u8]>>) {
        let bytes = |prefix: &Arc<[u8]>| size_class(prefix.len() + 16);
        if prefix.is_none() && self.prefixes.is_none() {
            return;
        }
        let prefixes = self.prefixes.get_or_insert_with(|| Box::new([const { None }; FANOUT]));
        self.prefix_bytes += prefix.as_ref().map_or(0, bytes);
        let old = std::mem::replace(&mut prefixes[at], prefix);
        self.prefix_bytes -= old.as_ref().map_or(0, bytes);
    }

    /// Adds a child before `at`; there must be room.
    pub(super) fn insert(&mut self, at: usize, id: u32, count: u64, separator: Separator) {
        let len = self.len();
        self.ids.copy_within(at..len, at + 1);
        self.counts.copy_within(at..len, at + 1);
        self.scores.copy_within(at..len, at + 1);
        if let Some(prefixes) = &mut self.prefixes {
            prefixes[at..=len].rotate_right(1);
        }
        self.ids[at] = id;
        self.counts[at] = count;
        self.scores[at] = separator.score;
        self.len += 1;
        self.set_prefix(at, separator.member);
    }

    pub(super) fn remove(&mut self, at: usize) {
        let len = self.len();
        self.set_prefix(at, None);
        self.ids.copy_within(at + 1..len, at);
        self.counts.copy_within(at + 1..len, at);
        self.scores.copy_within(at + 1..len, at);
        if let Some(prefixes) = &mut self.prefixes {
            prefixes[at..len].rotate_left(1);
        }
        self.len -= 1;
    }

    /// Cuts the children from `at` on off into a node of their own.
    pub(super) fn split_off(&mut self, at: usize) -> Inner {
        let mut right = Inner::new();
        for from in at..self.len() {
            right.insert(from - at, self.ids[from], self.counts[from], self.separator(from));
            self.set_prefix(from, None);
        }
        self.len = at as u8;
        right
    }

    /// Adds the children of `other`, which begin at `separator`, behind the own ones.
    pub(super) fn append(&mut self, other: &Inner, separator: Separator) {
        for from in 0..other.len() {
            let separator = if from == 0 { separator.clone() } else { other.separator(from) };
            self.insert(self.len(), other.ids[from], other.counts[from], separator);
        }
    }
}

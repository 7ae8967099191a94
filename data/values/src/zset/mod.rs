// SPDX-License-Identifier: BSD-3-Clause
//! Sorted sets: members with scores, in the order of score and then bytes.
//!
//! Small ones are a listpack of member, score, member, ... in Valkey's bytes; above the thresholds they become a counted
//! B+tree with a hash table ([`large`]), which `OBJECT ENCODING` calls a skiplist. A set goes back to a listpack only where
//! a command stores a result. Every range of scores, of members or of ranks is a range of ranks here.
//!
//! Not here: commands, parsing of bounds. Called by the sorted set and geo commands, by snapshots and by `DEBUG`.

mod bounds;
mod inner;
mod iter;
mod large;
mod leaf;
mod members;
#[cfg(test)]
mod model_tests;
mod shape;
mod small;
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub use bounds::{LexBound, LexRange, ScoreRange};

use crate::relocate::Mover;
pub use iter::Iter as ZSetIter;
use iter::Iter;

use std::ops::Range;

use crate::collection::Collection;
use crate::encoding::Encoding;
use crate::limits::Limits;
use crate::listpack::{Element, InvalidListPack, ListPack};
use crate::size_class;
use large::Large;

#[derive(Clone, Debug)]
enum Form {
    Small(ListPack),
    Large(Box<Large>),
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct ZSet(Form);

impl Default for ZSet {
    fn default() -> Self {
        Self::new()
    }
}

impl ZSet {
    /// Without elements.
    pub fn new() -> ZSet {
        ZSet(Form::Small(ListPack::new()))
    }

    /// Without elements, in the form for `len` members of up to `longest` bytes.
    pub fn for_size(len: usize, longest: usize, limits: &Limits) -> ZSet {
        let mut set = ZSet::new();
        set.prepare(len, longest, limits);
        set
    }

    /// A small set whose listpack is `pack`: pairs of members and scores. Refused when their number is odd or a score is no
    /// number. Order and uniqueness are the sender's business, as with Valkey.
    pub fn from_listpack(pack: ListPack) -> Result<ZSet, InvalidListPack> {
        if small::is_valid(&pack) { Ok(ZSet(Form::Small(pack))) } else { Err(InvalidListPack) }
    }

    /// The listpack of a small set.
    pub fn as_listpack(&self) -> Option<&ListPack> {
        match &self.0 {
            Form::Small(pack) => Some(pack),
            Form::Large(_) => None,
        }
    }

    /// Takes the large form when `len` members of up to `longest` bytes need it. `ZADD` asks so before it adds.
    pub fn prepare(&mut self, len: usize, longest: usize, limits: &Limits) {
        if len > limits.zset_max_listpack_entries || longest > limits.zset_max_listpack_value {
            self.enlarge();
        }
    }

    /// Takes the small form when the thresholds allow it; for results that are stored.
    pub fn compact(&mut self, limits: &Limits) {
        let Form::Large(large) = &self.0 else { return };
        if large.len() > limits.zset_max_listpack_entries {
            return;
        }
        let mut pack = ListPack::new();
        let mut walk = large.walk(0, usize::MAX, false);
        while let Some((member, score)) = walk.next() {
            if member.len() > limits.zset_max_listpack_value || !small::fits(&pack, member) {
                return;
            }
            small::push(&mut pack, member, score);
        }
        self.0 = Form::Small(pack);
    }

    fn enlarge(&mut self) {
        let Form::Small(pack) = &self.0 else { return };
        let mut large = Large::new();
        let mut text = crate::IntText::new();
        for (member, score) in small::pairs(pack) {
            large.add(score, member.as_bytes(&mut text));
        }
        self.0 = Form::Large(Box::new(large));
    }

    /// The member's score.
    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.0 {
            Form::Small(pack) => small::find(pack, member).map(|(_, score)| score),
            Form::Large(large) => large.score(member),
        }
    }

    /// How many elements are before the member, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.0 {
            Form::Small(pack) => small::rank(pack, member),
            Form::Large(large) => large.rank(member),
        }
    }

    /// Hands the member's score to `decide` (`None` for a new member) and sets the one that it returns, if any. NaN is never
    /// set: it has no place in the order.
    #[inline]
    pub fn update(&mut self, member: &[u8], limits: &Limits, decide: impl FnOnce(Option<f64>) -> Option<f64>) {
        let decide = |old| decide(old).filter(|score| !score.is_nan());
        let pack = match &mut self.0 {
            Form::Large(large) => return large.update(member, decide),
            Form::Small(pack) => pack,
        };
        if let Some((pos, old)) = small::find(pack, member) {
            if let Some(score) = decide(Some(old))
                && score != old
            {
                pack.remove(pos, 2);
                small::insert(pack, member, score);
            }
            return;
        }
        let Some(score) = decide(None) else { return };
        let too_many = pack.len() / 2 + 1 > limits.zset_max_listpack_entries;
        if too_many || member.len() > limits.zset_max_listpack_value || !small::fits(pack, member) {
            self.enlarge();
            if let Form::Large(large) = &mut self.0 {
                large.add(score, member);
            }
        } else {
            small::insert(pack, member, score);
        }
    }

    /// Sets the member's score, unless it is NaN. Returns the earlier one, when the member is not new.
    pub fn add(&mut self, score: f64, member: &[u8], limits: &Limits) -> Option<f64> {
        let mut old = None;
        self.update(member, limits, |current| {
            old = current;
            Some(score)
        });
        old
    }

    /// Removes the member; its score.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.0 {
            Form::Small(pack) => {
                let (pos, score) = small::find(pack, member)?;
                pack.remove(pos, 2);
                Some(score)
            }
            Form::Large(large) => large.remove(member),
        }
    }

    /// Removes the elements of these ranks.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        if ranks.is_empty() {
            return;
        }
        match &mut self.0 {
            Form::Small(pack) => {
                if let Some(pos) = isize::try_from(ranks.start * 2).ok().and_then(|index| pack.seek(index)) {
                    pack.remove(pos, (ranks.end - ranks.start).saturating_mul(2));
                }
            }
            Form::Large(large) => large.remove_ranks(ranks.start, ranks.end),
        }
    }

    /// The ranks of the elements with scores in the range.
    pub fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let (start, end) = match &self.0 {
            Form::Small(pack) => small::ranks(pack, |score, _| range.is_below(score), |score, _| range.is_above(score)),
            Form::Large(large) => (
                large.partition_by_score(|score| range.is_below(score)),
                large.partition_by_score(|score| !range.is_above(score)),
            ),
        };
        start..end.max(start)
    }

    /// The ranks of the elements with members in the range. Meaningful when all scores are the same.
    pub fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let (start, end) = match &self.0 {
            Form::Small(pack) => {
                let mut text = crate::IntText::new();
                let mut other_text = crate::IntText::new();
                small::ranks(
                    pack,
                    |_, member| range.is_below(member.as_bytes(&mut text)),
                    |_, member| range.is_above(member.as_bytes(&mut other_text)),
                )
            }
            Form::Large(large) => (
                large.partition(&|_, member| range.is_below(member)),
                large.partition(&|_, member| !range.is_above(member)),
            ),
        };
        start..end.max(start)
    }

    /// All elements in order.
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..self.len(), false)
    }

    /// The elements of these ranks in order, or backwards.
    pub fn range(&self, ranks: Range<usize>, reverse: bool) -> Iter<'_> {
        Iter::new(&self.0, ranks, reverse)
    }

    /// The element of a rank.
    pub fn at(&self, rank: usize) -> Option<(Element<'_>, f64)> {
        self.range(rank..rank.saturating_add(1), false).next()
    }

    /// A part of a scan: calls `visit` for about `count` elements and returns the cursor to go on from, zero at the end. An
    /// element that is there all the time is visited at least once, whatever else happens to the set. A small set is visited
    /// as a whole.
    pub fn scan(&self, cursor: u64, count: usize, visit: &mut dyn FnMut(Element<'_>, f64)) -> u64 {
        match &self.0 {
            Form::Small(pack) => {
                small::pairs(pack).for_each(|(member, score)| visit(member, score));
                0
            }
            Form::Large(large) => {
                // No hash is above 32 bits: such a cursor was never given, and is at the end.
                let Ok(from) = u32::try_from(cursor) else { return 0 };
                large.scan(from, count, &mut |member, score| visit(Element::Str(member), score)).map_or(0, u64::from)
            }
        }
    }
}

impl PartialEq for ZSet {
    fn eq(&self, other: &Self) -> bool {
        let (mut own, mut others) = (crate::IntText::new(), crate::IntText::new());
        self.len() == other.len()
            && self.iter().zip(other.iter()).all(|((member, score), (other, other_score))| {
                score == other_score && member.as_bytes(&mut own) == other.as_bytes(&mut others)
            })
    }
}

impl Collection for ZSet {
    fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        match &mut self.0 {
            Form::Small(pack) => {
                pack.relocate(mover);
                0
            }
            Form::Large(large) => {
                if from == 0 {
                    mover.boxed(large, Large::new);
                }
                large.relocate(from, mover)
            }
        }
    }

    fn len(&self) -> usize {
        match &self.0 {
            Form::Small(pack) => pack.len() / 2,
            Form::Large(large) => large.len(),
        }
    }

    fn encoding(&self) -> Encoding {
        match &self.0 {
            Form::Small(_) => Encoding::ListPack,
            Form::Large(_) => Encoding::SkipList,
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Small(pack) => pack.heap_bytes(),
            Form::Large(large) => size_class(size_of::<Large>()) + large.heap_bytes(),
        }
    }

    fn free_effort(&self) -> usize {
        match &self.0 {
            Form::Small(_) => 1,
            Form::Large(large) => 1 + large.allocations(),
        }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Ranges of scores and of members, as commands name them. Not here: their text.

use std::cmp::Ordering;

/// A range of scores; neither end is NaN.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct ScoreRange {
    /// Lower end.
    pub min: f64,
    /// The lower end itself is left out.
    pub min_excluded: bool,
    /// Upper end.
    pub max: f64,
    /// The upper end itself is left out.
    pub max_excluded: bool,
}

impl ScoreRange {
    /// No score is in the range.
    pub fn is_empty(&self) -> bool {
        self.min > self.max || (self.min == self.max && (self.min_excluded || self.max_excluded))
    }

    /// The score is before the range.
    #[inline]
    pub fn is_below(&self, score: f64) -> bool {
        if self.min_excluded { score <= self.min } else { score < self.min }
    }

    /// The score is behind the range.
    #[inline]
    pub fn is_above(&self, score: f64) -> bool {
        if self.max_excluded { score >= self.max } else { score > self.max }
    }
}

/// An end of a range of members.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum LexBound<'a> {
    /// Before every member.
    Lowest,
    /// Behind every member.
    Highest,
    /// This member, itself in the range.
    Included(&'a [u8]),
    /// This member, itself outside.
    Excluded(&'a [u8]),
}

impl<'a> LexBound<'a> {
    fn key(self) -> (i8, &'a [u8]) {
        match self {
            LexBound::Lowest => (-1, b""),
            LexBound::Included(member) | LexBound::Excluded(member) => (0, member),
            LexBound::Highest => (1, b""),
        }
    }

    fn is_included(self) -> bool {
        matches!(self, LexBound::Included(_))
    }
}

/// A range of members.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct LexRange<'a> {
    /// Lower end.
    pub min: LexBound<'a>,
    /// Upper end.
    pub max: LexBound<'a>,
}

impl LexRange<'_> {
    /// No member is in the range.
    pub fn is_empty(&self) -> bool {
        match self.min.key().cmp(&self.max.key()) {
            Ordering::Greater => true,
            Ordering::Equal => !(self.min.is_included() && self.max.is_included()),
            Ordering::Less => false,
        }
    }

    /// The member is before the range.
    #[inline]
    pub fn is_below(&self, member: &[u8]) -> bool {
        match self.min {
            LexBound::Lowest => false,
            LexBound::Highest => true,
            LexBound::Included(min) => member < min,
            LexBound::Excluded(min) => member <= min,
        }
    }

    /// The member is behind the range.
    #[inline]
    pub fn is_above(&self, member: &[u8]) -> bool {
        match self.max {
            LexBound::Lowest => true,
            LexBound::Highest => false,
            LexBound::Included(max) => member > max,
            LexBound::Excluded(max) => member >= max,
        }
    }
}

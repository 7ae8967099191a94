// SPDX-License-Identifier: BSD-3-Clause
//! All entries of a `Dict`, segment by segment.

use super::segment::{Entries, Segment};
use super::{Dict, split};

/// See [`Dict::iter`].
pub struct Iter<'a, const WIDTH: usize> {
    dict: &'a Dict<WIDTH>,
    /// The segment after the one that is gone through.
    next_segment: usize,
    entries: Entries<'a>,
    left: usize,
}

impl<'a, const WIDTH: usize> Iter<'a, WIDTH> {
    pub(super) fn new(dict: &'a Dict<WIDTH>) -> Self {
        const NOTHING: &Segment = &Segment::EMPTY;
        Self { dict, next_segment: 0, entries: NOTHING.iter(), left: dict.len }
    }
}

impl<'a, const WIDTH: usize> Iterator for Iter<'a, WIDTH> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((_, stored)) = self.entries.next() {
                self.left -= 1;
                return Some(split::<WIDTH>(self.dict.entry(stored)));
            }
            if self.next_segment == self.dict.segments.len() {
                return None;
            }
            self.entries = self.dict.segments.get(self.next_segment).iter();
            self.next_segment += 1;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<const WIDTH: usize> ExactSizeIterator for Iter<'_, WIDTH> {}

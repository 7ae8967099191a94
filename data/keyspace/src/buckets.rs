// SPDX-License-Identifier: BSD-3-Clause
//! The buckets of a table, and arrays of them that grow without copying much.
//!
//! A bucket holds tags (a byte of each entry's hash, zero for none) and handles; in what order and which is whose business
//! is the table's. Called by `table` only.

use crate::entry::Entry;
use pando_slab::Handle;
use pando_values::Mover;

pub(crate) const PER_BUCKET: usize = 10;
pub(crate) const PER_OVERFLOW: usize = 4;
pub(crate) const PER_SMALL: usize = 3;
/// Buckets in an array's first part, and in each of the others.
pub(crate) const SEGMENT: usize = 64;

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Bucket<const N: usize> {
    pub(crate) tags: [u8; N],
    pub(crate) handles: [[u8; 5]; N],
    /// Number of the next overflow bucket plus one; zero ends the chain.
    pub(crate) next: u32,
}

/// A bucket that hashes lead to: one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Primary(pub(crate) Bucket<PER_BUCKET>);
const _: () = assert!(size_of::<Primary>() == 64);

pub(crate) type Overflow = Bucket<PER_OVERFLOW>;

/// The entries of a table with few of them, within the table; dense.
#[derive(Clone, Copy)]
pub(crate) struct Small {
    tags: [u8; PER_SMALL],
    handles: [[u8; 5]; PER_SMALL],
    /// Always zero: it stands for a bucket without a chain.
    next: u32,
}

impl Default for Small {
    fn default() -> Self {
        Small { tags: [0; PER_SMALL], handles: [[0; 5]; PER_SMALL], next: 0 }
    }
}

impl Small {
    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        View { tags: &self.tags, handles: &self.handles, next: 0 }
    }

    #[inline]
    pub(crate) fn view_mut(&mut self) -> ViewMut<'_> {
        ViewMut { tags: &mut self.tags, handles: &mut self.handles, next: &mut self.next }
    }
}

impl<const N: usize> Bucket<N> {
    const EMPTY: Self = Bucket { tags: [0; N], handles: [[0; 5]; N], next: 0 };
}

/// Both kinds of buckets.
pub(crate) trait Slots: Copy {
    const EMPTY: Self;
    fn view(&self) -> View<'_>;
    fn view_mut(&mut self) -> ViewMut<'_>;
}

impl<const N: usize> Slots for Bucket<N> {
    const EMPTY: Self = Bucket::EMPTY;

    #[inline]
    fn view(&self) -> View<'_> {
        View { tags: &self.tags, handles: &self.handles, next: self.next }
    }

    #[inline]
    fn view_mut(&mut self) -> ViewMut<'_> {
        ViewMut { tags: &mut self.tags, handles: &mut self.handles, next: &mut self.next }
    }
}

impl Slots for Primary {
    const EMPTY: Self = Primary(Bucket::EMPTY);

    #[inline]
    fn view(&self) -> View<'_> {
        self.0.view()
    }

    #[inline]
    fn view_mut(&mut self) -> ViewMut<'_> {
        self.0.view_mut()
    }
}

/// One bucket of either kind.
pub(crate) struct View<'t> {
    pub(crate) tags: &'t [u8],
    pub(crate) handles: &'t [[u8; 5]],
    pub(crate) next: u32,
}

/// See [`View`].
pub(crate) struct ViewMut<'t> {
    pub(crate) tags: &'t mut [u8],
    pub(crate) handles: &'t mut [[u8; 5]],
    pub(crate) next: &'t mut u32,
}

pub(crate) fn len_of(tags: &[u8]) -> usize {
    tags.iter().position(|&tag| tag == 0).unwrap_or(tags.len())
}

impl View<'_> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        len_of(self.tags)
    }

    #[inline]
    pub(crate) fn entry(&self, index: usize) -> Entry {
        Entry(Handle::from_bytes(self.handles[index]))
    }
}

/// Of eight tags those that equal `tag`, as the top bits of their bytes.
#[inline]
fn matches(tags: [u8; 8], tag: u8) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
    let differing = u64::from_le_bytes(tags) ^ u64::from_ne_bytes([tag; 8]);
    !(((differing & LOW) + LOW) | differing | LOW)
}

/// The first of ten tags that equals `tag` and whose index `is_it` accepts.
#[inline]
pub(crate) fn find_tag(tags: &[u8; PER_BUCKET], tag: u8, mut is_it: impl FnMut(usize) -> bool) -> Option<usize> {
    let [a, b, c, d, e, f, g, h, last @ ..] = *tags;
    let mut found = matches([a, b, c, d, e, f, g, h], tag);
    while found != 0 {
        let index = (found.trailing_zeros() / 8) as usize;
        if is_it(index) {
            return Some(index);
        }
        found &= found - 1;
    }
    (8..PER_BUCKET).find(|&index| last[index - 8] == tag && is_it(index))
}

/// The capacity that follows on `len` elements of `size` bytes: the next of jemalloc's size classes, of which there are
/// four for each doubling, so that nothing is lost to rounding.
fn grown(len: usize, size: usize) -> usize {
    let wanted = (len + 1) * size;
    let step = if wanted <= 128 { 16 } else { (wanted - 1).next_power_of_two() / 8 };
    (wanted.next_multiple_of(step) / size).max(len + 1)
}

/// Buckets in one exactly grown array up to a segment, then in segments, so that growth never copies much.
#[repr(C)]
pub(crate) struct Buckets<B> {
    len: u32,
    first: Vec<B>,
    /// Small tables have none: eight bytes, so that a slot's counters share the cache lines of its table.
    #[allow(clippy::box_collection, reason = "see above")]
    more: Option<Box<Vec<Segment<B>>>>,
}

type Segment<B> = Box<[B; SEGMENT]>;

impl<B> Default for Buckets<B> {
    fn default() -> Self {
        Buckets { len: 0, first: Vec::new(), more: None }
    }
}

impl<B: Slots> Buckets<B> {
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Where the first array begins.
    pub(crate) fn first(&self) -> *mut u8 {
        self.first.as_ptr().cast_mut().cast()
    }

    #[inline]
    fn more(&self) -> &[Segment<B>] {
        self.more.as_ref().map_or(&[], |more| more)
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> &B {
        let number = number as usize;
        if number < SEGMENT { &self.first[number] } else { &self.more()[number / SEGMENT - 1][number % SEGMENT] }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> &mut B {
        let number = number as usize;
        if number < SEGMENT {
            return &mut self.first[number];
        }
        let more = self.more.as_mut().expect("a table of this size has segments");
        &mut more[number / SEGMENT - 1][number % SEGMENT]
    }

    pub(crate) fn push(&mut self) -> u32 {
        let number = self.len;
        if (number as usize) < SEGMENT {
            if self.first.len() == self.first.capacity() {
                let len = self.first.len();
                self.first.reserve_exact(grown(len, size_of::<B>()) - len);
            }
            self.first.push(B::EMPTY);
        } else if (number as usize).is_multiple_of(SEGMENT) {
            self.more.get_or_insert_default().push(Box::new([B::EMPTY; SEGMENT]));
        }
        self.len += 1;
        number
    }

    pub(crate) fn pop(&mut self) {
        self.len -= 1;
        let len = self.len as usize;
        if len < SEGMENT {
            self.first.truncate(len);
            // Slots have few buckets each, so that even one to spare would be much.
            let enough = grown(len.saturating_sub(1), size_of::<B>());
            if self.first.capacity() > enough + len / 8 {
                self.first.shrink_to(enough);
            }
        } else if len.is_multiple_of(SEGMENT) {
            let Some(more) = &mut self.more else { return };
            more.pop();
            if more.is_empty() {
                self.more = None;
            } else if more.capacity() > 64 && more.capacity() > more.len() * 4 {
                more.shrink_to(more.len() * 2);
            }
        } else {
            *self.get_mut(self.len) = B::EMPTY;
        }
    }

    /// Moves the arrays that lie in sparse memory of the heap.
    pub(crate) fn relocate(&mut self, mover: &mut Mover<'_>) {
        mover.vec(&mut self.first);
        for segment in self.more.iter_mut().flat_map(|more| more.iter_mut()) {
            if mover.wants(segment.as_ptr()) {
                *segment = segment.clone();
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.first.capacity() * size_of::<B>()
            + self.more().len() * SEGMENT * size_of::<B>()
            + self.more.as_ref().map_or(0, |more| more.capacity() * size_of::<usize>())
    }
}

#[cfg(test)]
mod tests {
    use super::{Overflow, PER_BUCKET, Primary, find_tag, grown};

    #[test]
    fn finds_every_tag_once_and_in_order() {
        // Neighbours whose difference is one are where a borrow would show.
        let tags: [u8; PER_BUCKET] = [1, 2, 1, 0x80, 0x81, 1, 0x7f, 0, 1, 1];
        for tag in 0..=255u8 {
            let mut seen = Vec::new();
            assert_eq!(
                find_tag(&tags, tag, |index| {
                    seen.push(index);
                    false
                }),
                None
            );
            let expected: Vec<usize> = (0..PER_BUCKET).filter(|&index| tags[index] == tag).collect();
            assert_eq!(seen, expected, "{tag}");
            assert_eq!(find_tag(&tags, tag, |_| true), expected.first().copied());
        }
    }

    #[test]
    fn capacities_fill_size_classes() {
        let mut capacities = vec![0];
        while capacities.len() < 12 {
            capacities.push(grown(capacities[capacities.len() - 1], size_of::<Primary>()));
        }
        assert_eq!(capacities, [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14]);
        assert_eq!(size_of::<Overflow>(), 28);
        assert_eq!(grown(0, 28), 1);
        assert_eq!(grown(4, 28), 5);
        assert_eq!(grown(5, 28), 6);
        assert_eq!(grown(9, 28), 11);
    }
}

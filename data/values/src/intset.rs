// SPDX-License-Identifier: BSD-3-Clause
//! Intset: a sorted array of integers in Valkey's bytes, so that RDB files and `DUMP` payloads take it as it is.
//!
//! ```text
//! width of an integer (2, 4 or 8): u32 LE | count: u32 LE | integers, ascending, LE
//! ```
//! The width only ever grows, to that of the widest integer that was added. Not here: when a set leaves this form. Called
//! by `Set`.

use crate::raw_bytes::{LEN_BYTES, RawBytes};
use crate::relocate::Mover;

const HEAD: usize = 8;
/// The bytes of an intset without integers.
const EMPTY: [u8; HEAD] = [2, 0, 0, 0, 0, 0, 0, 0];

/// The bytes are not an intset.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct InvalidIntSet;

/// A sorted array of integers. See the head of this file.
#[derive(Clone, Default)]
pub struct IntSet {
    /// No bytes at all as long as nothing was added. The memory's own length comes before Valkey's bytes.
    raw: Option<RawBytes>,
}

impl std::fmt::Debug for IntSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl PartialEq for IntSet {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for IntSet {}

fn width_of(int: i64) -> usize {
    if i16::try_from(int).is_ok() {
        2
    } else if i32::try_from(int).is_ok() {
        4
    } else {
        8
    }
}

/// Number `index` of integers of `width` bytes.
#[inline]
fn read(ints: &[u8], width: usize, index: usize) -> i64 {
    let bytes = &ints[index * width..][..width];
    match *bytes {
        [a, b] => i64::from(i16::from_le_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => i64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}

fn write(ints: &mut [u8], width: usize, index: usize, int: i64) {
    ints[index * width..][..width].copy_from_slice(&int.to_le_bytes()[..width]);
}

impl IntSet {
    /// Moves it if it lies in sparse memory.
    pub(crate) fn relocate(&mut self, mover: &mut Mover<'_>) {
        if let Some(raw) = &mut self.raw {
            raw.relocate(mover);
        }
    }

    /// Without integers.
    pub const fn new() -> Self {
        Self { raw: None }
    }

    /// The intset whose bytes are these, if they are one: at least one integer, ascending, none twice.
    pub fn from_bytes_checked(bytes: Vec<u8>) -> Result<Self, InvalidIntSet> {
        let (head, ints) = bytes.split_at_checked(HEAD).ok_or(InvalidIntSet)?;
        let (width, count) = (head_word(head, 0), head_word(head, 4));
        if !matches!(width, 2 | 4 | 8) || count == 0 || count.checked_mul(width) != Some(ints.len()) {
            return Err(InvalidIntSet);
        }
        if (1..count).any(|index| read(ints, width, index - 1) >= read(ints, width, index)) {
            return Err(InvalidIntSet);
        }
        Ok(Self { raw: Some(packed(&bytes)) })
    }

    /// Valkey's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.raw.as_ref().map_or(&EMPTY, |raw| &raw.get()[LEN_BYTES..])
    }

    /// Number of integers.
    #[inline]
    pub fn len(&self) -> usize {
        head_word(self.bytes(), 4)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the allocation.
    pub fn heap_bytes(&self) -> usize {
        self.raw.as_ref().map_or(0, RawBytes::capacity)
    }

    #[inline]
    fn width(&self) -> usize {
        head_word(self.bytes(), 0)
    }

    #[inline]
    fn ints(&self) -> &[u8] {
        &self.bytes()[HEAD..]
    }

    /// The integer at an index, in ascending order.
    pub fn get(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| read(self.ints(), self.width(), index))
    }

    /// The smallest and the largest.
    pub fn bounds(&self) -> Option<(i64, i64)> {
        Some((self.get(0)?, self.get(self.len().checked_sub(1)?)?))
    }

    /// All integers, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + '_ {
        let (ints, width) = (self.ints(), self.width());
        (0..self.len()).map(move |index| read(ints, width, index))
    }

    /// Where the integer is, or where it would have to be put.
    #[inline]
    fn search(&self, int: i64) -> Result<usize, usize> {
        let (ints, width, len) = (self.ints(), self.width(), self.len());
        if len == 0 || int > read(ints, width, len - 1) {
            return Err(len);
        }
        let (mut low, mut size) = (0, len);
        while size > 1 {
            let half = size / 2;
            if read(ints, width, low + half) <= int {
                low += half;
            }
            size -= half;
        }
        match read(ints, width, low).cmp(&int) {
            std::cmp::Ordering::Equal => Ok(low),
            std::cmp::Ordering::Less => Err(low + 1),
            std::cmp::Ordering::Greater => Err(low),
        }
    }

    /// Whether the integer is there.
    #[inline]
    pub fn contains(&self, int: i64) -> bool {
        self.search(int).is_ok()
    }

    /// Adds an integer. Returns whether it was new.
    pub fn insert(&mut self, int: i64) -> bool {
        let Err(index) = self.search(int) else { return false };
        let (len, width) = (self.len(), self.width().max(width_of(int)));
        if width > self.width() {
            self.widen(width);
        }
        let raw = self.raw.get_or_insert_with(|| packed(&EMPTY));
        raw.resize(LEN_BYTES + HEAD + (len + 1) * width);
        let ints = &mut raw.content_mut()[HEAD..];
        ints.copy_within(index * width..len * width, (index + 1) * width);
        write(ints, width, index, int);
        self.set_len(len + 1);
        true
    }

    /// Removes an integer. Returns whether it was there.
    pub fn remove(&mut self, int: i64) -> bool {
        let Ok(index) = self.search(int) else { return false };
        let (len, width) = (self.len(), self.width());
        let Some(raw) = &mut self.raw else { return false };
        raw.content_mut()[HEAD..].copy_within((index + 1) * width.., index * width);
        raw.resize(LEN_BYTES + HEAD + (len - 1) * width);
        self.set_len(len - 1);
        true
    }

    fn widen(&mut self, width: usize) {
        let (len, old_width) = (self.len(), self.width());
        let mut bytes = Vec::with_capacity(HEAD + len * width);
        bytes.extend_from_slice(&(width as u32).to_le_bytes());
        bytes.extend_from_slice(&(len as u32).to_le_bytes());
        for index in 0..len {
            bytes.extend_from_slice(&read(self.ints(), old_width, index).to_le_bytes()[..width]);
        }
        self.raw = Some(packed(&bytes));
    }

    fn set_len(&mut self, len: usize) {
        if let Some(raw) = &mut self.raw {
            raw.content_mut()[4..HEAD].copy_from_slice(&(len as u32).to_le_bytes());
        }
    }
}

fn packed(bytes: &[u8]) -> RawBytes {
    let len = LEN_BYTES + bytes.len();
    RawBytes::new(&[&(len as u32).to_le_bytes(), bytes].concat())
}

#[inline]
fn head_word(bytes: &[u8], at: usize) -> usize {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random_below;
    use std::collections::BTreeSet;

    #[test]
    fn bytes_are_valkeys() {
        let mut set = IntSet::new();
        assert_eq!(set.bytes(), [2, 0, 0, 0, 0, 0, 0, 0]);
        assert!(set.insert(5) && set.insert(-1) && !set.insert(5));
        assert_eq!(set.bytes(), [2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 5, 0]);
        assert!(set.insert(0x1_0000));
        assert_eq!(set.bytes(), [&[4, 0, 0, 0, 3, 0, 0, 0, 255, 255, 255, 255, 5, 0, 0, 0, 0, 0, 1, 0][..]].concat());
        // The width stays when the wide integer goes.
        assert!(set.remove(0x1_0000) && !set.remove(7));
        assert_eq!(set.bytes(), [4, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255, 5, 0, 0, 0]);
    }

    #[test]
    fn behaves_as_a_set() {
        for (low, span) in [(-5, 10), (-40_000, 80_000), (-3_000_000_000, 6_000_000_000), (i64::MIN, i64::MAX)] {
            let (mut set, mut model) = (IntSet::new(), BTreeSet::new());
            for _ in 0..2000 {
                let int = low + random_below((span as usize).min(1 << 62)) as i64;
                let int = if random_below(2) == 0 { int } else { int % 100 };
                match random_below(3) {
                    0 => assert_eq!(set.remove(int), model.remove(&int)),
                    _ => assert_eq!(set.insert(int), model.insert(int)),
                }
                assert_eq!((set.contains(int), set.len()), (model.contains(&int), model.len()));
            }
            assert!(set.iter().eq(model.iter().copied()));
            assert_eq!(set.bounds(), model.first().copied().zip(model.last().copied()));
            assert_eq!(IntSet::from_bytes_checked(set.bytes().to_vec()), Ok(set));
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [
            &[][..],
            &[2, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0],
            &[2, 0, 0, 0, 1, 0, 0, 0, 1],
            &[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0],
            &[2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 0],
            &[8, 0, 0, 0, 255, 255, 255, 255, 1],
        ] {
            assert_eq!(IntSet::from_bytes_checked(bytes.to_vec()), Err(InvalidIntSet), "{bytes:?}");
        }
    }
}

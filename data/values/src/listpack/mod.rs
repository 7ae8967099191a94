// SPDX-License-Identifier: BSD-3-Clause
//! Listpack: a sequence of strings and integers in one allocation, in Valkey's bytes, so that RDB files and `DUMP`
//! payloads take it as it is.
//!
//! ```text
//! total bytes: u32 LE | elements: u16 LE (65535: count them) | entry ... | 0xFF
//! entry: encoding and data (entry.rs) | length of these in 7-bit groups, readable backwards, 1 to 5 bytes
//! ```
//!
//! A string that is the canonical text of an `i64` is stored as an integer; reading gives [`Element::Int`], and equality
//! with bytes needs no allocation. Positions ([`Pos`]) are byte offsets: they stay good while nothing before them
//! changes. Passing a position that is not of this listpack's current content is a bug of the caller: the reply is then
//! arbitrary, or a panic of the slice access, never undefined behaviour.
//!
//! Not here: when a collection leaves this form. Called by the small forms of list, set, hash and sorted set, by the
//! nodes of large lists and by streams. Total size must stay below [`LISTPACK_BYTES_MAX`]: callers ask [`ListPack::may_add`].

mod check;
mod entry;
mod iter;

pub use check::InvalidListPack;
pub use entry::Element;
pub use iter::Iter;

use entry::Encoded;

use crate::number::parse_canonical_i64;
use crate::size_class::size_class;

/// Bytes before the first entry.
const HEAD: usize = 6;
/// The last byte.
const END: u8 = 0xFF;
/// The count in the header when there are more elements than it can say.
const COUNT_UNKNOWN: u16 = u16::MAX;
/// A listpack never grows over this many bytes; Valkey's limit.
pub const LISTPACK_BYTES_MAX: usize = 1 << 30;

/// Where an entry starts, or the end.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub struct Pos(u32);

impl Pos {
    fn at(offset: usize) -> Pos {
        debug_assert!(offset <= u32::MAX as usize);
        Pos(offset as u32)
    }

    fn offset(self) -> usize {
        self.0 as usize
    }
}

/// A sequence of strings and integers in Valkey's listpack bytes.
#[derive(Eq, PartialEq)]
pub struct ListPack {
    /// A valid listpack, header to end. The capacity is a size class of the allocator.
    bytes: Vec<u8>,
}

impl Default for ListPack {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for ListPack {
    fn clone(&self) -> Self {
        let mut bytes = Vec::with_capacity(size_class(self.bytes.len()));
        bytes.extend_from_slice(&self.bytes);
        ListPack { bytes }
    }
}

impl std::fmt::Debug for ListPack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl ListPack {
    /// An empty listpack.
    pub fn new() -> ListPack {
        ListPack::with_capacity(0)
    }

    /// An empty listpack with room for `entry_bytes` bytes of entries ([`ListPack::entry_bytes`]).
    pub fn with_capacity(entry_bytes: usize) -> ListPack {
        let mut bytes = Vec::with_capacity(size_class(HEAD + 1 + entry_bytes));
        bytes.extend_from_slice(&[HEAD as u8 + 1, 0, 0, 0, 0, 0, END]);
        ListPack { bytes }
    }

    /// The listpack whose bytes are `bytes`, after every entry has been checked. Never panics, whatever the bytes.
    pub fn from_bytes_checked(mut bytes: Vec<u8>) -> Result<ListPack, InvalidListPack> {
        check::check(&bytes)?;
        let fit = size_class(bytes.len());
        if bytes.capacity() != fit {
            bytes.shrink_to(fit);
            bytes.reserve_exact(fit - bytes.len());
        }
        Ok(ListPack { bytes })
    }

    /// The exact bytes, header to end.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of the allocation.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Elements. O(1) up to 65534, else O(n).
    #[inline]
    pub fn len(&self) -> usize {
        match u16::from_le_bytes([self.bytes[4], self.bytes[5]]) {
            COUNT_UNKNOWN => self.count(),
            count => usize::from(count),
        }
    }

    /// Whether there are no elements. O(1).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEAD + 1
    }

    /// Bytes that `element` takes as an entry.
    #[inline]
    pub fn entry_bytes(element: &[u8]) -> usize {
        Encoded::of(element).len()
    }

    /// Whether `bytes` more bytes of entries keep the whole below [`LISTPACK_BYTES_MAX`].
    #[inline]
    pub fn may_add(&self, bytes: usize) -> bool {
        bytes <= LISTPACK_BYTES_MAX && self.bytes.len() + bytes <= LISTPACK_BYTES_MAX
    }

    /// The first entry, or the end.
    #[inline]
    pub fn first(&self) -> Pos {
        Pos::at(HEAD)
    }

    /// The end: where [`ListPack::insert`] appends.
    #[inline]
    pub fn end(&self) -> Pos {
        Pos::at(self.bytes.len() - 1)
    }

    /// The last entry.
    #[inline]
    pub fn last(&self) -> Option<Pos> {
        self.prev(self.end())
    }

    /// The entry after `pos`, or the end.
    #[inline]
    pub fn next(&self, pos: Pos) -> Pos {
        Pos::at(pos.offset() + entry::whole_len(&self.bytes[pos.offset()..]))
    }

    /// The entry before `pos`, which may be the end.
    #[inline]
    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        (pos.offset() > HEAD).then(|| Pos::at(pos.offset() - entry::whole_len_backwards(&self.bytes[..pos.offset()])))
    }

    /// The element at `pos`, `None` at the end.
    #[inline]
    pub fn at(&self, pos: Pos) -> Option<Element<'_>> {
        (pos.offset() < self.bytes.len() - 1).then(|| entry::decode(&self.bytes[pos.offset()..]))
    }

    /// The entry of `index`, counted from the end when negative (-1 is the last). O(n) from the nearer end.
    pub fn seek(&self, index: isize) -> Option<Pos> {
        let len = self.len();
        let from_front = if index >= 0 { index as usize } else { len.checked_sub(index.unsigned_abs())? };
        if from_front >= len {
            return None;
        }
        if from_front <= len / 2 {
            let mut pos = self.first();
            for _ in 0..from_front {
                pos = self.next(pos);
            }
            return Some(pos);
        }
        let mut pos = self.end();
        for _ in from_front..len {
            pos = self.prev(pos)?;
        }
        Some(pos)
    }

    /// The element of `index`, counted from the end when negative.
    pub fn get(&self, index: isize) -> Option<Element<'_>> {
        self.seek(index).and_then(|pos| self.at(pos))
    }

    /// The elements, from either end.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(self.first())
    }

    /// The elements from `pos` on.
    #[inline]
    pub fn iter_from(&self, pos: Pos) -> Iter<'_> {
        Iter::new(&self.bytes[pos.offset()..self.bytes.len() - 1])
    }

    /// The entry of the first element from `from` on that equals `needle`, looking at one element, leaving out `skip`
    /// elements, looking at the next, and so on (`skip` 1 looks at the keys of key-value pairs).
    pub fn find(&self, needle: &[u8], from: Pos, skip: usize) -> Option<Pos> {
        let int = parse_canonical_i64(needle);
        let end = self.bytes.len() - 1;
        let mut offset = from.offset();
        while offset < end {
            let entry = &self.bytes[offset..];
            if entry::decode(entry).is_parsed(needle, int) {
                return Some(Pos::at(offset));
            }
            offset += entry::whole_len(entry);
            for _ in 0..skip {
                if offset >= end {
                    return None;
                }
                offset += entry::whole_len(&self.bytes[offset..]);
            }
        }
        None
    }

    /// Appends an element.
    #[inline]
    pub fn push_back(&mut self, element: &[u8]) {
        self.insert_encoded(self.end(), &Encoded::of(element));
    }

    /// Appends an integer.
    #[inline]
    pub fn push_back_int(&mut self, int: i64) {
        self.insert_encoded(self.end(), &Encoded::of_int(int));
    }

    /// Appends an element of another listpack.
    #[inline]
    pub fn push_back_element(&mut self, element: Element<'_>) {
        self.insert_encoded(self.end(), &Encoded::of_element(element));
    }

    /// Puts an element in front.
    #[inline]
    pub fn push_front(&mut self, element: &[u8]) {
        self.insert_encoded(self.first(), &Encoded::of(element));
    }

    /// Puts an element before `pos` (at the end: appends). `pos` is then the new entry.
    pub fn insert(&mut self, pos: Pos, element: &[u8]) {
        self.insert_encoded(pos, &Encoded::of(element));
    }

    /// [`ListPack::insert`] of an integer.
    pub fn insert_int(&mut self, pos: Pos, int: i64) {
        self.insert_encoded(pos, &Encoded::of_int(int));
    }

    /// Replaces the element at `pos`, which stays the entry's position.
    pub fn replace(&mut self, pos: Pos, element: &[u8]) {
        self.replace_encoded(pos, &Encoded::of(element));
    }

    /// [`ListPack::replace`] by an integer.
    pub fn replace_int(&mut self, pos: Pos, int: i64) {
        self.replace_encoded(pos, &Encoded::of_int(int));
    }

    /// Removes up to `count` elements from `pos` on; `pos` is then the entry after them. Gives how many were removed.
    pub fn remove(&mut self, pos: Pos, count: usize) -> usize {
        let end = self.bytes.len() - 1;
        let mut stop = pos.offset();
        let mut removed = 0;
        while removed < count && stop < end {
            stop += entry::whole_len(&self.bytes[stop..]);
            removed += 1;
        }
        self.close_gap(pos.offset(), stop, removed);
        removed
    }

    /// Removes the elements before `pos`, which must be `count`.
    pub fn remove_before(&mut self, pos: Pos, count: usize) {
        debug_assert_eq!(self.iter().count() - self.iter_from(pos).count(), count);
        self.close_gap(HEAD, pos.offset(), count);
    }

    /// Removes the elements from `pos` on, which must be `count`.
    pub fn truncate(&mut self, pos: Pos, count: usize) {
        debug_assert_eq!(self.iter_from(pos).count(), count);
        self.close_gap(pos.offset(), self.bytes.len() - 1, count);
    }

    /// Removes all elements from `pos` on and gives them as a listpack of their own. O(bytes).
    pub fn split_off(&mut self, pos: Pos) -> ListPack {
        let count = self.iter_from(pos).count();
        let mut tail = ListPack::with_capacity(self.bytes.len() - 1 - pos.offset());
        tail.append_entries(&self.bytes[pos.offset()..self.bytes.len() - 1], count);
        self.close_gap(pos.offset(), self.bytes.len() - 1, count);
        tail
    }

    /// Appends all elements of `other`. O(bytes of `other`).
    pub fn append(&mut self, other: &ListPack) {
        self.append_entries(&other.bytes[HEAD..other.bytes.len() - 1], other.len());
    }

    /// Gives back what the allocation has beyond the content's size class.
    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to(size_class(self.bytes.len()));
    }

    fn count(&self) -> usize {
        self.iter().count()
    }

    fn append_entries(&mut self, entries: &[u8], count: usize) {
        self.reserve(entries.len());
        self.bytes.pop();
        self.bytes.extend_from_slice(entries);
        self.bytes.push(END);
        self.note_change(count as isize);
    }

    fn insert_encoded(&mut self, pos: Pos, encoded: &Encoded<'_>) {
        let (offset, len) = (pos.offset(), encoded.len());
        self.reserve(len);
        let end = self.bytes.len() - 1;
        if offset == end {
            self.bytes.pop();
            encoded.append_to(&mut self.bytes);
            self.bytes.push(END);
        } else {
            self.bytes.resize(end + 1 + len, 0);
            self.bytes.copy_within(offset..=end, offset + len);
            encoded.write_to(&mut self.bytes[offset..offset + len]);
        }
        self.note_change(1);
    }

    fn replace_encoded(&mut self, pos: Pos, encoded: &Encoded<'_>) {
        let (offset, new) = (pos.offset(), encoded.len());
        let old = entry::whole_len(&self.bytes[offset..]);
        let end = self.bytes.len();
        if new > old {
            self.reserve(new - old);
            self.bytes.resize(end + new - old, 0);
        }
        if new != old {
            self.bytes.copy_within(offset + old..end, offset + new);
        }
        encoded.write_to(&mut self.bytes[offset..offset + new]);
        self.bytes.truncate(end + new - old);
        self.note_change(0);
        self.give_back();
    }

    fn close_gap(&mut self, start: usize, stop: usize, count: usize) {
        if start == stop {
            return;
        }
        let len = self.bytes.len();
        self.bytes.copy_within(stop..len, start);
        self.bytes.truncate(len - (stop - start));
        self.note_change(-(count as isize));
        self.give_back();
    }

    /// Room for `more` bytes, so that the capacity is a size class of the allocator: nothing that it gives is wasted, and
    /// most appends do not call it.
    #[inline]
    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            self.bytes.reserve_exact(size_class(needed) - self.bytes.len());
        }
    }

    /// Returns memory once the content is two size classes smaller: a push and a pop in turn call the allocator never.
    #[inline]
    fn give_back(&mut self) {
        let fit = size_class(self.bytes.len());
        if fit * 4 <= self.bytes.capacity() * 3 {
            self.bytes.shrink_to(fit);
        }
    }

    /// Brings the header up to date after `added` elements came (negative: went).
    fn note_change(&mut self, added: isize) {
        let total = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        let old = u16::from_le_bytes([self.bytes[4], self.bytes[5]]);
        let count = match old {
            // Counting again tells whether the header can say it again, as in Valkey only when few are left.
            COUNT_UNKNOWN if added < 0 => self.count(),
            COUNT_UNKNOWN => return,
            old => usize::from(old).saturating_add_signed(added),
        };
        let count = u16::try_from(count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[4..HEAD].copy_from_slice(&count.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;

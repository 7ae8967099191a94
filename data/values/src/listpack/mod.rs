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
pub use entry::{Element, NewElement};
pub use iter::Iter;

use crate::relocate::Mover;
use std::cmp::Ordering;

use crate::raw_bytes::{LEN_BYTES, RawBytes};
use entry::Encoded;

use crate::number::parse_canonical_i64;

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

/// A sequence of strings and integers in Valkey's listpack bytes. The handle is one pointer.
#[derive(Clone)]
pub struct ListPack {
    /// A valid listpack, header to end.
    raw: RawBytes,
}

impl Default for ListPack {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for ListPack {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for ListPack {}

impl std::fmt::Debug for ListPack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl ListPack {
    /// Moves it if it lies in sparse memory.
    pub(crate) fn relocate(&mut self, mover: &mut Mover<'_>) {
        self.raw.relocate(mover);
    }

    /// An empty listpack.
    pub fn new() -> ListPack {
        ListPack { raw: RawBytes::new(&[HEAD as u8 + 1, 0, 0, 0, 0, 0, END]) }
    }

    /// The listpack whose bytes are `bytes`, after every entry has been checked. Never panics, whatever the bytes.
    pub fn from_bytes_checked(bytes: Vec<u8>) -> Result<ListPack, InvalidListPack> {
        check::check(&bytes)?;
        Ok(ListPack { raw: RawBytes::new(&bytes) })
    }

    /// The exact bytes, header to end.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.raw.get()
    }

    /// Bytes of the allocation.
    #[inline]
    pub fn heap_bytes(&self) -> usize {
        self.raw.capacity()
    }

    /// Elements. O(1) up to 65534, else O(n).
    #[inline]
    pub fn len(&self) -> usize {
        let bytes = self.bytes();
        match u16::from_le_bytes([bytes[4], bytes[5]]) {
            COUNT_UNKNOWN => self.count(),
            count => usize::from(count),
        }
    }

    /// Whether there are no elements. O(1).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.raw.len() == HEAD + 1
    }

    /// Bytes that `element` takes as an entry.
    #[inline]
    pub fn entry_bytes(element: &[u8]) -> usize {
        Encoded::of(element).len()
    }

    /// Whether `bytes` more bytes of entries keep the whole below [`LISTPACK_BYTES_MAX`].
    #[inline]
    pub fn may_add(&self, bytes: usize) -> bool {
        bytes <= LISTPACK_BYTES_MAX && self.raw.len() + bytes <= LISTPACK_BYTES_MAX
    }

    /// The first entry, or the end.
    #[inline]
    pub fn first(&self) -> Pos {
        Pos::at(HEAD)
    }

    /// The end: where [`ListPack::insert`] appends.
    #[inline]
    pub fn end(&self) -> Pos {
        Pos::at(self.raw.len() - 1)
    }

    /// The last entry.
    #[inline]
    pub fn last(&self) -> Option<Pos> {
        self.prev(self.end())
    }

    /// The entry after `pos`, or the end.
    #[inline]
    pub fn next(&self, pos: Pos) -> Pos {
        Pos::at(pos.offset() + entry::whole_len(&self.bytes()[pos.offset()..]))
    }

    /// The entry before `pos`, which may be the end.
    #[inline]
    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        (pos.offset() > HEAD).then(|| Pos::at(pos.offset() - entry::whole_len_backwards(&self.bytes()[..pos.offset()])))
    }

    /// The element at `pos`, `None` at the end.
    #[inline]
    pub fn at(&self, pos: Pos) -> Option<Element<'_>> {
        (pos.offset() < self.raw.len() - 1).then(|| entry::decode(&self.bytes()[pos.offset()..]))
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

    /// The elements before `pos`.
    #[inline]
    pub fn iter_until(&self, pos: Pos) -> Iter<'_> {
        Iter::new(&self.bytes()[HEAD..pos.offset()])
    }

    /// The elements from `pos` on.
    #[inline]
    pub fn iter_from(&self, pos: Pos) -> Iter<'_> {
        Iter::new(&self.bytes()[pos.offset()..self.raw.len() - 1])
    }

    /// The entry of the first element from `from` on that equals `needle`, looking at one element, leaving out `skip`
    /// elements, looking at the next, and so on (`skip` 1 looks at the keys of key-value pairs).
    pub fn find(&self, needle: &[u8], from: Pos, skip: usize) -> Option<Pos> {
        let int = parse_canonical_i64(needle);
        let end = self.raw.len() - 1;
        let mut offset = from.offset();
        while offset < end {
            let entry = &self.bytes()[offset..];
            if entry::decode(entry).is_parsed(needle, int) {
                return Some(Pos::at(offset));
            }
            offset += entry::whole_len(entry);
            for _ in 0..skip {
                if offset >= end {
                    return None;
                }
                offset += entry::whole_len(&self.bytes()[offset..]);
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

    /// Appends several elements, with one change of the allocation. Goes over them twice.
    pub fn push_back_all<'e>(&mut self, elements: impl Iterator<Item = NewElement<'e>> + Clone) {
        let bytes = elements.clone().map(|element| Encoded::of_new(element).len()).sum();
        let mut gap = self.open_gap(self.raw.len() - 1, bytes);
        let mut count = 0;
        for element in elements {
            let encoded = Encoded::of_new(element);
            let (own, rest) = gap.split_at_mut(encoded.len());
            encoded.write_to(own);
            gap = rest;
            count += 1;
        }
        self.note_change(count);
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
        let end = self.raw.len() - 1;
        let mut stop = pos.offset();
        let mut removed = 0;
        while removed < count && stop < end {
            stop += entry::whole_len(&self.bytes()[stop..]);
            removed += 1;
        }
        self.remove_span(pos.offset(), stop, removed);
        removed
    }

    /// How many elements equal `needle`.
    pub fn count_matches(&self, needle: &[u8]) -> usize {
        let int = parse_canonical_i64(needle);
        self.iter().filter(|element| element.is_parsed(needle, int)).count()
    }

    /// Keeps the elements that `keep` wants, in one pass. Gives how many went.
    pub fn retain(&mut self, mut keep: impl FnMut(Element<'_>) -> bool) -> usize {
        let end = self.raw.len() - 1;
        let (mut read, mut write, mut removed) = (HEAD, HEAD, 0);
        while read < end {
            let entry = &self.bytes()[read..];
            let len = entry::whole_len(entry);
            if keep(entry::decode(entry)) {
                if read != write {
                    self.raw.content_mut().copy_within(read - LEN_BYTES..read + len - LEN_BYTES, write - LEN_BYTES);
                }
                write += len;
            } else {
                removed += 1;
            }
            read += len;
        }
        self.remove_span(write, end, removed);
        removed
    }

    /// Removes the elements before `pos`, which must be `count`.
    pub fn remove_before(&mut self, pos: Pos, count: usize) {
        debug_assert_eq!(self.iter().count() - self.iter_from(pos).count(), count);
        self.remove_span(HEAD, pos.offset(), count);
    }

    /// Removes the elements from `pos` on, which must be `count`.
    pub fn truncate(&mut self, pos: Pos, count: usize) {
        debug_assert_eq!(self.iter_from(pos).count(), count);
        self.remove_span(pos.offset(), self.raw.len() - 1, count);
    }

    /// Removes all elements from `pos` on and gives them as a listpack of their own. O(bytes).
    pub fn split_off(&mut self, pos: Pos) -> ListPack {
        let count = self.iter_from(pos).count();
        let mut tail = ListPack::new();
        tail.append_entries(&self.bytes()[pos.offset()..self.raw.len() - 1], count);
        self.remove_span(pos.offset(), self.raw.len() - 1, count);
        tail
    }

    /// Appends all elements of `other`. O(bytes of `other`).
    pub fn append(&mut self, other: &ListPack) {
        self.append_entries(&other.bytes()[HEAD..other.raw.len() - 1], other.len());
    }

    fn count(&self) -> usize {
        self.iter().count()
    }

    fn append_entries(&mut self, entries: &[u8], count: usize) {
        let end = self.raw.len() - 1;
        let tail = self.open_gap(end, entries.len());
        tail.copy_from_slice(entries);
        self.note_change(count as isize);
    }

    fn insert_encoded(&mut self, pos: Pos, encoded: &Encoded<'_>) {
        let gap = self.open_gap(pos.offset(), encoded.len());
        encoded.write_to(gap);
        self.note_change(1);
    }

    fn replace_encoded(&mut self, pos: Pos, encoded: &Encoded<'_>) {
        let (offset, new) = (pos.offset(), encoded.len());
        let old = entry::whole_len(&self.bytes()[offset..]);
        match new.cmp(&old) {
            Ordering::Less => self.close_gap(offset + new, offset + old),
            Ordering::Equal => {}
            Ordering::Greater => {
                self.open_gap(offset + old, new - old);
            }
        }
        encoded.write_to(&mut self.raw.content_mut()[offset - LEN_BYTES..][..new]);
    }

    fn remove_span(&mut self, start: usize, stop: usize, count: usize) {
        if start != stop {
            self.close_gap(start, stop);
            self.note_change(-(count as isize));
        }
    }

    /// Moves what is at `offset` back by `len` bytes and gives the room between.
    #[inline]
    fn open_gap(&mut self, offset: usize, len: usize) -> &mut [u8] {
        let end = self.raw.len();
        self.raw.resize(end + len);
        let content = self.raw.content_mut();
        content.copy_within(offset - LEN_BYTES..end - LEN_BYTES, offset - LEN_BYTES + len);
        &mut content[offset - LEN_BYTES..][..len]
    }

    /// Takes the bytes from `start` to `stop` out.
    #[inline]
    fn close_gap(&mut self, start: usize, stop: usize) {
        self.raw.content_mut().copy_within(stop - LEN_BYTES.., start - LEN_BYTES);
        self.raw.resize(self.raw.len() - (stop - start));
    }

    /// Brings the count in the header up to date after `added` elements came (negative: went).
    fn note_change(&mut self, added: isize) {
        let bytes = self.bytes();
        let count = match u16::from_le_bytes([bytes[4], bytes[5]]) {
            // Counting again tells whether the header can say it again.
            COUNT_UNKNOWN if added < 0 => self.count(),
            COUNT_UNKNOWN => return,
            old => usize::from(old).saturating_add_signed(added),
        };
        let count = u16::try_from(count).unwrap_or(COUNT_UNKNOWN);
        self.raw.content_mut()[..HEAD - LEN_BYTES].copy_from_slice(&count.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;

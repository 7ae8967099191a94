// SPDX-License-Identifier: BSD-3-Clause
//! One segment of a `Dict`: some entries, packed into one allocation that clones share.
//!
//! ```text
//! count │ data_len ║ tags of 8 entries │ lengths of 8 entries ║ next 8 ... ║ ... room ... ║ entry 1 ║ entry 0 │
//!   4   │     4    ║         8         │          8           ║            ║              ║         ║         │
//! ```
//! Tags and lengths grow up, the entries' bytes grow down from the end, so that a new entry moves nothing. A lookup compares
//! eight tags at once and finds an entry's place by adding lengths up, eight at once.
//!
//! An entry is either *inline* (up to 254 bytes) or the 4-byte number of a large one kept elsewhere; the length byte 255
//! says which. Not here: hashing, what an entry's bytes mean. Called by `Dict`.

use super::ARC_COUNT;
use crate::relocate::Mover;
use crate::size_class as allocated;
use triomphe::{Arc, HeaderSlice};

/// Longest entry that is kept in a segment.
pub(super) const INLINE_MAX: usize = 254;
/// The length byte of a large entry, and how many bytes its number takes.
const LARGE: u8 = 255;
pub(super) const LARGE_LEN: usize = 4;

const LANES: usize = 8;
/// Eight tags and eight lengths.
const BLOCK: usize = 2 * LANES;
const ONES: u64 = u64::from_ne_bytes([1; 8]);
const LOW_BITS: u64 = ONES * 0x7f;

#[derive(Copy, Clone)]
struct Head {
    count: u32,
    /// Bytes of all entries.
    data_len: u32,
}

const OVERHEAD: usize = ARC_COUNT + size_of::<Head>();

type Packed = Arc<HeaderSlice<Head, [u8]>>;

/// See the head of this file. Holds no memory while it is empty.
#[derive(Clone, Default)]
pub(super) struct Segment(Option<Packed>);

/// Where an entry is; valid until its segment is changed.
#[derive(Copy, Clone)]
pub(super) struct Place {
    index: usize,
    start: usize,
    end: usize,
    is_large: bool,
}

/// An entry's bytes as the segment holds them.
#[derive(Copy, Clone)]
pub(super) enum Stored<'a> {
    Inline(&'a [u8]),
    Large(u32),
}

impl<'a> Stored<'a> {
    #[inline]
    fn new(bytes: &'a [u8], is_large: bool) -> Self {
        if !is_large {
            return Self::Inline(bytes);
        }
        let mut number = [0; LARGE_LEN];
        number.copy_from_slice(bytes);
        Self::Large(u32::from_le_bytes(number))
    }

    /// Bytes that it takes in a segment.
    pub(super) fn packed_len(self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Large(_) => LARGE_LEN,
        }
    }
}

/// High bit of every byte of `word` that equals the same byte of `other`; exact.
#[inline]
fn equal_lanes(word: u64, other: u64) -> u64 {
    let differing = word ^ other;
    !(((differing & LOW_BITS) + LOW_BITS) | differing | LOW_BITS)
}

/// Bytes that the entries of a block of lengths take: large ones count as the size of their number.
#[inline]
fn sizes(lengths: u64) -> u64 {
    let large = equal_lanes(lengths, ONES * LARGE as u64) >> 7;
    lengths - large * (LARGE as u64 - LARGE_LEN as u64)
}

/// The sum of eight bytes.
#[inline]
fn sum(bytes: u64) -> usize {
    const PAIRS: u64 = 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes & PAIRS) + ((bytes >> 8) & PAIRS);
    (pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48) as usize
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[inline]
fn set_word(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

/// Low bits up to byte `lane`.
#[inline]
fn below(lane: usize) -> u64 {
    (1 << (8 * lane)) - 1
}

/// Zeros to start an allocation from.
static ZEROS: [u8; 4096] = [0; 4096];

fn new_packed(head: Head, room: usize) -> Packed {
    match ZEROS.get(..room) {
        Some(zeros) => Arc::from_header_and_slice(head, zeros),
        None => Arc::from_header_and_vec(head, vec![0; room]),
    }
}

/// Room of the smallest allocation that holds `bytes` of tags, lengths and entries.
#[inline]
fn room_for(bytes: usize) -> usize {
    allocated(OVERHEAD + bytes) - OVERHEAD
}

impl Segment {
    pub(super) const EMPTY: Self = Self(None);

    #[inline]
    pub(super) fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |packed| packed.header.count as usize)
    }

    /// Bytes of all entries.
    pub(super) fn data_len(&self) -> usize {
        self.0.as_ref().map_or(0, |packed| packed.header.data_len as usize)
    }

    /// What the allocator gave.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |packed| OVERHEAD + packed.slice.len())
    }

    /// The first entry with this tag that `is_wanted`.
    #[inline]
    pub(super) fn find(&self, tag: u8, mut is_wanted: impl FnMut(Stored<'_>) -> bool) -> Option<Place> {
        let packed = self.0.as_ref()?;
        let bytes = &packed.slice;
        let wanted = ONES * u64::from(tag);
        let mut end = bytes.len();
        for block in 0..(packed.header.count as usize).div_ceil(LANES) {
            let lengths = word(bytes, block * BLOCK + LANES);
            let sizes = sizes(lengths);
            let mut hits = equal_lanes(word(bytes, block * BLOCK), wanted);
            while hits != 0 {
                let lane = hits.trailing_zeros() as usize / 8;
                let end = end - sum(sizes & below(lane));
                let start = end - (sizes >> (8 * lane)) as u8 as usize;
                let is_large = (lengths >> (8 * lane)) as u8 == LARGE;
                if is_wanted(Stored::new(&bytes[start..end], is_large)) {
                    return Some(Place { index: block * LANES + lane, start, end, is_large });
                }
                hits &= hits - 1;
            }
            end -= sum(sizes);
        }
        None
    }

    /// The entry at `index`, if there are so many.
    pub(super) fn nth(&self, index: usize) -> Option<Stored<'_>> {
        let packed = self.0.as_ref().filter(|packed| index < packed.header.count as usize)?;
        let bytes = &packed.slice;
        let mut end = bytes.len();
        for block in 0..index / LANES {
            end -= sum(sizes(word(bytes, block * BLOCK + LANES)));
        }
        let (lengths, lane) = (word(bytes, index / LANES * BLOCK + LANES), index % LANES);
        let sizes = sizes(lengths);
        end -= sum(sizes & below(lane));
        let start = end - (sizes >> (8 * lane)) as u8 as usize;
        Some(Stored::new(&bytes[start..end], (lengths >> (8 * lane)) as u8 == LARGE))
    }

    #[inline]
    pub(super) fn stored(&self, place: Place) -> Stored<'_> {
        let bytes = self.0.as_ref().map_or(&[][..], |packed| &packed.slice[place.start..place.end]);
        Stored::new(bytes, place.is_large)
    }

    /// The entry's bytes for a change: an inline entry, or the number of a large one.
    pub(super) fn bytes_mut(&mut self, place: Place) -> &mut [u8] {
        match self.unique() {
            Some(packed) => &mut packed.slice[place.start..place.end],
            None => &mut [],
        }
    }

    /// All entries with their tags, in their order.
    pub(super) fn iter(&self) -> Entries<'_> {
        match &self.0 {
            Some(packed) => {
                Entries { bytes: &packed.slice, end: packed.slice.len(), index: 0, count: packed.header.count as usize }
            }
            None => Entries { bytes: &[], end: 0, index: 0, count: 0 },
        }
    }

    /// Moves it if it lies in sparse memory.
    pub(super) fn relocate(&mut self, mover: &mut Mover<'_>) {
        if let Some(packed) = &mut self.0
            && packed.is_unique()
            && mover.wants(packed.slice.as_ptr())
        {
            *packed = Arc::from_header_and_slice(packed.header, &packed.slice);
        }
    }

    /// The segment's own copy of its bytes.
    fn unique(&mut self) -> Option<&mut HeaderSlice<Head, [u8]>> {
        let packed = self.0.as_mut()?;
        if !packed.is_unique() {
            *packed = Arc::from_header_and_slice(packed.header, &packed.slice);
        }
        Arc::get_mut(packed)
    }

    /// Moves everything into an allocation with exactly this room, which must suffice, and gives it out.
    fn reallocate(&mut self, room: usize) -> Option<&mut HeaderSlice<Head, [u8]>> {
        let old = self.0.take();
        let mut packed = new_packed(Head { count: 0, data_len: 0 }, room);
        if let (Some(old), Some(new)) = (old, Arc::get_mut(&mut packed)) {
            let (meta, data) = ((old.header.count as usize).div_ceil(LANES) * BLOCK, old.header.data_len as usize);
            new.header = old.header;
            new.slice[..meta].copy_from_slice(&old.slice[..meta]);
            new.slice[room - data..].copy_from_slice(&old.slice[old.slice.len() - data..]);
        }
        Arc::get_mut(self.0.insert(packed))
    }

    /// An empty segment with room for `count` entries of `data_len` bytes together.
    pub(super) fn with_room(count: usize, data_len: usize) -> Self {
        if count == 0 {
            return Self(None);
        }
        let room = room_for(count.div_ceil(LANES) * BLOCK + data_len);
        Self(Some(new_packed(Head { count: 0, data_len: 0 }, room)))
    }

    /// Adds an entry of `len` bytes, to be filled, behind all others. `len` is at most [`INLINE_MAX`], or [`LARGE_LEN`] for
    /// the number of a large one.
    pub(super) fn push(&mut self, tag: u8, len: usize, is_large: bool) -> Place {
        let (count, data_len) = (self.count(), self.data_len());
        let needed = (count + 1).div_ceil(LANES) * BLOCK + data_len + len;
        let packed = match &self.0 {
            Some(packed) if packed.slice.len() >= needed => self.unique(),
            _ => self.reallocate(room_for(needed)),
        };
        let Some(packed) = packed else { return Place { index: 0, start: 0, end: 0, is_large } };
        packed.header = Head { count: count as u32 + 1, data_len: (data_len + len) as u32 };
        let bytes = &mut packed.slice;
        let at = count / LANES * BLOCK;
        let lane = count % LANES;
        if lane == 0 {
            bytes[at..at + BLOCK].fill(0);
        }
        bytes[at + lane] = tag;
        bytes[at + LANES + lane] = if is_large { LARGE } else { len as u8 };
        let end = bytes.len() - data_len;
        Place { index: count, start: end - len, end, is_large }
    }

    /// Adds a copy of an entry behind all others.
    pub(super) fn push_stored(&mut self, tag: u8, stored: Stored<'_>) {
        let place = self.push(tag, stored.packed_len(), matches!(stored, Stored::Large(_)));
        match stored {
            Stored::Inline(bytes) => self.bytes_mut(place).copy_from_slice(bytes),
            Stored::Large(number) => self.bytes_mut(place).copy_from_slice(&number.to_le_bytes()),
        }
    }

    /// Gives an entry another length; its bytes are to be filled.
    pub(super) fn resize(&mut self, place: Place, len: usize, is_large: bool) -> Place {
        let (count, data_len, old_len) = (self.count(), self.data_len(), place.end - place.start);
        let needed = count.div_ceil(LANES) * BLOCK + data_len - old_len + len;
        let room = self.0.as_ref().map_or(0, |packed| packed.slice.len());
        let new_room = if needed > room || is_wasteful(needed, room) { room_for(needed) } else { room };
        if new_room > room {
            self.reallocate(new_room);
        }
        if let Some(packed) = self.unique() {
            packed.header.data_len = (data_len - old_len + len) as u32;
            let bytes = &mut packed.slice;
            bytes[place.index / LANES * BLOCK + LANES + place.index % LANES] = if is_large { LARGE } else { len as u8 };
            if old_len != len {
                let (low, start) = (bytes.len() - data_len, place.start + bytes.len() - room);
                bytes.copy_within(low..start, low + old_len - len);
            }
        }
        if new_room < room {
            self.reallocate(new_room);
        }
        // Entries keep their distance from the allocation's end.
        let end = place.end + new_room - room;
        Place { index: place.index, start: end - len, end, is_large }
    }

    /// Takes an entry away; the others keep their order.
    pub(super) fn remove(&mut self, place: Place) {
        let Some(packed) = self.unique() else { return };
        let (count, len) = (packed.header.count as usize - 1, place.end - place.start);
        if count == 0 {
            self.0 = None;
            return;
        }
        let data_len = packed.header.data_len as usize - len;
        packed.header = Head { count: count as u32, data_len: data_len as u32 };
        let bytes = &mut packed.slice;
        let low = bytes.len() - data_len - len;
        bytes.copy_within(low..place.start, low + len);
        let blocks = (count + 1).div_ceil(LANES);
        let mut kept = below(place.index % LANES);
        for block in place.index / LANES..blocks {
            for at in [block * BLOCK, block * BLOCK + LANES] {
                let lanes = word(bytes, at);
                let next = if block + 1 < blocks { u64::from(bytes[at + BLOCK]) } else { 0 };
                set_word(bytes, at, lanes & kept | (lanes >> 8) & !kept | next << 56);
            }
            kept = 0;
        }
        let needed = count.div_ceil(LANES) * BLOCK + data_len;
        if is_wasteful(needed, bytes.len()) {
            self.reallocate(room_for(needed));
        }
    }
}

/// Whether an allocation is worth changing for a smaller one.
#[inline]
fn is_wasteful(needed: usize, room: usize) -> bool {
    room_for(needed + needed / 8) < room - room / 8
}

/// See [`Segment::iter`].
pub(super) struct Entries<'a> {
    bytes: &'a [u8],
    end: usize,
    index: usize,
    count: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = (u8, Stored<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.count {
            return None;
        }
        let at = self.index / LANES * BLOCK + self.index % LANES;
        let (tag, length) = (self.bytes[at], self.bytes[at + LANES]);
        let is_large = length == LARGE;
        let start = self.end - if is_large { LARGE_LEN } else { length as usize };
        let stored = Stored::new(&self.bytes[start..self.end], is_large);
        self.end = start;
        self.index += 1;
        Some((tag, stored))
    }
}

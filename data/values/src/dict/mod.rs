// SPDX-License-Identifier: BSD-3-Clause
//! The packed hash table of the large forms of sets, hashes and sorted sets: byte strings, each with a value.
//!
//! Linear hashing over small packed segments: an entry costs its bytes, a tag, a length, and about two bytes' share of its
//! segment. The table grows and shrinks by one segment at a time, so no command ever pays for a rehash; segments and the
//! directory are reference counted, so a clone costs a pointer for every 63 segments, and the writes that follow copy what
//! they touch. Cursors go through the hash's bits in reverse, which visits every entry that stays, whatever the size
//! does meanwhile.
//!
//! Not here: what a value means, small forms. Called by `set`, `hash` and `zset`.

mod chunks;
mod digest;
mod iter;
mod segment;
#[cfg(test)]
mod tests;

use crate::random::random_below;
use crate::relocate::Mover;
use crate::size_class as allocated;
use chunks::Chunks;
pub use digest::digest;
pub use iter::Iter;
use segment::{INLINE_MAX, LARGE_LEN, Place, Segment, Stored};
use smallvec::SmallVec;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;
use triomphe::Arc;

/// Bytes of the reference count in front of what an `Arc` holds.
const ARC_COUNT: usize = 8;

/// Entries, or bytes of entries, per segment at which the table grows by a segment.
const GROW_ENTRIES: usize = 20;
const GROW_BYTES: usize = 1024;
/// Entries and bytes per segment below both of which it shrinks by one.
const SHRINK_ENTRIES: usize = 13;
const SHRINK_BYTES: usize = 640;

/// The width of [`Dict`] under which every value has a length of its own.
pub const ANY_WIDTH: usize = usize::MAX;

/// A dictionary without values: the large form of a set.
pub type KeyDict = Dict<0>;
/// A dictionary of 8-byte values.
pub type ScoreDict = Dict<8>;
/// A dictionary of values of any length.
pub type FieldDict = Dict<ANY_WIDTH>;

static HASHER: LazyLock<foldhash::quality::RandomState> = LazyLock::new(foldhash::quality::RandomState::default);

#[inline]
fn hash_of(key: &[u8]) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(key);
    hasher.finish()
}

/// The tag of a hash: bits that choose no segment. Zero marks a lane without an entry.
#[inline]
fn tag_of(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

/// The bits of a hash that choose among so many segments (at least one), when they are not one too many.
#[inline]
fn wide_mask(segments: usize) -> u64 {
    u64::MAX.checked_shr((segments as u64 - 1).leading_zeros()).unwrap_or(0)
}

/// The number without its highest bit: the segment from which segment `number` is split off.
fn parent_of(number: usize) -> usize {
    number - (1 << number.ilog2())
}

/// A large entry to be filled.
fn new_large(len: usize) -> Option<Arc<[u8]>> {
    Some(Arc::from(vec![0; len]))
}

/// See the head of this file. Every value has `WIDTH` bytes, or any number when `WIDTH` is [`ANY_WIDTH`].
#[derive(Clone)]
pub struct Dict<const WIDTH: usize> {
    segments: Chunks<Segment>,
    len: usize,
    /// Bytes of all entries in segments.
    data_len: usize,
    /// Heap bytes of all segments and large entries, without the directories.
    owned_bytes: usize,
    /// Most entries that a segment ever had since the table was empty: the bound for a fair random choice.
    widest: usize,
    /// Entries too long for a segment, dense, in no order.
    large: Chunks<Option<Arc<[u8]>>>,
}

impl<const WIDTH: usize> Default for Dict<WIDTH> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WIDTH: usize> std::fmt::Debug for Dict<WIDTH> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dict").field("len", &self.len).field("segments", &self.segments.len()).finish_non_exhaustive()
    }
}

/// Two dictionaries are equal when they hold the same entries, in whatever order.
impl<const WIDTH: usize> PartialEq for Dict<WIDTH> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<const WIDTH: usize> Eq for Dict<WIDTH> {}

/// Bytes that an entry takes.
#[inline]
fn entry_len<const WIDTH: usize>(key_len: usize, value_len: usize) -> usize {
    let prefix = if WIDTH == ANY_WIDTH { key_len.max(1).ilog2() as usize / 7 + 1 } else { 0 };
    prefix + key_len + value_len
}

/// Where the key of an entry starts and ends; the value is the rest.
#[inline]
fn key_bounds<const WIDTH: usize>(entry: &[u8]) -> (usize, usize) {
    if WIDTH != ANY_WIDTH {
        return (0, entry.len() - WIDTH);
    }
    let (mut len, mut at) = (0, 0);
    loop {
        let byte = entry[at];
        len |= ((byte & 0x7f) as usize) << (7 * at);
        at += 1;
        if byte < 0x80 {
            return (at, at + len);
        }
    }
}

#[inline]
fn split<const WIDTH: usize>(entry: &[u8]) -> (&[u8], &[u8]) {
    let (start, end) = key_bounds::<WIDTH>(entry);
    (&entry[start..end], &entry[end..])
}

/// Writes the key into a new entry and gives out the place of the value.
#[inline]
fn write_key<'a, const WIDTH: usize>(entry: &'a mut [u8], key: &[u8]) -> &'a mut [u8] {
    let mut at = 0;
    if WIDTH == ANY_WIDTH {
        let mut rest = key.len();
        while rest >= 0x80 {
            entry[at] = rest as u8 | 0x80;
            rest >>= 7;
            at += 1;
        }
        entry[at] = rest as u8;
        at += 1;
    }
    entry[at..at + key.len()].copy_from_slice(key);
    &mut entry[at + key.len()..]
}

impl<const WIDTH: usize> Dict<WIDTH> {
    /// An empty dictionary; it holds no memory.
    pub const fn new() -> Self {
        Self { segments: Chunks::new(), len: 0, data_len: 0, owned_bytes: 0, widest: 0, large: Chunks::new() }
    }

    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the allocator gave for everything, the handle itself excluded. What clones share counts in each.
    pub fn heap_bytes(&self) -> usize {
        self.segments.heap_bytes() + self.owned_bytes + self.large.heap_bytes()
    }

    /// Number of allocations.
    pub fn free_effort(&self) -> usize {
        self.segments.len() + self.segments.allocations() + self.large.len() + self.large.allocations()
    }

    /// Parts of [`relocate`](Self::relocate).
    pub(crate) fn parts(&self) -> usize {
        self.segments.len() + self.large.len()
    }

    /// Moves what lies in sparse memory: see `Collection::relocate`.
    pub(crate) fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        let segments = self.segments.len();
        let mut from = from;
        if from < segments {
            match self.segments.relocate(from, mover, Segment::relocate) {
                0 => from = segments,
                at => return at,
            }
        }
        let at = self.large.relocate(from - segments, mover, |place, mover| {
            if let Some(entry) = place
                && entry.is_unique()
                && mover.wants(entry[..].as_ptr())
            {
                *entry = Arc::from(&entry[..]);
            }
        });
        if at == 0 { 0 } else { segments + at }
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let (number, place) = self.find(key, hash_of(key))?;
        let entry = self.entry(self.segments.get(number).stored(place));
        Some(split::<WIDTH>(entry).1)
    }

    /// Whether there is such a key.
    #[inline]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.find(key, hash_of(key)).is_some()
    }

    /// The value of a key, to be changed without changing its length.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut [u8]> {
        let (number, place) = self.find(key, hash_of(key))?;
        let entry = self.entry_mut(number, place);
        let (_, end) = key_bounds::<WIDTH>(entry);
        Some(&mut entry[end..])
    }

    /// Sets the value of a key, which may be new. Returns whether the key existed.
    ///
    /// # Panics
    /// When the value does not have the dictionary's width.
    #[inline]
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.insert_with(key, value.len(), |bytes| bytes.copy_from_slice(value))
    }

    /// As [`insert`](Self::insert): `fill` is given the place of the value, with arbitrary contents.
    ///
    /// # Panics
    /// When `value_len` is not the dictionary's width.
    #[inline]
    pub fn insert_with(&mut self, key: &[u8], value_len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        assert!(WIDTH == ANY_WIDTH || value_len == WIDTH, "a value of the dictionary's width");
        let hash = hash_of(key);
        match self.find(key, hash) {
            Some((number, place)) => {
                if WIDTH != 0 {
                    fill(self.resize(number, place, key, value_len));
                    self.grow();
                }
                true
            }
            None => {
                fill(self.append(hash, key, value_len));
                self.grow();
                false
            }
        }
    }

    /// Adds a key that is new and leaves an existing one as it is. Returns whether it was new.
    #[inline]
    pub fn insert_new(&mut self, key: &[u8], value: &[u8]) -> bool {
        assert!(WIDTH == ANY_WIDTH || value.len() == WIDTH, "a value of the dictionary's width");
        let hash = hash_of(key);
        if self.find(key, hash).is_some() {
            return false;
        }
        self.append(hash, key, value.len()).copy_from_slice(value);
        self.grow();
        true
    }

    /// Removes a key. Returns whether it was there.
    #[inline]
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.remove_with(key, |_| ()).is_some()
    }

    /// Removes a key; what `read` makes of its value is returned.
    pub fn remove_with<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (number, place) = self.find(key, hash_of(key))?;
        let stored = self.segments.get(number).stored(place);
        let result = read(split::<WIDTH>(self.entry(stored)).1);
        let large = match stored {
            Stored::Large(large) => Some(large),
            Stored::Inline(_) => None,
        };
        self.change(number, |segment| segment.remove(place));
        self.len -= 1;
        if let Some(large) = large {
            self.free_large(large);
        }
        self.shrink();
        Some(result)
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// All entries, in an order that stays the same until a key is added or removed.
    pub fn iter(&self) -> Iter<'_, WIDTH> {
        Iter::new(self)
    }

    /// An entry, each as likely as any other.
    pub fn random(&self) -> Option<(&[u8], &[u8])> {
        if self.len == 0 {
            return None;
        }
        loop {
            // Any place in any segment, as if all were as wide as the widest: what is not there is drawn again.
            let number = random_below(self.segments.len());
            let index = random_below(self.widest);
            if let Some(stored) = self.segments.get(number).nth(index) {
                return Some(split::<WIDTH>(self.entry(stored)));
            }
        }
    }

    /// Emits about `count` entries and returns the next cursor; zero starts and ends. Every entry that is there from start
    /// to end is emitted at least once, whatever happens to others between the calls. Cursors stay valid as long as the
    /// process lives.
    pub fn scan(&self, mut cursor: u64, count: usize, emit: &mut dyn FnMut(&[u8], &[u8])) -> u64 {
        if self.len == 0 {
            return 0;
        }
        let mut seen = 0;
        loop {
            let (number, mask) = self.address(cursor);
            let segment = self.segments.get(number);
            for (_, stored) in segment.iter() {
                let (key, value) = split::<WIDTH>(self.entry(stored));
                emit(key, value);
            }
            seen += segment.count();
            // The next higher number when the bits that chose the segment are read from low to high.
            cursor = (cursor | !mask).reverse_bits().wrapping_add(1).reverse_bits();
            if cursor == 0 || seen >= count {
                return cursor;
            }
        }
    }

    /// The segment of a hash and the hash's bits that chose it.
    fn address(&self, hash: u64) -> (usize, u64) {
        let segments = self.segments.len() as u64;
        let number = self.segment_of(hash) as u64;
        let wide = wide_mask(self.segments.len());
        let narrow = wide >> 1;
        // One bit more chooses a segment that was split already, and its twin.
        let is_split = number > narrow || number | (narrow + 1) < segments;
        (number as usize, if is_split { wide } else { narrow })
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> usize {
        let wide = wide_mask(self.segments.len());
        let number = hash & wide;
        (if number < self.segments.len() as u64 { number } else { hash & (wide >> 1) }) as usize
    }

    #[inline]
    fn find(&self, key: &[u8], hash: u64) -> Option<(usize, Place)> {
        if self.len == 0 {
            return None;
        }
        let number = self.segment_of(hash);
        let place =
            self.segments.get(number).find(tag_of(hash), |stored| split::<WIDTH>(self.entry(stored)).0 == key)?;
        Some((number, place))
    }

    /// The bytes of an entry, wherever they are.
    #[inline]
    fn entry<'a>(&'a self, stored: Stored<'a>) -> &'a [u8] {
        match stored {
            Stored::Inline(bytes) => bytes,
            Stored::Large(number) => self.large.get(number as usize).as_deref().unwrap_or_default(),
        }
    }

    fn entry_mut(&mut self, number: usize, place: Place) -> &mut [u8] {
        match self.segments.get(number).stored(place) {
            Stored::Inline(_) => self.segments.get_mut(number).bytes_mut(place),
            Stored::Large(large) => {
                let Some(entry) = self.large.get_mut(large as usize) else { return &mut [] };
                // A clone shares it.
                if !entry.is_unique() {
                    *entry = Arc::from(&entry[..]);
                }
                Arc::get_mut(entry).unwrap_or_default()
            }
        }
    }

    /// Changes a segment and keeps the books.
    #[inline]
    fn change<R>(&mut self, number: usize, edit: impl FnOnce(&mut Segment) -> R) -> R {
        let segment = self.segments.get_mut(number);
        let (heap, data) = (segment.heap_bytes(), segment.data_len());
        let result = edit(segment);
        self.owned_bytes = self.owned_bytes + segment.heap_bytes() - heap;
        self.data_len = self.data_len + segment.data_len() - data;
        result
    }

    /// Adds an entry whose key is not there and gives out the place of its value.
    fn append(&mut self, hash: u64, key: &[u8], value_len: usize) -> &mut [u8] {
        if self.segments.len() == 0 {
            self.segments.push(Segment::default());
        }
        let number = self.segment_of(hash);
        let tag = tag_of(hash);
        let len = entry_len::<WIDTH>(key.len(), value_len);
        self.len += 1;
        let place = if len <= INLINE_MAX {
            self.change(number, |segment| segment.push(tag, len, false))
        } else {
            let large = self.add_large(len);
            self.change(number, |segment| {
                let place = segment.push(tag, LARGE_LEN, true);
                segment.bytes_mut(place).copy_from_slice(&large);
                place
            })
        };
        self.widest = self.widest.max(self.segments.get(number).count());
        write_key::<WIDTH>(self.entry_mut(number, place), key)
    }

    /// Gives the value of an existing entry another length and gives out its place.
    fn resize(&mut self, number: usize, place: Place, key: &[u8], value_len: usize) -> &mut [u8] {
        let len = entry_len::<WIDTH>(key.len(), value_len);
        let stored = self.segments.get(number).stored(place);
        let old_len = self.entry(stored).len();
        if len == old_len {
            let entry = self.entry_mut(number, place);
            return &mut entry[len - value_len..];
        }
        let place = match (stored, len <= INLINE_MAX) {
            (Stored::Inline(_), true) => self.change(number, |segment| segment.resize(place, len, false)),
            (Stored::Inline(_), false) => {
                let large = self.add_large(len);
                self.change(number, |segment| {
                    let place = segment.resize(place, LARGE_LEN, true);
                    segment.bytes_mut(place).copy_from_slice(&large);
                    place
                })
            }
            (Stored::Large(large), true) => {
                let place = self.change(number, |segment| segment.resize(place, len, false));
                self.free_large(large);
                place
            }
            (Stored::Large(large), false) => {
                self.owned_bytes = self.owned_bytes + allocated(ARC_COUNT + len) - allocated(ARC_COUNT + old_len);
                *self.large.get_mut(large as usize) = new_large(len);
                place
            }
        };
        write_key::<WIDTH>(self.entry_mut(number, place), key)
    }

    /// Makes a large entry and returns the bytes by which a segment refers to it.
    fn add_large(&mut self, len: usize) -> [u8; LARGE_LEN] {
        let number = self.large.len() as u32;
        self.owned_bytes += allocated(ARC_COUNT + len);
        self.large.push(new_large(len));
        number.to_le_bytes()
    }

    /// Frees a large entry, to which no segment refers any more. The last one takes its number.
    fn free_large(&mut self, number: u32) {
        let last = self.large.len() as u32 - 1;
        let moved = self.large.pop().flatten();
        let freed = if number == last {
            moved
        } else {
            let hash = hash_of(split::<WIDTH>(moved.as_deref().unwrap_or_default()).0);
            let owner = self.segment_of(hash);
            let segment = self.segments.get_mut(owner);
            let place = segment.find(tag_of(hash), |stored| matches!(stored, Stored::Large(large) if large == last));
            if let Some(place) = place {
                segment.bytes_mut(place).copy_from_slice(&number.to_le_bytes());
            }
            std::mem::replace(self.large.get_mut(number as usize), moved)
        };
        self.owned_bytes -= allocated(ARC_COUNT + freed.as_deref().unwrap_or_default().len());
    }

    /// Splits one segment when there are too few.
    #[inline]
    fn grow(&mut self) {
        let segments = self.segments.len();
        if self.len > segments * GROW_ENTRIES || self.data_len > segments * GROW_BYTES {
            self.split_one();
        }
    }

    fn split_one(&mut self) {
        let twin = self.segments.len();
        let parent = parent_of(twin);
        let bit = 1u64 << twin.ilog2();
        let old = std::mem::take(self.segments.get_mut(parent));
        let mut moves: SmallVec<[bool; 64]> = SmallVec::new();
        let (mut moving, mut moving_len) = (0, 0);
        for (_, stored) in old.iter() {
            let does = hash_of(split::<WIDTH>(self.entry(stored)).0) & bit != 0;
            moves.push(does);
            if does {
                moving += 1;
                moving_len += stored.packed_len();
            }
        }
        let mut stay = Segment::with_room(old.count() - moving, old.data_len() - moving_len);
        let mut moved = Segment::with_room(moving, moving_len);
        for ((tag, stored), does) in old.iter().zip(moves) {
            if does { &mut moved } else { &mut stay }.push_stored(tag, stored);
        }
        self.owned_bytes = self.owned_bytes + stay.heap_bytes() + moved.heap_bytes() - old.heap_bytes();
        *self.segments.get_mut(parent) = stay;
        self.segments.push(moved);
    }

    /// Merges one segment when there are too many; gives up all memory when there is no entry left.
    #[inline]
    fn shrink(&mut self) {
        let segments = self.segments.len();
        if self.len == 0 {
            self.clear();
        } else if segments > 1 && self.len < segments * SHRINK_ENTRIES && self.data_len < segments * SHRINK_BYTES {
            self.merge_one();
        }
    }

    fn merge_one(&mut self) {
        let Some(twin) = self.segments.pop() else { return };
        let parent = parent_of(self.segments.len());
        let old = std::mem::take(self.segments.get_mut(parent));
        let mut merged = Segment::with_room(old.count() + twin.count(), old.data_len() + twin.data_len());
        for (tag, stored) in old.iter().chain(twin.iter()) {
            merged.push_stored(tag, stored);
        }
        self.owned_bytes = self.owned_bytes + merged.heap_bytes() - old.heap_bytes() - twin.heap_bytes();
        self.widest = self.widest.max(merged.count());
        *self.segments.get_mut(parent) = merged;
    }
}

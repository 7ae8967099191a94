// SPDX-License-Identifier: BSD-3-Clause
//! One entry: a key, its TTL, its access clock and its value, in one block of the slab.
//!
//! ```text
//! type+encoding 1 | flags 1 | access 3 | key length (varint) | [value length (varint)] | [due ms 5 or 8] | key | value
//! ```
//! The due time is in milliseconds since `DUE_EPOCH_MS`, in eight bytes when that is negative or 35 years later or more.
//! The value is an `i64`, embedded bytes, a string on the heap (`ptr, len, capacity`) or the handle of a collection, which
//! is aligned by its address: blocks are aligned to four bytes only. A long key is a pointer.
//!
//! Invariant: an `Entry` that a table holds owns its block and what the block points to; it is used only while the
//! slot of that table is locked, and never after `free` or `into_owned`. Not here: finding entries (`table`).

mod relocate;

use pando_slab::{self as slab, BLOCK_LEN_MAX, Handle};
use pando_values::{Encoding, Typed, Value, ValueRef, ValueType, size_class};

const REPR: u8 = 3;
const REPR_INT: u8 = 0;
const REPR_EMBEDDED: u8 = 1;
const REPR_HEAP: u8 = 2;
const REPR_TYPED: u8 = 3;
const TYPED_LEN: usize = size_of::<Typed>();
const HAS_TTL: u8 = 4;
const KEY_ON_HEAP: u8 = 8;
const EPOCH: u8 = 16;
const WIDE_DUE: u8 = 32;
/// 1 January 2020.
const DUE_EPOCH_MS: u64 = 1_577_836_800_000;
const SHORT_DUE_LEN: usize = 5;
const LENGTHS_AT: usize = 5;
const KEY_EMBEDDED_MAX: usize = 256;

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Entry(pub(crate) Handle);

/// What a new entry is to hold.
pub(crate) enum Source<'a> {
    Int(i64),
    Bytes(&'a [u8], Encoding),
    Owned(Value),
}

/// What an entry holds besides key and value.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Header {
    pub(crate) expire_at: Option<u64>,
    pub(crate) access: u32,
    pub(crate) epoch: bool,
}

struct Layout {
    flags: u8,
    key_len: usize,
    value_len: usize,
    due_at: usize,
    key_at: usize,
    value_at: usize,
    end: usize,
}

fn fits_short(due_ms: u64) -> bool {
    due_ms.checked_sub(DUE_EPOCH_MS).is_some_and(|since| since >> (8 * SHORT_DUE_LEN) == 0)
}

/// Bytes of the due time.
#[inline]
fn due_len(flags: u8) -> usize {
    match flags & (HAS_TTL | WIDE_DUE) {
        HAS_TTL => SHORT_DUE_LEN,
        0 => 0,
        _ => 8,
    }
}

fn due_flags(due_ms: Option<u64>) -> u8 {
    match due_ms {
        None => 0,
        Some(due_ms) if fits_short(due_ms) => HAS_TTL,
        Some(_) => HAS_TTL | WIDE_DUE,
    }
}

fn varint_len(value: usize) -> usize {
    (64 - (value as u64 | 1).leading_zeros() as usize).div_ceil(7)
}

/// # Safety
/// `varint_len(value)` bytes at `at` are writable.
unsafe fn put_varint(mut at: *mut u8, mut value: usize) -> *mut u8 {
    loop {
        let more = value > 127;
        // SAFETY: the caller's promise.
        unsafe {
            *at = (value & 127) as u8 | if more { 128 } else { 0 };
            at = at.add(1);
        }
        value >>= 7;
        if !more {
            return at;
        }
    }
}

/// # Safety
/// `due_len(flags)` bytes at `at` are writable.
unsafe fn put_due(at: *mut u8, flags: u8, due_ms: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        if flags & WIDE_DUE != 0 {
            at.cast::<u64>().write_unaligned(due_ms);
        } else {
            at.copy_from_nonoverlapping((due_ms - DUE_EPOCH_MS).to_le_bytes().as_ptr(), SHORT_DUE_LEN);
        }
    }
}

/// End of an entry with a handle behind `at` bytes, wherever its block is: it may have to be aligned.
const fn typed_end(at: usize) -> usize {
    at + align_of::<Typed>() - 1 + TYPED_LEN
}

/// What expire buckets want to know of a value.
#[derive(Copy, Clone, Default, Eq, PartialEq)]
pub(crate) struct FieldTimes {
    /// Fields of it have a time.
    pub(crate) are_volatile: bool,
    /// The first one's.
    pub(crate) due_ms: Option<u64>,
}

/// Only hashes have parts that fall due.
#[inline]
pub(crate) fn fields_of(typed: &Typed) -> FieldTimes {
    match typed {
        Typed::Hash(hash) => FieldTimes { are_volatile: hash.is_volatile(), due_ms: hash.next_due_ms() },
        _ => FieldTimes::default(),
    }
}

impl Entry {
    #[inline]
    fn byte(self, at: usize) -> u8 {
        // SAFETY: the module's invariant; `at` lies within the block.
        unsafe { *self.0.ptr().add(at) }
    }

    fn varint(self, at: &mut usize) -> usize {
        let first = self.byte(*at);
        *at += 1;
        let mut value = usize::from(first & 127);
        let mut byte = first;
        let mut shift = 7;
        while byte > 127 {
            byte = self.byte(*at);
            *at += 1;
            value |= usize::from(byte & 127) << shift;
            shift += 7;
        }
        value
    }

    #[inline]
    fn word(self, at: usize) -> u64 {
        // SAFETY: the module's invariant; eight bytes at `at` lie within the block.
        unsafe { self.0.ptr().add(at).cast::<u64>().read_unaligned() }
    }

    #[inline]
    fn put_word(self, at: usize, word: u64) {
        // SAFETY: the module's invariant; eight bytes at `at` lie within the block.
        unsafe { self.0.ptr().add(at).cast::<u64>().write_unaligned(word) }
    }

    /// Where a handle lies in this block when everything before it ends at `at`.
    #[inline]
    fn typed_at(self, at: usize) -> usize {
        at + self.0.ptr().wrapping_add(at).align_offset(align_of::<Typed>())
    }

    #[inline]
    fn layout(self) -> Layout {
        let flags = self.byte(1);
        let mut at = LENGTHS_AT;
        let key_len = self.varint(&mut at);
        let value_len = match flags & REPR {
            REPR_EMBEDDED => self.varint(&mut at),
            REPR_HEAP => 24,
            _ => 8,
        };
        let due_at = at;
        let key_at = due_at + due_len(flags);
        let mut value_at = key_at + if flags & KEY_ON_HEAP != 0 { 8 } else { key_len };
        if flags & REPR == REPR_TYPED {
            let end = typed_end(value_at);
            value_at = self.typed_at(value_at);
            return Layout { flags, key_len, value_len: TYPED_LEN, due_at, key_at, value_at, end };
        }
        Layout { flags, key_len, value_len, due_at, key_at, value_at, end: value_at + value_len }
    }

    pub(crate) fn new(key: &[u8], header: Header, source: Source<'_>) -> Entry {
        let key_len = if key.len() > KEY_EMBEDDED_MAX { 8 } else { key.len() };
        let fixed = LENGTHS_AT + varint_len(key.len()) + due_len(due_flags(header.expire_at)) + key_len;
        let fits = |len: usize| fixed + varint_len(len) + len <= BLOCK_LEN_MAX;
        let (type_, encoding, repr, value_len) = match &source {
            Source::Int(_) | Source::Owned(Value::Int(_)) => (ValueType::String, Encoding::Int, REPR_INT, 8),
            Source::Bytes(bytes, encoding) if fits(bytes.len()) => {
                (ValueType::String, *encoding, REPR_EMBEDDED, varint_len(bytes.len()) + bytes.len())
            }
            Source::Owned(Value::Str { bytes, encoding }) if fits(bytes.len()) => {
                (ValueType::String, *encoding, REPR_EMBEDDED, varint_len(bytes.len()) + bytes.len())
            }
            Source::Bytes(_, encoding) | Source::Owned(Value::Str { encoding, .. }) => {
                (ValueType::String, *encoding, REPR_HEAP, 24)
            }
            Source::Owned(other) => (other.as_ref().type_(), other.encoding(), REPR_TYPED, typed_end(0)),
        };
        let block = slab::alloc(fixed + value_len);
        let entry = Entry(block);
        let at = block.ptr();
        let flags = repr
            | due_flags(header.expire_at)
            | if key.len() > KEY_EMBEDDED_MAX { KEY_ON_HEAP } else { 0 }
            | if header.epoch { EPOCH } else { 0 };
        // SAFETY: the block has `fixed + value_len` bytes, which the writes below add up to.
        unsafe {
            *at = (type_ as u8) << 4 | encoding as u8;
            *at.add(1) = flags;
            let mut at = put_varint(at.add(LENGTHS_AT), key.len());
            if repr == REPR_EMBEDDED {
                let len = match &source {
                    Source::Bytes(bytes, _) => bytes.len(),
                    Source::Owned(Value::Str { bytes, .. }) => bytes.len(),
                    _ => unreachable!("only bytes are embedded"),
                };
                at = put_varint(at, len);
            }
            if let Some(due) = header.expire_at {
                put_due(at, flags, due);
                at = at.add(due_len(flags));
            }
            if flags & KEY_ON_HEAP != 0 {
                let key = Box::into_raw(Box::<[u8]>::from(key));
                at.cast::<u64>().write_unaligned(key.cast::<u8>().expose_provenance() as u64);
                at = at.add(8);
            } else {
                at.copy_from_nonoverlapping(key.as_ptr(), key.len());
                at = at.add(key.len());
            }
            match source {
                Source::Int(int) | Source::Owned(Value::Int(int)) => at.cast::<i64>().write_unaligned(int),
                Source::Bytes(bytes, _) if repr == REPR_EMBEDDED => {
                    at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                }
                Source::Owned(Value::Str { bytes, .. }) if repr == REPR_EMBEDDED => {
                    at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                }
                Source::Bytes(bytes, _) => entry.put_vec(bytes.to_vec()),
                Source::Owned(Value::Str { bytes, .. }) => entry.put_vec(bytes),
                Source::Owned(Value::Typed(typed)) => {
                    let offset = at.align_offset(align_of::<Typed>());
                    at.add(offset).cast::<Typed>().write(typed);
                }
                Source::Owned(_) => unreachable!("every kind of value has a layout"),
            }
        }
        entry.set_access(header.access);
        entry
    }

    fn put_vec(self, bytes: Vec<u8>) {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        let at = self.layout().value_at;
        self.put_word(at, bytes.as_mut_ptr().expose_provenance() as u64);
        self.put_word(at + 8, bytes.len() as u64);
        self.put_word(at + 16, bytes.capacity() as u64);
    }

    /// The heap string; the entry's words must be overwritten or the entry freed before they are read again.
    fn take_vec(self, layout: &Layout) -> Vec<u8> {
        let at = layout.value_at;
        let pointer = std::ptr::with_exposed_provenance_mut(self.word(at) as usize);
        // SAFETY: `put_vec` wrote the parts of a Vec that this entry owns.
        unsafe { Vec::from_raw_parts(pointer, self.word(at + 8) as usize, self.word(at + 16) as usize) }
    }

    fn slice<'a>(self, at: usize, len: usize) -> &'a [u8] {
        // SAFETY: the module's invariant: the bytes live until the entry is changed, which takes the slot's lock.
        unsafe { std::slice::from_raw_parts(self.0.ptr().add(at), len) }
    }

    /// The caller bounds the lifetime by the slot's lock.
    #[inline]
    pub(crate) fn key<'a>(self) -> &'a [u8] {
        let layout = self.layout();
        if layout.flags & KEY_ON_HEAP == 0 {
            return self.slice(layout.key_at, layout.key_len);
        }
        let pointer = std::ptr::with_exposed_provenance(self.word(layout.key_at) as usize);
        // SAFETY: `new` stored a boxed slice of this length.
        unsafe { std::slice::from_raw_parts(pointer, layout.key_len) }
    }

    /// The caller bounds the lifetime by the slot's lock.
    #[inline]
    pub(crate) fn value<'a>(self) -> ValueRef<'a> {
        let layout = self.layout();
        match layout.flags & REPR {
            REPR_INT => ValueRef::Int(self.word(layout.value_at) as i64),
            REPR_EMBEDDED => ValueRef::Str(self.slice(layout.value_at, layout.value_len)),
            REPR_HEAP => {
                let pointer = std::ptr::with_exposed_provenance(self.word(layout.value_at) as usize);
                let len = self.word(layout.value_at + 8) as usize;
                // SAFETY: `put_vec` wrote the parts of a Vec that this entry owns.
                ValueRef::Str(unsafe { std::slice::from_raw_parts(pointer, len) })
            }
            // SAFETY: `new` stored a handle there, which lives until the entry is changed, under the slot's lock.
            _ => ValueRef::Typed(unsafe { &*self.0.ptr().add(layout.value_at).cast::<Typed>() }),
        }
    }

    pub(crate) fn type_(self) -> ValueType {
        ValueType::from_code(self.byte(0) >> 4).expect("an entry has a known type")
    }

    pub(crate) fn encoding(self) -> Encoding {
        if let Some(typed) = self.typed() {
            return typed.encoding();
        }
        Encoding::from_code(self.byte(0) & 15).expect("an entry has a known encoding")
    }

    /// The collection. The caller bounds the lifetime by the slot's lock.
    #[inline]
    pub(crate) fn typed<'a>(self) -> Option<&'a Typed> {
        if self.byte(1) & REPR != REPR_TYPED {
            return None;
        }
        match self.value() {
            ValueRef::Typed(typed) => Some(typed),
            _ => None,
        }
    }

    /// The collection, to be changed in place.
    ///
    /// # Safety
    /// The caller has the slot exclusively for the result's lifetime and holds no other reference to the value.
    pub(crate) unsafe fn typed_mut<'a>(self) -> Option<&'a mut Typed> {
        let layout = self.layout();
        if layout.flags & REPR != REPR_TYPED {
            return None;
        }
        // SAFETY: `new` stored a handle there; the caller's promise.
        Some(unsafe { &mut *self.0.ptr().add(layout.value_at).cast::<Typed>() })
    }

    #[inline]
    pub(crate) fn expire_at(self) -> Option<u64> {
        if self.byte(1) & HAS_TTL == 0 {
            return None;
        }
        Some(self.due())
    }

    #[inline]
    pub(crate) fn is_due(self, now_ms: u64) -> bool {
        self.byte(1) & HAS_TTL != 0 && self.due() <= now_ms
    }

    fn due(self) -> u64 {
        let (flags, at) = (self.byte(1), self.layout().due_at);
        if flags & WIDE_DUE != 0 {
            return self.word(at);
        }
        let mut since = [0; 8];
        // SAFETY: the module's invariant; five bytes at `at` lie within the block.
        unsafe { since.as_mut_ptr().copy_from_nonoverlapping(self.0.ptr().add(at), SHORT_DUE_LEN) };
        DUE_EPOCH_MS + u64::from_le_bytes(since)
    }

    /// When the first field of a hash is due.
    #[inline]
    pub(crate) fn field_due(self) -> Option<u64> {
        fields_of(self.typed()?).due_ms
    }

    /// Whether it is a hash with fields that have a time.
    #[inline]
    pub(crate) fn has_volatile_fields(self) -> bool {
        self.typed().is_some_and(|typed| fields_of(typed).are_volatile)
    }

    /// When the entry wants to be worked on: it is due, or a field of it is.
    #[inline]
    pub(crate) fn due_ms(self) -> Option<u64> {
        match (self.expire_at(), self.field_due()) {
            (Some(key), Some(field)) => Some(key.min(field)),
            (key, field) => key.or(field),
        }
    }

    /// Replaces a TTL by another; false when it does not fit the layout.
    pub(crate) fn try_set_due(self, due_ms: u64) -> bool {
        let flags = self.byte(1);
        if flags & (HAS_TTL | WIDE_DUE) != due_flags(Some(due_ms)) {
            return false;
        }
        // SAFETY: the module's invariant; `due_len(flags)` bytes are there.
        unsafe { put_due(self.0.ptr().add(self.layout().due_at), flags, due_ms) };
        true
    }

    #[inline]
    pub(crate) fn access(self) -> u32 {
        u32::from_le_bytes([self.byte(2), self.byte(3), self.byte(4), 0])
    }

    #[inline]
    pub(crate) fn set_access(self, access: u32) {
        let bytes = access.to_le_bytes();
        // SAFETY: the module's invariant; the header has five bytes.
        unsafe { self.0.ptr().add(2).copy_from_nonoverlapping(bytes.as_ptr(), 3) }
    }

    #[inline]
    pub(crate) fn epoch(self) -> bool {
        self.byte(1) & EPOCH != 0
    }

    pub(crate) fn set_epoch(self, epoch: bool) {
        let flags = self.byte(1) & !EPOCH | if epoch { EPOCH } else { 0 };
        // SAFETY: the module's invariant; the header has five bytes.
        unsafe { *self.0.ptr().add(1) = flags }
    }

    /// Bytes of the block and of all it points to.
    pub(crate) fn bytes(self) -> usize {
        let layout = self.layout();
        let key = if layout.flags & KEY_ON_HEAP != 0 { size_class(layout.key_len) } else { 0 };
        let value = match layout.flags & REPR {
            REPR_HEAP => size_class(self.word(layout.value_at + 16) as usize),
            REPR_TYPED => self.typed().map_or(0, Typed::heap_bytes),
            _ => 0,
        };
        slab::block_len(layout.end) + key + value
    }

    /// Overwrites an embedded string by one of the same length, or an integer; false when it does not fit the layout.
    pub(crate) fn try_overwrite(self, source: &Source<'_>) -> bool {
        let layout = self.layout();
        match (layout.flags & REPR, source) {
            (REPR_INT, Source::Int(int)) => {
                self.put_word(layout.value_at, *int as u64);
                true
            }
            (REPR_EMBEDDED, Source::Bytes(bytes, encoding)) if bytes.len() == layout.value_len => {
                // SAFETY: the module's invariant; the value has exactly this length. Safe callers cannot hold a slice of
                // this entry, because they would hold a borrow of the slot.
                unsafe {
                    *self.0.ptr() = (ValueType::String as u8) << 4 | *encoding as u8;
                    self.0.ptr().add(layout.value_at).copy_from(bytes.as_ptr(), bytes.len());
                }
                true
            }
            _ => false,
        }
    }

    /// Edits a heap string as the vector it is; false when it is not one.
    pub(crate) fn try_edit_heap(self, edit: &mut dyn FnMut(&mut Vec<u8>)) -> bool {
        let layout = self.layout();
        if layout.flags & REPR != REPR_HEAP {
            return false;
        }
        let mut bytes = self.take_vec(&layout);
        // Should `edit` unwind, the entry must not still own the bytes.
        self.put_vec(Vec::new());
        edit(&mut bytes);
        // SAFETY: the module's invariant.
        unsafe { *self.0.ptr() = (ValueType::String as u8) << 4 | Encoding::Raw as u8 };
        self.put_vec(bytes);
        true
    }

    /// Whether the value is an embedded string of at least `len_min` bytes.
    pub(crate) fn is_embedded(self, len_min: usize) -> bool {
        let layout = self.layout();
        layout.flags & REPR == REPR_EMBEDDED && layout.value_len >= len_min
    }

    /// Edits an embedded string of at least `len_min` bytes in place and returns its length; `None` when it is not one.
    pub(crate) fn try_edit_embedded(self, len_min: usize, edit: &mut dyn FnMut(&mut [u8])) -> Option<usize> {
        let layout = self.layout();
        if layout.flags & REPR != REPR_EMBEDDED || layout.value_len < len_min {
            return None;
        }
        // SAFETY: the module's invariant; the caller has the slot exclusively, so this is the only slice.
        unsafe {
            *self.0.ptr() = (ValueType::String as u8) << 4 | Encoding::Raw as u8;
            edit(std::slice::from_raw_parts_mut(self.0.ptr().add(layout.value_at), layout.value_len));
        }
        Some(layout.value_len)
    }

    /// Takes the value out and frees the rest.
    pub(crate) fn into_value(self) -> Value {
        let layout = self.layout();
        let value = match layout.flags & REPR {
            REPR_HEAP => Value::Str { bytes: self.take_vec(&layout), encoding: self.encoding() },
            // SAFETY: `new` stored a handle there; the entry is gone after this function.
            REPR_TYPED => Value::Typed(unsafe { self.0.ptr().add(layout.value_at).cast::<Typed>().read() }),
            _ => self.value().to_value(self.encoding()),
        };
        if layout.flags & KEY_ON_HEAP != 0 {
            let pointer = std::ptr::with_exposed_provenance_mut::<u8>(self.word(layout.key_at) as usize);
            // SAFETY: `new` stored a boxed slice of this length; the entry is gone after this function.
            drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(pointer, layout.key_len)) });
        }
        // SAFETY: the block was allocated with this length and the entry is not used afterwards.
        unsafe { slab::free(self.0, layout.end) };
        value
    }

    /// Whether freeing it takes so long that it is left to the background: Valkey's limit for a collection.
    #[inline]
    pub(crate) fn is_heavy(self) -> bool {
        const EFFORT_MAX: usize = 64;
        const BYTES_MAX: usize = 256 * 1024;
        match self.byte(1) & REPR {
            REPR_TYPED => self.typed().is_some_and(|typed| typed.free_effort() > EFFORT_MAX),
            REPR_HEAP => self.word(self.layout().value_at + 16) as usize > BYTES_MAX,
            _ => false,
        }
    }

    pub(crate) fn free(self) {
        if self.byte(1) & (REPR | KEY_ON_HEAP) <= REPR_EMBEDDED {
            let len = self.layout().end;
            // SAFETY: the block was allocated with this length, points to nothing, and is not used afterwards.
            unsafe { slab::free(self.0, len) };
        } else {
            drop(self.into_value());
        }
    }

    #[inline]
    pub(crate) fn prefetch(self) {
        prefetch(self.0.ptr());
        prefetch(self.0.ptr().wrapping_add(64));
        // A block of 104 bytes lies in three lines more often than in two.
        prefetch(self.0.ptr().wrapping_add(103));
    }
}

/// Asks for the cache line of `address`; any address is allowed.
#[inline]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

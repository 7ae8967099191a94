// SPDX-License-Identifier: BSD-3-Clause
//! Byte buffers of packed values: small ones in blocks of the slab, the others from the allocator. The owner remembers the
//! length; the capacity follows from it.

use crate::{BLOCK_LEN_MAX, Handle, alloc, block_len, free, free_sparse, is_sparse};
use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;

/// Buffers grow in steps of this: fewer moves than by the slab's own steps, and never more than a general allocator takes.
const STEP: usize = 16;

/// The capacity of a buffer for `len` bytes: the next multiple of 16, beyond 1 KiB the allocator's (jemalloc's) next size,
/// of which there are four for each doubling.
#[inline]
pub const fn bytes_len(len: usize) -> usize {
    if len <= BLOCK_LEN_MAX {
        block_len(len.next_multiple_of(STEP))
    } else {
        len.next_multiple_of(1 << (usize::BITS - 3 - (len - 1).leading_zeros()))
    }
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, 1).expect("a length of a value")
}

/// A buffer with room for `len` bytes (at least one), `bytes_len(len)` in all, with undefined contents.
#[inline]
pub fn alloc_bytes(len: usize) -> NonNull<u8> {
    assert!(len > 0);
    let capacity = bytes_len(len);
    if capacity <= BLOCK_LEN_MAX {
        return NonNull::new(alloc(capacity).ptr()).expect("a block is not at address zero");
    }
    // SAFETY: the layout's size is not zero.
    NonNull::new(unsafe { std::alloc::alloc(layout(capacity)) }).unwrap_or_else(|| handle_alloc_error(layout(capacity)))
}

/// Gives a buffer back.
///
/// # Safety
/// It came from [`alloc_bytes`] or [`resize_bytes`] for a length of the same capacity, and is not used afterwards.
#[inline]
pub unsafe fn free_bytes(buffer: NonNull<u8>, len: usize) {
    let capacity = bytes_len(len);
    // SAFETY: the caller's promise.
    unsafe {
        if capacity <= BLOCK_LEN_MAX {
            free(Handle::of(buffer.as_ptr()), capacity);
        } else {
            std::alloc::dealloc(buffer.as_ptr(), layout(capacity));
        }
    }
}

/// Whether the buffer is in a page that is to be emptied (see `begin_compaction`); `None` when it is not in the slab.
///
/// # Safety
/// It came from [`alloc_bytes`] or [`resize_bytes`] for a length of the same capacity.
pub unsafe fn bytes_are_sparse(buffer: NonNull<u8>, len: usize) -> Option<bool> {
    (bytes_len(len) <= BLOCK_LEN_MAX).then(|| is_sparse(Handle::of(buffer.as_ptr())))
}

/// Puts the bytes into a fresh buffer of the same length.
///
/// # Safety
/// As for [`free_bytes`]; all bytes are initialized.
pub unsafe fn move_bytes(buffer: NonNull<u8>, len: usize) -> NonNull<u8> {
    let moved = alloc_bytes(len);
    // SAFETY: both have so many bytes and differ; the old one is not used afterwards.
    unsafe {
        moved.as_ptr().copy_from_nonoverlapping(buffer.as_ptr(), len);
        if bytes_len(len) <= BLOCK_LEN_MAX {
            free_sparse(Handle::of(buffer.as_ptr()), bytes_len(len));
        } else {
            free_bytes(buffer, len);
        }
    }
    moved
}

/// Changes the length from `old_len` to `new_len`; the bytes up to the smaller one stay.
///
/// # Safety
/// As for [`free_bytes`] with `old_len`; the first `min(old_len, new_len)` bytes are initialized.
#[inline]
pub unsafe fn resize_bytes(buffer: NonNull<u8>, old_len: usize, new_len: usize) -> NonNull<u8> {
    let (old, new) = (bytes_len(old_len), bytes_len(new_len));
    if old == new {
        return buffer;
    }
    if old > BLOCK_LEN_MAX && new > BLOCK_LEN_MAX {
        // SAFETY: allocated with this layout; the new size is neither zero nor too large.
        let moved = unsafe { std::alloc::realloc(buffer.as_ptr(), layout(old), new) };
        return NonNull::new(moved).unwrap_or_else(|| handle_alloc_error(layout(new)));
    }
    let moved = alloc_bytes(new_len);
    // SAFETY: both have so many bytes and differ; the old one is not used afterwards.
    unsafe {
        moved.as_ptr().copy_from_nonoverlapping(buffer.as_ptr(), old_len.min(new_len));
        free_bytes(buffer, old_len);
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities() {
        for (len, expected) in
            [(1, 16), (16, 16), (17, 32), (267, 272), (1024, 1024), (1025, 1280), (8192, 8192), (8193, 10240)]
        {
            assert_eq!(bytes_len(len), expected, "{len}");
        }
    }

    #[test]
    fn contents_survive_every_change_of_length() {
        let mut len = 1;
        let mut buffer = alloc_bytes(len);
        // SAFETY: a buffer of our own, used within its length.
        unsafe {
            buffer.as_ptr().write(7);
            for next in (2..3000).step_by(13).chain((1..3000).rev().step_by(17)) {
                buffer = resize_bytes(buffer, len, next);
                let bytes = std::slice::from_raw_parts_mut(buffer.as_ptr(), next);
                bytes.iter_mut().skip(len).for_each(|byte| *byte = 7);
                assert!(bytes.iter().all(|&byte| byte == 7), "{len} to {next}");
                len = next;
            }
            free_bytes(buffer, len);
        }
    }
}

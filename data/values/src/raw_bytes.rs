// SPDX-License-Identifier: BSD-3-Clause
//! The memory of a packed value behind one thin pointer: eight bytes per handle, because every small collection pays for
//! it.
//!
//! The length is the first four bytes of the memory itself, the capacity follows from the length (`bytes_len`), so that
//! neither takes room in the handle. Everything unsafe about packed values is here; what the bytes mean is not.

use crate::relocate::Mover;
use pando_slab::{alloc_bytes, bytes_are_sparse, bytes_len, free_bytes, move_bytes, resize_bytes};
use std::ptr::NonNull;

/// Bytes that the length takes at the start.
pub(crate) const LEN_BYTES: usize = 4;

/// Owned bytes, at least [`LEN_BYTES`] of them, that start with their own length (u32, little endian).
pub(crate) struct RawBytes {
    /// Points to `bytes_len(len)` bytes, of which the first `len` are initialized.
    ptr: NonNull<u8>,
}

// SAFETY: the bytes are owned by the handle alone and have no interior mutability.
unsafe impl Send for RawBytes {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for RawBytes {}

impl RawBytes {
    /// A copy of `bytes`, which must start with their own length.
    pub(crate) fn new(bytes: &[u8]) -> RawBytes {
        let len = bytes.len();
        assert!(len >= LEN_BYTES && len <= u32::MAX as usize);
        assert_eq!(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize, len);
        let ptr = alloc_bytes(len);
        // SAFETY: the new allocation has room for all bytes, and does not overlap with borrowed ones.
        unsafe { ptr.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), len) };
        RawBytes { ptr }
    }

    /// Length in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        // SAFETY: at least LEN_BYTES bytes are there and initialized.
        u32::from_le(unsafe { self.ptr.as_ptr().cast::<u32>().read_unaligned() }) as usize
    }

    /// Bytes of the allocation.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        bytes_len(self.len())
    }

    /// The bytes.
    #[inline]
    pub(crate) fn get(&self) -> &[u8] {
        // SAFETY: `len` bytes are initialized; they live as long as the handle.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len()) }
    }

    /// The bytes after the length. The length itself changes only with [`RawBytes::resize`].
    #[inline]
    pub(crate) fn content_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `get`; the exclusive borrow of the handle makes it the only access.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().add(LEN_BYTES), self.len() - LEN_BYTES) }
    }

    /// Moves the bytes if they lie in sparse memory, of the slab or of the heap.
    pub(crate) fn relocate(&mut self, mover: &mut Mover<'_>) {
        let len = self.len();
        // SAFETY: the buffer was made for `len` bytes.
        let wants = match unsafe { bytes_are_sparse(self.ptr, len) } {
            Some(are_sparse) => mover.count(are_sparse),
            None => mover.wants(self.ptr.as_ptr()),
        };
        if wants {
            // SAFETY: the buffer was made for `len` bytes, all of which are initialized.
            self.ptr = unsafe { move_bytes(self.ptr, len) };
        }
    }

    /// Changes the length; new bytes are zero.
    pub(crate) fn resize(&mut self, new_len: usize) {
        let old_len = self.len();
        assert!(new_len >= LEN_BYTES && new_len <= u32::MAX as usize);
        // SAFETY: the buffer was made for `old_len` bytes, all of which are initialized.
        self.ptr = unsafe { resize_bytes(self.ptr, old_len, new_len) };
        // SAFETY: there are `bytes_len(new_len)` bytes; those up to the smaller length are initialized, the others that
        // count are set here.
        unsafe {
            if new_len > old_len {
                self.ptr.as_ptr().add(old_len).write_bytes(0, new_len - old_len);
            }
            self.ptr.as_ptr().cast::<u32>().write_unaligned((new_len as u32).to_le());
        }
    }
}

impl Drop for RawBytes {
    fn drop(&mut self) {
        // SAFETY: the buffer was made for so many bytes, and is not used afterwards.
        unsafe { free_bytes(self.ptr, self.len()) }
    }
}

impl Clone for RawBytes {
    fn clone(&self) -> Self {
        RawBytes::new(self.get())
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! One block of the log: bytes, and a bitmap that says which of them are published.
//!
//! Many threads write disjoint ranges while readers look at published ones. Called by the log only.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes per block.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;
const WORDS: usize = BLOCK_BYTES / 64;

pub(crate) struct Block {
    bytes: Box<[UnsafeCell<u8>]>,
    published: Box<[AtomicU64]>,
}

// SAFETY: bytes are written only by the thread that reserved them, before it publishes them, and read only after
// (release in `publish`, acquire in `published_from`); published bytes never change while the block is shared.
unsafe impl Sync for Block {}

impl Block {
    pub(crate) fn new() -> Block {
        let bytes = Box::into_raw(vec![0u8; BLOCK_BYTES].into_boxed_slice());
        Block {
            // SAFETY: `UnsafeCell<u8>` has the layout of `u8`, and the box is ours alone.
            bytes: unsafe { Box::from_raw(bytes as *mut [UnsafeCell<u8>]) },
            published: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Makes a block that nobody shares any more usable again.
    pub(crate) fn clear(&mut self) {
        for word in &mut self.published {
            *word.get_mut() = 0;
        }
    }

    /// Copies and publishes.
    ///
    /// # Safety
    /// The range `at..at + bytes.len()` is reserved for this thread and not published.
    pub(crate) unsafe fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= BLOCK_BYTES);
        // SAFETY: within the block (asserted), and ours alone (the caller's promise).
        unsafe {
            let to = UnsafeCell::raw_get(self.bytes.as_ptr().add(at));
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.publish(at, bytes.len());
    }

    /// Sets the bits of a range.
    pub(crate) fn publish(&self, at: usize, len: usize) {
        let (mut at, end) = (at, at + len);
        while at < end {
            let bit = at % 64;
            let n = (64 - bit).min(end - at);
            let word = &self.published[at / 64];
            if n == 64 {
                word.store(u64::MAX, Ordering::Release);
            } else {
                word.fetch_or(((1u64 << n) - 1) << bit, Ordering::Release);
            }
            at += n;
        }
    }

    /// The published bytes from `at` up to the first gap.
    pub(crate) fn published_from(&self, at: usize) -> &[u8] {
        let mut end = at;
        while end < BLOCK_BYTES {
            let bit = end % 64;
            // Acquire: the bytes under the bits that we see are written.
            let run = (self.published[end / 64].load(Ordering::Acquire) >> bit).trailing_ones() as usize;
            end += run;
            if run < 64 - bit {
                break;
            }
        }
        // SAFETY: `at..end` is within the block and published, so it is initialized and does not change any more.
        unsafe { std::slice::from_raw_parts(UnsafeCell::raw_get(self.bytes.as_ptr().add(at)), end - at) }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.published.iter().all(|word| word.load(Ordering::Acquire) == u64::MAX)
    }
}

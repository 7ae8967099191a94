// SPDX-License-Identifier: BSD-3-Clause
//! How full a packed node of a list may be: `list-max-listpack-size` and Valkey's rules around it. These rules decide what
//! `OBJECT ENCODING` replies, so they are Valkey's to the byte.

/// The bytes per node of `list-max-listpack-size` -1 to -5.
const CLASS_BYTES: [usize; 5] = [4096, 8192, 16384, 32768, 65536];
/// Bytes of a node whose limit is a number of elements.
const SAFE_BYTES: usize = 8192;
/// What an entry is taken to need besides its bytes.
const ENTRY_OVERHEAD: usize = 8;

/// See the head of this file.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) struct Fill {
    /// Elements per node, or a class of bytes when negative.
    pub(super) size: i32,
    /// Elements from this length on get a node of their own (`DEBUG QUICKLIST-PACKED-THRESHOLD`); zero: the rule.
    pub(super) plain_from_bytes: usize,
}

impl Fill {
    /// Bytes and elements of a full node; the one that does not count is `usize::MAX`.
    pub(super) fn node_max(self) -> (usize, usize) {
        match usize::try_from(self.size) {
            Ok(elements) => (usize::MAX, elements.max(1)),
            Err(_) => {
                let class = self.size.unsigned_abs() as usize - 1;
                (CLASS_BYTES[class.min(CLASS_BYTES.len() - 1)], usize::MAX)
            }
        }
    }

    /// Whether a node of `bytes` and `elements` is beyond the limit.
    #[inline]
    pub(super) fn exceeds(self, bytes: usize, elements: usize) -> bool {
        match self.node_max() {
            (usize::MAX, elements_max) => bytes > SAFE_BYTES || elements > elements_max,
            (bytes_max, _) => bytes > bytes_max,
        }
    }

    /// Whether a node of `bytes` and `elements` has no room for one more element of `element_bytes`.
    #[inline]
    pub(super) fn is_full_for(self, bytes: usize, elements: usize, element_bytes: usize) -> bool {
        self.exceeds(bytes + element_bytes + ENTRY_OVERHEAD, elements + 1)
    }

    /// Whether an element of `bytes` gets a node of its own.
    #[inline]
    pub(super) fn is_large(self, bytes: usize) -> bool {
        if self.plain_from_bytes != 0 {
            return bytes >= self.plain_from_bytes;
        }
        match self.node_max() {
            (usize::MAX, _) => bytes > SAFE_BYTES,
            (bytes_max, _) => bytes > bytes_max,
        }
    }
}

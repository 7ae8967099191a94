// SPDX-License-Identifier: BSD-3-Clause
//! Moving an entry and what it points to, so that sparsely used memory becomes free.
//!
//! Not here: which memory that is (`slab` for blocks, the caller's `Mover` for the heap). Called by `compact`.

use super::{Entry, KEY_ON_HEAP, REPR, REPR_HEAP, REPR_TYPED, typed_end};
use pando_slab as slab;
use pando_values::{Mover, Typed};

impl Entry {
    /// Moves the entry out of a page that is to be emptied. The caller replaces the old one, which is gone.
    pub(crate) fn relocate(self) -> Option<Entry> {
        if !slab::is_sparse(self.0) {
            return None;
        }
        let layout = self.layout();
        let len = layout.end;
        let to = slab::alloc(len);
        // SAFETY: both blocks have `len` bytes and differ; the old one is not used afterwards. A handle is moved to where
        // the new block's address has it aligned.
        unsafe {
            if layout.flags & REPR == REPR_TYPED {
                let before = len - typed_end(0);
                to.ptr().copy_from_nonoverlapping(self.0.ptr(), before);
                let target = to.ptr().add(Entry(to).typed_at(before)).cast::<Typed>();
                target.copy_from_nonoverlapping(self.0.ptr().add(layout.value_at).cast(), 1);
            } else {
                to.ptr().copy_from_nonoverlapping(self.0.ptr(), len);
            }
            slab::free_sparse(self.0, len);
        }
        Some(Entry(to))
    }

    /// Moves what the entry has on the heap, from part `from` of its collection on. Returns the part to go on with, zero
    /// when all was looked at.
    ///
    /// # Safety
    /// The caller has the slot exclusively and holds no reference to key or value.
    pub(crate) unsafe fn relocate_heap(self, from: usize, mover: &mut Mover<'_>) -> usize {
        let layout = self.layout();
        if layout.flags & KEY_ON_HEAP != 0 && from == 0 {
            let pointer = std::ptr::with_exposed_provenance_mut::<u8>(self.word(layout.key_at) as usize);
            if mover.wants(pointer) {
                // SAFETY: `new` stored a boxed slice of this length; its pointer is replaced below.
                let old = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(pointer, layout.key_len)) };
                let key = Box::into_raw(old.clone());
                self.put_word(layout.key_at, key.cast::<u8>().expose_provenance() as u64);
            }
        }
        match layout.flags & REPR {
            REPR_HEAP => {
                let mut bytes = self.take_vec(&layout);
                mover.vec(&mut bytes);
                self.put_vec(bytes);
                0
            }
            REPR_TYPED => {
                // SAFETY: the caller's promise.
                let typed = unsafe { self.typed_mut() };
                typed.map_or(0, |typed| typed.relocate(from, mover))
            }
            _ => 0,
        }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! A growing array in pieces behind reference counts: it grows without moving what is there, and a clone of it copies one
//! pointer for 63 places.
//!
//! Not here: what the places hold. Called by `Dict` for its segments and its large entries.

use super::ARC_COUNT;
use crate::relocate::Mover;
use crate::size_class as allocated;
use triomphe::Arc;

/// Places in a full piece: with the reference count, pieces of 16-byte places are 1024 bytes, one of jemalloc's sizes.
const PER_CHUNK: usize = 63;

/// An array of places that are `T::default()` until they are set. Only the first piece grows; all others have their full
/// size from the start.
#[derive(Clone)]
pub(super) struct Chunks<T> {
    chunks: Vec<Arc<[T]>>,
    len: usize,
}

impl<T: Default + Clone> Chunks<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> &T {
        &self.chunks[index / PER_CHUNK][index % PER_CHUNK]
    }

    /// The place, for a change: a piece that a clone shares is copied first.
    #[inline]
    pub(super) fn get_mut(&mut self, index: usize) -> &mut T {
        let chunk = &mut self.chunks[index / PER_CHUNK];
        if !chunk.is_unique() {
            *chunk = chunk.iter().cloned().collect();
        }
        &mut unique(chunk)[index % PER_CHUNK]
    }

    pub(super) fn push(&mut self, value: T) {
        let index = self.len;
        if index < PER_CHUNK {
            if self.chunks.is_empty() {
                self.chunks.reserve_exact(1);
                self.chunks.push(std::iter::once(value).collect());
                self.len = 1;
                return;
            }
            if index == self.chunks[0].len() {
                self.resize_first(index + 1);
            }
        } else if index.is_multiple_of(PER_CHUNK) {
            self.chunks.push((0..PER_CHUNK).map(|_| T::default()).collect());
        }
        self.len += 1;
        *self.get_mut(index) = value;
    }

    /// Takes the last place away.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        let value = std::mem::take(self.get_mut(self.len));
        if self.len.is_multiple_of(PER_CHUNK) {
            self.chunks.pop();
            if self.chunks.capacity() > 4 * self.chunks.len() {
                self.chunks.shrink_to(2 * self.chunks.len());
            }
        } else if self.len * 2 < self.chunks[0].len() {
            self.resize_first(self.len);
        }
        Some(value)
    }

    /// Gives the first piece room for `needed` places and what the allocator rounds up to.
    fn resize_first(&mut self, needed: usize) {
        let bytes = allocated(ARC_COUNT + needed * size_of::<T>());
        let room = ((bytes - ARC_COUNT) / size_of::<T>()).min(PER_CHUNK);
        let chunk = &mut self.chunks[0];
        let len = chunk.len().min(self.len);
        *chunk = if chunk.is_unique() {
            let old = unique(chunk);
            (0..room).map(|at| if at < len { std::mem::take(&mut old[at]) } else { T::default() }).collect()
        } else {
            let old = &*chunk;
            (0..room).map(|at| if at < len { old[at].clone() } else { T::default() }).collect()
        };
    }

    /// Moves what lies in sparse memory: see `Collection::relocate`. `inside` moves what a place itself holds.
    pub(super) fn relocate(
        &mut self,
        from: usize,
        mover: &mut Mover<'_>,
        mut inside: impl FnMut(&mut T, &mut Mover<'_>),
    ) -> usize {
        let mut first = from % PER_CHUNK;
        for (number, chunk) in self.chunks.iter_mut().enumerate().skip(from / PER_CHUNK) {
            if !chunk.is_unique() {
                continue;
            }
            if first == 0 && mover.wants(chunk[..].as_ptr()) {
                let old = unique(chunk);
                *chunk = old.iter_mut().map(std::mem::take).collect();
            }
            for (at, place) in unique(chunk).iter_mut().enumerate().skip(first) {
                if mover.is_spent() {
                    return (number * PER_CHUNK + at).max(1);
                }
                inside(place, mover);
            }
            first = 0;
        }
        0
    }

    /// Heap bytes, without what the places own.
    pub(super) fn heap_bytes(&self) -> usize {
        let Some(first) = self.chunks.first() else { return 0 };
        let full = (self.chunks.len() - 1) * allocated(ARC_COUNT + PER_CHUNK * size_of::<T>());
        full + allocated(ARC_COUNT + first.len() * size_of::<T>())
            + allocated(self.chunks.capacity() * size_of::<Arc<[T]>>())
    }

    /// Number of allocations, without what the places own.
    pub(super) fn allocations(&self) -> usize {
        self.chunks.len() + usize::from(!self.chunks.is_empty())
    }
}

/// The slice of a reference that is known to be the only one.
#[inline]
fn unique<T>(chunk: &mut Arc<[T]>) -> &mut [T] {
    // A second owner cannot appear in between: it could only be made through this very reference.
    Arc::get_mut(chunk).expect("made unique before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_shrinks_and_clones() {
        let mut chunks: Chunks<Option<Box<usize>>> = Chunks::new();
        for n in 0..1000 {
            chunks.push(Some(Box::new(n)));
        }
        let copy = chunks.clone();
        *chunks.get_mut(100) = None;
        assert_eq!(copy.get(100).as_deref(), Some(&100));
        for n in (0..1000).rev() {
            assert_eq!(chunks.pop().flatten().map(|n| *n), (n != 100).then_some(n));
        }
        assert_eq!((chunks.len(), chunks.pop(), chunks.heap_bytes()), (0, None, 0));
        assert!((0..1000).all(|n| copy.get(n).as_deref() == Some(&n)));
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! A growable array of nodes, each reached by a number that stays the same: chunks of pointers behind `Arc`, nodes behind
//! `Arc`. Cloning it copies a pointer for every [`CHUNK`] nodes; a write to a shared node copies that node and its chunk.
//! Not here: what the nodes are. Used by the ordered index and the member index of a sorted set.

use crate::relocate::Mover;
use std::sync::Arc;

const CHUNK: usize = 64;

/// Bytes that the allocator gives for a chunk.
const CHUNK_BYTES: usize = size_of::<Chunk<u8>>() + 16;

#[derive(Clone, Debug)]
struct Chunk<T> {
    used: u8,
    nodes: [Option<Arc<T>>; CHUNK],
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Table<T> {
    chunks: Vec<Option<Arc<Chunk<T>>>>,
    /// Numbers below `end` that hold no node.
    free: Vec<u32>,
    /// One above the highest number that was ever given.
    end: u32,
}

impl<T: Clone + Default> Table<T> {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), end: 0 }
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.end as usize - self.free.len()
    }

    /// Stores a node and returns its number.
    pub(super) fn add(&mut self, node: T) -> u32 {
        let id = self.free.pop().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        });
        let at = id as usize / CHUNK;
        if at >= self.chunks.len() {
            if self.chunks.capacity() == at {
                // An eighth at a time: a doubling would hold twice the memory.
                self.chunks.reserve_exact(at / 8 + 1);
            }
            self.chunks.resize_with(at + 1, || None);
        }
        let empty = || Arc::new(Chunk { used: 0, nodes: [const { None }; CHUNK] });
        let chunk = Arc::make_mut(self.chunks[at].get_or_insert_with(empty));
        debug_assert!(chunk.nodes[id as usize % CHUNK].is_none());
        chunk.nodes[id as usize % CHUNK] = Some(Arc::new(node));
        chunk.used += 1;
        id
    }

    /// Takes a node out; its number may be given to another.
    pub(super) fn remove(&mut self, id: u32) -> Arc<T> {
        let place = &mut self.chunks[id as usize / CHUNK];
        let chunk = Arc::make_mut(place.as_mut().expect("the chunk of a node"));
        let node = chunk.nodes[id as usize % CHUNK].take().expect("a node");
        chunk.used -= 1;
        if chunk.used == 0 {
            *place = None;
        }
        if id + 1 == self.end {
            self.end = id;
        } else {
            self.free.push(id);
        }
        if self.end as usize == self.free.len() {
            *self = Self::new();
        }
        node
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> &T {
        let chunk = self.chunks[id as usize / CHUNK].as_ref().expect("the chunk of a node");
        chunk.nodes[id as usize % CHUNK].as_ref().expect("a node")
    }

    /// The node for writing: copied first when a clone of the table has it too.
    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> &mut T {
        let chunk = Arc::make_mut(self.chunks[id as usize / CHUNK].as_mut().expect("the chunk of a node"));
        Arc::make_mut(chunk.nodes[id as usize % CHUNK].as_mut().expect("a node"))
    }

    /// Parts of [`relocate`](Self::relocate).
    pub(super) fn places(&self) -> usize {
        self.end as usize
    }

    /// Moves what lies in sparse memory: see `Collection::relocate`. `inside` moves what a node itself holds.
    pub(super) fn relocate(
        &mut self,
        from: usize,
        mover: &mut Mover<'_>,
        mut inside: impl FnMut(&mut T, &mut Mover<'_>),
    ) -> usize {
        let mut first = from % CHUNK;
        for (number, shared) in self.chunks.iter_mut().enumerate().skip(from / CHUNK) {
            let Some(shared) = shared else { continue };
            if first == 0 {
                mover.cloned(shared);
            }
            let Some(chunk) = Arc::get_mut(shared) else { continue };
            for (at, place) in chunk.nodes.iter_mut().enumerate().skip(first) {
                if mover.is_spent() {
                    return (number * CHUNK + at).max(1);
                }
                let Some(shared) = place else { continue };
                if let Some(node) = Arc::get_mut(shared) {
                    inside(node, mover);
                    mover.taken(shared);
                }
            }
            first = 0;
        }
        0
    }

    /// Bytes of the table and of the nodes' own structs, not of what the nodes hold.
    pub(super) fn heap_bytes(&self) -> usize {
        let chunks = (self.end as usize).div_ceil(CHUNK).min(self.chunks.len());
        self.chunks.capacity() * size_of::<usize>()
            + self.free.capacity() * size_of::<u32>()
            + chunks * CHUNK_BYTES
            + self.len() * (size_of::<T>() + 16)
    }

    /// Number of allocations of the table itself.
    pub(super) fn allocations(&self) -> usize {
        self.chunks.len() + self.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_clones_do_not_change() {
        let mut table = Table::new();
        let ids: Vec<u32> = (0..200).map(|n| table.add(n)).collect();
        let before = table.clone();
        for id in &ids[50..190] {
            assert_eq!(*table.remove(*id), *id);
        }
        *table.get_mut(3) = 1000;
        assert_eq!((*before.get(3), *table.get(3), *before.get(100)), (3, 1000, 100));
        assert_eq!(table.len(), 60);
        let again = table.add(7);
        assert!((50..190).contains(&again));
        assert_eq!(*table.get(again), 7);
    }
}

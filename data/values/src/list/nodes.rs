// SPDX-License-Identifier: BSD-3-Clause
//! The nodes of a large list, in order: a queue of chunks of up to [`CHUNK_NODES`] nodes. Both levels are shared with
//! clones until one side changes. Both ends are O(1), a place by index takes a walk over chunks and then over the nodes of
//! one, and inserting or removing a node moves at most one chunk's pointers (and, rarely, the queue's).
//!
//! Not here: how full a node may be, when nodes merge (`quick.rs`).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::listpack::ListPack;
use crate::relocate::Mover;
use crate::size_class::size_class;

/// Nodes of a full chunk. Half a kilobyte of pointers: cheap to copy when shared, cheap to shift.
const CHUNK_NODES: usize = 64;
/// Neighbours that fit together into this many nodes become one chunk.
const MERGE_NODES: usize = CHUNK_NODES / 2;
/// An `Arc`'s allocation begins with two counters.
const ARC_HEAD: usize = 2 * size_of::<usize>();
const NODE_BYTES: usize = size_class(ARC_HEAD + size_of::<Node>());
const CHUNK_BYTES: usize = size_class(ARC_HEAD + size_of::<Chunk>());

/// A packed run of elements, or one large element.
#[derive(Clone)]
pub(super) struct Node {
    /// The elements.
    pub(super) pack: ListPack,
    /// How many.
    pub(super) count: u32,
    /// One large element, which never gets company.
    pub(super) is_plain: bool,
}

impl Node {
    pub(super) fn packed(pack: ListPack) -> Node {
        Node { count: pack.len() as u32, pack, is_plain: false }
    }

    pub(super) fn of(element: &[u8], is_plain: bool) -> Node {
        let mut pack = ListPack::new();
        pack.push_back(element);
        Node { pack, count: 1, is_plain }
    }

    /// Bytes of the packed run.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.pack.bytes().len()
    }
}

#[derive(Clone, Default)]
struct Chunk {
    nodes: Vec<Arc<Node>>,
    elements: usize,
}

/// The place of a node. Good until a node is inserted or removed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct At {
    chunk: usize,
    node: usize,
}

/// See the head of this file. No chunk is empty, no node is.
#[derive(Clone, Default)]
pub(super) struct Nodes {
    chunks: VecDeque<Arc<Chunk>>,
    nodes: usize,
    elements: usize,
    /// Bytes of nodes and chunks, without the queue.
    bytes: usize,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.nodes
    }

    pub(super) fn elements(&self) -> usize {
        self.elements
    }

    /// Bytes of the heap. O(1).
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes + size_class(self.chunks.capacity() * size_of::<Arc<Chunk>>())
    }

    pub(super) fn first(&self) -> Option<At> {
        (!self.chunks.is_empty()).then_some(At { chunk: 0, node: 0 })
    }

    pub(super) fn last(&self) -> Option<At> {
        let chunk = self.chunks.len().checked_sub(1)?;
        Some(At { chunk, node: self.chunks[chunk].nodes.len() - 1 })
    }

    pub(super) fn next(&self, at: At) -> Option<At> {
        if at.node + 1 < self.chunks[at.chunk].nodes.len() {
            return Some(At { node: at.node + 1, ..at });
        }
        (at.chunk + 1 < self.chunks.len()).then_some(At { chunk: at.chunk + 1, node: 0 })
    }

    pub(super) fn prev(&self, at: At) -> Option<At> {
        if at.node > 0 {
            return Some(At { node: at.node - 1, ..at });
        }
        let chunk = at.chunk.checked_sub(1)?;
        Some(At { chunk, node: self.chunks[chunk].nodes.len() - 1 })
    }

    #[inline]
    pub(super) fn get(&self, at: At) -> &Node {
        &self.chunks[at.chunk].nodes[at.node]
    }

    /// How many nodes there are ahead of `at`. O(chunks).
    pub(super) fn number(&self, at: At) -> usize {
        self.chunks.iter().take(at.chunk).map(|chunk| chunk.nodes.len()).sum::<usize>() + at.node
    }

    /// The place of the node that has `number` nodes ahead of it; there must be one. O(chunks).
    pub(super) fn place(&self, number: usize) -> At {
        let mut at = At { chunk: 0, node: number };
        while at.node >= self.chunks[at.chunk].nodes.len() {
            at.node -= self.chunks[at.chunk].nodes.len();
            at.chunk += 1;
        }
        at
    }

    /// The node with the element of `index`, and that element's index in the node.
    pub(super) fn seek(&self, index: usize) -> Option<(At, usize)> {
        if index >= self.elements {
            return None;
        }
        // The first element of the chunk at hand, coming from the nearer end.
        let (mut chunk, mut base);
        if index <= self.elements / 2 {
            (chunk, base) = (0, 0);
            while base + self.chunks[chunk].elements <= index {
                base += self.chunks[chunk].elements;
                chunk += 1;
            }
        } else {
            chunk = self.chunks.len() - 1;
            base = self.elements - self.chunks[chunk].elements;
            while base > index {
                chunk -= 1;
                base -= self.chunks[chunk].elements;
            }
        }
        let (nodes, elements) = (&self.chunks[chunk].nodes, self.chunks[chunk].elements);
        let mut node;
        if index - base <= elements / 2 {
            node = 0;
            while base + nodes[node].count as usize <= index {
                base += nodes[node].count as usize;
                node += 1;
            }
        } else {
            node = nodes.len() - 1;
            base += elements - nodes[node].count as usize;
            while base > index {
                node -= 1;
                base -= nodes[node].count as usize;
            }
        }
        Some((At { chunk, node }, index - base))
    }

    /// Changes a node, which must not become empty.
    #[inline]
    pub(super) fn edit<R>(&mut self, at: At, edit: impl FnOnce(&mut Node) -> R) -> R {
        let shared = &mut self.chunks[at.chunk];
        let pointers = shared.nodes.capacity();
        let chunk = Arc::make_mut(shared);
        let node = Arc::make_mut(&mut chunk.nodes[at.node]);
        let (count, bytes) = (node.count as usize, node.pack.heap_bytes());
        let result = edit(node);
        debug_assert_eq!(node.count as usize, node.pack.len());
        chunk.elements = chunk.elements - count + node.count as usize;
        self.elements = self.elements - count + node.count as usize;
        self.bytes = self.bytes - bytes + node.pack.heap_bytes();
        self.bytes = self.bytes - pointer_bytes(pointers) + pointer_bytes(chunk.nodes.capacity());
        result
    }

    pub(super) fn push_front(&mut self, node: Node) {
        self.insert(At { chunk: 0, node: 0 }, node);
    }

    pub(super) fn push_back(&mut self, node: Node) {
        self.insert_after(self.last(), node);
    }

    /// Puts a node behind `at`, or in front of all; gives its place.
    pub(super) fn insert_after(&mut self, at: Option<At>, node: Node) -> At {
        self.insert(at.map_or(At { chunk: 0, node: 0 }, |at| At { node: at.node + 1, ..at }), node)
    }

    /// Puts a node at `at`, ahead of what is there; `at.node` may be one beyond the chunk's last.
    pub(super) fn insert(&mut self, mut at: At, node: Node) -> At {
        if self.chunks.is_empty() {
            self.insert_chunk(0, Chunk::default());
        }
        if self.chunks[at.chunk].nodes.len() == CHUNK_NODES {
            at = self.make_room(at);
        }
        self.nodes += 1;
        self.elements += node.count as usize;
        self.bytes += NODE_BYTES + node.pack.heap_bytes();
        self.edit_chunk(at.chunk, |chunk| {
            if chunk.nodes.len() == chunk.nodes.capacity() {
                // 4, 8, 16, ... pointers.
                chunk.nodes.reserve_exact(chunk.nodes.len().max(4));
            }
            chunk.elements += node.count as usize;
            chunk.nodes.insert(at.node, Arc::new(node));
        });
        at
    }

    /// Takes a node out; gives the place of the one after it.
    pub(super) fn remove(&mut self, at: At) -> Option<At> {
        let node = self.edit_chunk(at.chunk, |chunk| {
            let node = chunk.nodes.remove(at.node);
            chunk.elements -= node.count as usize;
            if chunk.nodes.len() * 4 <= chunk.nodes.capacity() {
                chunk.nodes.shrink_to(chunk.nodes.len() * 2);
            }
            node
        });
        self.nodes -= 1;
        self.elements -= node.count as usize;
        self.bytes -= NODE_BYTES + node.pack.heap_bytes();
        if self.chunks[at.chunk].nodes.is_empty() {
            self.remove_chunk(at.chunk);
            if self.chunks.len() * 4 <= self.chunks.capacity() {
                self.chunks.shrink_to(self.chunks.len() * 2);
            }
            return (at.chunk < self.chunks.len()).then_some(At { chunk: at.chunk, node: 0 });
        }
        let at = self.merge_chunks(at);
        if at.node < self.chunks[at.chunk].nodes.len() {
            return Some(at);
        }
        (at.chunk + 1 < self.chunks.len()).then_some(At { chunk: at.chunk + 1, node: 0 })
    }

    /// The only node's packed run.
    pub(super) fn into_only_pack(mut self) -> Option<ListPack> {
        if self.nodes != 1 {
            return None;
        }
        let mut chunk = Arc::unwrap_or_clone(self.chunks.pop_front()?);
        Some(Arc::unwrap_or_clone(chunk.nodes.pop()?).pack)
    }

    /// Moves nodes and chunks that lie in sparse memory: see `Collection::relocate`.
    pub(super) fn relocate(&mut self, from: usize, mover: &mut Mover<'_>) -> usize {
        let mut first = from % CHUNK_NODES;
        for (number, shared) in self.chunks.iter_mut().enumerate().skip(from / CHUNK_NODES) {
            if first == 0 {
                mover.taken(shared);
            }
            let Some(chunk) = Arc::get_mut(shared) else { continue };
            if first == 0 {
                mover.vec(&mut chunk.nodes);
            }
            for (at, shared) in chunk.nodes.iter_mut().enumerate().skip(first) {
                if mover.is_spent() {
                    // Nothing was done yet for a part that is zero.
                    return (number * CHUNK_NODES + at).max(1);
                }
                if let Some(node) = Arc::get_mut(shared) {
                    node.pack.relocate(mover);
                    mover.cloned(shared);
                }
            }
            first = 0;
        }
        0
    }

    /// All nodes in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.chunks.iter().flat_map(|chunk| chunk.nodes.iter().map(|node| &**node))
    }

    fn edit_chunk<R>(&mut self, index: usize, edit: impl FnOnce(&mut Chunk) -> R) -> R {
        let shared = &mut self.chunks[index];
        let pointers = shared.nodes.capacity();
        let chunk = Arc::make_mut(shared);
        let result = edit(chunk);
        self.bytes = self.bytes - pointer_bytes(pointers) + pointer_bytes(chunk.nodes.capacity());
        result
    }

    fn insert_chunk(&mut self, index: usize, chunk: Chunk) {
        self.bytes += CHUNK_BYTES + pointer_bytes(chunk.nodes.capacity());
        self.chunks.insert(index, Arc::new(chunk));
    }

    fn remove_chunk(&mut self, index: usize) {
        if let Some(chunk) = self.chunks.remove(index) {
            self.bytes -= CHUNK_BYTES + pointer_bytes(chunk.nodes.capacity());
        }
    }

    /// The chunk of `at` is full: a new chunk at an end of the list, else two halves. Gives where `at` is now.
    fn make_room(&mut self, at: At) -> At {
        if at == (At { chunk: 0, node: 0 }) {
            self.insert_chunk(0, Chunk::default());
            return at;
        }
        let next = At { chunk: at.chunk + 1, node: 0 };
        if at.node == CHUNK_NODES && next.chunk == self.chunks.len() {
            self.insert_chunk(next.chunk, Chunk::default());
            return next;
        }
        const HALF: usize = CHUNK_NODES / 2;
        let tail = self.edit_chunk(at.chunk, |chunk| {
            let nodes = chunk.nodes.split_off(HALF);
            let elements = nodes.iter().map(|node| node.count as usize).sum();
            chunk.elements -= elements;
            Chunk { nodes, elements }
        });
        self.insert_chunk(next.chunk, tail);
        if at.node <= HALF { at } else { At { chunk: next.chunk, node: at.node - HALF } }
    }

    /// Joins the chunk of `at` with a neighbour when both are small. Gives where `at` is now.
    fn merge_chunks(&mut self, at: At) -> At {
        let len = |chunk: usize| self.chunks.get(chunk).map_or(CHUNK_NODES, |chunk| chunk.nodes.len());
        let own = len(at.chunk);
        let (left, at) = if own + len(at.chunk + 1) <= MERGE_NODES {
            (at.chunk, at)
        } else if at.chunk > 0 && own + len(at.chunk - 1) <= MERGE_NODES {
            (at.chunk - 1, At { chunk: at.chunk - 1, node: len(at.chunk - 1) + at.node })
        } else {
            return at;
        };
        let right = Arc::clone(&self.chunks[left + 1]);
        self.remove_chunk(left + 1);
        self.edit_chunk(left, |chunk| {
            chunk.nodes.reserve_exact(right.nodes.len());
            chunk.nodes.extend(right.nodes.iter().cloned());
            chunk.elements += right.elements;
        });
        at
    }

    /// Every sum is right, nothing is empty or overfull.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut bytes = 0;
        for chunk in &self.chunks {
            assert!((1..=CHUNK_NODES).contains(&chunk.nodes.len()));
            assert_eq!(chunk.elements, chunk.nodes.iter().map(|node| node.count as usize).sum::<usize>());
            bytes += CHUNK_BYTES + pointer_bytes(chunk.nodes.capacity());
            for node in &chunk.nodes {
                assert!(node.count > 0);
                assert_eq!(node.count as usize, node.pack.len());
                bytes += NODE_BYTES + node.pack.heap_bytes();
            }
        }
        assert_eq!(self.bytes, bytes);
        assert_eq!(self.nodes, self.chunks.iter().map(|chunk| chunk.nodes.len()).sum::<usize>());
        assert_eq!(self.elements, self.chunks.iter().map(|chunk| chunk.elements).sum::<usize>());
    }
}

fn pointer_bytes(pointers: usize) -> usize {
    size_class(pointers * size_of::<Arc<Node>>())
}

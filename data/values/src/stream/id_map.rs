// SPDX-License-Identifier: BSD-3-Clause
//! An ordered map from stream ids: a queue of chunks of sorted entries. Streams keep their nodes in it, consumer groups
//! their pending entries.
//!
//! Appending, removing from the front and looking up cost O(log n); anything else moves at most one chunk's entries and,
//! once in dozens of times, the queue's pointers (a 10,000th of the entries). Chunks are shared with clones until one of
//! the two changes them, so a clone costs one pointer for each [`CHUNK_LEN_MAX`] entries.

use std::collections::VecDeque;
use std::sync::Arc;

use super::id::StreamId;
use crate::relocate::Mover;
use crate::size_class::size_class;

/// Entries in a full chunk.
const CHUNK_LEN_MAX: usize = 128;
/// Neighbours that together have no more than this are put together.
const MERGE_LEN_MAX: usize = CHUNK_LEN_MAX / 2;

struct Chunk<V> {
    /// Sorted, never empty.
    entries: Vec<(StreamId, V)>,
}

impl<V> Chunk<V> {
    fn first(&self) -> StreamId {
        self.entries[0].0
    }

    /// Bytes of both allocations: the counted pointer's and the entries'.
    fn heap_bytes(&self) -> usize {
        size_class(size_of::<Self>() + 16) + size_class(self.entries.capacity() * size_of::<(StreamId, V)>())
    }
}

impl<V: Clone> Clone for Chunk<V> {
    /// Keeps the capacity: the copy is made to be changed, and so takes the same bytes.
    fn clone(&self) -> Self {
        let mut entries = Vec::with_capacity(self.entries.capacity());
        entries.extend_from_slice(&self.entries);
        Chunk { entries }
    }
}

/// See the head of this file.
pub(super) struct IdMap<V> {
    chunks: VecDeque<Arc<Chunk<V>>>,
    len: usize,
    /// Bytes of the chunks.
    chunk_bytes: usize,
}

impl<V> Clone for IdMap<V> {
    /// Keeps the capacity, so that a copy counts as many bytes as the original.
    fn clone(&self) -> Self {
        let mut chunks = VecDeque::with_capacity(self.chunks.capacity());
        chunks.extend(self.chunks.iter().cloned());
        IdMap { chunks, len: self.len, chunk_bytes: self.chunk_bytes }
    }
}

/// Where an entry is; good until the map changes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) struct At {
    chunk: usize,
    index: usize,
}

impl At {
    /// The first entry, if there is one.
    pub(super) const FIRST: At = At { chunk: 0, index: 0 };
}

impl<V> Default for IdMap<V> {
    fn default() -> Self {
        IdMap { chunks: VecDeque::new(), len: 0, chunk_bytes: 0 }
    }
}

impl<V: PartialEq> PartialEq for IdMap<V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<V: std::fmt::Debug> std::fmt::Debug for IdMap<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<V> IdMap<V> {
    /// Moves what lies in sparse memory: see `Collection::relocate`. `inside` moves what a value itself holds.
    pub(super) fn relocate(
        &mut self,
        from: usize,
        mover: &mut Mover<'_>,
        mut inside: impl FnMut(&mut V, &mut Mover<'_>),
    ) -> usize {
        let mut first = from % CHUNK_LEN_MAX;
        for (number, shared) in self.chunks.iter_mut().enumerate().skip(from / CHUNK_LEN_MAX) {
            let Some(chunk) = Arc::get_mut(shared) else { continue };
            if first == 0 {
                mover.vec(&mut chunk.entries);
            }
            for (at, (_, value)) in chunk.entries.iter_mut().enumerate().skip(first) {
                if mover.is_spent() {
                    return (number * CHUNK_LEN_MAX + at).max(1);
                }
                inside(value, mover);
            }
            first = 0;
        }
        0
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Bytes of the allocations, what the values point to not counted.
    #[inline]
    pub(super) fn heap_bytes(&self) -> usize {
        self.chunk_bytes + size_class(self.chunks.capacity() * size_of::<Arc<Chunk<V>>>())
    }

    /// The entry at `at`; `None` past the end.
    #[inline]
    pub(super) fn at(&self, at: At) -> Option<(StreamId, &V)> {
        let (id, value) = self.chunks.get(at.chunk)?.entries.get(at.index)?;
        Some((*id, value))
    }

    pub(super) fn first(&self) -> Option<(StreamId, &V)> {
        self.at(At::FIRST)
    }

    #[inline]
    pub(super) fn last(&self) -> Option<(StreamId, &V)> {
        let (id, value) = self.chunks.back()?.entries.last()?;
        Some((*id, value))
    }

    /// The first entry whose id is `id` or above; past the end when there is none.
    pub(super) fn at_or_after(&self, id: StreamId) -> At {
        let chunk = self.chunks.partition_point(|chunk| chunk.first() <= id).saturating_sub(1);
        let Some(entries) = self.chunks.get(chunk).map(|chunk| &chunk.entries) else { return At { chunk, index: 0 } };
        let index = entries.partition_point(|(own, _)| *own < id);
        if index == entries.len() { At { chunk: chunk + 1, index: 0 } } else { At { chunk, index } }
    }

    /// The last entry whose id is `id` or below.
    pub(super) fn at_or_before(&self, id: StreamId) -> Option<At> {
        let chunk = self.chunks.partition_point(|chunk| chunk.first() <= id).checked_sub(1)?;
        let index = self.chunks[chunk].entries.partition_point(|(own, _)| *own <= id).checked_sub(1)?;
        Some(At { chunk, index })
    }

    pub(super) fn next(&self, at: At) -> At {
        if at.index + 1 < self.chunks.get(at.chunk).map_or(0, |chunk| chunk.entries.len()) {
            At { chunk: at.chunk, index: at.index + 1 }
        } else {
            At { chunk: at.chunk + 1, index: 0 }
        }
    }

    pub(super) fn prev(&self, at: At) -> Option<At> {
        if at.index > 0 {
            return Some(At { chunk: at.chunk, index: at.index - 1 });
        }
        let chunk = at.chunk.checked_sub(1)?;
        Some(At { chunk, index: self.chunks[chunk].entries.len() - 1 })
    }

    /// Entries in order, from the first whose id is `id` or above.
    pub(super) fn iter_from(&self, id: StreamId) -> impl Iterator<Item = (StreamId, &V)> + use<'_, V> {
        let mut at = self.at_or_after(id);
        std::iter::from_fn(move || {
            let entry = self.at(at)?;
            at = self.next(at);
            Some(entry)
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (StreamId, &V)> + use<'_, V> {
        self.chunks.iter().flat_map(|chunk| chunk.entries.iter().map(|(id, value)| (*id, value)))
    }

    #[inline]
    fn find(&self, id: StreamId) -> Option<At> {
        let at = self.at_or_before(id)?;
        (self.chunks[at.chunk].entries[at.index].0 == id).then_some(at)
    }

    pub(super) fn get(&self, id: StreamId) -> Option<&V> {
        self.find(id).and_then(|at| self.at(at)).map(|(_, value)| value)
    }
}

impl<V: Clone> IdMap<V> {
    pub(super) fn get_mut(&mut self, id: StreamId) -> Option<&mut V> {
        let at = self.find(id)?;
        self.at_mut(at)
    }

    #[inline]
    pub(super) fn at_mut(&mut self, at: At) -> Option<&mut V> {
        let chunk = Arc::make_mut(self.chunks.get_mut(at.chunk)?);
        chunk.entries.get_mut(at.index).map(|(_, value)| value)
    }

    #[inline]
    pub(super) fn last_mut(&mut self) -> Option<&mut V> {
        Arc::make_mut(self.chunks.back_mut()?).entries.last_mut().map(|(_, value)| value)
    }

    /// Adds an entry; false when the id is there already, and then nothing changes.
    pub(super) fn insert(&mut self, id: StreamId, value: V) -> bool {
        match self.last() {
            None => self.insert_chunk(0, vec![(id, value)]),
            Some((last, _)) if last < id => {
                let chunk = self.chunks.len() - 1;
                if self.chunks[chunk].entries.len() == CHUNK_LEN_MAX {
                    // Ids mostly come in order, so a full chunk stays full.
                    self.insert_chunk(chunk + 1, vec![(id, value)]);
                } else {
                    self.edit_chunk(chunk, |entries| entries.push((id, value)));
                }
            }
            Some(_) => return self.insert_within(id, value),
        }
        self.len += 1;
        true
    }

    fn insert_within(&mut self, id: StreamId, value: V) -> bool {
        let mut chunk = self.chunks.partition_point(|chunk| chunk.first() <= id).saturating_sub(1);
        let Err(mut index) = self.chunks[chunk].entries.binary_search_by(|(own, _)| own.cmp(&id)) else { return false };
        if self.chunks[chunk].entries.len() == CHUNK_LEN_MAX {
            let half = CHUNK_LEN_MAX / 2;
            let upper = self.edit_chunk(chunk, |entries| entries.split_off(half));
            self.insert_chunk(chunk + 1, upper);
            if index > half {
                chunk += 1;
                index -= half;
            }
        }
        self.edit_chunk(chunk, |entries| entries.insert(index, (id, value)));
        self.len += 1;
        true
    }

    pub(super) fn remove(&mut self, id: StreamId) -> Option<V> {
        let at = self.find(id)?;
        self.remove_at(at)
    }

    /// Removes the entry at `at`, where its successor is afterwards.
    pub(super) fn remove_at(&mut self, at: At) -> Option<V> {
        let len = self.chunks.get(at.chunk).filter(|chunk| at.index < chunk.entries.len())?.entries.len();
        let (_, value) = self.edit_chunk(at.chunk, |entries| {
            let removed = entries.remove(at.index);
            if entries.len() * 4 <= entries.capacity() {
                entries.shrink_to(entries.len() * 2);
            }
            removed
        });
        self.len -= 1;
        if len == 1 {
            self.remove_chunk(at.chunk);
        } else if len <= MERGE_LEN_MAX / 2 {
            self.merge(at.chunk);
        }
        Some(value)
    }

    /// Puts a small chunk and its successor together when both fit into half of one.
    fn merge(&mut self, chunk: usize) {
        let Some(next) = self.chunks.get(chunk + 1) else { return };
        if self.chunks[chunk].entries.len() + next.entries.len() > MERGE_LEN_MAX {
            return;
        }
        let next = self.remove_chunk(chunk + 1);
        self.edit_chunk(chunk, |entries| entries.extend(next.iter().flat_map(|next| next.entries.iter().cloned())));
    }

    fn insert_chunk(&mut self, at: usize, entries: Vec<(StreamId, V)>) {
        let chunk = Chunk { entries };
        self.chunk_bytes += chunk.heap_bytes();
        self.chunks.insert(at, Arc::new(chunk));
    }

    fn remove_chunk(&mut self, at: usize) -> Option<Arc<Chunk<V>>> {
        let chunk = self.chunks.remove(at)?;
        self.chunk_bytes -= chunk.heap_bytes();
        if self.chunks.len() * 4 <= self.chunks.capacity() {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
        Some(chunk)
    }

    /// Changes a chunk and keeps count of its bytes.
    #[inline]
    fn edit_chunk<R>(&mut self, at: usize, edit: impl FnOnce(&mut Vec<(StreamId, V)>) -> R) -> R {
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        let before = chunk.heap_bytes();
        let result = edit(&mut chunk.entries);
        self.chunk_bytes = self.chunk_bytes + chunk.heap_bytes() - before;
        result
    }

    /// Checks what must always hold.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        assert!(self.chunks.iter().all(|chunk| !chunk.entries.is_empty() && chunk.entries.len() <= CHUNK_LEN_MAX));
        assert!(self.iter().zip(self.iter().skip(1)).all(|((a, _), (b, _))| a < b));
        assert_eq!(self.iter().count(), self.len);
        assert_eq!(self.chunks.iter().map(|chunk| chunk.heap_bytes()).sum::<usize>(), self.chunk_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn check(seed: u64, range: u64) {
        let mut state = seed;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let (mut map, mut model) = (IdMap::default(), BTreeMap::new());
        let mut snapshot = (map.clone(), model.clone());
        for step in 0..4000_u64 {
            let id = StreamId::new(random(range), random(3));
            match random(if step < 2500 { 5 } else { 9 }) {
                0..3 => {
                    let is_new = !model.contains_key(&id);
                    model.entry(id).or_insert(step);
                    assert_eq!(map.insert(id, step), is_new);
                }
                3 => {
                    let value = map.get_mut(id);
                    assert_eq!(value.as_deref(), model.get(&id));
                    if let Some(value) = value {
                        *value += 1;
                        *model.get_mut(&id).unwrap() += 1;
                    }
                }
                4..8 => assert_eq!(map.remove(id), model.remove(&id)),
                _ => {
                    let first = map.first().map(|(id, _)| id);
                    assert_eq!(first, model.keys().next().copied());
                    if first.is_some() {
                        map.remove_at(At::FIRST);
                        model.pop_first();
                    }
                }
            }
            assert_eq!(map.get(id), model.get(&id));
            assert!(map.iter_from(id).take(3).eq(model.range(id..).take(3).map(|(id, value)| (*id, value))));
            let before = map.at_or_before(id);
            assert_eq!(before.and_then(|at| map.at(at)), model.range(..=id).last().map(|(id, value)| (*id, value)));
            if step % 500 == 0 {
                assert!(snapshot.0.iter().eq(snapshot.1.iter().map(|(id, value)| (*id, value))));
                snapshot = (map.clone(), model.clone());
                map.check_invariants();
            }
        }
        let mut back = Vec::new();
        let mut at = map.at_or_before(StreamId::MAX);
        while let Some(here) = at {
            back.push(map.at(here).unwrap().0);
            at = map.prev(here);
        }
        assert!(back.iter().eq(model.keys().rev()));
        while let Some((id, _)) = map.last() {
            map.remove(id);
        }
        map.check_invariants();
        assert_eq!(map.chunk_bytes, 0);
    }

    #[test]
    fn does_what_a_tree_does() {
        for seed in 1..=6 {
            check(seed * 7919, 3000);
            check(seed * 104_729, 100);
        }
    }

    #[test]
    fn ids_in_order_fill_chunks() {
        let mut map = IdMap::default();
        for ms in 0..1280 {
            assert!(map.insert(StreamId::new(ms, 0), ()));
        }
        assert_eq!(map.chunk_count(), 10);
        map.check_invariants();
    }
}

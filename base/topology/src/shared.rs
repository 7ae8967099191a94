// SPDX-License-Identifier: BSD-3-Clause
//! An ordered map whose copies share what is equal: copying one costs a pointer for every 64 entries, a
//! change of a copy copies the few entries around it, and two copies are compared by what differs.
//! Made for the nodes and shards of `ClusterMap`, of which each version is a copy of the one before.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A full chunk is split in two.
const CHUNK_MAX: usize = 64;
/// A smaller one is joined with its neighbour, if both are not too many for one.
const CHUNK_MIN: usize = 16;

/// See the head of this file. Keys are unique; iteration is in their order.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    /// Never empty ones; the keys rise through all of them.
    chunks: Vec<Arc<Vec<(K, V)>>>,
    /// The last key of each, side by side: to find a chunk would be a cache miss for each step otherwise, and heartbeats
    /// look up nodes and shards all the time.
    lasts: Vec<K>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> SharedMap<K, V> {
    /// The empty map.
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), lasts: Vec::new(), len: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries, ascending; reversible.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value)))
    }

    /// The keys, ascending.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// The entry with so many before it.
    pub fn at(&self, mut index: usize) -> Option<(&K, &V)> {
        for chunk in &self.chunks {
            match chunk.get(index) {
                Some((key, value)) => return Some((key, value)),
                None => index -= chunk.len(),
            }
        }
        None
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// The chunk in which the key is, or would be.
    fn chunk_of(&self, key: &K) -> usize {
        self.lasts.partition_point(|last| last < key)
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let at = chunk.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        chunk.get(at).map(|(_, value)| value)
    }

    /// Whether the key is there.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// How many entries are before this key, if it is there.
    pub fn index_of(&self, key: &K) -> Option<usize> {
        let chunk = self.chunk_of(key);
        let at = self.chunks.get(chunk)?.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        Some(self.chunks[..chunk].iter().map(|chunk| chunk.len()).sum::<usize>() + at)
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// The value of a key, to be changed in this copy only.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let chunk = self.chunk_of(key);
        let chunk = self.chunks.get_mut(chunk)?;
        let at = chunk.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        Arc::make_mut(chunk).get_mut(at).map(|(_, value)| value)
    }

    /// Sets the value of a key; the one before, if there was one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = self.chunk_of(&key).min(self.chunks.len().saturating_sub(1));
        let Some(shared) = self.chunks.get_mut(index) else {
            self.lasts.push(key.clone());
            self.chunks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return None;
        };
        let chunk = Arc::make_mut(shared);
        match chunk.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => return chunk.get_mut(at).map(|entry| std::mem::replace(&mut entry.1, value)),
            Err(at) => chunk.insert(at, (key, value)),
        }
        self.len += 1;
        if chunk.len() > CHUNK_MAX {
            let upper = chunk.split_off(chunk.len() / 2);
            self.chunks.insert(index + 1, Arc::new(upper));
            self.lasts.insert(index, last_key(&self.chunks[index]));
            self.lasts[index + 1] = last_key(&self.chunks[index + 1]);
        } else if self.lasts[index] != chunk[chunk.len() - 1].0 {
            self.lasts[index] = last_key(chunk);
        }
        None
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let index = self.chunk_of(key);
        let shared = self.chunks.get_mut(index)?;
        let at = shared.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        let chunk = Arc::make_mut(shared);
        let (_, value) = chunk.remove(at);
        let left = chunk.len();
        self.len -= 1;
        if left == 0 {
            self.chunks.remove(index);
            self.lasts.remove(index);
            return Some(value);
        }
        self.lasts[index] = last_key(chunk);
        if left < CHUNK_MIN && self.chunks.get(index + 1).is_some_and(|next| left + next.len() <= CHUNK_MAX * 3 / 4) {
            let next = self.chunks.remove(index + 1);
            self.lasts.remove(index);
            Arc::make_mut(&mut self.chunks[index]).extend(next.iter().cloned());
        }
        Some(value)
    }

    /// Entries of `new` that are not the same in this map, and keys of this map that are not in `new`.
    /// `same` compares values; chunks that both share are not looked at.
    pub fn differences<'a>(
        &'a self,
        new: &'a Self,
        same: impl Fn(&V, &V) -> bool,
    ) -> (Vec<(&'a K, &'a V)>, Vec<&'a K>) {
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        let (mut old, mut new) = (Cursor::new(&self.chunks), Cursor::new(&new.chunks));
        loop {
            if old.skip_shared(&mut new) {
                continue;
            }
            match (old.get(), new.get()) {
                (None, None) => return (changed, gone),
                (Some((key, before)), Some((new_key, value))) if key == new_key => {
                    if !same(before, value) {
                        changed.push((new_key, value));
                    }
                    old.step();
                    new.step();
                }
                (Some((key, _)), next) if next.is_none_or(|(new_key, _)| key < new_key) => {
                    gone.push(key);
                    old.step();
                }
                (_, Some((key, value))) => {
                    changed.push((key, value));
                    new.step();
                }
                // The guards above leave nothing for it.
                (Some(_), None) => old.step(),
            }
        }
    }
}

/// The last key of a chunk; there is one.
fn last_key<K: Clone, V>(chunk: &[(K, V)]) -> K {
    chunk[chunk.len() - 1].0.clone()
}

/// A place between two entries.
struct Cursor<'a, K, V> {
    chunks: &'a [Arc<Vec<(K, V)>>],
    chunk: usize,
    at: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn new(chunks: &'a [Arc<Vec<(K, V)>>]) -> Self {
        Self { chunks, chunk: 0, at: 0 }
    }

    fn get(&self) -> Option<(&'a K, &'a V)> {
        self.chunks.get(self.chunk)?.get(self.at).map(|(key, value)| (key, value))
    }

    fn step(&mut self) {
        self.at += 1;
        if self.chunks.get(self.chunk).is_some_and(|chunk| self.at >= chunk.len()) {
            self.chunk += 1;
            self.at = 0;
        }
    }

    /// Both stand before the same chunk: goes behind it.
    fn skip_shared(&mut self, other: &mut Self) -> bool {
        let (Some(mine), Some(its)) = (self.chunks.get(self.chunk), other.chunks.get(other.chunk)) else {
            return false;
        };
        let is_shared = self.at == 0 && other.at == 0 && Arc::ptr_eq(mine, its);
        if is_shared {
            self.chunk += 1;
            other.chunk += 1;
        }
        is_shared
    }
}

impl<K: Ord + Clone, V> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries = BTreeMap::from_iter(entries).into_iter().peekable();
        let mut map = Self::new();
        while entries.peek().is_some() {
            // Room for some more before the first split.
            let chunk: Vec<(K, V)> = entries.by_ref().take(CHUNK_MAX * 3 / 4).collect();
            map.len += chunk.len();
            map.lasts.push(last_key(&chunk));
            map.chunks.push(Arc::new(chunk));
        }
        map
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for SharedMap<K, V> {}

impl<K: std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Serialize, V: Serialize> Serialize for SharedMap<K, V> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // Its length must be said before the first entry.
        let mut map = s.serialize_map(Some(self.len))?;
        for (key, value) in self.iter() {
            serde::ser::SerializeMap::serialize_entry(&mut map, key, value)?;
        }
        serde::ser::SerializeMap::end(map)
    }
}

impl<'de, K: Ord + Clone + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for SharedMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::deserialize(d)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn it_is_like_a_btree_map(
            first in proptest::collection::btree_map(0u16..400, 0u8..4, 0..300),
            steps in proptest::collection::vec((0u16..400, proptest::option::of(0u8..4)), 0..400),
        ) {
            let mut naive = first.clone();
            let before: SharedMap<u16, u8> = first.clone().into_iter().collect();
            let mut map = before.clone();
            for (key, value) in steps {
                match value {
                    Some(value) => prop_assert_eq!(map.insert(key, value), naive.insert(key, value)),
                    None => prop_assert_eq!(map.remove(&key), naive.remove(&key)),
                }
            }
            prop_assert!(map.iter().eq(naive.iter()));
            prop_assert!(map.iter().rev().eq(naive.iter().rev()));
            prop_assert_eq!(map.len(), naive.len());
            prop_assert!(map.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_MAX));
            prop_assert!(map.chunks.iter().map(|chunk| last_key(chunk)).eq(map.lasts.iter().copied()));
            for key in 0..400 {
                prop_assert_eq!(map.get(&key), naive.get(&key));
                prop_assert_eq!(map.get_mut(&key), naive.get_mut(&key));
                prop_assert_eq!(map.index_of(&key), naive.keys().position(|k| *k == key));
            }
            for (index, entry) in naive.iter().enumerate() {
                prop_assert_eq!(map.at(index), Some(entry));
            }
            prop_assert_eq!(map.at(naive.len()), None);
            prop_assert!(before.iter().eq(first.iter()), "the copy is as it was");
            let (changed, gone) = before.differences(&map, |a, b| a == b);
            let mut again = before.clone();
            prop_assert!(changed.iter().all(|(key, value)| first.get(key) != Some(value)));
            changed.into_iter().for_each(|(key, value)| _ = again.insert(*key, *value));
            gone.into_iter().for_each(|key| _ = again.remove(key));
            prop_assert_eq!(again, map);
        }
    }
}

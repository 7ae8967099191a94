// SPDX-License-Identifier: BSD-3-Clause
//! Moving a value's memory: what lies in sparsely used memory of the allocator is copied into a fresh allocation of the
//! same size and the old one is freed, so that the allocator's pages become empty and go back to the system.
//!
//! What clones share stays where it is, because freeing one reference frees nothing. Not here: which memory is sparse, and
//! where fresh allocations come from (the server knows its allocator). Called by the collections on behalf of the keyspace.

use std::sync::Arc;

/// Tells what is to be moved, and counts.
pub struct Mover<'m> {
    is_sparse: &'m mut dyn FnMut(*const u8) -> bool,
    left: usize,
    /// Allocations that were moved.
    pub moved: u64,
    /// Allocations that stayed.
    pub kept: u64,
}

impl std::fmt::Debug for Mover<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mover").field("left", &self.left).field("moved", &self.moved).finish_non_exhaustive()
    }
}

impl<'m> Mover<'m> {
    /// Of which `is_sparse` is asked whether the allocation that holds an address should be moved. After about
    /// `allocations` of them the collection at hand stops.
    pub fn new(is_sparse: &'m mut dyn FnMut(*const u8) -> bool, allocations: usize) -> Self {
        Mover { is_sparse, left: allocations.max(1), moved: 0, kept: 0 }
    }

    /// Whether the collection at hand should stop.
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Whether the allocation that holds `address` is to be moved; the caller does so.
    pub fn wants<T>(&mut self, address: *const T) -> bool {
        let wants = (self.is_sparse)(address.cast());
        self.count(wants)
    }

    /// Notes that an allocation of another kind is moved, or stays.
    pub(crate) fn count(&mut self, wants: bool) -> bool {
        self.left = self.left.saturating_sub(1);
        if wants {
            self.moved += 1;
        } else {
            self.kept += 1;
        }
        wants
    }

    /// Moves a vector and keeps its capacity, which is what is counted as its bytes.
    pub fn vec<T>(&mut self, vec: &mut Vec<T>) {
        if vec.capacity() > 0 && size_of::<T>() > 0 && self.wants(vec.as_ptr()) {
            let mut fresh = Vec::with_capacity(vec.capacity());
            fresh.append(vec);
            *vec = fresh;
        }
    }

    /// Moves what a box holds.
    pub(crate) fn boxed<T>(&mut self, held: &mut Box<T>, placeholder: impl FnOnce() -> T) {
        if self.wants(&raw const **held) {
            let value = std::mem::replace(&mut **held, placeholder());
            let fresh = Box::new(value);
            *held = fresh;
        }
    }

    /// Moves what a reference holds, if it is the only one; a clone of the value stands for it, which must own as
    /// much memory.
    pub(crate) fn cloned<T: Clone>(&mut self, shared: &mut Arc<T>) {
        if Arc::get_mut(shared).is_some() && self.wants(Arc::as_ptr(shared)) {
            *shared = Arc::new(T::clone(shared));
        }
    }

    /// As [`cloned`](Self::cloned), by moving the value instead.
    pub(crate) fn taken<T: Default>(&mut self, shared: &mut Arc<T>) {
        let address = Arc::as_ptr(shared);
        if let Some(value) = Arc::get_mut(shared)
            && self.wants(address)
        {
            *shared = Arc::new(std::mem::take(value));
        }
    }

    /// Moves bytes behind a reference, if it is the only one.
    pub(crate) fn bytes(&mut self, shared: &mut Arc<[u8]>) {
        if Arc::get_mut(shared).is_some() && self.wants(shared.as_ptr()) {
            *shared = Arc::from(&shared[..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Mover;
    use crate::{Collection, FieldTtl, Hash, Limits, List, Set, Side, Stream, StreamId, Typed, ZSet};

    struct Rng(u64);

    impl Rng {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) % limit as u64) as usize
        }

        /// Short, and now and then too long for a node.
        fn bytes(&mut self) -> Vec<u8> {
            let max = if self.below(20) == 0 { 600 } else { 40 };
            (0..1 + self.below(max)).map(|_| self.below(256) as u8).collect()
        }
    }

    fn value(kind: usize, count: usize, limits: &Limits) -> Typed {
        let mut rng = Rng(count as u64);
        match kind {
            0 => {
                let mut list = List::new();
                for _ in 0..count {
                    list.make_room(600, 1, limits);
                    list.push(Side::Right, &rng.bytes(), limits);
                }
                Typed::List(list)
            }
            1 => {
                let mut set = Set::new_for(b"a", 1, limits);
                for _ in 0..count {
                    set.add(&rng.bytes(), limits);
                }
                Typed::Set(set)
            }
            2 => {
                let mut set = Set::new_for(b"1", 1, limits);
                for n in 0..count.min(limits.set_max_intset_entries) {
                    set.add(n.to_string().as_bytes(), limits);
                }
                Typed::Set(set)
            }
            3 => {
                let mut zset = ZSet::new();
                for _ in 0..count {
                    zset.add(rng.below(9) as f64, &rng.bytes(), limits);
                }
                Typed::ZSet(zset)
            }
            4 => {
                let mut hash = Hash::new();
                for n in 0..count {
                    let ttl = if n % 2 == 0 { FieldTtl::At(1_900_000_000_000 + n as u64) } else { FieldTtl::Clear };
                    hash.set(&rng.bytes(), &rng.bytes(), ttl, 0, limits);
                }
                Typed::Hash(hash)
            }
            _ => {
                let mut stream = Stream::new();
                for n in 0..count as u64 {
                    stream.append(StreamId { ms: 1 + n, seq: 0 }, &[b"field", &rng.bytes()], limits).expect("ids grow");
                }
                Typed::Stream(stream)
            }
        }
    }

    #[test]
    fn values_stay_the_same_wherever_they_lie() {
        let limits = Limits::default();
        let mut rng = Rng(1);
        for kind in 0..6 {
            for count in [1, 20, 5000] {
                let (mut moving, original) = (value(kind, count, &limits), value(kind, count, &limits));
                let heap_bytes = moving.heap_bytes();
                let (mut at, mut steps, mut moved) = (0, 0, 0);
                loop {
                    let every = rng.below(3);
                    let mut is_sparse = |_: *const u8| rng.below(3) >= every;
                    let mut mover = Mover::new(&mut is_sparse, 10);
                    at = moving.relocate(at, &mut mover);
                    (steps, moved) = (steps + 1, moved + mover.moved);
                    assert!(mover.moved + mover.kept < 100, "kind {kind}: bounded steps");
                    if at == 0 {
                        break;
                    }
                }
                assert!(moving == original, "kind {kind}, {count} elements");
                assert_eq!(moving.heap_bytes(), heap_bytes, "kind {kind}, {count} elements");
                assert!(
                    count < 5000 || kind == 2 || (steps > 2 && moved > 9),
                    "kind {kind}: {steps} steps, {moved} moved"
                );
                // What is shared is left alone, and still the same afterwards.
                let clone = moving.clone();
                assert_eq!(moving.relocate(0, &mut Mover::new(&mut |_| true, usize::MAX)), 0);
                assert!(clone == original && moving == original);
            }
        }
    }

    #[test]
    fn keeps_the_capacity_of_a_vector() {
        let mut vec = Vec::with_capacity(100);
        vec.extend_from_slice(b"abc");
        let before = vec.as_ptr();
        Mover::new(&mut |_| true, 1).vec(&mut vec);
        assert_eq!((&vec[..], vec.capacity()), (&b"abc"[..], 100));
        assert_ne!(vec.as_ptr(), before);
        let mut list = List::new();
        assert_eq!(list.relocate(0, &mut Mover::new(&mut |_| true, 1)), 0);
        assert!(list.is_empty());
    }
}

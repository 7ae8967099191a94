// SPDX-License-Identifier: BSD-3-Clause
//! What the keyspace counts against what the allocator gave: within two percent over a mixed data set, within four for each
//! type, and back to nothing when all is gone. One test in a process of its own: the allocator's numbers are the process's.

use pando_keyspace::{Keyspace, KeyspaceConfig, StrHint, Ttl, Typed};
use pando_topology::{SLOT_COUNT, Slot};
use pando_values::{FieldTtl, Hash, Limits, List, Set, Side, Stream, StreamId, ZSet};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const NOW_MS: u64 = 1_700_000_000_000;

/// Bytes that the program asked for and has not given back, and the slab's.
fn allocated(keyspace: &Keyspace) -> i64 {
    tikv_jemalloc_ctl::epoch::advance().expect("statistics");
    let heap = tikv_jemalloc_ctl::stats::allocated::read().expect("statistics");
    heap as i64 + keyspace.slab_block_bytes() as i64
}

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % limit as u64) as usize
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        let len = 1 + self.below(limit);
        (0..len).map(|_| b'a' + self.below(26) as u8).collect()
    }
}

fn elements(rng: &mut Rng) -> usize {
    match rng.below(10) {
        0 => rng.below(3000),
        1..=3 => rng.below(300),
        _ => rng.below(30),
    }
}

fn value(kind: usize, rng: &mut Rng, limits: &Limits) -> Typed {
    let count = elements(rng) + 1;
    match kind {
        0 => {
            let mut list = List::new();
            (0..count).for_each(|_| list.push(Side::Right, &rng.bytes(60), limits));
            Typed::List(list)
        }
        1 => {
            let mut set = Set::new_for(b"a", 1, limits);
            (0..count).for_each(|_| _ = set.add(&rng.bytes(40), limits));
            Typed::Set(set)
        }
        2 => {
            let mut set = Set::new_for(b"1", 1, limits);
            (0..count).for_each(|_| _ = set.add(rng.below(1 << 20).to_string().as_bytes(), limits));
            Typed::Set(set)
        }
        3 => {
            let mut zset = ZSet::new();
            (0..count).for_each(|_| _ = zset.add(rng.below(1000) as f64, &rng.bytes(40), limits));
            Typed::ZSet(zset)
        }
        4 => {
            let mut hash = Hash::new();
            (0..count).for_each(|_| {
                hash.set(&rng.bytes(20), &rng.bytes(90), FieldTtl::Clear, NOW_MS, limits);
            });
            Typed::Hash(hash)
        }
        5 => {
            let mut hash = Hash::new();
            (0..count).for_each(|_| {
                let due = NOW_MS + rng.below(1 << 30) as u64;
                hash.set(&rng.bytes(20), &rng.bytes(60), FieldTtl::At(due), NOW_MS, limits);
            });
            Typed::Hash(hash)
        }
        _ => {
            let mut stream = Stream::new();
            for number in 0..count as u64 {
                let (name, text) = (rng.bytes(8), rng.bytes(50));
                let id = StreamId { ms: NOW_MS + number, seq: 0 };
                stream.append(id, &[&name, &text], limits).expect("ids grow");
            }
            Typed::Stream(stream)
        }
    }
}

#[track_caller]
fn check(what: &str, counted: i64, given: i64, percent: f64) {
    let off = (counted - given) as f64 * 100.0 / given as f64;
    println!("{what}: counted {counted}, given {given}, {off:+.2} %");
    assert!(off.abs() <= percent, "{what}: counted {counted}, given {given}");
}

#[test]
fn what_is_counted_is_what_the_allocator_gave() {
    let keyspace = Keyspace::new(KeyspaceConfig::default());
    let limits = Limits::default();
    let mut rng = Rng(7);
    // What a thread keeps for later, free blocks of each size, is not the data's.
    for number in 0..20_000usize {
        let key = format!("warm:{number}");
        let mut guard = keyspace.lock_one(Slot::of_key(key.as_bytes()));
        guard.db(0).set_str(key.as_bytes(), &vec![b'x'; number % 1000], Ttl::Clear, StrHint::Auto);
    }
    drop(keyspace.flush(None));
    let start = allocated(&keyspace);
    let (mut counted_before, mut given_before) = (0, 0);
    let names = ["lists", "sets", "sets of integers", "sorted sets", "hashes", "hashes with field TTLs", "streams"];
    for (kind, name) in names.iter().enumerate() {
        for number in 0..1500 {
            let key = format!("{name}:{number}");
            let mut guard = keyspace.lock_one(Slot::of_key(key.as_bytes()));
            guard.set_now(NOW_MS);
            let ttl = if number % 3 == 0 { Ttl::At(NOW_MS + 1_000_000 + number) } else { Ttl::Clear };
            guard.db(0).put_typed(key.as_bytes(), value(kind, &mut rng, &limits), ttl);
        }
        let (counted, given) = (keyspace.used_bytes() as i64, allocated(&keyspace) - start);
        check(name, counted - counted_before, given - given_before, 4.0);
        (counted_before, given_before) = (counted, given);
    }
    for number in 0..60_000 {
        let key = format!("string:{number}");
        let longest = if number % 50 == 0 { 5000 } else { 120 };
        let mut guard = keyspace.lock_one(Slot::of_key(key.as_bytes()));
        guard.set_now(NOW_MS);
        guard.db(0).set_str(key.as_bytes(), &rng.bytes(longest), Ttl::Clear, StrHint::Auto);
        if number % 7 == 0 {
            let suffix = rng.bytes(2000);
            guard.db(0).append(key.as_bytes(), &suffix);
        }
    }
    let (counted, given) = (keyspace.used_bytes() as i64, allocated(&keyspace) - start);
    check("strings", counted - counted_before, given - given_before, 4.0);
    check("all together", counted, given, 2.0);
    let of_slots: u64 = (0..SLOT_COUNT as u16).filter_map(Slot::new).map(|slot| keyspace.slot_bytes(slot)).sum();
    assert_eq!(of_slots, keyspace.used_bytes());
    drop(keyspace.flush(None));
    assert_eq!(keyspace.used_bytes(), 0);
    let left = allocated(&keyspace) - start;
    assert!(left < counted / 100, "{left} bytes of {counted} are left");
}

// SPDX-License-Identifier: BSD-3-Clause
//! Compaction with an allocator that calls anything sparse: everything is moved, time and again, and stays the same.

use pando_keyspace::{Keyspace, KeyspaceConfig, StrHint, Ttl, Typed};
use pando_topology::Slot;
use pando_values::{FieldTtl, Hash, Limits, List, Set, Side, ZSet};

const NOW_MS: u64 = 1_700_000_000_000;

fn key(number: usize) -> Vec<u8> {
    // Some keys are too long for their entries; some share a slot.
    let tag = number % 300;
    let tail = if number.is_multiple_of(50) { "x".repeat(400) } else { String::new() };
    format!("{{{tag}}}:{number}:{tail}").into_bytes()
}

fn value(number: usize, round: usize) -> Typed {
    let limits = Limits::default();
    let count = if number.is_multiple_of(40) { 2000 } else { 5 + number % 60 };
    let element = |n: usize| format!("{round}:{n}:{}", "y".repeat(n * number % 90)).into_bytes();
    match number % 4 {
        0 => {
            let mut list = List::new();
            for n in 0..count {
                list.make_room(100, 1, &limits);
                list.push(Side::Right, &element(n), &limits);
            }
            Typed::List(list)
        }
        1 => {
            let mut set = Set::new_for(b"a", 1, &limits);
            for n in 0..count {
                set.add(&element(n), &limits);
            }
            Typed::Set(set)
        }
        2 => {
            let mut zset = ZSet::new();
            for n in 0..count {
                zset.add(n as f64, &element(n), &limits);
            }
            Typed::ZSet(zset)
        }
        _ => {
            let mut hash = Hash::new();
            for n in 0..count {
                hash.set(&element(n), &element(n + 1), FieldTtl::Clear, NOW_MS, &limits);
            }
            Typed::Hash(hash)
        }
    }
}

#[test]
fn everything_moves_and_stays_the_same() {
    let keyspace = Keyspace::new(KeyspaceConfig::default());
    const KEYS: usize = 3000;
    for round in 0..2 {
        for number in 0..KEYS {
            let key = key(number);
            let mut guard = keyspace.lock_one(Slot::of_key(&key));
            guard.set_now(NOW_MS);
            let mut db = guard.db(0);
            if number.is_multiple_of(3) {
                let text = vec![b'a' + round as u8; number * 7 % 5000];
                db.set_str(&key, &text, Ttl::Clear, StrHint::Auto);
            } else if number.is_multiple_of(7) && round == 1 {
                db.remove(&key);
            } else {
                db.put_typed(&key, value(number, round), Ttl::Clear);
            }
        }
        let used = keyspace.used_bytes();
        let mut compaction = keyspace.begin_compaction(0, true).expect("the heap is sparse");
        let mut asked = 0u64;
        while !compaction.step(&keyspace, 64, &mut |_| {
            asked += 1;
            !asked.is_multiple_of(5)
        }) {}
        assert!(asked > 2000 && compaction.moved > asked / 2, "{asked} {}", compaction.moved);
        drop(compaction);
        assert_eq!(keyspace.used_bytes(), used);
        for number in 0..KEYS {
            let key = key(number);
            let mut guard = keyspace.lock_one(Slot::of_key(&key));
            guard.set_now(NOW_MS);
            let mut db = guard.db(0);
            let found = db.get(&key);
            if number.is_multiple_of(3) {
                let text = vec![b'a' + round as u8; number * 7 % 5000];
                assert_eq!(
                    found.and_then(|value| value.str_bytes(&mut pando_keyspace::IntText::new()).map(<[u8]>::to_vec)),
                    Some(text)
                );
            } else if number.is_multiple_of(7) && round == 1 {
                assert!(found.is_none());
            } else {
                assert_eq!(found, Some(pando_keyspace::ValueRef::Typed(&value(number, round))), "{number}");
            }
        }
    }
}

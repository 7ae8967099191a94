// SPDX-License-Identifier: BSD-3-Clause
//! Hashes against a naive model, through all forms.

use super::{FieldSet, FieldTtl, Hash};
use crate::collection::Collection;
use crate::encoding::Encoding;
use crate::limits::Limits;
use crate::listpack::ListPack;
use std::collections::BTreeMap;

const START_MS: u64 = 1_700_000_000_000;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

fn check_equal(hash: &Hash, model: &Model, now_ms: u64) {
    assert_eq!(hash.len(), model.len());
    assert_eq!(hash.volatile_len(), model.values().filter(|(_, due)| due.is_some()).count());
    assert_eq!(hash.next_due_ms(), model.values().filter_map(|(_, due)| *due).min());
    let live = |due: Option<u64>| due.is_none_or(|due| due > now_ms);
    let mut fields: Vec<_> =
        hash.iter(now_ms).map(|field| (field.name.to_vec(), (field.value.to_vec(), field.due_ms))).collect();
    fields.sort();
    let expected: Vec<_> =
        model.iter().filter(|(_, (_, due))| live(*due)).map(|(name, field)| (name.clone(), field.clone())).collect();
    assert_eq!(fields, expected);
    let (mut scanned, mut cursor) = (Model::new(), 0);
    loop {
        cursor = hash.scan(cursor, 7, now_ms, &mut |field| {
            scanned.insert(field.name.to_vec(), (field.value.to_vec(), field.due_ms));
        });
        if cursor == 0 {
            break;
        }
    }
    assert!(scanned.into_iter().eq(expected));
}

/// Random operations on about `names` fields under `limits`.
fn run(seed: u64, names: u64, rounds: u64, limits: &Limits, ttls: bool) {
    let mut random = Random(seed);
    let (mut hash, mut model, mut now_ms) = (Hash::new(), Model::new(), START_MS);
    for round in 0..rounds {
        let name = match random.below(names) {
            n if n % 3 == 0 => n.to_string().into_bytes(),
            n if n % 50 == 1 => format!("{n:>300}").into_bytes(),
            n => format!("field:{n}").into_bytes(),
        };
        let value = match random.below(10) {
            0 => vec![b'v'; random.below(400) as usize],
            1 => Vec::new(),
            n => (n << random.below(50)).to_string().into_bytes(),
        };
        let known = model.get(&name).cloned();
        let is_live = known.as_ref().is_some_and(|(_, due)| due.is_none_or(|due| due > now_ms));
        let bits = random.below(20);
        let due = now_ms + 1 + random.below(1 << bits);
        match random.below(12) {
            0..=4 => {
                let ttl = match random.below(4) {
                    0 if ttls => FieldTtl::At(due),
                    1 => FieldTtl::Keep,
                    _ => FieldTtl::Clear,
                };
                let outcome = hash.set(&name, &value, ttl, now_ms, limits);
                let expected = match (&known, is_live) {
                    (None, _) => FieldSet::Created,
                    (Some(_), true) => FieldSet::Replaced,
                    (Some(_), false) => FieldSet::Revived,
                };
                assert_eq!(outcome, expected, "seed {seed}, round {round}");
                let new_due = match ttl {
                    FieldTtl::At(due) => Some(due),
                    FieldTtl::Keep if is_live => known.and_then(|known| known.1),
                    _ => None,
                };
                model.insert(name, (value, new_due));
            }
            5..=6 => {
                assert_eq!(hash.remove(&name, now_ms), is_live);
                if is_live {
                    model.remove(&name);
                }
            }
            7 if ttls => {
                let due = (random.below(3) != 0).then_some(due);
                assert_eq!(hash.set_due(&name, due, now_ms), is_live);
                if is_live {
                    model.entry(name).and_modify(|field| field.1 = due);
                }
            }
            8 if ttls => {
                let bits = random.below(12);
                now_ms += random.below(1 << bits);
                let max = random.below(20) as usize;
                let mut removed = Vec::new();
                let count = hash.expire(now_ms, max, &mut |name| removed.push(name.to_vec()));
                assert_eq!(count, removed.len());
                let is_past = |due: Option<u64>| due.is_some_and(|due| due <= now_ms);
                let past = model.values().filter(|(_, due)| is_past(*due)).count();
                assert_eq!(count, past.min(max));
                removed.iter().for_each(|name| {
                    let (_, due) = model.remove(name).expect("a field of the model");
                    assert!(is_past(due));
                });
            }
            _ => {
                let expected = known.filter(|_| is_live);
                assert_eq!(hash.get(&name, now_ms).map(|value| value.to_vec()), expected.as_ref().map(|f| f.0.clone()));
                assert_eq!(hash.due_ms(&name, now_ms), expected.map(|field| field.1));
            }
        }
        if round % 300 == 0 {
            check_equal(&hash, &model, now_ms);
            let copy = hash.clone();
            assert!(copy == hash);
        }
    }
    check_equal(&hash, &model, now_ms);
    let copy = hash.clone();
    for name in model.keys() {
        assert!(hash.remove(name, 0));
    }
    assert!(hash.is_empty() && !hash.is_volatile());
    check_equal(&copy, &model, now_ms);
}

#[test]
fn behaves_as_a_map() {
    let limits = Limits::default();
    for seed in 0..4 {
        run(seed, 40, 4000, &limits, false);
        run(seed, 30, 4000, &limits, true);
        run(seed, 3000, 12_000, &limits, true);
    }
    run(9, 2000, 20_000, &limits, false);
    run(10, 60, 3000, &Limits { hash_max_listpack_entries: 0, ..limits }, true);
    run(11, 60, 3000, &Limits { hash_max_listpack_value: 0, ..limits }, false);
}

#[test]
fn encodings_change_where_valkeys_do() {
    let limits = Limits { hash_max_listpack_entries: 3, hash_max_listpack_value: 8, ..Limits::default() };
    let set = |hash: &mut Hash, name: &str, value: &str, ttl| {
        hash.set(name.as_bytes(), value.as_bytes(), ttl, START_MS, &limits);
        hash.encoding()
    };
    let mut hash = Hash::new();
    for name in ["a", "b", "c", "a"] {
        assert_eq!(set(&mut hash, name, "12345678", FieldTtl::Keep), Encoding::ListPack);
    }
    assert_eq!(set(&mut hash.clone(), "d", "", FieldTtl::Clear), Encoding::HashTable);
    assert_eq!(set(&mut hash.clone(), "a", "123456789", FieldTtl::Clear), Encoding::HashTable);
    assert_eq!(set(&mut hash.clone(), "123456789", "", FieldTtl::Clear), Encoding::HashTable);
    assert_eq!(set(&mut hash.clone(), "a", "1", FieldTtl::At(START_MS + 1)), Encoding::HashTable);
    hash.prepare(3, [1, 8].into_iter(), &limits);
    assert_eq!(hash.encoding(), Encoding::ListPack);
    assert!(hash.set_due(b"a", None, START_MS));
    assert_eq!(hash.encoding(), Encoding::ListPack);
    let with = |pairs, len: usize| {
        let mut hash = hash.clone();
        hash.prepare(pairs, std::iter::once(len), &limits);
        hash.encoding()
    };
    assert_eq!((with(4, 1), with(1, 9)), (Encoding::HashTable, Encoding::HashTable));
    assert!(hash.set_due(b"a", Some(START_MS + 9), START_MS));
    assert_eq!(hash.encoding(), Encoding::HashTable);
}

#[test]
fn packed_pairs_are_checked() {
    let packed = |words: &[&str]| {
        let mut packed = ListPack::new();
        words.iter().for_each(|word| packed.push_back(word.as_bytes()));
        packed
    };
    let limits = Limits { hash_max_listpack_entries: 2, ..Limits::default() };
    let check = |words: &[&str], expected| {
        let hash = Hash::from_packed(packed(words), &limits);
        assert_eq!(hash.map(|hash| (hash.len(), hash.encoding())), expected, "{words:?}");
    };
    check(&[], Some((0, Encoding::ListPack)));
    check(&["a", "1", "b"], None);
    check(&["a", "1", "a", "2"], None);
    check(&["7", "1", "07", "1"], Some((2, Encoding::ListPack)));
    check(&["a", "1", "b", "1", "c", "1"], Some((3, Encoding::HashTable)));
    check(&["a", &"x".repeat(65)], Some((1, Encoding::HashTable)));
}

#[test]
fn random_fields_are_live_and_spread() {
    for entries in [0, 512] {
        let limits = Limits { hash_max_listpack_entries: entries, ..Limits::default() };
        let mut hash = Hash::new();
        assert!(hash.random(START_MS).is_none());
        for n in 0..20 {
            let ttl = if n % 2 == 0 && entries == 0 { FieldTtl::At(START_MS) } else { FieldTtl::Clear };
            hash.set(n.to_string().as_bytes(), b"v", ttl, 0, &limits);
        }
        let mut counts = [0; 20];
        for _ in 0..4000 {
            let field = hash.random(START_MS).expect("a live field");
            counts[field.name.as_int().expect("a number") as usize] += 1;
        }
        for (n, count) in counts.iter().enumerate() {
            let expected = if entries != 0 { 200 } else { 400 * (n % 2) };
            assert!((expected * 7 / 10..=expected * 13 / 10).contains(count), "{n}: {count}");
        }
    }
}

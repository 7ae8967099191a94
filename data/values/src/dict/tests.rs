// SPDX-License-Identifier: BSD-3-Clause
//! Random operations against a naive model, scans while the table changes its size, the fairness of random choices.

use super::*;
use std::collections::{BTreeMap, BTreeSet};

/// A small deterministic generator (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// What the books say must be what is there.
fn check_books<const WIDTH: usize>(dict: &Dict<WIDTH>) {
    let segments = (0..dict.segments.len()).map(|number| dict.segments.get(number));
    let (mut count, mut data, mut heap, mut large, mut widest) = (0, 0, 0, BTreeSet::new(), 0);
    for (number, segment) in segments.enumerate() {
        count += segment.count();
        data += segment.data_len();
        heap += segment.heap_bytes();
        widest = widest.max(segment.count());
        for (tag, stored) in segment.iter() {
            let hash = hash_of(split::<WIDTH>(dict.entry(stored)).0);
            assert_eq!((dict.segment_of(hash), tag_of(hash)), (number, tag));
            if let Stored::Large(large_number) = stored {
                assert!(large.insert(large_number) && (large_number as usize) < dict.large.len());
            }
        }
    }
    assert_eq!(large.len(), dict.large.len());
    for number in 0..dict.large.len() {
        heap += allocated(ARC_COUNT + dict.large.get(number).as_deref().map_or(0, <[u8]>::len));
    }
    assert_eq!((count, data, heap), (dict.len, dict.data_len, dict.owned_bytes));
    assert!(widest <= dict.widest);
}

fn check_same<const WIDTH: usize>(dict: &Dict<WIDTH>, model: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let all: BTreeMap<Vec<u8>, Vec<u8>> = dict.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert_eq!((&all, dict.iter().len()), (model, model.len()));
}

fn model_test<const WIDTH: usize>(seed: u64, key_lens: &[usize], value_lens: &[usize]) {
    let mut random = Random(seed);
    let mut dict: Dict<WIDTH> = Dict::new();
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut clones = Vec::new();
    let mut universe = 100;
    for step in 0..12_000 {
        if step % 1500 == 0 {
            // Phases of growth and of decline.
            universe = [1, 20, 300, 3000][random.below(4)];
        }
        let number = random.below(universe);
        let key_len = key_lens[number % key_lens.len()];
        let mut key = format!("{number:0key_len$}").into_bytes();
        key.truncate(key_len.max(4));
        if number == 7 {
            key.clear();
        }
        let value = vec![random.next() as u8; value_lens[random.below(value_lens.len())]];
        let removes = if step % 3000 < 1500 { 2 } else { 6 };
        match random.below(10) {
            what if what < removes => {
                assert_eq!(dict.remove_with(&key, <[u8]>::to_vec), model.remove(&key));
            }
            7 => assert_eq!(dict.get(&key), model.get(&key).map(Vec::as_slice)),
            8 => {
                let was_new = !model.contains_key(&key);
                assert_eq!(dict.insert_new(&key, &value), was_new);
                model.entry(key).or_insert(value);
            }
            9 => {
                let (ours, theirs) = (dict.get_mut(&key), model.get_mut(&key));
                assert_eq!(ours.as_deref(), theirs.as_deref().map(Vec::as_slice));
                if let (Some(ours), Some(theirs)) = (ours, theirs) {
                    ours.fill(1);
                    theirs.fill(1);
                }
            }
            _ => assert_eq!(dict.insert(&key, &value), model.insert(key, value).is_some()),
        }
        assert_eq!(dict.len(), model.len());
        if step % 97 == 0 {
            check_books(&dict);
        }
        if step % 1000 == 0 {
            check_same(&dict, &model);
            clones.push((dict.clone(), model.clone()));
        }
    }
    for (dict, model) in &clones {
        check_same(dict, model);
        check_books(dict);
    }
    for key in model.keys() {
        assert!(dict.remove(key));
    }
    assert_eq!((dict.len(), dict.heap_bytes(), dict.free_effort()), (0, 0, 0));
}

#[test]
fn behaves_as_a_map() {
    for seed in 0..4 {
        model_test::<0>(seed, &[4, 8, 40], &[0]);
        model_test::<0>(seed, &[5, 250, 254, 255, 400, 3000], &[0]);
        model_test::<8>(seed, &[4, 8, 246, 247, 300], &[8]);
        model_test::<ANY_WIDTH>(seed, &[4, 5, 127, 128, 250], &[0, 1, 3, 8, 100, 126, 130, 250, 5000]);
        model_test::<ANY_WIDTH>(seed, &[4, 20_000], &[0, 1, 70_000]);
    }
}

#[test]
fn a_scan_meets_all_that_stay() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut dict = KeyDict::new();
        let stay: Vec<Vec<u8>> = (0..random.below(3000)).map(|n| format!("stay:{n}").into_bytes()).collect();
        for key in &stay {
            dict.insert_new(key, &[]);
        }
        let mut others = random.below(6000);
        (0..others).for_each(|n| assert!(dict.insert_new(format!("other:{n}").as_bytes(), &[])));
        let mut met = BTreeSet::new();
        let (mut cursor, mut calls) = (0, 0);
        loop {
            cursor = dict.scan(cursor, 10, &mut |key, _| {
                met.insert(key.to_vec());
            });
            calls += 1;
            if cursor == 0 {
                break;
            }
            assert!(calls < 100_000, "the scan ends");
            // Half the seeds grow, half shrink, some do both.
            let change = random.below(60);
            if seed % 2 == 0 || (seed % 3 == 0 && calls % 50 < 20) {
                (others..others + change).for_each(|n| assert!(dict.insert_new(format!("other:{n}").as_bytes(), &[])));
                others += change;
                if others > 20_000 {
                    break;
                }
            } else {
                let left = others.saturating_sub(change);
                (left..others).for_each(|n| assert!(dict.remove(format!("other:{n}").as_bytes())));
                others = left;
            }
        }
        if cursor == 0 {
            assert!(stay.iter().all(|key| met.contains(key)), "seed {seed}");
        }
    }
}

#[test]
fn a_scan_of_an_unchanged_table_meets_each_entry_once() {
    for len in [1, 20, 21, 41, 100, 1000, 12_345] {
        let mut dict = KeyDict::new();
        (0..len).for_each(|n: i32| assert!(dict.insert_new(&n.to_le_bytes(), &[])));
        let (mut cursor, mut met) = (0, Vec::new());
        loop {
            cursor = dict.scan(cursor, 50, &mut |key, _| met.push(key.to_vec()));
            if cursor == 0 {
                break;
            }
        }
        let distinct: BTreeSet<_> = met.iter().collect();
        assert_eq!((met.len(), distinct.len()), (len as usize, len as usize));
        // Any cursor is good for something.
        dict.scan(u64::MAX, 10, &mut |_, _| ());
        dict.scan(0x1234_5678_9abc_def0, 10, &mut |_, _| ());
    }
}

#[test]
fn random_choices_are_fair() {
    let mut dict = KeyDict::new();
    for n in 0..1000_u32 {
        dict.insert_new(&n.to_le_bytes(), &[]);
    }
    for n in 0..900_u32 {
        dict.remove(&n.to_le_bytes());
    }
    let mut counts = [0_u32; 100];
    for _ in 0..100_000 {
        let (key, _) = dict.random().expect("not empty");
        let n = u32::from_le_bytes(key.try_into().expect("four bytes"));
        counts[(n - 900) as usize] += 1;
    }
    assert!(counts.iter().all(|&count| (800..1200).contains(&count)), "{counts:?}");
}

#[test]
fn memory_per_entry_is_a_few_bytes_above_its_own() {
    for (len, max) in [(8, 5.5), (32, 8.0)] {
        let mut dict = KeyDict::new();
        for n in 0..200_000 {
            dict.insert_new(format!("{n:0len$}").as_bytes(), &[]);
        }
        let overhead = dict.heap_bytes() as f64 / dict.len() as f64 - len as f64;
        assert!(overhead < max, "{overhead} for entries of {len}");
    }
}

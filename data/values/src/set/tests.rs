// SPDX-License-Identifier: BSD-3-Clause
//! Forms and their thresholds, random operations against a naive model, random choices.

use super::*;
use crate::random_below;
use std::collections::BTreeSet;

fn limits() -> Limits {
    Limits { set_max_intset_entries: 8, set_max_listpack_entries: 6, set_max_listpack_value: 10, ..Limits::default() }
}

fn check_form(members: &[&str], expected: Encoding) {
    let mut set = Set::new_for(members[0].as_bytes(), 1, &limits());
    for member in members {
        set.add(member.as_bytes(), &limits());
    }
    assert_eq!(set.encoding(), expected, "{members:?}");
}

#[test]
fn forms_are_valkeys() {
    use Encoding::{HashTable, IntSet, ListPack};
    check_form(&["1", "2", "-3"], IntSet);
    check_form(&["1", "2", "3", "4", "5", "6", "7", "8"], IntSet);
    check_form(&["1", "2", "3", "4", "5", "6", "7", "8", "9"], HashTable);
    check_form(&["1", "01"], ListPack);
    check_form(&["1", "2", "3", "4", "5", "a"], ListPack);
    check_form(&["1", "2", "3", "4", "5", "6", "a"], HashTable);
    check_form(&["a", "2", "3", "4", "5", "6"], ListPack);
    check_form(&["a", "2", "3", "4", "5", "6", "2"], ListPack);
    check_form(&["a", "2", "3", "4", "5", "6", "7"], HashTable);
    check_form(&["a", "elevenbytes"], HashTable);
    check_form(&["1", "elevenbytes"], HashTable);
    // Digits of the integers count as members' lengths.
    check_form(&["12345678901", "a"], HashTable);
    check_form(&["1234567890", "a"], ListPack);
    assert_eq!(Set::new_for(b"1", 9, &limits()).encoding(), HashTable);
    assert_eq!(Set::new_for(b"1", 8, &limits()).encoding(), IntSet);
    assert_eq!(Set::new_for(b"a", 6, &limits()).encoding(), ListPack);
    assert_eq!(Set::new_for(b"a", 7, &limits()).encoding(), HashTable);
    let mut set = Set::new_pack();
    set.expect(7, &limits());
    assert_eq!(set.encoding(), HashTable);
}

#[test]
fn behaves_as_a_set() {
    for (universe, words) in [(5, false), (12, false), (12, true), (500, true)] {
        let (mut set, mut model) = (Set::new(), BTreeSet::new());
        for step in 0..4000 {
            let number = random_below(universe);
            let member = if words && number.is_multiple_of(3) { format!("m{number}") } else { number.to_string() };
            match random_below(5) {
                0 | 1 => assert_eq!(set.add(member.as_bytes(), &limits()), model.insert(member)),
                2 => assert_eq!(set.remove(member.as_bytes()), model.remove(&member)),
                3 => {
                    let popped = set.pop().map(|member| String::from_utf8_lossy(&member).into_owned());
                    assert_eq!(popped.is_none(), model.is_empty());
                    popped.inspect(|member| assert!(model.remove(member)));
                }
                _ => assert_eq!(set.contains(member.as_bytes()), model.contains(&member)),
            }
            assert_eq!(set.len(), model.len());
            if step % 100 == 0 && set.is_empty() {
                set = Set::new();
            }
        }
        let members: BTreeSet<String> =
            set.iter().map(|member| String::from_utf8_lossy(&member.to_vec()).into_owned()).collect();
        assert_eq!(members, model);
        assert_eq!(set, set.clone());
    }
}

fn numbers(count: usize, prefix: &str) -> Set {
    let mut set = Set::new();
    (0..count).for_each(|n| assert!(set.add(format!("{prefix}{n}").as_bytes(), &limits())));
    set
}

#[test]
fn taking_many_takes_each_once() {
    for (len, prefix) in [(5, ""), (5, "m"), (8, ""), (300, ""), (300, "m")] {
        for count in [1, 2, len / 2, len - 2, len - 1] {
            let mut set = numbers(len, prefix);
            let all: BTreeSet<Vec<u8>> = set.iter().map(|member| member.to_vec()).collect();
            let mut taken = BTreeSet::new();
            set.pop_many(count, &limits(), &mut |member| assert!(taken.insert(member.to_vec())));
            assert_eq!((taken.len(), set.len()), (count, len - count));
            let left: BTreeSet<Vec<u8>> = set.iter().map(|member| member.to_vec()).collect();
            assert!(taken.is_disjoint(&left) && taken.union(&left).eq(all.iter()));
            if count == len - 1 {
                let expected = if prefix.is_empty() && len <= 8 { Encoding::IntSet } else { Encoding::ListPack };
                assert_eq!(set.encoding(), expected);
            }
        }
    }
}

#[test]
fn samples_are_fair_and_distinct() {
    for (len, prefix) in [(6, ""), (6, "m"), (60, "m")] {
        let set = numbers(len, prefix);
        for count in [1, 2, len / 4 + 1, len / 2, len - 1, len, len + 5] {
            let mut counts = vec![0; len];
            for _ in 0..2000 {
                let mut sample = BTreeSet::new();
                set.sample(count, &mut |member| assert!(sample.insert(member.to_vec())));
                assert_eq!(sample.len(), count.min(len));
                for member in sample {
                    let text = String::from_utf8_lossy(&member[prefix.len()..]).into_owned();
                    counts[text.parse::<usize>().expect("a number")] += 1;
                }
            }
            let expected = 2000.0 * count.min(len) as f64 / len as f64;
            let tolerance = 7.0 * expected.sqrt();
            assert!(counts.iter().all(|&n| (f64::from(n) - expected).abs() <= tolerance), "{count}: {counts:?}");
        }
    }
}

#[test]
fn a_pack_with_a_member_twice_is_refused() {
    let mut pack = ListPack::new();
    pack.push_back(b"a");
    pack.push_back(b"1");
    assert!(Set::from_pack(pack.clone(), &limits()).is_some());
    pack.push_back_int(1);
    assert!(Set::from_pack(pack, &limits()).is_none());
}

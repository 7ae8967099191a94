// SPDX-License-Identifier: BSD-3-Clause
//! The large form against a naive model: random operations, the same answers; clones keep what they had.

use super::large::Large;
use std::collections::{BTreeMap, HashMap};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Scores as sortable integers.
#[derive(Default, Clone)]
struct Model {
    scores: HashMap<Vec<u8>, i64>,
    order: BTreeMap<(i64, Vec<u8>), ()>,
}

impl Model {
    fn add(&mut self, score: i64, member: &[u8]) -> Option<i64> {
        let old = self.remove(member);
        self.scores.insert(member.to_vec(), score);
        self.order.insert((score, member.to_vec()), ());
        old
    }

    fn remove(&mut self, member: &[u8]) -> Option<i64> {
        let old = self.scores.remove(member)?;
        self.order.remove(&(old, member.to_vec()));
        Some(old)
    }
}

fn elements(set: &Large, rank: usize, count: usize, reverse: bool) -> Vec<(i64, Vec<u8>)> {
    let mut walk = set.walk(rank, count, reverse);
    let mut found = Vec::new();
    while let Some((member, score)) = walk.next() {
        found.push((score as i64, member.to_vec()));
    }
    found
}

fn check(set: &Large, model: &Model, random: &mut Random) {
    set.check();
    assert_eq!(set.len(), model.scores.len());
    let all: Vec<(i64, Vec<u8>)> = model.order.keys().cloned().collect();
    assert!(elements(set, 0, usize::MAX, false) == all);
    if all.is_empty() {
        return;
    }
    let backwards: Vec<(i64, Vec<u8>)> = all.iter().rev().cloned().collect();
    assert!(elements(set, all.len() - 1, usize::MAX, true) == backwards);
    for _ in 0..20 {
        let rank = random.below(all.len() as u64) as usize;
        let (score, member) = &all[rank];
        assert_eq!(set.rank(member), Some((rank, *score as f64)));
        assert_eq!(set.score(member), Some(*score as f64));
        assert!(elements(set, rank, 7, false) == all[rank..(rank + 7).min(all.len())]);
        let below = all.partition_point(|(other, _)| other < score);
        assert_eq!(set.partition_by_score(|other| other < *score as f64), below);
        let at = set.partition(&|other, name| (other, name) < (*score as f64, member));
        assert_eq!(at, rank);
    }
}

fn run(seed: u64, members: u64, scores: u64, long: bool, steps: usize) {
    let mut random = Random(seed);
    let mut set = Large::new();
    let mut model = Model::default();
    let mut clone: Option<(Large, Model)> = None;
    for step in 0..steps {
        let n = random.below(members);
        let mut member = format!("member:{n}").into_bytes();
        if long && n.is_multiple_of(3) {
            member.resize(200 + (n as usize * 7) % 900, b'x');
            member.extend_from_slice(&n.to_le_bytes());
        }
        let shrinking = step / (steps / 4).max(1) % 2 == 1;
        match random.below(100) {
            0..=59 if !shrinking => {
                let score = random.below(scores) as i64 - (scores / 2) as i64;
                assert_eq!(set.add(score as f64, &member), model.add(score, &member).map(|old| old as f64));
            }
            0..=95 => assert_eq!(set.remove(&member), model.remove(&member).map(|old| old as f64)),
            96 => {
                let from = random.below(set.len() as u64 + 1) as usize;
                let count = random.below(if shrinking { 200 } else { 5 }) as usize;
                let gone: Vec<(i64, Vec<u8>)> = model.order.keys().skip(from).take(count).cloned().collect();
                for (_, member) in &gone {
                    model.remove(member);
                }
                set.remove_ranks(from, from + count);
            }
            97 if step % 7 == 0 => {
                if let Some((old, its_model)) = &clone {
                    check(old, its_model, &mut random);
                }
                clone = Some((set.clone(), model.clone()));
            }
            _ => assert_eq!(set.score(&member), model.scores.get(&member).map(|score| *score as f64)),
        }
        if step % (steps / 20).max(1) == 0 {
            check(&set, &model, &mut random);
        }
    }
    check(&set, &model, &mut random);
    set.remove_ranks(0, usize::MAX);
    check(&set, &Model::default(), &mut random);
}

#[test]
fn many_members_with_many_scores() {
    run(1, 20_000, 1_000_000, false, 60_000);
}

#[test]
fn one_score() {
    run(2, 5000, 1, false, 30_000);
}

#[test]
fn few_scores_and_long_members() {
    run(3, 3000, 20, true, 20_000);
}

#[test]
fn a_small_set() {
    for seed in 10..20 {
        run(seed, 300, 50, false, 3000);
    }
}

#[test]
fn ascending_and_descending_inserts_fill_leaves() {
    let mut set = Large::new();
    for n in 0..20_000u32 {
        set.add(f64::from(n), &n.to_be_bytes());
        set.add(-f64::from(n) - 1.0, &(u32::MAX - n).to_be_bytes());
    }
    set.check();
    assert_eq!(set.len(), 40_000);
    assert!(set.leaves.len() < 400, "{} leaves", set.leaves.len());
}

#[test]
fn a_scan_sees_every_member() {
    let mut set = Large::new();
    for n in 0..5000u32 {
        set.add(f64::from(n % 10), format!("m{n}").as_bytes());
    }
    let mut seen = std::collections::HashSet::new();
    let mut from = Some(0);
    while let Some(at) = from {
        from = set.scan(at, 10, &mut |member, _| {
            seen.insert(member.to_vec());
        });
    }
    assert_eq!(seen.len(), 5000);
}

// SPDX-License-Identifier: BSD-3-Clause
//! Both forms behind the one interface give the same answers.

use super::*;
use crate::IntText;

fn text(iter: Iter<'_>) -> String {
    let mut digits = IntText::new();
    let shown: Vec<String> =
        iter.map(|(member, score)| format!("{}:{score}", member.as_bytes(&mut digits).escape_ascii())).collect();
    shown.join(" ")
}

fn both(elements: &[(f64, &str)]) -> [ZSet; 2] {
    let small = Limits::default();
    let large = Limits { zset_max_listpack_entries: 0, ..small };
    [small, large].map(|limits| {
        let mut set = ZSet::new();
        for (score, member) in elements {
            set.add(*score, member.as_bytes(), &limits);
        }
        set
    })
}

const ELEMENTS: &[(f64, &str)] =
    &[(3.0, "c"), (1.5, "b"), (f64::NEG_INFINITY, "7"), (1.5, "12"), (f64::INFINITY, "z"), (1.5, "a")];

#[test]
fn order_and_ranges() {
    for set in both(ELEMENTS) {
        assert_eq!(text(set.iter()), "7:-inf 12:1.5 a:1.5 b:1.5 c:3 z:inf");
        assert_eq!(text(set.range(0..6, true)), "z:inf c:3 b:1.5 a:1.5 12:1.5 7:-inf");
        assert_eq!(text(set.range(1..3, true)), "a:1.5 12:1.5");
        assert_eq!(text(set.range(4..100, true)), "z:inf c:3");
        assert_eq!(text(set.range(4..100, false)), "c:3 z:inf");
        assert_eq!(text(set.range(9..100, true)), "");
        assert_eq!(set.rank(b"b"), Some((3, 1.5)));
        assert_eq!(set.rank(b"x"), None);
        assert_eq!(set.at(4).map(|(_, score)| score), Some(3.0));
        assert_eq!(set.at(6), None);
        let range = |min, min_excluded, max, max_excluded| ScoreRange { min, min_excluded, max, max_excluded };
        assert_eq!(set.ranks_by_score(&range(1.5, false, 3.0, false)), 1..5);
        assert_eq!(set.ranks_by_score(&range(1.5, true, 3.0, true)), 4..4);
        assert_eq!(set.ranks_by_score(&range(f64::NEG_INFINITY, true, f64::INFINITY, true)), 1..5);
        assert_eq!(set.ranks_by_score(&range(5.0, false, 1.0, false)), 0..0);
    }
}

#[test]
fn ranges_of_members() {
    let members: Vec<(f64, &str)> = ["1", "a", "aa", "b", "c"].iter().map(|member| (0.0, *member)).collect();
    for set in both(&members) {
        let ranks = |min, max| set.ranks_by_lex(&LexRange { min, max });
        assert_eq!(ranks(LexBound::Lowest, LexBound::Highest), 0..5);
        assert_eq!(ranks(LexBound::Included(b"a"), LexBound::Excluded(b"b")), 1..3);
        assert_eq!(ranks(LexBound::Excluded(b"a"), LexBound::Included(b"b")), 2..4);
        assert_eq!(ranks(LexBound::Highest, LexBound::Lowest), 0..0);
        assert_eq!(ranks(LexBound::Excluded(b"a"), LexBound::Excluded(b"a")), 0..0);
        assert_eq!(ranks(LexBound::Included(b"a"), LexBound::Included(b"a")), 1..2);
    }
}

#[test]
fn updates_and_removals() {
    for mut set in both(ELEMENTS) {
        let limits = Limits::default();
        assert_eq!(set.add(-4.25, b"b", &limits), Some(1.5));
        assert_eq!(set.add(0.0, b"new", &limits), None);
        set.add(f64::NAN, b"nan", &limits);
        set.add(f64::NAN, b"a", &limits);
        set.update(b"absent", &limits, |_| None);
        assert_eq!(set.remove(b"c"), Some(3.0));
        assert_eq!(set.remove(b"c"), None);
        assert_eq!(text(set.iter()), "7:-inf b:-4.25 new:0 12:1.5 a:1.5 z:inf");
        set.remove_ranks(1..4);
        assert_eq!(text(set.iter()), "7:-inf a:1.5 z:inf");
        set.remove_ranks(0..9);
        assert!(set.is_empty());
    }
}

#[test]
fn forms_change_at_the_thresholds() {
    let limits = Limits::default();
    let mut set = ZSet::new();
    for n in 0..128 {
        set.add(f64::from(n), format!("m{n}").as_bytes(), &limits);
    }
    assert_eq!(set.encoding(), Encoding::ListPack);
    set.add(5.0, b"one more", &limits);
    assert_eq!((set.encoding(), set.len()), (Encoding::SkipList, 129));
    set.remove(b"one more");
    set.compact(&limits);
    assert_eq!((set.encoding(), set.len()), (Encoding::ListPack, 128));
    set.add(5.0, &[b'x'; 65], &limits);
    assert_eq!(set.encoding(), Encoding::SkipList);
    set.compact(&limits);
    assert_eq!(set.encoding(), Encoding::SkipList);
    assert_eq!(ZSet::for_size(129, 1, &limits).encoding(), Encoding::SkipList);
}

#[test]
fn foreign_listpacks_are_checked() {
    let pack = |elements: &[&[u8]]| {
        let mut pack = ListPack::new();
        elements.iter().for_each(|element| pack.push_back(element));
        ZSet::from_listpack(pack).is_ok()
    };
    assert!(pack(&[b"a", b"1", b"b", b"2.5", b"c", b"inf"]));
    assert!(!pack(&[b"a", b"1", b"b"]));
    assert!(!pack(&[b"a", b"nan"]));
}

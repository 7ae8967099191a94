// SPDX-License-Identifier: BSD-3-Clause
//! Bytes as Valkey writes them, equality of the two forms, estimates, and strings that are none.

use super::*;
use crate::random_below;

const SPARSE_MAX: usize = 3000;

#[test]
fn bytes_are_valkeys() {
    // Recorded from valkey-server 9.1.2: PFADD h a b c, before and after PFCOUNT.
    let mut hll = empty();
    for element in [b"a", b"b", b"c"] {
        assert_eq!(add(&mut hll, element, SPARSE_MAX), Ok(true));
        assert_eq!(add(&mut hll, element, SPARSE_MAX), Ok(false));
    }
    forget_count(&mut hll);
    let runs = b"`\xf3\x80P\xb1\x84K\xfb\x80BZ";
    assert_eq!(hll, [&b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80"[..], runs].concat());
    assert_eq!((cached_count(&hll), count(&hll)), (None, Ok(3)));
    cache_count(&mut hll, 3);
    assert_eq!(hll, [&b"HYLL\x01\0\0\0\x03\0\0\0\0\0\0\0"[..], runs].concat());
    assert_eq!(cached_count(&hll), Some(3));
    assert_eq!(describe_runs(&hll).ok().flatten().as_deref(), Some("Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603"));
}

#[test]
fn both_forms_say_the_same() {
    for sparse_max in [0, 100, 1000, 3000, 16_000] {
        let (mut sparse, mut dense) = (empty(), empty());
        assert_eq!(make_dense(&mut dense), Ok(true));
        for n in 0..5000_u64 {
            let element = (n * 0x9E37_79B9 + sparse_max as u64).to_le_bytes();
            assert_eq!(add(&mut sparse, &element, sparse_max), add(&mut dense, &element, sparse_max));
            assert!(form_of(&sparse) == Ok(HllForm::Dense) || sparse.len() <= sparse_max.max(18));
            if n % 100 == 0 {
                assert_eq!(count(&sparse), count(&dense));
            }
        }
        let (mut one, mut other) = (Registers::default(), Registers::default());
        assert_eq!((one.merge(&sparse), other.merge(&dense)), (Ok(()), Ok(())));
        assert_eq!(one.ranks(), other.ranks());
        assert_eq!(Ok(one.count()), count(&dense));
        let error = one.count().abs_diff(5000) as f64 / 5000.0;
        assert!(error < 0.05, "{error}");
        set_grouped(false);
        let mut plain = Registers::default();
        assert_eq!(plain.merge(&dense), Ok(()));
        set_grouped(true);
        assert_eq!(plain.ranks(), one.ranks());
    }
}

#[test]
fn a_union_counts_all_once() {
    let mut all = empty();
    let mut union = Registers::default();
    let mut target = empty();
    for part in 0..3_u32 {
        let mut hll = empty();
        for n in 0..100_u32 {
            let element = (part * 50 + n).to_le_bytes();
            assert!(add(&mut hll, &element, SPARSE_MAX).is_ok() && add(&mut all, &element, SPARSE_MAX).is_ok());
        }
        assert_eq!(union.merge(&hll), Ok(()));
    }
    assert_eq!(union.write_to(&mut target, SPARSE_MAX), Ok(()));
    assert_eq!((count(&target), form_of(&target)), (count(&all), Ok(HllForm::Sparse)));
}

#[test]
fn any_string_is_survived() {
    for seed in 0..3000 {
        let mut bytes = empty();
        for n in 0..random_below(40) {
            assert!(add(&mut bytes, &[n as u8, seed as u8], SPARSE_MAX).is_ok());
        }
        if seed % 7 == 0 {
            assert!(make_dense(&mut bytes).is_ok());
        }
        for _ in 0..random_below(4) {
            let at = random_below(bytes.len());
            bytes[at] = random_below(256) as u8;
        }
        match random_below(4) {
            0 => bytes.truncate(random_below(bytes.len())),
            1 => bytes.push(random_below(256) as u8),
            _ => {}
        }
        let _ = (count(&bytes), cached_count(&bytes), describe_runs(&bytes), Registers::default().merge(&bytes));
        for n in 0..20 {
            let _ = add(&mut bytes, &[n], 60);
        }
        let _ = make_dense(&mut bytes);
    }
}

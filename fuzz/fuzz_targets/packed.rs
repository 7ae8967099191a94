// SPDX-License-Identifier: BSD-3-Clause
//! Packed encodings that lie: listpack, intset, ziplist, zipmap, and LZF around anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pando_formats::{lzf, ziplist::ZipList, zipmap};
use pando_values::{IntSet, ListPack};

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else { return };
    match which % 5 {
        0 => list_pack(bytes),
        1 => {
            if let Ok(ints) = IntSet::from_bytes_checked(bytes.to_vec()) {
                assert_eq!(ints.iter().count(), ints.len());
                assert!(ints.iter().all(|int| ints.contains(int)));
            }
        }
        2 => {
            if let Ok(list) = ZipList::parse(bytes) {
                assert_eq!(list.iter().count(), list.len());
            }
        }
        3 => {
            if let Ok(pairs) = zipmap::parse(bytes) {
                assert!(!pairs.is_empty());
            }
        }
        _ => {
            let len = bytes.first().map_or(0, |len| usize::from(*len) * 64);
            let _ = lzf::decompress(bytes, len);
            if let Some(packed) = lzf::compress(bytes, bytes.len().saturating_sub(4)) {
                assert_eq!(lzf::decompress(&packed, bytes.len()).as_deref(), Ok(bytes));
            }
        }
    }
});

fn list_pack(bytes: &[u8]) {
    let Ok(mut pack) = ListPack::from_bytes_checked(bytes.to_vec()) else { return };
    assert_eq!(pack.bytes(), bytes);
    let forwards: Vec<Vec<u8>> = pack.iter().map(|element| element.to_vec()).collect();
    let mut backwards: Vec<Vec<u8>> = pack.iter().rev().map(|element| element.to_vec()).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    assert_eq!(forwards.len(), pack.len());
    for (index, element) in forwards.iter().enumerate().take(8) {
        assert!(pack.get(index as isize).is_some_and(|found| found.is(element)));
        assert!(pack.find(element, pack.first(), 0).is_some());
    }
    pack.push_back(b"one more");
    pack.push_front(b"12345");
    pack.remove(pack.first(), 2);
    let end = pack.end();
    pack.insert(end, b"");
    ListPack::from_bytes_checked(pack.bytes().to_vec()).expect("what we changed is valid");
}

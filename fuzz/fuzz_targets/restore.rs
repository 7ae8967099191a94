// SPDX-License-Identifier: BSD-3-Clause
//! A DUMP payload that lies: whatever is taken from it must dump, load and compare like any other value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pando_dump::{FooterChecks, LoadContext, Loaded, load, payload, restore};
use pando_formats::rdb::RdbType;
use pando_values::{Collection, Limits, Typed, ValueRef};

fuzz_target!(|input: &[u8]| {
    let Some((code, bytes)) = input.split_first() else { return };
    let kinds = RdbType::ALL;
    let kind = kinds[usize::from(*code) % kinds.len()];
    // Small limits: more values are on the edge between two forms.
    let limits = Limits { hash_max_listpack_entries: 4, set_max_intset_entries: 4, ..Limits::default() };
    let cx = LoadContext { limits: &limits, drop_due_before_ms: None };
    let Ok(Loaded::Typed(value)) = load(kind, bytes, &cx) else { return };
    visit(&value);
    for compress in [false, true] {
        let dumped = payload(ValueRef::Typed(&value), compress);
        match restore(&dumped, &cx, FooterChecks::ALL) {
            Ok(Loaded::Typed(again)) => assert_eq!(again.len(), value.len(), "{kind:?}"),
            other => panic!("{kind:?}: our own payload is refused: {other:?}"),
        }
    }
});

/// Goes over all elements in the ways that commands do.
fn visit(value: &Typed) {
    assert!(value.heap_bytes() > 0 && value.free_effort() < usize::MAX);
    match value {
        Typed::List(list) => assert_eq!(list.iter().count(), list.len()),
        Typed::Set(set) => {
            let mut seen = 0;
            for member in set.iter() {
                assert!(set.contains_element(member));
                seen += 1;
            }
            assert_eq!(seen, set.len());
        }
        Typed::ZSet(set) => assert_eq!(set.iter().map(|(member, _)| member.byte_len()).count(), set.len()),
        Typed::Hash(hash) => {
            for field in hash.iter(0) {
                assert!(hash.contains(&field.name.to_vec(), 0));
            }
            assert_eq!(hash.iter(0).count(), hash.len());
        }
        Typed::Stream(stream) => {
            let entries = stream.entries();
            let range = entries.range(pando_values::StreamId::MIN, pando_values::StreamId::MAX);
            assert_eq!(range.map(|entry| entry.fields().count()).count() as u64, entries.len());
            let back = entries.range_back(pando_values::StreamId::MIN, pando_values::StreamId::MAX);
            assert_eq!(back.count() as u64, entries.len());
            for (_, group) in stream.groups() {
                let pending = group.consumers().map(|(_, consumer)| consumer.pending_len()).sum::<usize>();
                assert_eq!(pending, group.pending_len());
            }
        }
        _ => {}
    }
}

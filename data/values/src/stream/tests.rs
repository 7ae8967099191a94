// SPDX-License-Identifier: BSD-3-Clause
//! Streams against a naive model, their bytes against Valkey's, and nodes made of hostile bytes.

use super::*;
use std::collections::BTreeMap;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

type Fields = Vec<Vec<u8>>;

fn fields_of(entry: &StreamEntry<'_>) -> Fields {
    let fields: Fields = entry.fields().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]).collect();
    assert_eq!(fields.len(), 2 * entry.field_count());
    fields
}

fn contents<'a>(entries: impl Iterator<Item = StreamEntry<'a>>) -> Vec<(StreamId, Fields)> {
    entries.map(|entry| (entry.id, fields_of(&entry))).collect()
}

fn fields(random: &mut Random) -> Fields {
    let names: [&[u8]; 4] = [b"temperature", b"7", b"", b"name"];
    let count = if random.below(3) == 0 { 1 + random.below(4) } else { 2 };
    let mut value = || match random.below(4) {
        0 => random.below(1000).to_string().into_bytes(),
        1 => format!("-{}", random.below(1 << 40)).into_bytes(),
        2 => vec![b'v'; random.below(200) as usize],
        _ => format!("value {}", random.below(100)).into_bytes(),
    };
    (0..count as usize).flat_map(|i| [names[i % 4].to_vec(), value()]).collect()
}

fn check_model(seed: u64, limits: Limits) {
    let mut random = Random(seed);
    let (mut stream, mut model) = (Stream::new(), BTreeMap::<StreamId, Fields>::new());
    let mut last = StreamId::MIN;
    let mut snapshot = (stream.clone(), model.clone());
    for step in 0..3000 {
        match random.below(20) {
            0..=12 => {
                let id = StreamId::new(last.ms + random.below(3), last.seq + 1 + random.below(2));
                let fields = fields(&mut random);
                let pairs: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
                assert_eq!(stream.append(id, &pairs, &limits), Ok(()));
                assert_eq!(stream.append(id, &pairs, &limits), Err(AppendError::IdTooSmall));
                model.insert(id, fields);
                last = id;
            }
            13..=16 => {
                let ids: Vec<StreamId> = (0..random.below(4))
                    .filter_map(|_| model.keys().nth(random.below(model.len().max(1) as u64) as usize).copied())
                    .collect();
                let expected = ids.iter().filter(|id| model.remove(id).is_some()).count() as u64;
                assert_eq!(stream.delete(&ids), expected);
            }
            17 => {
                let len = random.below(model.len() as u64 + 30);
                let before = model.len() as u64;
                while model.len() as u64 > len {
                    model.pop_first();
                }
                assert_eq!(stream.trim(TrimTo::Len(len), false, 0), before - model.len() as u64);
            }
            18 => {
                let from = model.keys().nth(random.below(9) as usize).copied().unwrap_or_default();
                let before = model.len();
                model = model.split_off(&from);
                assert_eq!(stream.trim(TrimTo::Id(from), false, 0), (before - model.len()) as u64);
            }
            _ => {
                let limit = random.below(50);
                let removed = stream.trim(TrimTo::Len(random.below(20)), true, limit);
                assert!(limit == 0 || removed <= limit);
                (0..removed).for_each(|_| {
                    model.pop_first();
                });
            }
        }
        let counters = stream.entries().counters();
        assert_eq!((counters.len, counters.last_id), (model.len() as u64, last));
        assert_eq!(counters.first_id, model.keys().next().copied().unwrap_or_default());
        let start = StreamId::new(random.below(last.ms + 3), random.below(5));
        let end = StreamId::new(start.ms + random.below(40), random.below(5));
        if start <= end {
            let expected: Vec<_> = model.range(start..=end).map(|(id, fields)| (*id, fields.clone())).collect();
            assert_eq!(contents(stream.entries().range(start, end)), expected);
            let expected: Vec<_> = expected.into_iter().rev().collect();
            assert_eq!(contents(stream.entries().range_back(start, end)), expected);
        }
        if step % 200 == 0 {
            stream.check_invariants();
            let all = contents(snapshot.0.entries().range(StreamId::MIN, StreamId::MAX));
            assert!(all.into_iter().eq(snapshot.1));
            let mut copy = Stream::new();
            for (id, pack) in stream.entries().nodes() {
                let pack = ListPack::from_bytes_checked(pack.bytes().to_vec()).expect("a listpack");
                assert!(copy.restore_node(id, pack));
            }
            assert!(copy.restore_counters(counters));
            assert_eq!(copy, stream);
            snapshot = (stream.clone(), model.clone());
        }
    }
}

#[test]
fn does_what_a_sorted_map_does() {
    for seed in 1..=4 {
        check_model(seed * 7919, Limits::default());
        check_model(seed * 104_729, Limits { stream_node_max_entries: 3, ..Limits::default() });
        let no_limits = Limits { stream_node_max_entries: 0, stream_node_max_bytes: 0, ..Limits::default() };
        check_model(seed * 1_299_709, no_limits);
    }
}

/// Read off `DUMP` of the reference server.
#[test]
fn bytes_are_valkeys() {
    let mut stream = Stream::new();
    for (ms, pairs) in [(1000, [&b"a"[..], b"1", b"b", b"two"]), (1005, [b"a", b"300", b"b", b""])] {
        stream.append(StreamId::new(ms, 1), &pairs, &Limits::default()).expect("ids rise");
    }
    stream.append(StreamId::new(1005, 2), &[b"c", b"-1"], &Limits::default()).expect("ids rise");
    stream.delete(&[StreamId::new(1005, 1)]);
    let (_, pack) = stream.entries().nodes().next().expect("a node");
    let text: Vec<String> = pack.iter().map(|e| String::from_utf8(e.to_vec()).expect("text")).collect();
    assert_eq!(text.join(" "), "2 1 2 a b 0 2 0 0 1 two 5 3 5 0 300  5 0 5 1 1 c -1 6");
}

#[test]
fn groups_against_a_model() {
    for seed in 1..=5 {
        let mut random = Random(seed * 7919);
        let mut stream = Stream::new();
        assert!(stream.create_group(b"g", Group::new(StreamId::MIN, None)));
        assert!(!stream.create_group(b"g", Group::default()));
        let mut model = BTreeMap::<StreamId, (Vec<u8>, u64)>::new();
        let mut snapshot = stream.clone();
        for step in 0..3000_u64 {
            let name = format!("c{}", random.below(5)).into_bytes();
            let id = StreamId::new(random.below(300), 0);
            let mut group = stream.group_mut(b"g").expect("created above");
            match random.below(8) {
                0..=4 => {
                    let consumer = group.find_consumer(&name);
                    let consumer = consumer.or_else(|| group.create_consumer(&name, 7)).expect("found or made");
                    assert_eq!(group.create_consumer(&name, 7), None);
                    group.set_pending(id, Pending { delivered_at_ms: 1, deliveries: step, consumer });
                    model.insert(id, (name.clone(), step));
                }
                5 | 6 => assert_eq!(group.remove_pending(id), model.remove(&id).is_some()),
                _ if random.below(10) == 0 => {
                    let before = model.len();
                    model.retain(|_, (owner, _)| *owner != name);
                    assert_eq!(group.delete_consumer(&name).unwrap_or(0), before - model.len());
                }
                _ => {}
            }
            drop(group);
            if step % 100 == 0 {
                stream.check_invariants();
                snapshot.check_invariants();
                let group = stream.group(b"g").expect("created above");
                let own = group.pending_from(StreamId::MIN).map(|(id, pending)| {
                    let consumer = group.consumer(pending.consumer).expect("its consumer");
                    (id, (consumer.name().to_vec(), pending.deliveries))
                });
                assert!(own.eq(model.clone()));
                assert_eq!(stream.clone(), stream);
                snapshot = stream.clone();
            }
        }
        assert!(stream.destroy_group(b"g"));
        stream.check_invariants();
    }
}

#[test]
fn damaged_nodes_are_refused_or_harmless() {
    let mut random = Random(99);
    let mut stream = Stream::new();
    for ms in 1..20 {
        let fields = fields(&mut random);
        let pairs: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        stream.append(StreamId::new(ms, ms), &pairs, &Limits::default()).expect("ids rise");
    }
    let (master, pack) = stream.entries().nodes().next().expect("a node");
    for _ in 0..20_000 {
        let mut bytes = pack.bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        let Ok(pack) = ListPack::from_bytes_checked(bytes) else { continue };
        let mut damaged = Stream::new();
        if damaged.restore_node(master, pack) {
            let last = damaged.entries().last_live_id().unwrap_or_default();
            let len = damaged.entries().range(StreamId::MIN, StreamId::MAX).count() as u64;
            let counters = StreamCounters { len, last_id: last, ..StreamCounters::default() };
            assert!(damaged.restore_counters(counters));
            assert_eq!(damaged.entries().range_back(StreamId::MIN, StreamId::MAX).count() as u64, len);
            if len > 2 {
                assert_eq!(damaged.delete(&[counters.first_id, last]), 1);
                damaged.trim(TrimTo::Len(1), false, 0);
                damaged.check_invariants();
            }
        }
    }
}

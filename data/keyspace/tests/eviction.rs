// SPDX-License-Identifier: BSD-3-Clause
//! Who is evicted under each policy, and what the keyspace counts of it.

use pando_keyspace::{EvictionPolicy, Evictor, Keyspace, KeyspaceConfig, StrHint, Ttl};
use pando_topology::Slot;

const NOW_MS: u64 = 1_700_000_000_000;

fn keyspace(lfu: bool) -> Keyspace {
    Keyspace::new(KeyspaceConfig { databases: 4, lfu, ..KeyspaceConfig::default() })
}

fn set(keyspace: &Keyspace, db: u16, key: &str, now_ms: u64, ttl: Ttl) {
    let mut guard = keyspace.lock_one(Slot::of_key(key.as_bytes()));
    guard.set_now(now_ms);
    guard.db(db).set_str(key.as_bytes(), &[b'x'; 100], ttl, StrHint::Auto);
}

fn touch(keyspace: &Keyspace, key: &str, now_ms: u64) {
    let mut guard = keyspace.lock_one(Slot::of_key(key.as_bytes()));
    guard.set_now(now_ms);
    assert!(guard.db(0).touch(key.as_bytes()));
}

/// Evicts up to `count` keys and returns them.
fn evict(keyspace: &Keyspace, policy: EvictionPolicy, count: usize, now_ms: u64) -> Vec<String> {
    let mut evictor = Evictor::default();
    evictor.configure(policy, 5);
    let mut gone = Vec::new();
    let before = keyspace.used_bytes();
    let mut freed = 0;
    while gone.len() < count {
        let one = evictor.evict_one(keyspace, now_ms, &mut |slot, db, key, locked| {
            assert!(locked.holds(slot));
            assert!(!locked.db(db).contains(key));
            gone.push(String::from_utf8_lossy(key).into_owned());
        });
        match one {
            Some(one) => freed += one.bytes,
            None => break,
        }
    }
    assert_eq!(keyspace.used_bytes() + freed, before);
    gone
}

fn number(key: &str) -> usize {
    key.rsplit(':').next().and_then(|text| text.parse().ok()).expect("a numbered key")
}

#[test]
fn what_was_used_stays() {
    for (policy, lfu, ttl) in [
        (EvictionPolicy::AllkeysLru, false, Ttl::Clear),
        (EvictionPolicy::VolatileLru, false, Ttl::At(NOW_MS + 1_000_000)),
        (EvictionPolicy::AllkeysLfu, true, Ttl::Clear),
        (EvictionPolicy::VolatileLfu, true, Ttl::At(NOW_MS + 1_000_000)),
    ] {
        let keyspace = keyspace(lfu);
        (0..4000).for_each(|n| set(&keyspace, 0, &format!("k:{n}"), NOW_MS, ttl));
        for _ in 0..20 {
            (2000..4000).for_each(|n| touch(&keyspace, &format!("k:{n}"), NOW_MS + 60_000));
        }
        let gone = evict(&keyspace, policy, 1500, NOW_MS + 61_000);
        assert_eq!(gone.len(), 1500);
        let used = gone.iter().filter(|key| number(key) >= 2000).count();
        assert!(used < 15, "{policy:?} evicted {used} keys that were in use");
    }
}

#[test]
fn what_falls_due_first_goes_first() {
    let keyspace = keyspace(false);
    (0..4000).for_each(|n| set(&keyspace, 0, &format!("k:{n}"), NOW_MS, Ttl::At(NOW_MS + 10_000 + n * 1000)));
    let gone = evict(&keyspace, EvictionPolicy::VolatileTtl, 1000, NOW_MS);
    let mean = gone.iter().map(|key| number(key)).sum::<usize>() / gone.len();
    assert!(mean < 700, "the mean number of the victims is {mean}, 500 is perfect and 2000 is chance");
}

#[test]
fn volatile_policies_leave_the_others() {
    for policy in [
        EvictionPolicy::VolatileLru,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
    ] {
        let keyspace = keyspace(false);
        (0..2000).for_each(|n| set(&keyspace, 0, &format!("stays:{n}"), NOW_MS, Ttl::Clear));
        (0..20).for_each(|n| set(&keyspace, 3, &format!("goes:{n}"), NOW_MS, Ttl::At(NOW_MS + 5000)));
        let gone = evict(&keyspace, policy, 100, NOW_MS);
        assert_eq!(gone.len(), 20, "{policy:?}");
        assert!(gone.iter().all(|key| key.starts_with("goes:")), "{policy:?}");
        assert!(evict(&keyspace, policy, 1, NOW_MS).is_empty());
    }
}

#[test]
fn everything_can_go_and_nothing_goes_without_a_policy() {
    for policy in [EvictionPolicy::AllkeysLru, EvictionPolicy::AllkeysLfu, EvictionPolicy::AllkeysRandom] {
        let keyspace = keyspace(false);
        (0..500).for_each(|n| set(&keyspace, n % 4, &format!("k:{n}"), NOW_MS, Ttl::Clear));
        assert!(evict(&keyspace, EvictionPolicy::NoEviction, 1, NOW_MS).is_empty());
        assert_eq!(evict(&keyspace, policy, 1000, NOW_MS).len(), 500, "{policy:?}");
        assert_eq!((0..4).map(|db| keyspace.len(db)).sum::<u64>(), 0);
    }
}

#[test]
fn a_slot_with_most_keys_loses_most() {
    let keyspace = keyspace(false);
    (0..9000).for_each(|n| set(&keyspace, 0, &format!("{{tag}}:{n}"), NOW_MS, Ttl::Clear));
    (0..1000).for_each(|n| set(&keyspace, 0, &format!("k:{n}"), NOW_MS, Ttl::Clear));
    let gone = evict(&keyspace, EvictionPolicy::AllkeysRandom, 2000, NOW_MS);
    let tagged = gone.iter().filter(|key| key.starts_with("{tag}")).count();
    assert!((1650..1950).contains(&tagged), "{tagged} of 2000 are of the large slot");
}

#[test]
fn a_heavy_value_is_handed_back() {
    let keyspace = keyspace(false);
    let mut guard = keyspace.lock_one(Slot::of_key(b"big"));
    guard.db(0).set_str(b"big", &vec![b'x'; 1 << 20], Ttl::Clear, StrHint::Auto);
    drop(guard);
    let mut evictor = Evictor::default();
    evictor.configure(EvictionPolicy::AllkeysLru, 5);
    let gone = evictor.evict_one(&keyspace, NOW_MS, &mut |_, _, _, _| {}).expect("a victim");
    assert!(gone.bytes >= 1 << 20);
    assert!(gone.garbage.is_some());
}

#[test]
fn the_alarm_goes_off_within_its_room() {
    let keyspace = keyspace(false);
    assert!(!keyspace.memory_alarm());
    for room in [0, 100_000, 10_000_000] {
        keyspace.arm_memory_alarm(room);
        let before = keyspace.used_bytes();
        let mut n = 0;
        while !keyspace.memory_alarm() {
            set(&keyspace, 0, &format!("k:{room}:{n}"), NOW_MS, Ttl::Clear);
            n += 1;
        }
        // The write that sets it off may be the one that crosses the line.
        assert!(keyspace.used_bytes() - before <= room + 64 * 200, "{room}");
    }
}

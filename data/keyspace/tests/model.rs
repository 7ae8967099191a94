// SPDX-License-Identifier: BSD-3-Clause
//! The keyspace against models: maps that do the same, seeded at random.
//!
//! Not here: speed and memory (`examples/memory.rs`). Each test runs for several seeds and names the one that failed.

use pando_keyspace::{
    Expired, HashedKey, IntText, Keyspace, KeyspaceConfig, LockedSlots, StrHint, Ttl, Value, ValueRef, Walked,
    WatchFlag,
};
use pando_topology::Slot;
use std::collections::{BTreeMap, HashSet};

/// Only keys expire where there are no hashes.
fn expired_key(what: Expired<'_>) -> &[u8] {
    match what {
        Expired::Key(key) => key,
        Expired::Fields { .. } => panic!("no hash has fields that are due"),
    }
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Small numbers as often as large ones.
    fn spread(&mut self, bits: u64) -> u64 {
        let bits = self.below(bits);
        self.below(1 << bits)
    }
}

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

const START_MS: u64 = 1_800_000_000_000;

fn keyspace() -> Keyspace {
    Keyspace::new(KeyspaceConfig::default())
}

fn lock<'a>(keyspace: &'a Keyspace, key: &[u8], now_ms: u64) -> LockedSlots<'a> {
    let mut guard = keyspace.lock_one(Slot::of_key(key));
    guard.set_now(now_ms);
    guard
}

/// All keys in one slot make one table grow and shrink; a few are long.
fn key_of(rng: &mut Rng, keys: u64) -> Vec<u8> {
    let number = rng.below(keys);
    let mut key = if number.is_multiple_of(8) { format!("k{number}") } else { format!("{{tag}}{number}") }.into_bytes();
    if number.is_multiple_of(97) {
        key.resize(key.len() + 600, b'x');
    }
    key
}

fn value_of(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(20) {
        0 => rng.below(5000),
        1..5 => rng.below(1100),
        5..8 => return format!("{}", rng.next() as i64 >> rng.below(60)).into_bytes(),
        _ => rng.below(100),
    };
    (0..len).map(|_| rng.next() as u8).collect()
}

fn bytes_of(value: ValueRef<'_>) -> Vec<u8> {
    value.as_bytes(&mut IntText::new()).to_vec()
}

fn mutate(keyspace: &Keyspace, model: &mut Model, rng: &mut Rng, keys: u64, now_ms: u64) {
    let key = key_of(rng, keys);
    let mut guard = lock(keyspace, &key, now_ms);
    let mut db = guard.db(0);
    let live = model.get(&key).filter(|(_, due)| due.is_none_or(|due| due > now_ms)).cloned();
    match rng.below(12) {
        0..4 => {
            let value = value_of(rng);
            let (ttl, due) = match rng.below(3) {
                0 => (Ttl::Clear, None),
                1 => (Ttl::Keep, live.as_ref().and_then(|live| live.1)),
                _ => {
                    let due = now_ms + 1 + rng.spread(24);
                    (Ttl::At(due), Some(due))
                }
            };
            assert_eq!(db.set_str(&key, &value, ttl, StrHint::Auto).existed, live.is_some());
            model.insert(key, (value, due));
        }
        4 | 5 => {
            assert_eq!(db.remove(&key), model.remove(&key).is_some());
        }
        6 => {
            let suffix = value_of(rng);
            let (mut value, due) = live.unwrap_or_default();
            value.extend_from_slice(&suffix);
            assert_eq!(db.append(&key, &suffix), Some(value.len()));
            model.insert(key, (value, due));
        }
        7 => {
            let (mut value, due) = live.unwrap_or_default();
            let at = rng.below(1200) as usize;
            if value.len() <= at {
                value.resize(at + 1, 0);
            }
            value[at] = 7;
            assert_eq!(db.edit_str(&key, at + 1, &mut |bytes| bytes[at] = 7), Some(value.len()));
            model.insert(key, (value, due));
        }
        8 | 9 => {
            let due = (rng.below(4) != 0).then(|| now_ms + 1 + rng.spread(24));
            assert_eq!(db.set_expire(&key, due), live.is_some());
            if live.is_some() {
                model.get_mut(&key).expect("live in the model").1 = due;
            }
        }
        10 => {
            let taken = db.take_value(&key);
            assert_eq!(taken.is_some(), model.contains_key(&key));
            if let Some(taken) = taken {
                let other = [key.as_slice(), b"moved"].concat();
                drop(guard);
                lock(keyspace, &other, now_ms).db(0).put_value(&other, taken);
                let moved = model.remove(&key).expect("in the model");
                model.insert(other, moved);
            }
        }
        _ => {
            assert_eq!(db.get(&key).map(bytes_of), live.as_ref().map(|live| live.0.clone()));
            assert_eq!(db.expire_at(&key), live.map(|live| live.1));
        }
    }
}

fn check_equal(keyspace: &Keyspace, model: &Model, now_ms: u64) {
    assert_eq!(keyspace.len(0), model.len() as u64);
    for (key, (value, due)) in model {
        let mut guard = lock(keyspace, key, now_ms);
        let mut db = guard.db(0);
        let is_live = due.is_none_or(|due| due > now_ms);
        assert_eq!(db.get(key).map(bytes_of), is_live.then(|| value.clone()));
        assert_eq!(db.is_expired(key), !is_live);
    }
    let stats = keyspace.db_stats(0, now_ms);
    assert_eq!(stats.volatile, model.values().filter(|(_, due)| due.is_some()).count() as u64);
}

#[test]
fn operations_equal_a_map() {
    for seed in 0..6 {
        println!("seed {seed}");
        let (keyspace, mut model, mut rng) = (keyspace(), Model::new(), Rng(seed));
        for round in 0..4 {
            let now_ms = START_MS + round * 1000;
            for _ in 0..6000 {
                mutate(&keyspace, &mut model, &mut rng, [30, 3000, 10, 8000][round as usize], now_ms);
            }
            check_equal(&keyspace, &model, now_ms);
        }
        let keys: Vec<_> = model.keys().cloned().collect();
        for key in keys {
            assert!(lock(&keyspace, &key, START_MS).db(0).remove(&key));
        }
        assert_eq!((keyspace.len(0), keyspace.used_bytes()), (0, 0), "nothing is left and all is accounted for");
    }
}

#[test]
fn due_keys_go_and_others_stay() {
    for seed in 0..6 {
        println!("seed {seed}");
        let (keyspace, mut model, mut rng) = (keyspace(), Model::new(), Rng(seed));
        let mut now_ms = START_MS;
        for _ in 0..60 {
            for _ in 0..300 {
                mutate(&keyspace, &mut model, &mut rng, 2000, now_ms);
            }
            now_ms += 1 << rng.below(17);
            loop {
                let budget = 1 + rng.below(200) as usize;
                let step = keyspace.expire_step(now_ms, budget, &|| true, &mut |_, db, what, guard| {
                    let key = expired_key(what);
                    assert!(!guard.db(db).contains(key));
                    let (_, due) = model.remove(key).expect("only keys of the model expire");
                    assert!(due.is_some_and(|due| due <= now_ms));
                });
                if !step.has_more && keyspace.next_due_ms().is_none_or(|due| due > now_ms) {
                    break;
                }
            }
            // The finest bucket is a tick of 16 ms.
            assert!(model.values().all(|(_, due)| due.is_none_or(|due| due + 16 > now_ms)), "a due key stayed");
        }
        check_equal(&keyspace, &model, now_ms);
        keyspace.expire_step(u64::MAX >> 8, usize::MAX, &|| true, &mut |_, _, what, _| {
            drop(model.remove(expired_key(what)));
        });
        assert!(model.values().all(|(_, due)| due.is_none()));
        check_equal(&keyspace, &model, now_ms);
    }
}

#[test]
fn a_scan_emits_every_key_that_stays() {
    for seed in 0..6 {
        println!("seed {seed}");
        let (keyspace, mut rng) = (keyspace(), Rng(seed));
        let set = |key: &str| lock(&keyspace, key.as_bytes(), START_MS).db(0).set_int(key.as_bytes(), 1, Ttl::Clear);
        let stays: HashSet<String> =
            (0..500).map(|n| if n % 2 == 0 { format!("{{t}}s{n}") } else { format!("s{n}") }).collect();
        for key in &stays {
            set(key);
        }
        let grows = seed % 2 == 0;
        if !grows {
            for n in 0..8000 {
                set(&format!("{{t}}{n}"));
            }
        }
        let (mut seen, mut cursor, mut others) = (HashSet::new(), 0, 0..8000);
        loop {
            let mut guard = keyspace.lock_none();
            guard.set_now(START_MS);
            cursor = guard.scan(cursor, 0, 1 + rng.below(30) as usize, &mut |key, _| {
                seen.insert(String::from_utf8_lossy(key).into_owned());
            });
            drop(guard);
            if cursor == 0 {
                break;
            }
            for n in others.by_ref().take(rng.below(80) as usize) {
                let key = format!("{{t}}{n}");
                if grows {
                    set(&key);
                } else {
                    lock(&keyspace, key.as_bytes(), START_MS).db(0).remove(key.as_bytes());
                }
            }
        }
        assert!(stays.is_subset(&seen));
    }
}

#[test]
fn a_walk_emits_the_moment_of_its_cut() {
    for seed in 0..6 {
        println!("seed {seed}");
        let (keyspace, mut model, mut rng) = (keyspace(), Model::new(), Rng(seed));
        for round in 0..4 {
            for _ in 0..3000 {
                mutate(&keyspace, &mut model, &mut rng, 1500, START_MS);
            }
            let mut cut = Model::new();
            let mut walk = keyspace.begin_walk(&mut || cut = model.clone()).expect("no other walk");
            assert!(keyspace.begin_walk(&mut || {}).is_err());
            let mut emitted = Model::new();
            loop {
                let budget = rng.below(20_000) as usize;
                let is_done = walk.step(&keyspace, budget, &mut |Walked { db, key, value, expire_at: due, .. }| {
                    assert_eq!(db, 0);
                    assert!(emitted.insert(key.to_vec(), (bytes_of(value), due)).is_none(), "emitted twice");
                });
                // The second walk is dropped on its way, so that the third starts with mixed epochs.
                if is_done || (round == 1 && emitted.len() > 100) {
                    break;
                }
                for _ in 0..rng.below(60) {
                    mutate(&keyspace, &mut model, &mut rng, 1500, START_MS);
                }
            }
            if round != 1 {
                assert_eq!(emitted, cut);
                assert_eq!(walk.pending_bytes(), 0);
            }
        }
        let mut walk = keyspace.begin_walk(&mut || {}).expect("no other walk");
        drop(keyspace.flush(None));
        assert!(walk.step(&keyspace, 1000, &mut |_| panic!("nothing is there")) && walk.is_aborted());
    }
}

#[test]
fn databases_are_separate_and_can_be_exchanged() {
    let keyspace = keyspace();
    let set = |db, key: &[u8; 1]| {
        lock(&keyspace, key, START_MS).db(db).set_str(key, b"v", Ttl::At(START_MS + 50), StrHint::Auto)
    };
    for (db, key) in [(0, b"a"), (3, b"a"), (3, b"b")] {
        set(db, key);
    }
    assert_eq!((keyspace.len(0), keyspace.len(3), keyspace.volatile_len(3)), (1, 2, 2));
    let flag = WatchFlag::new();
    let slot = Slot::of_key(b"b");
    keyspace.lock_one(slot).watch(slot, 0, b"b", flag.clone());
    keyspace.lock_one(slot).touch_watchers(slot, 3, b"b");
    assert!(!flag.is_dirty());
    keyspace.swap(0, 3);
    assert!(flag.is_dirty(), "the key came into being by the exchange");
    assert_eq!((keyspace.len(0), keyspace.len(3), keyspace.avg_ttl_ms(0, START_MS)), (2, 1, 50));
    assert!(keyspace.lock_none().random_key(0, &mut Vec::new()).is_some());
    assert_eq!(keyspace.flush(Some(0)).keys, 2);
    assert_eq!((keyspace.len(0), keyspace.len(3)), (0, 1));
    let step = keyspace.expire_step(START_MS + 100, 10, &|| true, &mut |_, db, what, _| {
        assert_eq!((db, expired_key(what)), (3, b"a".as_slice()));
    });
    assert_eq!((step.expired, keyspace.next_due_ms(), keyspace.used_bytes()), (1, None, 0));
}

#[test]
fn big_values_move_without_copying() {
    let keyspace = keyspace();
    let mut guard = keyspace.lock_none();
    let mut db = guard.db(0);
    db.set_str(b"a", &[1; 100_000], Ttl::Clear, StrHint::Auto);
    let Some(ValueRef::Str(before)) = db.get(b"a") else { panic!("a string") };
    let address = before.as_ptr();
    let taken = db.take_value(b"a").expect("there");
    assert!(matches!(&taken.value, Value::Str { bytes, .. } if bytes.as_ptr() == address));
    db.put_value(b"b", taken);
    let Some(ValueRef::Str(after)) = db.get(b"b") else { panic!("a string") };
    assert_eq!(after.as_ptr(), address);
}

/// Threads move a unit between counters with two slots locked, while others scan, walk, expire, flush and prefetch.
#[test]
fn threads_share_the_keyspace() {
    const COUNTERS: u64 = 64;
    let keyspace = keyspace();
    let key = |n: u64| format!("counter{n}").into_bytes();
    for n in 0..COUNTERS {
        lock(&keyspace, &key(n), START_MS).db(0).set_int(&key(n), 100, Ttl::Clear);
    }
    let read = |guard: &mut LockedSlots<'_>, key: &[u8]| match guard.db(0).get(key) {
        Some(ValueRef::Int(int)) => int,
        other => panic!("{other:?}"),
    };
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (keyspace, key, read) = (&keyspace, &key, &read);
            scope.spawn(move || {
                let mut rng = Rng(seed);
                for round in 0..3000u64 {
                    let (a, b) = (key(rng.below(COUNTERS)), key(rng.below(COUNTERS)));
                    let mut slots = vec![Slot::of_key(&a), Slot::of_key(&b)];
                    slots.sort_unstable();
                    slots.dedup();
                    let mut guard = if round % 64 == 0 { keyspace.lock_none() } else { keyspace.lock(&slots) };
                    guard.set_now(START_MS);
                    let (of_a, _) = (read(&mut guard, &a), read(&mut guard, &b));
                    guard.db(0).set_int(&a, of_a - 1, Ttl::Keep);
                    let of_b = read(&mut guard, &b);
                    guard.db(0).set_int(&b, of_b + 1, Ttl::Keep);
                    drop(guard);
                    let other = format!("{{t}}{}", rng.below(2000)).into_bytes();
                    let mut guard = lock(keyspace, &other, START_MS + round);
                    guard.db(1).set_str(&other, &[1; 50], Ttl::At(START_MS + round + 20), StrHint::Auto);
                    guard.db(2).append(&other, b"0123456789");
                }
            });
        }
        scope.spawn(|| {
            for round in 0..20 {
                let mut sum = 0;
                let mut walk = keyspace.begin_walk(&mut || {}).expect("one walk at a time");
                while !walk.step(&keyspace, 3000, &mut |Walked { db, value, .. }| match value {
                    ValueRef::Int(int) if db == 0 => sum += int,
                    _ => {}
                }) {}
                assert!(walk.is_aborted() || sum == 100 * COUNTERS as i64, "{sum}");
                keyspace.expire_step(START_MS + round * 150, 1000, &|| true, &mut |_, db, _, _| assert_eq!(db, 1));
                let names: Vec<_> = (0..COUNTERS).map(key).collect();
                let keys: Vec<HashedKey> = names.iter().map(|name| HashedKey::of(name)).collect();
                keyspace.prefetch(0, keys.iter());
                if round % 7 == 6 {
                    drop(keyspace.flush(Some(2)));
                }
            }
        });
    });
    let mut guard = keyspace.lock_all();
    assert_eq!((0..COUNTERS).map(|n| read(&mut guard, &key(n))).sum::<i64>(), 100 * COUNTERS as i64);
    drop(guard);
    drop(keyspace.flush(None));
    assert_eq!(keyspace.used_bytes(), 0);
}

// SPDX-License-Identifier: BSD-3-Clause
//! Fields of hashes that fall due, against a model: nothing is missed, whatever happens to the hashes and their keys.
//!
//! Not here: hashes themselves (`pando-values`).

use pando_keyspace::{Expired, Keyspace, KeyspaceConfig, LockedSlots, Ttl, Typed};
use pando_topology::Slot;
use pando_values::{FieldTtl, Hash, Limits, TypedValue};
use std::collections::BTreeMap;

const START_MS: u64 = 1_700_000_000_000;

struct Rng(u64);

impl Rng {
    /// splitmix64.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// Soon as often as far away.
    fn due(&mut self, now_ms: u64) -> u64 {
        let bits = self.below(24);
        now_ms + 1 + self.below(1 << bits)
    }
}

/// A key's TTL, and its fields' times.
#[derive(Clone, Default)]
struct Key {
    due: Option<u64>,
    fields: BTreeMap<Vec<u8>, Option<u64>>,
}

impl Key {
    fn is_past(&self, now_ms: u64) -> bool {
        self.due.is_some_and(|due| due <= now_ms)
    }

    fn is_volatile(&self) -> bool {
        self.fields.values().any(Option::is_some)
    }
}

type Model = BTreeMap<Vec<u8>, Key>;

fn lock<'k>(keyspace: &'k Keyspace, keys: &[&[u8]], now_ms: u64) -> LockedSlots<'k> {
    let mut slots: Vec<Slot> = keys.iter().map(|key| Slot::of_key(key)).collect();
    slots.sort();
    slots.dedup();
    let mut guard = keyspace.lock(&slots);
    guard.set_now(now_ms);
    guard
}

/// Changes one field, makes the hash if need be, and drops it when it is empty.
fn edit(keyspace: &Keyspace, model: &mut Model, rng: &mut Rng, now_ms: u64) {
    let key = format!("key:{}", rng.below(12)).into_bytes();
    let name = format!("field:{}", rng.below(30)).into_bytes();
    let due = rng.due(now_ms);
    let mut guard = lock(keyspace, &[&key], now_ms);
    let mut db = guard.db(0);
    if db.is_expired(&key) {
        db.remove(&key);
        model.remove(&key);
    }
    let entry = model.entry(key.clone()).or_default();
    let is_new = entry.fields.is_empty();
    let choice = if is_new { 0 } else { rng.below(6) };
    let is_live = entry.fields.get(&name).is_some_and(|due| due.is_none_or(|due| due > now_ms));
    let change = |hash: &mut Hash| match choice {
        0 | 1 => drop(hash.set(&name, b"value", FieldTtl::At(due), now_ms, &Limits::default())),
        2 => drop(hash.set(&name, b"value", FieldTtl::Clear, now_ms, &Limits::default())),
        3 => assert_eq!(hash.set_due(&name, Some(due), now_ms), is_live),
        4 => assert_eq!(hash.set_due(&name, None, now_ms), is_live),
        _ => assert_eq!(hash.remove(&name, now_ms), is_live),
    };
    match choice {
        0 | 1 => drop(entry.fields.insert(name.clone(), Some(due))),
        2 => drop(entry.fields.insert(name.clone(), None)),
        3 if is_live => drop(entry.fields.insert(name.clone(), Some(due))),
        4 if is_live => drop(entry.fields.insert(name.clone(), None)),
        5 if is_live => drop(entry.fields.remove(&name)),
        _ => {}
    }
    if is_new {
        let mut hash = Hash::new();
        change(&mut hash);
        db.put_typed(&key, hash.into_typed(), Ttl::Clear);
        return;
    }
    let edited = db.edit_typed(&key, |typed| Hash::of_mut(typed).map(change)).expect("the key is live");
    assert_eq!(edited.is_emptied, entry.fields.is_empty());
    if edited.is_emptied {
        model.remove(&key);
    }
}

/// Does something to a key as a whole.
fn move_key(keyspace: &Keyspace, model: &mut Model, rng: &mut Rng, now_ms: u64) {
    let from = format!("key:{}", rng.below(12)).into_bytes();
    let to = format!("key:{}", rng.below(12)).into_bytes();
    let Some(key) = model.get(&from).filter(|key| !key.is_past(now_ms)).cloned() else { return };
    let mut guard = lock(keyspace, &[&from, &to], now_ms);
    let mut db = guard.db(0);
    match rng.below(6) {
        0 if from != to => {
            let entry = db.take_value(&from).expect("the key is there");
            db.put_value(&to, entry);
            model.remove(&from);
            model.insert(to, key);
        }
        1 if from != to => {
            let entry = db.copy_value(&from).expect("the key is live");
            db.put_value(&to, entry);
            model.insert(to, key);
        }
        2 | 3 => {
            let due = rng.due(now_ms);
            assert!(db.set_expire(&from, Some(due)));
            model.insert(from, Key { due: Some(due), ..key });
        }
        4 => {
            assert!(db.set_expire(&from, None));
            model.insert(from, Key { due: None, ..key });
        }
        _ => {
            db.remove(&from);
            model.remove(&from);
        }
    }
}

fn expire(keyspace: &Keyspace, model: &mut Model, now_ms: u64, budget: usize) -> bool {
    let step = keyspace.expire_step(now_ms, budget, &|| true, &mut |_, db, what, guard| {
        assert_eq!(db, 0);
        match what {
            Expired::Key(key) => {
                let gone = model.remove(key).expect("a key of the model");
                assert!(gone.is_past(now_ms));
                assert!(!guard.db(0).contains(key));
            }
            Expired::Fields { key, names, is_key_removed } => {
                let entry = model.get_mut(key).expect("a key of the model");
                assert!(!names.is_empty());
                for name in names {
                    let due = entry.fields.remove(&**name).expect("a field of the model");
                    assert!(due.is_some_and(|due| due <= now_ms));
                }
                assert_eq!(entry.fields.is_empty(), is_key_removed);
                assert_eq!(guard.db(0).contains(key), !is_key_removed && !entry.is_past(now_ms));
                if is_key_removed {
                    model.remove(key);
                }
            }
        }
    });
    step.has_more || keyspace.next_due_ms().is_some_and(|due| due <= now_ms)
}

fn check(keyspace: &Keyspace, model: &Model, now_ms: u64) {
    let stats = keyspace.db_stats(0, now_ms);
    assert_eq!(stats.keys, model.len() as u64);
    assert_eq!(stats.volatile, model.values().filter(|key| key.due.is_some()).count() as u64);
    assert_eq!(stats.with_volatile_fields, model.values().filter(|key| key.is_volatile()).count() as u64);
    for (name, key) in model {
        // Live or not: time zero sees all.
        let mut guard = lock(keyspace, &[name], 0);
        let mut db = guard.db(0);
        assert_eq!(db.expire_at(name), Some(key.due));
        let Some(pando_keyspace::ValueRef::Typed(Typed::Hash(hash))) = db.peek(name) else { panic!("a hash") };
        let fields: BTreeMap<_, _> = hash.iter(0).map(|field| (field.name.to_vec(), field.due_ms)).collect();
        assert_eq!(fields, key.fields);
    }
}

#[test]
fn no_field_is_missed_and_none_goes_early() {
    for seed in 0..6 {
        let keyspace = Keyspace::new(KeyspaceConfig::default());
        let (mut model, mut rng, mut now_ms) = (Model::new(), Rng(seed), START_MS);
        for _ in 0..60 {
            for _ in 0..rng.below(200) {
                if rng.below(5) == 0 {
                    move_key(&keyspace, &mut model, &mut rng, now_ms);
                } else {
                    edit(&keyspace, &mut model, &mut rng, now_ms);
                }
            }
            check(&keyspace, &model, now_ms);
            let bits = rng.below(20);
            now_ms += rng.below(1 << bits);
            while expire(&keyspace, &mut model, now_ms, 1 + rng.below(100) as usize) {}
            // The finest bucket is a tick of 16 ms.
            let is_late = |due: Option<u64>| due.is_some_and(|due| due + 16 <= now_ms);
            for key in model.values() {
                assert!(!is_late(key.due) && !key.fields.values().any(|due| is_late(*due)), "seed {seed}");
            }
        }
        check(&keyspace, &model, now_ms);
        while expire(&keyspace, &mut model, u64::MAX >> 8, usize::MAX) {}
        assert!(model.values().all(|key| key.due.is_none() && !key.is_volatile()));
        for name in model.keys() {
            lock(&keyspace, &[name], now_ms).db(0).remove(name);
        }
        assert_eq!((keyspace.used_bytes(), keyspace.next_due_ms()), (0, None));
    }
}

/// A hash with a hundred thousand fields due at once is worked off in small steps, and others' turns come in between.
#[test]
fn a_large_hash_expires_in_bounded_steps() {
    let keyspace = Keyspace::new(KeyspaceConfig::default());
    let (large, small) = (b"{t}large".as_slice(), b"{t}small".as_slice());
    let mut hash = Hash::new();
    let set = |hash: &mut Hash, n: u32| {
        hash.set(&n.to_le_bytes(), b"v", FieldTtl::At(START_MS + 100), START_MS, &Limits::default());
    };
    (0..100_000).for_each(|n| set(&mut hash, n));
    let mut guard = lock(&keyspace, &[large], START_MS);
    guard.db(0).put_typed(large, hash.into_typed(), Ttl::Clear);
    guard.db(0).set_str(small, b"v", Ttl::At(START_MS + 101), pando_keyspace::StrHint::Auto);
    drop(guard);
    let (mut steps, mut fields, mut small_at) = (0, 0, None);
    loop {
        let mut largest = 0;
        let step = keyspace.expire_step(START_MS + 200, 256, &|| true, &mut |_, _, what, _| match what {
            Expired::Key(key) => {
                assert_eq!(key, small);
                small_at = Some(steps);
            }
            Expired::Fields { names, .. } => largest = largest.max(names.len()),
        });
        assert!(largest <= 64 && step.expired_fields <= 320, "{largest} {step:?}");
        fields += step.expired_fields;
        steps += 1;
        if !step.has_more {
            break;
        }
    }
    assert_eq!((fields, keyspace.len(0)), (100_000, 0));
    assert!(small_at.is_some_and(|at| at < 3), "{small_at:?}");
}

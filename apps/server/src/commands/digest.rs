// SPDX-License-Identifier: BSD-3-Clause
//! DEBUG DIGEST: a signature of the data that does not depend on their order, the same that Valkey computes. Two servers
//! with the same data have the same one.

use pando_keyspace::{DbIndex, IntText, Typed, ValueRef, ValueType};
use pando_resp::num::FloatBuf;
use pando_session::Engine;
use pando_topology::Slot;
use pando_values::{Element, StreamEntries, StreamId};

type Digest = [u8; 20];

/// SHA-1 (FIPS 180-4); for comparing data, not for secrets.
fn sha1(bytes: &[u8]) -> Digest {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut message = bytes.to_vec();
    message.push(0x80);
    message.resize(message.len().next_multiple_of(64), 0);
    if message.len() - bytes.len() < 9 {
        message.resize(message.len() + 64, 0);
    }
    let end = message.len();
    message[end - 8..].copy_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    for block in message.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, chunk) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        }
        for i in 16..80 {
            words[i] = (words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in words.iter().enumerate() {
            let (f, k) = match i / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6u32),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (old, new) in state.iter_mut().zip([a, b, c, d, e]) {
            *old = old.wrapping_add(new);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

/// Adds something whose place does not matter.
fn add(digest: &mut Digest, bytes: &[u8]) {
    digest.iter_mut().zip(sha1(bytes)).for_each(|(byte, other)| *byte ^= other);
}

/// Adds something whose place does matter.
fn mix(digest: &mut Digest, bytes: &[u8]) {
    add(digest, bytes);
    *digest = sha1(digest);
}

fn mix_element(digest: &mut Digest, element: Element<'_>) {
    mix(digest, element.as_bytes(&mut IntText::new()));
}

/// Adds a pair whose place among the others does not matter.
fn add_pair(digest: &mut Digest, name: Element<'_>, mix_value: impl FnOnce(&mut Digest)) {
    let mut pair = [0; 20];
    mix_element(&mut pair, name);
    mix_value(&mut pair);
    add(digest, &pair);
}

fn mix_stream(digest: &mut Digest, entries: &StreamEntries) {
    for entry in entries.range(StreamId::MIN, StreamId::MAX) {
        mix(digest, format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
        for (field, value) in entry.fields() {
            mix_element(digest, field);
            mix_element(digest, value);
        }
    }
}

/// Mixes in a value: its type as a number, then its elements, in order where they have one. Fields that are past due are
/// not there.
fn mix_typed(digest: &mut Digest, value: &Typed, now_ms: u64) {
    match value {
        Typed::List(list) => list.iter().for_each(|element| mix_element(digest, element)),
        Typed::Set(set) => set.iter().for_each(|member| add(digest, member.as_bytes(&mut IntText::new()))),
        Typed::ZSet(set) => set.iter().for_each(|(member, score)| {
            add_pair(digest, member, |pair| mix(pair, FloatBuf::new().format_shortest(score).as_bytes()));
        }),
        Typed::Hash(hash) => hash.iter(now_ms).for_each(|field| {
            add_pair(digest, field.name, |pair| mix_element(pair, field.value));
        }),
        Typed::Stream(stream) => mix_stream(digest, stream.entries()),
        _ => {}
    }
}

/// Valkey's number of a type. Its modules stand before its streams.
fn type_number(of: ValueType) -> u32 {
    if of == ValueType::Stream { of as u32 + 1 } else { of as u32 }
}

fn mix_value(digest: &mut Digest, value: ValueRef<'_>, has_ttl: bool, now_ms: u64) {
    mix(digest, &type_number(value.type_()).to_be_bytes());
    match value {
        ValueRef::Typed(typed) => mix_typed(digest, typed, now_ms),
        other => mix(digest, other.as_bytes(&mut IntText::default())),
    }
    if has_ttl {
        add(digest, b"!!expire!!");
    }
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Mixes in what is stored at a key; nothing if there is none.
fn mix_key(engine: &Engine, db: DbIndex, key: &[u8], now_ms: u64, digest: &mut Digest) {
    let mut locked = engine.keyspace.lock_one(Slot::of_key(key));
    locked.set_now(now_ms);
    let mut keys = locked.db(db);
    let has_ttl = keys.expire_at(key).flatten().is_some();
    if let Some(value) = keys.peek(key) {
        mix_value(digest, value, has_ttl, now_ms);
    }
}

/// The signature of one value, without its key; zeroes if there is none.
pub(super) fn of_value(engine: &Engine, db: DbIndex, key: &[u8], now_ms: u64) -> String {
    let mut digest = [0; 20];
    mix_key(engine, db, key, now_ms, &mut digest);
    hex(&digest)
}

/// The signature of all data. Takes slot by slot, so it is one of a moment only while nobody writes.
pub(super) fn of_all(engine: &Engine, now_ms: u64) -> String {
    let mut all = [0; 20];
    for db in 0..engine.settings.load().databases {
        if engine.keyspace.len(db) == 0 {
            continue;
        }
        mix(&mut all, &u32::from(db).to_be_bytes());
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut locked = engine.keyspace.lock_none();
        locked.set_now(now_ms);
        locked.for_each(db, &mut |key, _| names.push(key.to_vec()));
        drop(locked);
        for key in names {
            let mut digest = [0; 20];
            mix(&mut digest, &key);
            mix_key(engine, db, &key, now_ms, &mut digest);
            add(&mut all, &digest);
        }
    }
    hex(&all)
}

#[cfg(test)]
mod tests {
    use super::{hex, mix_value, sha1};
    use pando_keyspace::ValueRef;

    #[test]
    fn sha1_of_the_standard() {
        for (input, expected) in [
            ("", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ("abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            ("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "84983e441c3bd26ebaae4aa1f95129e5e54670f1"),
        ] {
            assert_eq!(hex(&sha1(input.as_bytes())), expected);
        }
    }

    #[test]
    fn values_have_valkeys_signature() {
        for (value, expected) in
            [("b", "b78559cd22bce6e6df712eb99ce7f3b08e8f8f1f"), ("5", "f8c2498ca74cdde7d02de23246736a661485b50e")]
        {
            let mut digest = [0; 20];
            mix_value(&mut digest, ValueRef::Str(value.as_bytes()), false, 0);
            assert_eq!(hex(&digest), expected);
        }
    }
}

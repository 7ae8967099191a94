// SPDX-License-Identifier: BSD-3-Clause
//! Beside a real Valkey 9.1.2: what it dumps we load and dump again, byte for byte where its order is not one of chance;
//! what we dump it restores to the same value; and both accept and refuse the same payloads, old forms and damaged ones
//! included. Needs the peers (`cargo xtask peers`, or `PANDO_PEERS`).

use pando_dump::{FooterChecks, LoadContext, LoadError, Loaded, RestoreError, payload, restore};
use pando_formats::crc64;
use pando_formats::rdb::{RdbType, ValueError, ValueOut};
use pando_procs::client::Client;
use pando_procs::node::{Node, Software};
use pando_procs::peers;
use pando_resp::decode::Value;
use pando_values::{Limits, ValueRef};

fn start() -> Option<Node> {
    if peers::peer("valkey-server").is_none() {
        eprintln!("skipped: valkey-server is not installed");
        return None;
    }
    let args = ["--save", "", "--enable-debug-command", "yes"];
    Some(Node::start(Software::Valkey, &args).expect("valkey-server starts"))
}

fn call(client: &mut Client, args: &[&[u8]]) -> Value {
    client.send(args).expect("valkey lives");
    client.receive().expect("valkey answers")
}

fn dumped(client: &mut Client, key: &str) -> Vec<u8> {
    match call(client, &[b"DUMP", key.as_bytes()]) {
        Value::Bulk(Some(bytes)) => bytes.to_vec(),
        other => panic!("DUMP {key}: {other:?}"),
    }
}

fn digest(client: &mut Client, key: &str) -> String {
    format!("{:?}", client.call(&["DEBUG", "DIGEST-VALUE", key]).expect("valkey answers"))
}

fn load(bytes: &[u8]) -> Result<Loaded, RestoreError> {
    restore(bytes, &LoadContext { limits: &Limits::default(), drop_due_before_ms: None }, FooterChecks::ALL)
}

fn payload_of(value: &Loaded) -> Vec<u8> {
    let value = match value {
        Loaded::Int(n) => ValueRef::Int(*n),
        Loaded::Str(s) => ValueRef::Str(s),
        Loaded::Typed(typed) => ValueRef::Typed(typed),
    };
    payload(value, true)
}

/// Whether the order of the elements in this form is the same on every server.
fn is_ordered(code: u8) -> bool {
    !matches!(RdbType::from_code(code), Some(RdbType::Set | RdbType::Hash | RdbType::Hash2))
}

/// One payload through both: accepted by both or refused by both, and then the same value.
fn agree(client: &mut Client, bytes: &[u8], what: &str) -> bool {
    let theirs = call(client, &[b"RESTORE", b"theirs", b"0", bytes, b"REPLACE"]);
    let ours = load(bytes);
    let accepted = matches!(theirs, Value::Simple(_));
    assert_eq!(ours.is_ok(), accepted, "{what}: valkey says {theirs:?}, we {:?}\n{}", ours.err(), bytes.escape_ascii());
    let Ok(value) = ours else { return false };
    let again = payload_of(&value);
    let their_dump = dumped(client, "theirs");
    assert_eq!(again[0], their_dump[0], "{what}: type");
    if is_ordered(again[0]) {
        assert_eq!(again.escape_ascii().to_string(), their_dump.escape_ascii().to_string(), "{what}");
    }
    let restored = call(client, &[b"RESTORE", b"ours", b"0", &again, b"REPLACE"]);
    assert_eq!(restored, Value::Simple("OK".into()), "{what}: our payload\n{}", again.escape_ascii());
    assert_eq!(digest(client, "ours"), digest(client, "theirs"), "{what}");
    true
}

/// Values of every type and encoding, made on the server itself.
fn fill(client: &mut Client) -> Vec<String> {
    let long = "x".repeat(100);
    let mut commands: Vec<Vec<String>> = Vec::new();
    let mut add = |line: &str| commands.push(line.split(' ').map(str::to_owned).collect());
    add("SET string some text that is not compressible 0123");
    commands.pop();
    let mut add = |line: &str| commands.push(line.split(' ').map(str::to_owned).collect());
    add("SET string value");
    add("SET int -129");
    add("SET int64 1099511627776");
    add(&format!("SET packed {}", "ab".repeat(500)));
    add("RPUSH list:small a b 1 -1 300 70000 5000000000 -9223372036854775808");
    add(&format!("RPUSH list:string {long} b"));
    for i in 0..3000 {
        add(&format!("RPUSH list:large element-{i} {i}"));
    }
    add(&format!("RPUSH list:huge a {} b", "y".repeat(20_000)));
    add("SADD set:int 1 2 3 -5");
    add("SADD set:int32 1 70000");
    add("SADD set:int64 1 5000000000");
    add("SADD set:small a b 1 2");
    for i in 0..600 {
        add(&format!("SADD set:large member-{i} {i}"));
        add(&format!("SADD set:ints {i}"));
        add(&format!("ZADD zset:large {}.5 member-{i} {} {i}", i % 17, i % 5));
        add(&format!("HSET hash:large field-{i} {i} f{i} {long}"));
        add(&format!("XADD stream:large {i}-1 field {i} other value-{i}"));
        add(&format!("XADD stream:mixed {}-{i} field{} {i}", i + 1, i % 3));
    }
    add("ZADD zset:small 1 a 2.5 b -inf c +inf d 1e300 e 3 5");
    add(&format!("ZADD zset:long 1 {long}"));
    add("HSET hash:small f v g 5 h 5000000000");
    add(&format!("HSET hash:long f {long}"));
    add("HSET hash:ttl f v g w h 5");
    add("HPEXPIREAT hash:ttl 4000000000000 FIELDS 2 f g");
    add("HSET hash:gone f v g w");
    add("XADD stream:small 5-5 f v");
    add("XADD stream:empty 7-0 f v");
    add("XDEL stream:empty 7-0");
    add("XDEL stream:large 3-1 10-1 599-1");
    add("XTRIM stream:mixed MAXLEN 450");
    add("XGROUP CREATE stream:large one 0");
    add("XGROUP CREATE stream:large two 50-0 ENTRIESREAD 40");
    add("XGROUP CREATE stream:large three $");
    add("XREADGROUP GROUP one alice COUNT 20 STREAMS stream:large >");
    add("XREADGROUP GROUP one bob COUNT 30 STREAMS stream:large >");
    add("XREADGROUP GROUP two carol COUNT 5 STREAMS stream:large >");
    add("XGROUP CREATECONSUMER stream:large one idle");
    add("XACK stream:large one 5-1 6-1 25-1");
    add("GEOADD geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania");
    add("PFADD hll a b c d");
    for args in &commands {
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let reply = call(client, &args);
        assert!(!matches!(reply, Value::Error(_)), "{}: {reply:?}", String::from_utf8_lossy(&args.concat()));
    }
    let Value::Array(Some(keys)) = client.call(&["KEYS", "*"]).expect("valkey answers") else { panic!("keys") };
    let name = |key: &Value| match key {
        Value::Bulk(Some(name)) => String::from_utf8_lossy(name).into_owned(),
        other => panic!("{other:?}"),
    };
    keys.iter().map(name).collect()
}

#[test]
fn what_valkey_dumps_comes_back() {
    let Some(node) = start() else { return };
    let mut client = node.client();
    for key in fill(&mut client) {
        let bytes = dumped(&mut client, &key);
        assert!(agree(&mut client, &bytes, &key), "{key} is refused by both");
        assert_eq!(digest(&mut client, "ours"), digest(&mut client, &key), "{key}");
    }
}

fn with_footer(mut bytes: Vec<u8>, version: u16) -> Vec<u8> {
    bytes.extend_from_slice(&version.to_le_bytes());
    let sum = crc64::update(0, &bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn typed(kind: RdbType, value: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![kind.code()];
    value(&mut bytes);
    with_footer(bytes, 11)
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.put_string(text).expect("memory");
}

/// A ziplist whose entries are all strings, as no Valkey would write it: numbers too.
fn zip_list(entries: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0; 10];
    let (mut before, mut tail) = (0usize, 10);
    for entry in entries {
        tail = bytes.len();
        if before < 254 {
            bytes.push(before as u8);
        } else {
            bytes.push(0xfe);
            bytes.extend_from_slice(&(before as u32).to_le_bytes());
        }
        match (entry.parse::<i16>(), entry.len()) {
            (Ok(n), _) => bytes.extend_from_slice(&[&[0xc0][..], &n.to_le_bytes()].concat()),
            (_, len @ 0..64) => bytes.push(len as u8),
            (_, len) => bytes.extend_from_slice(&[0x40 | (len >> 8) as u8, len as u8]),
        }
        if entry.parse::<i16>().is_err() {
            bytes.extend_from_slice(entry.as_bytes());
        }
        before = bytes.len() - tail;
    }
    bytes.push(0xff);
    let total = bytes.len() as u32;
    bytes[..4].copy_from_slice(&total.to_le_bytes());
    bytes[4..8].copy_from_slice(&(tail as u32).to_le_bytes());
    bytes[8..10].copy_from_slice(&(entries.len() as u16).to_le_bytes());
    bytes
}

/// Payloads in forms that today's servers read and no longer write, valid and not.
fn old_forms() -> Vec<(&'static str, Vec<u8>, bool)> {
    use RdbType::{
        Hash, HashZipList, HashZipMap, List, ListQuickList, ListZipList, Set, SetIntSet, SetListPack, ZSet, ZSet2,
        ZSetZipList,
    };
    let long = "l".repeat(300);
    let many: Vec<String> = (0..700).map(|i| format!("entry-{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let ziplist = |kind: RdbType, entries: &[&str]| typed(kind, |out| string(out, &zip_list(entries)));
    let elements = |kind: RdbType, texts: &[&str], divisor: usize| {
        typed(kind, |out| {
            out.put_len((texts.len() / divisor) as u64).expect("memory");
            texts.iter().for_each(|text| string(out, text.as_bytes()));
        })
    };
    let scores = |scores: &[(&str, &[u8])]| {
        typed(ZSet, |out| {
            out.put_len(scores.len() as u64).expect("memory");
            for (member, score) in scores {
                string(out, member.as_bytes());
                out.extend_from_slice(score);
            }
        })
    };
    let doubles = |scores: &[(&str, f64)]| {
        typed(ZSet2, |out| {
            out.put_len(scores.len() as u64).expect("memory");
            for (member, score) in scores {
                string(out, member.as_bytes());
                out.put_double(*score).expect("memory");
            }
        })
    };
    let ints = |encoding: u32, numbers: &[i16]| {
        typed(SetIntSet, |out| {
            let mut bytes = [encoding.to_le_bytes(), (numbers.len() as u32).to_le_bytes()].concat();
            numbers.iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
            string(out, &bytes);
        })
    };
    vec![
        ("list", elements(List, &["a", "b", "1"], 1), true),
        ("list of long ones", elements(List, &["a", &long, &long], 1), true),
        ("list of many", elements(List, &many, 1), true),
        ("empty list", elements(List, &[], 1), false),
        ("list ziplist", ziplist(ListZipList, &["a", "5", "-3", &long]), true),
        ("list ziplist of many", ziplist(ListZipList, &many), true),
        ("empty list ziplist", ziplist(ListZipList, &[]), false),
        (
            "quicklist of ziplists",
            typed(ListQuickList, |out| {
                out.put_len(3).expect("memory");
                [&many[..], &[], &["x", "9"]].iter().for_each(|entries| string(out, &zip_list(entries)));
            }),
            true,
        ),
        ("set", elements(Set, &["a", "b", "1"], 1), true),
        ("set of numbers", elements(Set, &["3", "2", "1"], 1), true),
        ("set of many", elements(Set, &many, 1), true),
        ("set of a long one", elements(Set, &["1", &long], 1), true),
        ("set with a member twice", elements(Set, &["a", "b", "a"], 1), false),
        ("set with a number twice", elements(Set, &["1", "2", "1"], 1), false),
        ("empty set", elements(Set, &[], 1), false),
        ("intset", ints(2, &[-5, 1, 7]), true),
        ("intset out of order", ints(2, &[1, -5, 7]), false),
        ("intset with a number twice", ints(2, &[1, 1]), false),
        ("intset of no width", ints(3, &[1]), false),
        ("empty intset", ints(2, &[]), false),
        ("set listpack of nothing", typed(SetListPack, |out| string(out, b"\x07\0\0\0\0\0\xff")), false),
        (
            "set listpack with a member twice",
            typed(SetListPack, |out| string(out, b"\x0d\0\0\0\x02\0\x81a\x02\x81a\x02\xff")),
            false,
        ),
        // 5 as a number and as a text.
        (
            "set listpack with a number twice",
            typed(SetListPack, |out| string(out, b"\x0c\0\0\0\x02\0\x05\x01\x815\x02\xff")),
            false,
        ),
        ("zset", scores(&[("a", b"\x011"), ("b", b"\x042.25"), ("c", &[254]), ("d", &[255])]), true),
        ("zset with no number", scores(&[("a", b"\x011"), ("b", &[253])]), false),
        ("zset with a member twice", scores(&[("a", b"\x011"), ("a", b"\x012")]), false),
        ("zset2", doubles(&[("a", 1.0), ("b", -0.0), ("c", f64::INFINITY), ("d", 0.1)]), true),
        ("zset2 with no number", doubles(&[("a", f64::NAN)]), false),
        ("zset2 of a long one", doubles(&[(&long, 1.0), ("b", 2.0)]), true),
        ("zset ziplist", ziplist(ZSetZipList, &["a", "1", "b", "2.5", "c", "inf"]), true),
        ("zset ziplist with no number", ziplist(ZSetZipList, &["a", "1", "b", "nan"]), false),
        ("zset ziplist of an odd count", ziplist(ZSetZipList, &["a", "1", "b"]), false),
        ("zset ziplist with a member twice", ziplist(ZSetZipList, &["a", "1", "a", "2"]), false),
        ("hash", elements(Hash, &["f", "v", "g", "7"], 2), true),
        ("hash of long ones", elements(Hash, &["f", &long, "g", "7"], 2), true),
        ("hash with a field twice", elements(Hash, &["f", "v", "f", "7"], 2), false),
        ("hash of many", elements(Hash, &many, 2), true),
        ("hash ziplist", ziplist(HashZipList, &["f", "v", "g", "7"]), true),
        ("hash ziplist with a field twice", ziplist(HashZipList, &["f", "v", "f", "7"]), false),
        ("hash ziplist of an odd count", ziplist(HashZipList, &["f", "v", "g"]), false),
        ("empty hash ziplist", ziplist(HashZipList, &[]), false),
        ("zipmap", typed(HashZipMap, |out| string(out, b"\x02\x03foo\x03\x02bar..\x05hello\x05\x00world\xff")), true),
        (
            "zipmap with a field twice",
            typed(HashZipMap, |out| string(out, b"\x02\x01f\x01\x00v\x01f\x01\x00w\xff")),
            false,
        ),
        ("module", with_footer(vec![7, 0x81, 0, 0, 0, 0, 0, 0, 0, 9, 0], 11), false),
        ("of no type", with_footer(vec![8, 0], 11), false),
        ("of a later type", with_footer(vec![23, 0], 80), false),
        ("of an old version", with_footer(vec![0, 1, b'x'], 1), true),
        ("of another product's version", with_footer(vec![0, 1, b'x'], 12), false),
        ("of a later version", with_footer(vec![0, 1, b'x'], 81), false),
        ("of nothing", with_footer(vec![], 80), false),
    ]
}

#[test]
fn old_forms_are_read_as_valkey_reads_them() {
    let Some(node) = start() else { return };
    let mut client = node.client();
    for (what, bytes, expected) in old_forms() {
        assert_eq!(agree(&mut client, &bytes, what), expected, "{what}");
    }
}

/// Random damage, with a checksum that is right: both accept and refuse the same.
#[test]
fn damage_is_seen_as_valkey_sees_it() {
    let Some(node) = start() else { return };
    let mut client = node.client();
    let mut payloads: Vec<Vec<u8>> = Vec::new();
    for key in fill(&mut client) {
        payloads.push(dumped(&mut client, &key));
    }
    payloads.retain(|bytes| bytes.len() < 2000);
    payloads.extend(old_forms().into_iter().map(|(_, bytes, _)| bytes).filter(|bytes| bytes.len() < 2000));
    let mut seed = 0x5555_0000_1111_2223_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % below
    };
    let mut accepted = 0;
    for round in 0..4000 {
        let mut bytes = payloads[random(payloads.len())].clone();
        bytes.truncate(bytes.len() - 10);
        for _ in 0..=random(2) {
            let at = random(bytes.len().max(1));
            match random(4) {
                0 if bytes.len() > 1 => _ = bytes.remove(at),
                1 => bytes.insert(at, random(256) as u8),
                _ if at < bytes.len() => bytes[at] = random(256) as u8,
                _ => {}
            }
        }
        let bytes = with_footer(bytes, 80);
        if is_explained(&bytes) {
            continue;
        }
        accepted += usize::from(agree(&mut client, &bytes, &format!("round {round}")));
    }
    assert!(accepted > 100, "{accepted} of the damaged payloads are still valid");
}

/// Where we are stricter on purpose, or cannot tell.
fn is_explained(bytes: &[u8]) -> bool {
    // Valkey reads on into the footer when a value ends too early, and it depends on chance what it finds there.
    let error = match load(bytes) {
        Err(RestoreError::Value(Some(LoadError::Value(error)))) => Some(error),
        _ => None,
    };
    let runs_over = error == Some(ValueError::Truncated);
    // It takes the code of a special string encoding for the length of a collection.
    let is_no_length = error == Some(ValueError::Corrupt("a length was expected"));
    // Ids of a stream must rise for us; Valkey takes them as they come.
    let is_stream = matches!(bytes[0], 15 | 19 | 21);
    runs_over || is_no_length || is_stream
}

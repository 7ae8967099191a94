// SPDX-License-Identifier: BSD-3-Clause
//! RDB: golden bytes, round trips at any split, damage, and a real Valkey that loads what we write.

use pando_formats::crc64;
use pando_formats::rdb::{RdbError, RdbItem, RdbReader, RdbType, RdbValue, RdbWriter, Record, ValueOut};

fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<(Vec<RdbItem>, Vec<u8>), RdbError> {
    let mut reader = RdbReader::new();
    let mut items = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        reader.push(piece);
        while let Some(item) = reader.next()? {
            items.push(item);
        }
    }
    Ok((items, reader.take_rest()))
}

fn record(db: u32, key: &[u8], value: RdbValue, expire_at_ms: Option<u64>) -> Record {
    Record { db, key: key.to_vec(), value, expire_at_ms, idle_s: None, freq: None }
}

fn records(items: Vec<RdbItem>) -> Vec<Record> {
    items.into_iter().filter_map(|item| if let RdbItem::Record(r) = item { Some(r) } else { None }).collect()
}

fn sample() -> Vec<Record> {
    let text = |s: &[u8]| RdbValue::Str(s.to_vec());
    vec![
        record(0, b"k", text(b"v"), None),
        record(0, b"n", RdbValue::Int(-5), None),
        record(0, b"17", RdbValue::Int(300), Some(1_700_000_000_123)),
        record(0, b"wide", RdbValue::Int(100_000), None),
        record(3, b"", text(b""), None),
        record(3, b"zero-led", text(b"007"), None),
        record(3, &[b'x'; 100], text(&[b'y'; 20_000]), None),
    ]
}

/// Frozen: a change of these bytes is a change of the format.
#[test]
fn golden_bytes() {
    let mut w = RdbWriter::new(Vec::new());
    w.aux("a", b"b").expect("write to memory");
    w.sizes(0, 2, 1).expect("write to memory");
    w.string(0, b"k", b"v", None).expect("write to memory");
    w.int(0, b"n", -5, Some(0x0102_0304_0506)).expect("write to memory");
    w.string(16, b"1000", b"70000", None).expect("write to memory");
    let bytes = w.finish().expect("write to memory");
    let mut expected = b"REDIS0011".to_vec();
    expected.extend_from_slice(&[0xfa, 1, b'a', 1, b'b']);
    expected.extend_from_slice(&[0xfe, 0, 0xfb, 2, 1]);
    expected.extend_from_slice(&[0, 1, b'k', 1, b'v']);
    expected.extend_from_slice(&[0xfc, 6, 5, 4, 3, 2, 1, 0, 0, 0, 1, b'n', 0xc0, 0xfb]);
    expected.extend_from_slice(&[0xfe, 16, 0, 0xc1, 0xe8, 3, 0xc2, 0x70, 0x11, 1, 0, 0xff]);
    let sum = crc64::update(0, &expected).to_le_bytes();
    expected.extend_from_slice(&sum);
    assert_eq!(bytes, expected);
    assert_eq!(sum, [105, 49, 25, 70, 205, 72, 10, 17]);
}

/// SAVE of Valkey 9.1.2: foo=bar, n=12345 with an expiry, big = 300 times 'a'.
const VALKEY_9: &str = "56414c4b455930 3830fa0a76616c6b65792d76657205392e312e32fa0a72656469732d62697473c040fa056374696d65\
    c2440a026bfa08757365642d6d656dc2a0e40f00fa08616f662d62617365c000fe00fb030100 03666f6f03626172\
    fc22b19000a201000000016ec139300003626967c30c412c016161e0ff00e01700016161ff6ef173f96e23fbd7";

fn valkey_9() -> Vec<u8> {
    let digits: Vec<u8> = VALKEY_9.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).expect("ascii"), 16).expect("hex")).collect()
}

#[test]
fn reads_what_valkey_9_wrote() {
    let (items, rest) = read_in_pieces(&valkey_9(), 7).expect("a valid file");
    assert_eq!(items[0], RdbItem::Header { version: 80, valkey: true });
    assert_eq!(items[1], RdbItem::Aux { name: b"valkey-ver".to_vec(), value: b"9.1.2".to_vec() });
    assert_eq!(items.last(), Some(&RdbItem::End { summed: true }));
    assert!(rest.is_empty());
    let expected = vec![
        record(0, b"foo", RdbValue::Str(b"bar".to_vec()), None),
        record(0, b"n", RdbValue::Int(12345), Some(1_795_305_812_258)),
        record(0, b"big", RdbValue::Str(vec![b'a'; 300]), None),
    ];
    assert_eq!(records(items), expected);
}

#[test]
fn round_trip_at_any_split() {
    let mut w = RdbWriter::new(Vec::new());
    for r in &sample() {
        w.record(r).expect("write to memory");
    }
    let mut bytes = w.finish().expect("write to memory");
    bytes.extend_from_slice(b"what follows");
    for piece in [1, 2, 3, 13, 1000, bytes.len()] {
        let (items, rest) = read_in_pieces(&bytes, piece).expect("our own bytes");
        assert!(b"what follows".ends_with(&rest[..]) || piece < 12);
        assert_eq!(records(items), sample());
    }
}

#[test]
fn long_lengths_and_large_values() {
    let value = vec![b'z'; 200_000];
    let mut w = RdbWriter::new(Vec::new());
    w.string(70_000, b"large", &value, None).expect("write to memory");
    let bytes = w.finish().expect("write to memory");
    let (items, _) = read_in_pieces(&bytes, 4096).expect("our own bytes");
    assert_eq!(records(items), vec![record(70_000, b"large", RdbValue::Str(value), None)]);
}

#[test]
fn what_is_skipped_and_what_is_refused() {
    let image = |body: &[u8]| [b"VALKEY080", body, &[0xff], &[0; 8]].concat();
    // Slot info, module data, seconds.
    let skipped = [0xf4, 1, 2, 3, 0xf7, 0x81, 0, 0, 0, 0, 0, 0, 0, 9, 2, 2, 5, 1, b'x', 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let body = [&skipped[..], &[0xfd, 1, 0, 0, 0, 0, 1, b'k', 1, b'v']].concat();
    let (items, _) = read_in_pieces(&image(&body), 1).expect("only skippable things");
    assert_eq!(items.last(), Some(&RdbItem::End { summed: false }));
    assert_eq!(records(items), vec![record(0, b"k", RdbValue::Str(b"v".to_vec()), Some(1000))]);
    // Compressed bytes that are to yield nothing: an empty string, as in Valkey, whatever they are.
    let (items, _) = read_in_pieces(&image(&[0, 1, b'k', 0xc3, 2, 0, 0x20, 9]), 1).expect("an empty string");
    assert_eq!(records(items), vec![record(0, b"k", RdbValue::Str(Vec::new()), None)]);
    for (bytes, message) in [
        (b"HELLO0011".to_vec(), "not an RDB file: the magic is missing"),
        (b"REDIS0012".to_vec(), "can't handle RDB format version 0012"),
        (b"VALKEY081".to_vec(), "can't handle RDB format version 081"),
        (image(&[7, 1, b'm', 0]), "unsupported RDB value type 7 (module) for key \"m\""),
        ([b"REDIS0011", &[22, 1, b'h', 0][..]].concat(), "unsupported RDB opcode 22 (of another product)"),
        (image(&[0xf3, 0]), "unsupported RDB opcode 243 (slot-import)"),
        (image(&[100, 0]), "unsupported RDB opcode 100 (unknown)"),
        (image(&[0, 0x82]), "corrupt RDB at byte 11: unknown length encoding"),
        (
            image(&[0, 1, b'k', 0xc3, 3, 0x80, 255, 255, 255, 255, 1, 2, 3]),
            "corrupt RDB at byte 22: invalid LZF compressed string",
        ),
    ] {
        let error = read_in_pieces(&bytes, bytes.len()).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
    let mut damaged = valkey_9();
    damaged[70] ^= 1;
    assert!(matches!(read_in_pieces(&damaged, 64), Err(RdbError::Checksum { .. })));
}

/// Every type's value is found whole, in whatever pieces it comes, and given as it is.
#[test]
fn values_of_other_types_are_handed_on() {
    let mut group = Vec::new();
    let id = [7; 16];
    group.put_string(b"group").expect("memory");
    (0..3).for_each(|n| group.put_len(n * 1000).expect("memory"));
    group.extend_from_slice(&[1]);
    group.extend_from_slice(&[&id[..], &[0; 8], &[4]].concat());
    group.extend_from_slice(&[1, 1, b'c']);
    group.extend_from_slice(&[&[0; 16][..], &[1], &id].concat());
    let stream = [&[1, 2, b'i', b'd', 3, b'l', b'p', b'!'][..], &[1, 2, 3, 4, 5, 6, 7, 8, 1], &group].concat();
    let values = [
        (RdbType::List, vec![2, 1, b'a', 0xc1, 0, 1]),
        (RdbType::ZSet, vec![3, 1, b'a', 254, 1, b'b', 1, b'5', 0, 2, b'-', b'1']),
        (RdbType::ZSet2, [&[1, 1, b'a'][..], &1.5f64.to_le_bytes()].concat()),
        (RdbType::Hash, vec![1, 1, b'f', 1, b'v']),
        (RdbType::Hash2, [&[1, 1, b'f', 1, b'v'][..], &[0xff; 8]].concat()),
        (RdbType::SetListPack, [&[0x40, 100][..], &[9; 100]].concat()),
        (RdbType::ListQuickList2, vec![2, 1, 1, b'a', 2, 0xc3, 3, 0x80, 255, 255, 255, 255, 1, 2, 3]),
        (RdbType::Set, vec![0]),
        (RdbType::Stream3, stream),
    ];
    let mut w = RdbWriter::new_valkey(Vec::new());
    let mut expected = Vec::new();
    for (number, (kind, bytes)) in values.into_iter().enumerate() {
        let mut record = record(0, kind.name().as_bytes(), RdbValue::Raw { kind, bytes }, Some(number as u64));
        (record.idle_s, record.freq) = (Some(number as u64 * 100), Some(7));
        w.record(&record).expect("write to memory");
        expected.push(record);
    }
    expected.push(record(1, b"after", RdbValue::Int(1), None));
    w.int(1, b"after", 1, None).expect("write to memory");
    let bytes = w.finish().expect("write to memory");
    for piece in [1, 2, 5, 64, bytes.len()] {
        let (items, _) = read_in_pieces(&bytes, piece).expect("our own bytes");
        assert_eq!(records(items), expected, "in pieces of {piece}");
    }
}

#[test]
fn any_bytes_are_refused_without_a_panic() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let good = valkey_9();
    for _ in 0..5_000 {
        let mut bytes = good.clone();
        for _ in 0..=random() % 4 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        let _ = read_in_pieces(&bytes, 1 + random() as usize % 50);
        let noise: Vec<u8> = b"REDIS0011".iter().copied().chain((0..random() % 100).map(|_| random() as u8)).collect();
        let _ = read_in_pieces(&noise, 1 + random() as usize % 50);
    }
}

/// Needs `PANDO_PEERS`, a directory with `valkey-server`.
#[test]
fn a_real_valkey_loads_our_file() {
    use std::io::{Read, Write};
    let Some(server) = std::env::var_os("PANDO_PEERS").map(|d| std::path::Path::new(&d).join("valkey-server")) else {
        eprintln!("skipped: PANDO_PEERS is not set");
        return;
    };
    if !server.exists() {
        eprintln!("skipped: no valkey-server in PANDO_PEERS");
        return;
    }
    let dir = std::env::temp_dir().join(format!("pando-rdb-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("temporary directory");
    let mut w = RdbWriter::new(std::fs::File::create(dir.join("dump.rdb")).expect("file"));
    for r in sample().iter().filter(|r| r.expire_at_ms.is_none()) {
        w.record(r).expect("write");
    }
    w.string(0, b"expires", b"later", Some(4_000_000_000_000)).expect("write");
    w.finish().expect("write");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("free port").port();
    let mut child = std::process::Command::new(server)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(&dir)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("valkey-server starts");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let ask = || {
        let mut s = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        s.write_all(b"GET k\r\nGET n\r\nPEXPIRETIME expires\r\nSELECT 3\r\nGET zero-led\r\nDBSIZE\r\nQUIT\r\n").ok()?;
        let mut all = String::new();
        s.read_to_string(&mut all).ok()?;
        (!all.contains("LOADING")).then_some(all)
    };
    let answer = loop {
        match ask() {
            Some(answer) => break Some(answer),
            None if std::time::Instant::now() > deadline => break None,
            None => std::thread::yield_now(),
        }
    };
    child.kill().expect("ours");
    child.wait().expect("ours");
    std::fs::remove_dir_all(&dir).expect("ours");
    let expected = "$1\r\nv\r\n$2\r\n-5\r\n:4000000000000\r\n+OK\r\n$3\r\n007\r\n:3\r\n+OK\r\n";
    assert_eq!(answer.as_deref(), Some(expected));
}

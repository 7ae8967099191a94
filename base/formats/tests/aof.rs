// SPDX-License-Identifier: BSD-3-Clause
//! AOF: golden bytes, any split, torn tails, damage.

use pando_formats::aof::{AofItem, AofReader, Tail, encode_annotation, encode_command, encoded_len};

fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<(Vec<String>, Tail), String> {
    let mut reader = AofReader::new();
    let mut seen = Vec::new();
    let mut raw_all = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        reader.push(piece);
        while let Some(item) = reader.next().map_err(|e| e.to_string())? {
            match item {
                AofItem::Command { args, raw } => {
                    raw_all.extend_from_slice(raw);
                    seen.push(args.iter().map(|a| String::from_utf8_lossy(a)).collect::<Vec<_>>().join(" "));
                }
                AofItem::Annotation { text, raw } => {
                    raw_all.extend_from_slice(raw);
                    seen.push(format!("#{}", String::from_utf8_lossy(text)));
                }
                AofItem::Blank { raw } => raw_all.extend_from_slice(raw),
            }
        }
        assert_eq!(raw_all, bytes[..reader.offset() as usize]);
    }
    Ok((seen, reader.tail()))
}

fn sample() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_command(&mut bytes, &[&b"SET"[..], b"key", b"a value\r\nof two lines"]);
    encode_annotation(&mut bytes, b"TS:1700000000");
    encode_command(&mut bytes, &[&b"APPEND"[..], b"key", &[b'x'; 1234]]);
    encode_command(&mut bytes, &[&b"SET"[..], b"", b""]);
    bytes
}

/// Frozen: a change of these bytes is a change of the format.
#[test]
fn golden_bytes() {
    let mut bytes = Vec::new();
    encode_command(&mut bytes, &[&b"SET"[..], b"k", b"0123456789"]);
    encode_annotation(&mut bytes, b"TS:17");
    assert_eq!(bytes, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123456789\r\n#TS:17\r\n");
    for args in [vec![b"PING".to_vec()], vec![vec![0; 9], vec![], vec![1; 10], vec![2; 100_000]]] {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, &args);
        assert_eq!(encoded_len(&args), bytes.len());
    }
}

#[test]
fn any_split_and_any_torn_tail() {
    let bytes = sample();
    let (expected, tail) = read_in_pieces(&bytes, bytes.len()).expect("our own bytes");
    assert_eq!((expected.len(), tail), (4, Tail::Clean));
    for piece in [1, 2, 7, 100] {
        assert_eq!(read_in_pieces(&bytes, piece), Ok((expected.clone(), Tail::Clean)));
    }
    let mut ends = vec![0];
    let mut reader = AofReader::new();
    reader.push(&bytes);
    while reader.next().expect("our own bytes").is_some() {
        ends.push(reader.offset());
    }
    for cut in 0..bytes.len() {
        let (seen, tail) = read_in_pieces(&bytes[..cut], 64).expect("a prefix is never wrong");
        let record_at = *ends.iter().rfind(|end| **end <= cut as u64).expect("0 at least");
        let torn = if record_at == cut as u64 { Tail::Clean } else { Tail::Torn { record_at } };
        assert_eq!(tail, torn, "{cut}");
        assert_eq!(seen[..], expected[..seen.len()]);
    }
}

#[test]
fn damage_is_named_with_its_place() {
    for (bytes, message) in [
        (&b"*1\r\n$4\r\nPING\r\nSET a b\r\n"[..], "bad AOF format at byte 14: expected '*' or '#'"),
        (b"*x\r\n", "bad AOF format at byte 0: expected a number"),
        (b"*0\r\n", "bad AOF format at byte 0: empty command"),
        (b"*1\r\n:4\r\n", "bad AOF format at byte 0: expected '$'"),
        (b"*1\r\n$4\r\nPINGxx", "bad AOF format at byte 0: argument is not followed by a line break"),
        (b"*1\r\n$99999999999999999999\r\n", "bad AOF format at byte 0: number out of range"),
        (b"*1\rx", "bad AOF format at byte 0: expected a line break"),
        (b"*-1\r\n", "bad AOF format at byte 0: expected a number"),
    ] {
        assert_eq!(read_in_pieces(bytes, bytes.len()).expect_err(message), message);
    }
}

#[test]
fn any_bytes_do_not_panic() {
    let mut seed = 88_172_645_463_325_252_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..5_000 {
        let mut bytes = sample();
        for _ in 0..=random() % 4 {
            let at = random() as usize % bytes.len();
            bytes[at] = b"\r\n*$#0159x"[random() as usize % 10];
        }
        let _ = read_in_pieces(&bytes, 1 + random() as usize % 50);
    }
}

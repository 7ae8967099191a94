// SPDX-License-Identifier: BSD-3-Clause
//! Seeded generators: each family's commands with plausible, awkward and wrong arguments.

use crate::Words;

/// A small deterministic generator (splitmix64): the same seed gives the same commands on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

const KEYS: &[&str] = &["a", "b", "c", "{t}1", "{t}2", "", "k:1", "k:2"];
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "10",
    "007",
    "1.5",
    "-0.25",
    "3.0e3",
    "abc",
    "hello world",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1e400",
    "nan",
    "inf",
    "  1",
    "\u{7f}\u{80}",
    "a long value that is beyond the forty-four bytes of an embedded string",
];
const INTEGERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "5",
    "7",
    "8",
    "31",
    "32",
    "63",
    "64",
    "100",
    "-5",
    "-100",
    "9223372036854775807",
    "-9223372036854775808",
    "x",
    "",
    "1.5",
    "4294967296",
];
/// Never so short that a key could expire on one server before the other is asked.
const SECONDS: &[&str] = &["0", "60", "-1", "100", "1000", "9223372036854775807", "x", "9223372036854775"];
const MILLISECONDS: &[&str] = &["0", "60000", "-1", "100000", "9223372036854775807", "x", "9223372036854775"];
const OFFSETS: &[&str] = &["0", "1", "7", "8", "15", "100", "-1", "-2", "-100", "1000", "x"];

/// A pattern of one command: literal words and places that are filled in.
///
/// `K` a key, `V` a value, `N` an integer, `S` a time in seconds, `M` one in milliseconds, `O` an offset, `B` a bit; `[a|b|]` one of these or nothing.
const STRINGS: &[&str] = &[
    "SET K V",
    "SET K V [NX|XX|GET|KEEPTTL|IFEQ V|]",
    "SET K V [EX S|PX M|EXAT S|PXAT S|] [NX|XX|GET|KEEPTTL|]",
    "SET K V [GET|] [NX|XX|] [EX S|]",
    "GET K",
    "GETSET K V",
    "GETDEL K",
    "GETEX K",
    "GETEX K [EX S|PX M|PERSIST|EXAT S|PXAT S]",
    "SETNX K V",
    "SETEX K S V",
    "PSETEX K M V",
    "MSET K V K V",
    "MSET K V K",
    "MSETNX K V K V",
    "MGET K K K",
    "APPEND K V",
    "STRLEN K",
    "SETRANGE K O V",
    "GETRANGE K N N",
    "SUBSTR K N N",
    "INCR K",
    "DECR K",
    "INCRBY K N",
    "DECRBY K N",
    "INCRBYFLOAT K V",
    "LCS K K",
    "LCS K K [LEN|IDX|IDX WITHMATCHLEN|IDX MINMATCHLEN N|LEN IDX]",
    "DELIFEQ K V",
    "MSETEX 2 K V K V [NX|XX|] [EX S|PX M|KEEPTTL|]",
    "MSETEX N K V",
    "SET K",
    "GET",
    "GET K K",
];
const BITMAPS: &[&str] = &[
    "SETBIT K O B",
    "GETBIT K O",
    "BITCOUNT K",
    "BITCOUNT K N N",
    "BITCOUNT K N N [BIT|BYTE|bit|x]",
    "BITCOUNT K N",
    "BITPOS K B",
    "BITPOS K B N",
    "BITPOS K B N N",
    "BITPOS K B N N [BIT|BYTE]",
    "BITOP [AND|OR|XOR|NOT|x] K K",
    "BITOP [AND|OR|XOR] K K K K",
    "BITFIELD K GET [u8|i8|i64|u63|u64|i1|x] O",
    "BITFIELD K SET [u8|i5|i64] [O|#O] N",
    "BITFIELD K INCRBY [u2|i3|i64|u63] [O|#O] N",
    "BITFIELD K OVERFLOW [WRAP|SAT|FAIL|x] INCRBY [u2|i8|i64] O N GET u4 0",
    "BITFIELD_RO K GET u8 O GET i4 #1",
    "BITFIELD_RO K SET u8 0 1",
    "SET K V",
    "GET K",
    "APPEND K V",
];
const GENERIC: &[&str] = &[
    "SET K V",
    "SET K V EX S",
    "DEL K",
    "DEL K K K",
    "UNLINK K K",
    "EXISTS K K",
    "TOUCH K K",
    "TYPE K",
    "EXPIRE K S",
    "EXPIRE K S [NX|XX|GT|LT|NX XX|GT LT|x]",
    "PEXPIRE K M",
    "EXPIREAT K S",
    "PEXPIREAT K S",
    "TTL K",
    "PTTL K",
    "EXPIRETIME K",
    "PEXPIRETIME K",
    "PERSIST K",
    "RENAME K K",
    "RENAMENX K K",
    "COPY K K",
    "COPY K K [REPLACE|DB 1|DB 99|DB x|REPLACE REPLACE]",
    "MOVE K [0|1|2|99|x]",
    "KEYS [*|a*|?|k:*|[ab]|\\*|]",
    "DBSIZE",
    "SELECT [0|1|15|16|x|-1]",
    "OBJECT ENCODING K",
    "OBJECT REFCOUNT K",
    "OBJECT HELP",
    "OBJECT x K",
    "OBJECT ENCODING",
    "FLUSHDB",
    "FLUSHDB [ASYNC|SYNC|x]",
    "SWAPDB [0|1|99|x] [1|0|2]",
    "GET K",
    "SCAN x",
    "SCAN 0 COUNT 0",
    "SCAN 0 COUNT x",
    "SCAN 0 MATCH",
    "ECHO V",
    "PING",
    "PING V",
    "PING V V",
    "NOSUCH K V",
    "APPEND K V",
];
const TRANSACTIONS: &[&str] = &[
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH K",
    "WATCH K K",
    "UNWATCH",
    "SET K V",
    "INCR K",
    "GET K",
    "GET",
    "NOSUCH",
    "MGET K K",
    "DEL K",
    "EXPIRE K S",
    "SELECT [0|1]",
    "FLUSHDB",
    "DBSIZE",
    "SWAPDB 0 1",
    "PING",
    "WATCH",
];

/// The families by name.
pub const FAMILIES: &[(&str, &[&str])] =
    &[("strings", STRINGS), ("bitmaps", BITMAPS), ("generic", GENERIC), ("transactions", TRANSACTIONS)];

/// `count` commands of a family.
pub fn sequence(family: &[&str], seed: u64, count: usize) -> Vec<Words> {
    let mut random = Random::new(seed);
    (0..count).map(|_| fill(family[random.below(family.len())], &mut random)).collect()
}

fn fill(pattern: &str, random: &mut Random) -> Words {
    let mut words = Words::new();
    let mut rest = pattern;
    while let Some(word) = next_word(&mut rest) {
        match word.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(choices) if choices.contains('|') => {
                let choices: Vec<&str> = choices.split('|').collect();
                let chosen = random.one(&choices);
                words.extend(chosen.split_whitespace().map(|word| place(word, random)));
            }
            _ => words.push(place(word, random)),
        }
    }
    // Command names and options in mixed case now and then.
    if random.below(16) == 0 {
        words[0] = words[0].to_ascii_lowercase();
    }
    words
}

/// The next word, where everything within brackets is one word.
fn next_word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    *rest = rest.trim_start();
    if rest.is_empty() {
        return None;
    }
    let end = if rest.starts_with('[') {
        let close = rest.find("] ").map_or(rest.len(), |at| at + 1);
        close.min(rest.len())
    } else {
        rest.find(' ').unwrap_or(rest.len())
    };
    let (word, after) = rest.split_at(end);
    *rest = after;
    Some(word)
}

fn place(word: &str, random: &mut Random) -> Vec<u8> {
    let filled = match word {
        "K" => random.one(KEYS),
        "V" => random.one(VALUES),
        "N" => random.one(INTEGERS),
        "S" => random.one(SECONDS),
        "M" => random.one(MILLISECONDS),
        "O" => random.one(OFFSETS),
        "#O" => return format!("#{}", random.one(&["0", "1", "3", "100"])).into_bytes(),
        "B" => random.one(&["0", "1", "1", "2", "x"]),
        literal => literal,
    };
    filled.as_bytes().to_vec()
}

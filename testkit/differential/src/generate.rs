// SPDX-License-Identifier: BSD-3-Clause
//! Seeded generators: each family's commands with plausible, awkward and wrong arguments.

use crate::families::Family;
use crate::{Words, words};

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

/// `count` commands of a family.
pub fn sequence(family: &Family, seed: u64, count: usize) -> Vec<Words> {
    let mut random = Random::new(seed);
    let drawn = (0..count).map(|_| fill(family, family.patterns[random.below(family.patterns.len())], &mut random));
    family.setup.iter().map(|line| words(line)).chain(drawn).collect()
}

fn fill(family: &Family, pattern: &str, random: &mut Random) -> Words {
    let mut words = Words::new();
    let mut rest = pattern;
    while let Some(word) = next_word(&mut rest) {
        match word.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(choices) if choices.contains('|') => {
                let choices: Vec<&str> = choices.split('|').collect();
                let chosen = random.one(&choices);
                words.extend(chosen.split_whitespace().map(|word| place(family, word, random)));
            }
            _ => words.push(place(family, word, random)),
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

fn place(family: &Family, word: &str, random: &mut Random) -> Vec<u8> {
    if let Some((_, choices)) = family.places.iter().find(|(name, _)| *name == word) {
        return random.one(choices).as_bytes().to_vec();
    }
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

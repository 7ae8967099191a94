// SPDX-License-Identifier: BSD-3-Clause
//! The same commands to Pando and to a real Valkey 9.1.2, replies compared.
//!
//! Commands come from seeded generators ([`generate`] from the patterns in [`families`]) or are written by hand; [`run`] sends them and, when replies differ,
//! shortens the sequence to a minimal one. What may differ, and why, is a short list in [`explained`].

pub mod explained;
pub mod families;
pub mod generate;
pub mod run;

/// One command: its words.
pub type Words = Vec<Vec<u8>>;

/// A command for reading: words in quotes where they need them.
pub fn show(words: &Words) -> String {
    let word = |word: &Vec<u8>| {
        let text = String::from_utf8_lossy(word).escape_debug().to_string();
        let plain = !text.is_empty() && !text.contains([' ', '"', '\\']);
        if plain { text } else { format!("\"{text}\"") }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Splits a line of text into a command; words are separated by blanks, quotes hold a word together.
pub fn words(line: &str) -> Words {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quoted = false;
    for byte in line.bytes() {
        match byte {
            b'"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            b' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

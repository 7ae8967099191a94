// SPDX-License-Identifier: BSD-3-Clause
//! Names of types and encodings, and Valkey's rule for how a string is encoded.
//!
//! Not here: how many bytes an encoding takes in memory. Called by the keyspace when it stores a string and by
//! `OBJECT ENCODING` and `TYPE`.

use crate::number::parse_canonical_i64;

/// Whether Valkey 9.1 would embed the value in the object of its key: header, key, TTL and value fit into 128 bytes.
/// Its string headers take two bytes more from keys of 32 bytes on.
#[inline]
pub const fn is_embstr(key_len: usize, value_len: usize, has_ttl: bool) -> bool {
    let room = if key_len < 32 { 113 } else { 111 } - if has_ttl { 8 } else { 0 };
    key_len + value_len <= room
}

/// The type of a value, as `TYPE` names it.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum ValueType {
    /// A string or integer.
    String = 0,
    /// A list.
    List = 1,
    /// A set.
    Set = 2,
    /// A sorted set.
    ZSet = 3,
    /// A hash.
    Hash = 4,
    /// A stream.
    Stream = 5,
}

impl ValueType {
    /// The name that `TYPE` replies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::ZSet => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
        }
    }

    /// The type whose discriminant is `code`.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::String,
            1 => Self::List,
            2 => Self::Set,
            3 => Self::ZSet,
            4 => Self::Hash,
            5 => Self::Stream,
            _ => return None,
        })
    }
}

/// The encoding of a value, as `OBJECT ENCODING` names it.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[repr(u8)]
pub enum Encoding {
    /// A string that is the canonical text of an `i64`.
    Int = 0,
    /// A short string that was set as a whole.
    EmbStr = 1,
    /// A long string, or one that was edited in place.
    Raw = 2,
    /// A packed list of small elements.
    ListPack = 3,
    /// A list of packed nodes.
    QuickList = 4,
    /// A sorted array of integers.
    IntSet = 5,
    /// A hash table.
    HashTable = 6,
    /// A sorted set's index.
    SkipList = 7,
    /// A stream.
    Stream = 8,
}

impl Encoding {
    /// The name that `OBJECT ENCODING` replies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::EmbStr => "embstr",
            Self::Raw => "raw",
            Self::ListPack => "listpack",
            Self::QuickList => "quicklist",
            Self::IntSet => "intset",
            Self::HashTable => "hashtable",
            Self::SkipList => "skiplist",
            Self::Stream => "stream",
        }
    }

    /// The encoding whose discriminant is `code`.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Int,
            1 => Self::EmbStr,
            2 => Self::Raw,
            3 => Self::ListPack,
            4 => Self::QuickList,
            5 => Self::IntSet,
            6 => Self::HashTable,
            7 => Self::SkipList,
            8 => Self::Stream,
            _ => return None,
        })
    }
}

/// What the writer of a string wants for its encoding.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum StrHint {
    /// Valkey's rule: `int`, `embstr` or `raw` by content and length.
    #[default]
    Auto,
    /// As `Auto`, but never `int`.
    Text,
    /// `raw` whatever the content: the value was edited in place.
    Raw,
}

/// How a string is to be stored.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum StrForm {
    /// As this integer.
    Int(i64),
    /// As its bytes, under this encoding (`EmbStr` or `Raw`).
    Bytes(Encoding),
}

/// Valkey's choice of an encoding for the string `value` under a key of `key_len` bytes.
#[inline]
pub fn encode_str(value: &[u8], hint: StrHint, key_len: usize, has_ttl: bool) -> StrForm {
    match hint {
        StrHint::Raw => StrForm::Bytes(Encoding::Raw),
        StrHint::Auto | StrHint::Text => match parse_canonical_i64(value).filter(|_| hint == StrHint::Auto) {
            Some(int) => StrForm::Int(int),
            None if is_embstr(key_len, value.len(), has_ttl) => StrForm::Bytes(Encoding::EmbStr),
            None => StrForm::Bytes(Encoding::Raw),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, hint: StrHint, expected: StrForm) {
        assert_eq!(encode_str(value.as_bytes(), hint, 16, false), expected, "{value:?} {hint:?}");
    }

    #[test]
    fn strings_get_valkeys_encodings() {
        use Encoding::{EmbStr, Raw};
        check("12", StrHint::Auto, StrForm::Int(12));
        check("-9223372036854775808", StrHint::Auto, StrForm::Int(i64::MIN));
        check("9223372036854775808", StrHint::Auto, StrForm::Bytes(EmbStr));
        check("012", StrHint::Auto, StrForm::Bytes(EmbStr));
        check("", StrHint::Auto, StrForm::Bytes(EmbStr));
        check(&"x".repeat(97), StrHint::Auto, StrForm::Bytes(EmbStr));
        check(&"x".repeat(98), StrHint::Auto, StrForm::Bytes(Raw));
        check("12", StrHint::Raw, StrForm::Bytes(Raw));
        check("12", StrHint::Text, StrForm::Bytes(EmbStr));
    }

    /// Longest embedded values that valkey-server 9.1.2 reported, by length of the key.
    #[test]
    fn the_limit_of_embstr_is_valkeys() {
        for (key_len, plain, with_ttl) in [(1, 112, 104), (16, 97, 89), (31, 82, 74), (32, 79, 71), (100, 11, 3)] {
            for (has_ttl, longest) in [(false, plain), (true, with_ttl)] {
                assert!(is_embstr(key_len, longest, has_ttl), "{key_len} {has_ttl}");
                assert!(!is_embstr(key_len, longest + 1, has_ttl), "{key_len} {has_ttl}");
            }
        }
    }

    #[test]
    fn codes_round_trip() {
        for code in 0..=255u8 {
            if let Some(type_) = ValueType::from_code(code) {
                assert_eq!(type_ as u8, code);
            }
            if let Some(encoding) = Encoding::from_code(code) {
                assert_eq!(encoding as u8, code);
            }
        }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Newtype ids and counters. Their text form is the one clients see (40 lower-case hex digits).
//! Randomness is handed in (`from_bytes`): this crate has none.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// A text that is not an id: 40 hex digits (64 of a [`NodeKey`]).
#[derive(Debug, Clone, Copy, Eq, PartialEq, thiserror::Error)]
#[error("an id is 40 hex digits")]
pub struct ParseIdError;

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    fn digit(byte: u8) -> Result<u8, ParseIdError> {
        (byte as char).to_digit(16).map(|d| d as u8).ok_or(ParseIdError)
    }
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return Err(ParseIdError);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

/// Accepts what both kinds of format produce: hex text, raw bytes, or a sequence of numbers.
struct IdVisitor<const N: usize>;

impl<'de, const N: usize> de::Visitor<'de> for IdVisitor<N> {
    type Value = [u8; N];
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an id of {N} bytes or {} hex digits", 2 * N)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<[u8; N], E> {
        parse_hex(text).map_err(E::custom)
    }
    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<[u8; N], A::Error> {
        let mut bytes = [0; N];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(at, &self))?;
        }
        Ok(bytes)
    }
}

/// The first eight bytes as a number that is ordered as they are.
fn beginning(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Copy, Clone, Eq, PartialEq, Hash)]
        pub struct $name([u8; $len]);

        // The order of the bytes. Ids are random, so their beginnings nearly always decide: maps of thousands of
        // them are searched without calling a function for each comparison.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                beginning(&self.0).cmp(&beginning(&other.0)).then_with(|| self.0.cmp(&other.0))
            }
        }
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The id made of these bytes; for a new id the caller hands in random ones.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
            /// The id made of random bytes, drawn with `fill` (no randomness of its own here).
            pub fn random(fill: impl FnOnce(&mut [u8])) -> Self {
                let mut bytes = [0; $len];
                fill(&mut bytes);
                Self(bytes)
            }
            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0u8; 2 * $len];
                for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
                    pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
                    pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
                }
                f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_bytes(&self.0) }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() { d.deserialize_str(IdVisitor) } else { d.deserialize_bytes(IdVisitor) }.map(Self)
            }
        }
    };
}

id! {
    /// Identity of a node; survives restarts, never reused.
    NodeId, 20
}
id! {
    /// Identity of a shard (a primary with its replicas); survives changes of its primary.
    ShardId, 20
}
id! {
    /// Identity of a cluster; drawn when its first root starts it.
    ClusterId, 20
}
id! {
    /// Public half of the key by which a node proves that it is the one with its id (Ed25519).
    NodeKey, 32
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The value before any other.
            pub const ZERO: $name = $name(0);
            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

counter! {
    /// Index in the roots' log of the last change to the map.
    TopologyVersion
}
counter! {
    /// One process start of a node. A later start has a larger number (unix time of the start in
    /// nanoseconds, raised above the last one recorded). Zero: not known.
    Incarnation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        let text = "00ff0123456789abcdef0123456789abcdef0123";
        let id: NodeId = text.parse().expect("40 digits");
        assert_eq!(id.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        for bad in ["", "00", &text[1..], &format!("{text}0"), &text.replace('f', "g")] {
            assert_eq!(bad.parse::<NodeId>(), Err(ParseIdError), "{bad}");
        }
        let json = serde_json::to_string(&id).expect("json");
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<NodeId>(&json).expect("json"), id);
        let packed = rmp_serde::to_vec(&id).expect("msgpack");
        assert_eq!(packed.len(), 22);
        assert_eq!(rmp_serde::from_slice::<NodeId>(&packed).expect("msgpack"), id);
    }
}

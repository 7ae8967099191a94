// SPDX-License-Identifier: BSD-3-Clause
//! A slot: one of 16384, the unit of locking, of ownership and of moving. Also the function from
//! key to slot: CRC16 (XMODEM) of the key or of its hash tag, modulo 16384.
//!
//! The checksum is on the path of every command, so it takes eight bytes per step
//! (slicing-by-8: eight tables, generated at compile time, 4 KiB together).

use serde::{Deserialize, Serialize};
use std::fmt;

/// How many slots there are, in every mode.
pub const SLOT_COUNT: usize = 16384;

const _: () = assert!(SLOT_COUNT.is_power_of_two() && SLOT_COUNT <= 1 << 16);

/// One of the 16384 slots. Always below [`SLOT_COUNT`].
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Slot(u16);

impl Slot {
    /// The first slot.
    pub const MIN: Slot = Slot(0);
    /// The last slot.
    pub const MAX: Slot = Slot(SLOT_COUNT as u16 - 1);

    /// The slot with this number, if there is one.
    pub const fn new(number: u16) -> Option<Slot> {
        if (number as usize) < SLOT_COUNT { Some(Slot(number)) } else { None }
    }

    /// The slot of a key, by the rules of Valkey: if the key has a non-empty `{tag}`, only the first
    /// such tag is hashed.
    pub fn of_key(key: &[u8]) -> Slot {
        Slot(crc16(hash_tag(key)) & (SLOT_COUNT as u16 - 1))
    }

    /// The number as an index into an array of [`SLOT_COUNT`] entries.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The number as clients see it.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The slot after this one.
    pub const fn next(self) -> Option<Slot> {
        Slot::new(self.0 + 1)
    }

    /// The slot before this one.
    pub const fn previous(self) -> Option<Slot> {
        if self.0 == 0 { None } else { Some(Slot(self.0 - 1)) }
    }

    /// All slots, ascending.
    pub fn all() -> impl DoubleEndedIterator<Item = Slot> + ExactSizeIterator {
        (0..SLOT_COUNT as u16).map(Slot)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> u16 {
        slot.0
    }
}

impl TryFrom<u16> for Slot {
    type Error = &'static str;
    fn try_from(number: u16) -> Result<Slot, Self::Error> {
        Slot::new(number).ok_or("slot number out of range")
    }
}

/// Whether there is a `{`. Eight bytes at a time, because nearly all keys have none.
#[inline]
fn has_open_brace(key: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & TOPS != 0;
    let (words, rest) = key.as_chunks::<8>();
    words.iter().any(|word| has_zero(u64::from_ne_bytes(*word) ^ u64::from_ne_bytes([b'{'; 8]))) || rest.contains(&b'{')
}

/// The part of a key that decides its slot.
fn hash_tag(key: &[u8]) -> &[u8] {
    if !has_open_brace(key) {
        return key;
    }
    let Some(open) = key.iter().position(|b| *b == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|b| *b == b'}') {
        // `{}` is no tag: the whole key counts.
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

const POLYNOMIAL: u16 = 0x1021;

/// `TABLES[k][b]` is the checksum of byte `b` followed by `k` zero bytes.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ POLYNOMIAL } else { crc << 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = (before << 8) ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

/// CRC16 XMODEM (polynomial 0x1021, start 0, not reflected), the checksum of the cluster
/// specification.
pub fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let mut chunks = bytes.chunks_exact(8);
    for c in &mut chunks {
        crc = TABLES[7][usize::from(c[0] ^ (crc >> 8) as u8)]
            ^ TABLES[6][usize::from(c[1] ^ crc as u8)]
            ^ TABLES[5][usize::from(c[2])]
            ^ TABLES[4][usize::from(c[3])]
            ^ TABLES[3][usize::from(c[4])]
            ^ TABLES[2][usize::from(c[5])]
            ^ TABLES[1][usize::from(c[6])]
            ^ TABLES[0][usize::from(c[7])];
    }
    for byte in chunks.remainder() {
        crc = (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crc16_bit_by_bit(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0u16, |mut crc, byte| {
            crc ^= u16::from(*byte) << 8;
            for _ in 0..8 {
                crc = if crc & 0x8000 != 0 { (crc << 1) ^ POLYNOMIAL } else { crc << 1 };
            }
            crc
        })
    }

    #[test]
    fn checksum_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn slots_of_keys_are_those_of_valkey() {
        // Read from CLUSTER KEYSLOT of Valkey 9.1.2.
        for (key, slot) in [
            ("", 0),
            ("foo", 12182),
            ("bar", 5061),
            ("a", 15495),
            ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
            ("foo{bar", 15278),
        ] {
            assert_eq!(Slot::of_key(key.as_bytes()).number(), slot, "{key}");
        }
    }

    #[test]
    fn only_numbers_below_the_count_are_slots() {
        assert_eq!(Slot::new(16383), Some(Slot::MAX));
        assert_eq!(Slot::new(16384), None);
        assert_eq!(Slot::MAX.next(), None);
        assert_eq!(Slot::MIN.previous(), None);
        assert_eq!(Slot::all().count(), SLOT_COUNT);
        assert!(serde_json::from_str::<Slot>("16384").is_err());
    }

    proptest! {
        #[test]
        fn eight_at_a_time_equals_bit_by_bit(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(crc16(&bytes), crc16_bit_by_bit(&bytes));
        }
    }
}

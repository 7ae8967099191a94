// SPDX-License-Identifier: BSD-3-Clause
//! Finding an entry of a `Dict` by 32 bits of its key's hash: four bytes that stand for a key where the key itself would be
//! too long, as in a hash's record of what falls due.
//!
//! A digest holds a key's tag and the bits of its hash that choose the segment, so looking one up costs what a lookup by
//! key costs. Called by `hash`.

use super::{Dict, hash_of, split, tag_of};

/// Bits of the hash that a digest has for the segment.
const SEGMENT_BITS: u32 = 24;
const SEGMENT_MASK: u64 = (1 << SEGMENT_BITS) - 1;

/// Stands for a key within this process.
#[inline]
pub fn digest(key: &[u8]) -> u32 {
    let hash = hash_of(key);
    u32::from(tag_of(hash)) << SEGMENT_BITS | (hash & SEGMENT_MASK) as u32
}

impl<const WIDTH: usize> Dict<WIDTH> {
    /// The key of an entry with this digest that `is_it`; others may share the digest.
    pub fn find_digest(&self, digest: u32, mut is_it: impl FnMut(&[u8], &[u8]) -> bool) -> Option<&[u8]> {
        if self.len == 0 {
            return None;
        }
        let (tag, low) = ((digest >> SEGMENT_BITS) as u8, u64::from(digest) & SEGMENT_MASK);
        // With more segments than the digest has bits for, each that it may mean.
        for high in 0..=(self.segments.len() as u64 - 1) >> SEGMENT_BITS {
            let segment = self.segments.get(self.segment_of(high << SEGMENT_BITS | low));
            let place = segment.find(tag, |stored| {
                let (key, value) = split::<WIDTH>(self.entry(stored));
                is_it(key, value)
            });
            if let Some(place) = place {
                return Some(split::<WIDTH>(self.entry(segment.stored(place))).0);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::digest;
    use crate::dict::FieldDict;

    #[test]
    fn every_key_is_found_by_its_digest() {
        let mut dict = FieldDict::new();
        assert_eq!(dict.find_digest(digest(b"a"), |_, _| true), None);
        let keys: Vec<String> = (0..20_000).map(|n| "x".repeat(n % 300) + &n.to_string()).collect();
        for (n, key) in keys.iter().enumerate() {
            dict.insert(key.as_bytes(), &n.to_le_bytes());
            let other = &keys[n / 2];
            let found = dict.find_digest(digest(other.as_bytes()), |_, value| value == (n / 2).to_le_bytes());
            assert_eq!(found, Some(other.as_bytes()));
        }
        assert!(keys.iter().all(|key| dict.find_digest(digest(key.as_bytes()), |_, _| false).is_none()));
    }
}

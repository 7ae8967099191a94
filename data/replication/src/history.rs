// SPDX-License-Identifier: BSD-3-Clause
//! Which stream the bytes of the log belong to: the replication id, and the one before the last promotion.
//!
//! A node that asks for a partial resync names the id and offset of its stream; it fits if that is our stream, or was
//! ours up to the point at which we left it. Pure; used by both sides.

use std::fmt;

/// A replication id: 40 hexadecimal characters.
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct ReplId([u8; 40]);

impl ReplId {
    /// What INFO shows where there is no id.
    pub const NONE: ReplId = ReplId([b'0'; 40]);

    /// A new stream's id.
    pub fn random() -> ReplId {
        let mut id = [0u8; 40];
        for (byte, random) in id.iter_mut().zip(rand::random::<[u8; 20]>().iter().flat_map(|b| [b >> 4, b & 15])) {
            *byte = b"0123456789abcdef"[usize::from(random)];
        }
        ReplId(id)
    }

    /// Reads an id as it was received.
    pub fn parse(text: &[u8]) -> Option<ReplId> {
        Some(ReplId(text.try_into().ok()?))
    }

    /// The characters.
    pub fn as_bytes(&self) -> &[u8; 40] {
        &self.0
    }
}

impl fmt::Display for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for ReplId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// See the head of this file.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct History {
    /// The stream that the log continues.
    pub replid: ReplId,
    /// The stream that it continued before.
    pub replid2: ReplId,
    /// First byte (counted from 1, as in PSYNC) that is not of `replid2` any more; -1 without a `replid2`.
    pub second_offset: i64,
}

impl History {
    /// A new stream.
    pub fn new() -> History {
        History { replid: ReplId::random(), replid2: ReplId::NONE, second_offset: -1 }
    }

    /// The stream of a primary, after a full sync.
    pub fn of(replid: ReplId) -> History {
        History { replid, replid2: ReplId::NONE, second_offset: -1 }
    }

    /// The stream goes on under another id: after a promotion, or because the primary's has.
    pub fn shifted_to(self, replid: ReplId, offset: u64) -> History {
        History { replid, replid2: self.replid, second_offset: offset as i64 + 1 }
    }

    /// Whether a replica with this id, which asks for the byte `next` (counted from 1), has our bytes so far.
    pub fn shares(&self, replid: &[u8], next: i64) -> bool {
        replid == self.replid.as_bytes() || (replid == self.replid2.as_bytes() && next <= self.second_offset)
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{History, ReplId};

    #[test]
    fn the_old_id_counts_up_to_the_promotion() {
        let old = History::new();
        let new = old.shifted_to(ReplId::random(), 100);
        let (a, b) = (*old.replid.as_bytes(), *new.replid.as_bytes());
        for (id, next, expected) in
            [(&a, 1, true), (&a, 101, true), (&a, 102, false), (&b, 5000, true), (&[b'x'; 40], 1, false)]
        {
            assert_eq!(new.shares(id, next), expected, "{next}");
        }
        assert!(!old.shares(ReplId::NONE.as_bytes(), 1));
    }
}

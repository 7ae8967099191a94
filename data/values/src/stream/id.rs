// SPDX-License-Identifier: BSD-3-Clause
//! The id of a stream's entry: milliseconds and a sequence number.
//!
//! Not here: the forms in which clients write ids (`*`, `(1-0`, `5-*`). Called by everything about streams.

/// See the head of this file. Ordered as entries are.
#[derive(Copy, Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId {
    /// Unix milliseconds, or whatever the client chose.
    pub ms: u64,
    /// Number within the millisecond.
    pub seq: u64,
}

/// Room for an id's text.
pub type StreamIdText = [u8; 41];

impl StreamId {
    /// The smallest id, which no entry has.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The largest id.
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    /// The id of `ms` and `seq`.
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// Whether this is `0-0`.
    #[inline]
    pub fn is_zero(&self) -> bool {
        *self == StreamId::MIN
    }

    /// The id after this one; `None` after the largest.
    #[inline]
    pub fn next(self) -> Option<StreamId> {
        match (self.seq.checked_add(1), self.ms.checked_add(1)) {
            (Some(seq), _) => Some(StreamId { ms: self.ms, seq }),
            (None, Some(ms)) => Some(StreamId { ms, seq: 0 }),
            (None, None) => None,
        }
    }

    /// The id before this one; `None` before the smallest.
    #[inline]
    pub fn prev(self) -> Option<StreamId> {
        match (self.seq.checked_sub(1), self.ms.checked_sub(1)) {
            (Some(seq), _) => Some(StreamId { ms: self.ms, seq }),
            (None, Some(ms)) => Some(StreamId { ms, seq: u64::MAX }),
            (None, None) => None,
        }
    }

    /// The id as `ms-seq`, written to `text`.
    #[inline]
    pub fn text<'a>(&self, text: &'a mut StreamIdText) -> &'a [u8] {
        let (mut ms, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (ms, seq) = (ms.format(self.ms).as_bytes(), seq.format(self.seq).as_bytes());
        let len = ms.len() + 1 + seq.len();
        text[..ms.len()].copy_from_slice(ms);
        text[ms.len()] = b'-';
        text[ms.len() + 1..len].copy_from_slice(seq);
        &text[..len]
    }

    /// Sixteen bytes that sort as the ids do: RDB files and radix trees use them.
    pub fn to_be_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ms.to_be_bytes());
        bytes[8..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    /// The inverse of [`StreamId::to_be_bytes`].
    pub fn from_be_bytes(bytes: [u8; 16]) -> StreamId {
        let whole = u128::from_be_bytes(bytes);
        StreamId { ms: (whole >> 64) as u64, seq: whole as u64 }
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_text() {
        for (id, next, text) in [
            (StreamId::MIN, Some(StreamId::new(0, 1)), "0-0"),
            (StreamId::new(5, u64::MAX), Some(StreamId::new(6, 0)), "5-18446744073709551615"),
            (StreamId::MAX, None, "18446744073709551615-18446744073709551615"),
        ] {
            assert_eq!(id.next(), next);
            assert_eq!(id.text(&mut [0; 41]), text.as_bytes());
            assert_eq!(id.to_string(), text);
            assert_eq!(next.and_then(StreamId::prev), next.map(|_| id));
            assert_eq!(StreamId::from_be_bytes(id.to_be_bytes()), id);
        }
        assert_eq!(StreamId::MIN.prev(), None);
    }
}

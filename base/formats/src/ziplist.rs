// SPDX-License-Identifier: BSD-3-Clause
//! The ziplist, in which Valkey up to 6.2 packed small lists, hashes and sorted sets: validated, then iterated. Read only.
//!
//! ```text
//! u32 bytes · u32 offset of the last entry · u16 entries (65535: count them) · entries · ff
//! entry: length of the one before (1 byte, or fe + u32) · encoding · payload        (all little-endian but where said)
//! ```
//! Called by the decoder of values in RDB images and DUMP payloads.

use crate::packed::{Damaged, Element};

const HEADER: usize = 10;
const END: u8 = 0xff;
const LONG: u8 = 0xfe;

/// A ziplist whose every entry was checked.
#[derive(Copy, Clone, Debug)]
pub struct ZipList<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> ZipList<'a> {
    /// Checks header, every entry with the length it gives for the one before, the offset of the last and the count.
    pub fn parse(bytes: &'a [u8]) -> Result<ZipList<'a>, Damaged> {
        let (header, end) = (bytes.get(..HEADER).ok_or(Damaged)?, bytes.len() - 1);
        let total = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let tail = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let count = u16::from_le_bytes([header[8], header[9]]);
        if bytes.len() <= HEADER || total as usize != bytes.len() || bytes[end] != END || tail as usize > end {
            return Err(Damaged);
        }
        let (mut at, mut len, mut last) = (HEADER, 0, None);
        let mut before = 0;
        while at < end {
            // An end mark in the middle is no entry.
            let entry = entry(&bytes[..end], at).filter(|entry| entry.before == before).ok_or(Damaged)?;
            last = Some(at);
            before = entry.next - at;
            at = entry.next;
            len += 1;
        }
        let counted = count == u16::MAX || usize::from(count) == len;
        if !counted || last.is_some_and(|last| last != tail as usize) {
            return Err(Damaged);
        }
        Ok(ZipList { bytes, len })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = Element<'a>> + use<'a> {
        let body = &self.bytes[..self.bytes.len() - 1];
        let mut at = HEADER;
        std::iter::from_fn(move || {
            let entry = entry(body, at)?;
            at = entry.next;
            Some(entry.element)
        })
    }
}

struct Entry<'a> {
    /// What it says of the length of the entry before.
    before: usize,
    element: Element<'a>,
    next: usize,
}

/// The entry at `at`; `bytes` ends before the end mark.
fn entry(bytes: &[u8], at: usize) -> Option<Entry<'_>> {
    let mut rest = bytes.get(at..)?;
    let before = match take::<1>(&mut rest)? {
        [END] => return None,
        [LONG] => u32::from_le_bytes(take(&mut rest)?) as usize,
        [short] => usize::from(short),
    };
    let [code] = take(&mut rest)?;
    let text = |rest: &mut &'_ [u8], len: usize| -> Option<usize> {
        *rest = rest.get(len..)?;
        Some(len)
    };
    let mut str_len = None;
    let element = match code {
        0x00..=0x3f => {
            str_len = Some(text(&mut rest, usize::from(code))?);
            Element::Int(0)
        }
        0x40..=0x7f => {
            let [low] = take(&mut rest)?;
            str_len = Some(text(&mut rest, usize::from(code & 0x3f) << 8 | usize::from(low))?);
            Element::Int(0)
        }
        // Big-endian, unlike all else.
        0x80 => {
            let len = u32::from_be_bytes(take(&mut rest)?) as usize;
            str_len = Some(text(&mut rest, len)?);
            Element::Int(0)
        }
        0xc0 => Element::Int(i64::from(i16::from_le_bytes(take(&mut rest)?))),
        0xd0 => Element::Int(i64::from(i32::from_le_bytes(take(&mut rest)?))),
        0xe0 => Element::Int(i64::from_le_bytes(take(&mut rest)?)),
        0xf0 => {
            let [a, b, c] = take(&mut rest)?;
            Element::Int(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8))
        }
        0xfe => Element::Int(i64::from(i8::from_le_bytes(take(&mut rest)?))),
        0xf1..=0xfd => Element::Int(i64::from(code & 0x0f) - 1),
        _ => return None,
    };
    let next = bytes.len() - rest.len();
    let element = match str_len {
        Some(len) => Element::Str(&bytes[next - len..next]),
        None => element,
    };
    Some(Entry { before, element, next })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::ZipList;
    use crate::packed::Element;

    /// A ziplist of these entries, each given as encoding and payload.
    fn build(entries: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; 10];
        let (mut before, mut tail) = (0usize, 10);
        for entry in entries {
            tail = bytes.len();
            if before < 254 {
                bytes.push(before as u8);
            } else {
                bytes.push(0xfe);
                bytes.extend_from_slice(&(before as u32).to_le_bytes());
            }
            bytes.extend_from_slice(entry);
            before = bytes.len() - tail;
        }
        bytes.push(0xff);
        let total = bytes.len() as u32;
        bytes[..4].copy_from_slice(&total.to_le_bytes());
        bytes[4..8].copy_from_slice(&(tail as u32).to_le_bytes());
        bytes[8..10].copy_from_slice(&(entries.len() as u16).to_le_bytes());
        bytes
    }

    #[test]
    fn every_encoding_is_read() {
        let long = [&[0x41, 0x2c][..], &[b'x'; 300]].concat();
        let bytes = build(&[
            b"\x02ab",
            &long,
            b"\x80\x00\x00\x00\x01z",
            b"\xc0\xff\xff",
            b"\xd0\x00\x00\x01\x00",
            b"\xe0\x00\x00\x00\x00\x00\x00\x00\x80",
            b"\xf0\xff\xff\xff",
            b"\xfe\x80",
            b"\xf1",
            b"\xfd",
            b"\x00",
        ]);
        let list = ZipList::parse(&bytes).expect("well formed");
        let xs = [b'x'; 300];
        let expected = [
            Element::Str(b"ab"),
            Element::Str(&xs),
            Element::Str(b"z"),
            Element::Int(-1),
            Element::Int(65536),
            Element::Int(i64::MIN),
            Element::Int(-1),
            Element::Int(-128),
            Element::Int(0),
            Element::Int(12),
            Element::Str(b""),
        ];
        assert_eq!(list.len(), expected.len());
        assert_eq!(list.iter().collect::<Vec<_>>(), expected);
        assert!(ZipList::parse(&build(&[])).is_ok_and(|list| list.is_empty()));
    }

    #[test]
    fn damage_is_refused() {
        let good = build(&[b"\x02ab", b"\x03cde", b"\xf5"]);
        for at in 0..good.len() {
            // The payloads may be anything.
            if (12..14).contains(&at) || (16..19).contains(&at) {
                continue;
            }
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            if let Ok(list) = ZipList::parse(&bad) {
                assert_eq!(at, good.len() - 2, "only the immediate number may change: {}", list.len());
            }
            assert!(ZipList::parse(&good[..at]).is_err());
        }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! One entry of a listpack: its encodings, written and read.
//!
//! ```text
//! 0xxxxxxx                 0..=127                    110xxxxx x    13-bit integer
//! 10xxxxxx                 string of up to 63 bytes   1110xxxx x    string of up to 4095 bytes
//! 0xF0 u32                 string                     0xF1 .. 0xF4  integers of 2, 3, 4, 8 bytes, little endian
//! ```
//!
//! The readers expect a slice that starts with a valid entry (from `check.rs` or from the writers).

use crate::number::parse_canonical_i64;
use crate::value::IntText;

/// An element of a listpack.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Element<'a> {
    /// Stored as an integer: stands for its canonical text.
    Int(i64),
    /// Stored as bytes.
    Str(&'a [u8]),
}

impl<'a> Element<'a> {
    /// The element's bytes; an integer is written to `text` first.
    #[inline]
    pub fn as_bytes<'b>(&self, text: &'b mut IntText) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            Self::Int(int) => text.format(int).as_bytes(),
            Self::Str(bytes) => bytes,
        }
    }

    /// The element's bytes, owned.
    pub fn to_vec(&self) -> Vec<u8> {
        self.as_bytes(&mut IntText::new()).to_vec()
    }

    /// Whether the element's bytes are `bytes`.
    #[inline]
    pub fn is(&self, bytes: &[u8]) -> bool {
        match *self {
            Self::Int(int) => parse_canonical_i64(bytes) == Some(int),
            Self::Str(own) => own == bytes,
        }
    }

    /// [`Element::is`] when the caller has parsed `bytes` before, to compare them with many.
    #[inline]
    pub fn is_parsed(&self, bytes: &[u8], int: Option<i64>) -> bool {
        match *self {
            Self::Int(own) => int == Some(own),
            Self::Str(own) => own == bytes,
        }
    }

    /// The element as an integer: how it is stored, or its canonical text.
    #[inline]
    pub fn as_int(&self) -> Option<i64> {
        match *self {
            Self::Int(int) => Some(int),
            Self::Str(bytes) => parse_canonical_i64(bytes),
        }
    }

    /// Length of the element's bytes.
    pub fn byte_len(&self) -> usize {
        match *self {
            Self::Int(int) => {
                let digits = int.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
                digits + usize::from(int < 0)
            }
            Self::Str(bytes) => bytes.len(),
        }
    }
}

/// What an element is to be made of.
#[derive(Copy, Clone, Debug)]
pub enum NewElement<'a> {
    /// An integer.
    Int(i64),
    /// Bytes, stored as an integer where they are its canonical text.
    Bytes(&'a [u8]),
}

/// An entry ready to be written: head, body, length.
pub(super) struct Encoded<'a> {
    head: [u8; 9],
    head_len: u8,
    tail_len: u8,
    tail: [u8; 5],
    body: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// The entry of a string, as an integer where its text is canonical.
    #[inline]
    pub(super) fn of(element: &'a [u8]) -> Encoded<'a> {
        match parse_canonical_i64(element) {
            Some(int) => Encoded::of_int(int),
            None => Encoded::of_str(element),
        }
    }

    #[inline]
    pub(super) fn of_new(element: NewElement<'a>) -> Encoded<'a> {
        match element {
            NewElement::Int(int) => Encoded::of_int(int),
            NewElement::Bytes(bytes) => Encoded::of(bytes),
        }
    }

    /// The entry of an element that was read from a listpack.
    pub(super) fn of_element(element: Element<'a>) -> Encoded<'a> {
        match element {
            Element::Int(int) => Encoded::of_int(int),
            Element::Str(bytes) => Encoded::of_str(bytes),
        }
    }

    fn of_str(body: &'a [u8]) -> Encoded<'a> {
        let mut head = [0; 9];
        let len = body.len() as u32;
        let head_len = if len < 64 {
            head[0] = 0x80 | len as u8;
            1
        } else if len < 4096 {
            head[0] = 0xE0 | (len >> 8) as u8;
            head[1] = len as u8;
            2
        } else {
            head[0] = 0xF0;
            head[1..5].copy_from_slice(&len.to_le_bytes());
            5
        };
        Encoded::with_tail(head, head_len, body)
    }

    #[inline]
    pub(super) fn of_int(int: i64) -> Encoded<'a> {
        let mut head = [0; 9];
        let bytes = int.to_le_bytes();
        let mut wide = |code: u8, len: usize| {
            head[0] = code;
            head[1..=len].copy_from_slice(&bytes[..len]);
            1 + len as u8
        };
        let head_len = match int {
            0..=127 => wide(int as u8, 0),
            -4096..=4095 => {
                let bits = int as u16 & 0x1FFF;
                head[..2].copy_from_slice(&(0xC000 | bits).to_be_bytes());
                2
            }
            -0x8000..=0x7FFF => wide(0xF1, 2),
            -0x80_0000..=0x7F_FFFF => wide(0xF2, 3),
            -0x8000_0000..=0x7FFF_FFFF => wide(0xF3, 4),
            _ => wide(0xF4, 8),
        };
        Encoded::with_tail(head, head_len, &[])
    }

    #[inline]
    fn with_tail(head: [u8; 9], head_len: u8, body: &'a [u8]) -> Encoded<'a> {
        let len = usize::from(head_len) + body.len();
        let tail_len = tail_len(len);
        let mut tail = [0; 5];
        // The groups lie from high to low; all but the first byte carry the mark, because the reader comes from behind.
        for (i, byte) in tail[..tail_len].iter_mut().enumerate() {
            let group = (len >> (7 * (tail_len - 1 - i))) as u8 & 0x7F;
            *byte = if i == 0 { group } else { group | 0x80 };
        }
        Encoded { head, head_len, tail_len: tail_len as u8, tail, body }
    }

    /// Bytes of the entry.
    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.head_len) + self.body.len() + usize::from(self.tail_len)
    }

    /// Writes the entry; `out` must have its length.
    #[inline]
    pub(super) fn write_to(&self, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(usize::from(self.head_len));
        let (body, tail) = rest.split_at_mut(self.body.len());
        head.copy_from_slice(&self.head[..usize::from(self.head_len)]);
        body.copy_from_slice(self.body);
        tail.copy_from_slice(&self.tail[..usize::from(self.tail_len)]);
    }
}

/// Bytes of the backwards length of an entry whose other bytes are `len`.
#[inline]
pub(super) fn tail_len(len: usize) -> usize {
    match len {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

/// Bytes of head and body of the entry that `entry` starts with; `None` when its first byte means nothing or the head is
/// cut off.
#[inline]
pub(super) fn data_len(entry: &[u8]) -> Option<usize> {
    Some(match *entry.first()? {
        0..0x80 => 1,
        byte @ 0x80..0xC0 => 1 + usize::from(byte & 0x3F),
        0xC0..0xE0 => 2,
        byte @ 0xE0..0xF0 => 2 + (usize::from(byte & 0x0F) << 8 | usize::from(*entry.get(1)?)),
        0xF0 => {
            let len = entry.get(1..5)?;
            5 + u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize
        }
        0xF1 => 3,
        0xF2 => 4,
        0xF3 => 5,
        0xF4 => 9,
        _ => return None,
    })
}

/// Bytes of the valid entry that `entry` starts with.
#[inline]
pub(super) fn whole_len(entry: &[u8]) -> usize {
    let len = data_len(entry).unwrap_or(1);
    len + tail_len(len)
}

/// Bytes of the valid entry that `bytes` ends with.
#[inline]
pub(super) fn whole_len_backwards(bytes: &[u8]) -> usize {
    let len = read_tail(bytes).unwrap_or(1);
    len + tail_len(len)
}

/// The length of head and body that stands at the end of `bytes`; `None` when it is longer than five bytes.
#[inline]
pub(super) fn read_tail(bytes: &[u8]) -> Option<usize> {
    let mut len = 0;
    for (i, &byte) in bytes.iter().rev().take(5).enumerate() {
        len |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(len);
        }
    }
    None
}

/// The element of the valid entry that `entry` starts with.
#[inline]
pub(super) fn decode(entry: &[u8]) -> Element<'_> {
    match entry[0] {
        byte @ 0..0x80 => Element::Int(i64::from(byte)),
        byte @ 0x80..0xC0 => Element::Str(&entry[1..][..usize::from(byte & 0x3F)]),
        byte @ 0xC0..0xE0 => {
            let bits = (u16::from(byte) << 8 | u16::from(entry[1])) << 3;
            Element::Int(i64::from(bits as i16 >> 3))
        }
        byte @ 0xE0..0xF0 => Element::Str(&entry[2..][..usize::from(byte & 0x0F) << 8 | usize::from(entry[1])]),
        0xF0 => {
            let len = u32::from_le_bytes([entry[1], entry[2], entry[3], entry[4]]) as usize;
            Element::Str(&entry[5..][..len])
        }
        0xF1 => Element::Int(i64::from(i16::from_le_bytes([entry[1], entry[2]]))),
        0xF2 => Element::Int(i64::from(i32::from_le_bytes([0, entry[1], entry[2], entry[3]]) >> 8)),
        0xF3 => Element::Int(i64::from(i32::from_le_bytes([entry[1], entry[2], entry[3], entry[4]]))),
        _ => {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&entry[1..9]);
            Element::Int(i64::from_le_bytes(bytes))
        }
    }
}

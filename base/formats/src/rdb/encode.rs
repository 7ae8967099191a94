// SPDX-License-Identifier: BSD-3-Clause
//! Lengths and strings in the form of an image. Called by the writer of images and, through [`ValueOut`], by the encoders
//! of single values.

use crate::lzf;
use std::io;

/// Strings up to this length cannot become shorter.
const PACKED_FROM: usize = 20;

/// Takes the parts of a value. Memory never fails; a file or a socket may.
pub trait ValueOut {
    /// Bytes as they are.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Whether strings are compressed where that makes them shorter, as Valkey does it.
    fn packs(&self) -> bool {
        false
    }

    /// A length or other number.
    fn put_len(&mut self, len: u64) -> io::Result<()> {
        let (bytes, used) = len_bytes(len);
        self.put(&bytes[..used])
    }

    /// A string: as a number when it is the text of one, or compressed, or as it is.
    fn put_string(&mut self, s: &[u8]) -> io::Result<()> {
        if let Some(n) = canonical_i32(s) {
            return self.put_int(i64::from(n));
        }
        if self.packs()
            && s.len() > PACKED_FROM
            && let Some(packed) = lzf::compress(s, s.len() - 4)
        {
            self.put(&[0xc3])?;
            self.put_len(packed.len() as u64)?;
            self.put_len(s.len() as u64)?;
            return self.put(&packed);
        }
        self.put_len(s.len() as u64)?;
        self.put(s)
    }

    /// A string that is a number.
    fn put_int(&mut self, n: i64) -> io::Result<()> {
        let mut buf = Vec::with_capacity(24);
        put_int(&mut buf, n);
        self.put(&buf)
    }

    /// A double, as it is in memory.
    fn put_double(&mut self, value: f64) -> io::Result<()> {
        self.put(&value.to_le_bytes())
    }

    /// Unix milliseconds, or -1 for none.
    fn put_millis(&mut self, ms: i64) -> io::Result<()> {
        self.put(&ms.to_le_bytes())
    }
}

impl ValueOut for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// The form of a length, and how many of the bytes it takes.
fn len_bytes(len: u64) -> ([u8; 9], usize) {
    let mut bytes = [0; 9];
    match len {
        0..0x40 => {
            bytes[0] = len as u8;
            (bytes, 1)
        }
        0x40..0x4000 => {
            bytes[..2].copy_from_slice(&((len as u16) | 0x4000).to_be_bytes());
            (bytes, 2)
        }
        0x4000..=0xffff_ffff => {
            bytes[0] = 0x80;
            bytes[1..5].copy_from_slice(&(len as u32).to_be_bytes());
            (bytes, 5)
        }
        _ => {
            bytes[0] = 0x81;
            bytes[1..].copy_from_slice(&len.to_be_bytes());
            (bytes, 9)
        }
    }
}

pub(super) fn put_len(buf: &mut Vec<u8>, len: u64) {
    let (bytes, used) = len_bytes(len);
    buf.extend_from_slice(&bytes[..used]);
}

pub(super) fn put_string(buf: &mut Vec<u8>, s: &[u8]) {
    put_len(buf, s.len() as u64);
    buf.extend_from_slice(s);
}

/// A string in its canonical decimal form of at most 32 bits becomes a number, as Valkey does it.
pub(super) fn put_string_or_int(buf: &mut Vec<u8>, s: &[u8]) {
    match canonical_i32(s) {
        Some(n) => put_int(buf, i64::from(n)),
        None => put_string(buf, s),
    }
}

pub(super) fn put_int(buf: &mut Vec<u8>, n: i64) {
    if let Ok(n) = i8::try_from(n) {
        buf.extend_from_slice(&[0xc0, n as u8]);
    } else if let Ok(n) = i16::try_from(n) {
        buf.push(0xc1);
        buf.extend_from_slice(&n.to_le_bytes());
    } else if let Ok(n) = i32::try_from(n) {
        buf.push(0xc2);
        buf.extend_from_slice(&n.to_le_bytes());
    } else {
        put_string(buf, n.to_string().as_bytes());
    }
}

/// The number that `s` prints exactly, if it fits 32 bits: "0", "-7"; not "-0", "+1", "007".
fn canonical_i32(s: &[u8]) -> Option<i32> {
    if s.is_empty() || s.len() > 11 {
        return None;
    }
    let (negative, digits) = match s {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, s),
    };
    if digits.is_empty() || (digits[0] == b'0' && s.len() > 1) {
        return None;
    }
    let mut n = 0i64;
    for d in digits {
        n = n * 10 + i64::from(d.checked_sub(b'0').filter(|d| *d < 10)?);
    }
    i32::try_from(if negative { -n } else { n }).ok()
}

// SPDX-License-Identifier: BSD-3-Clause
//! Writes an RDB image onto an `io::Write`, summing as it goes.
//!
//! Items are assembled in a buffer and handed on in large pieces. Called by full syncs, snapshots and the roots.

use super::{RdbValue, Record, VERSION_WRITTEN, op};
use crate::crc64;
use std::io::{self, Write};

/// Bytes that [`RdbWriter::finish`] adds: the EOF opcode and the checksum.
pub const SUMMED_AT_END: usize = 9;

/// Above this the buffer is handed on.
const BUFFER_BYTES: usize = 64 * 1024;

/// One image being written. Call [`finish`](Self::finish), or it is not valid.
pub struct RdbWriter<W: Write> {
    out: W,
    buf: Vec<u8>,
    crc: u64,
    db: Option<u32>,
}

impl<W: Write> RdbWriter<W> {
    /// Starts an image: writes the magic and version.
    pub fn new(out: W) -> RdbWriter<W> {
        let mut w = RdbWriter { out, buf: Vec::with_capacity(BUFFER_BYTES + 4096), crc: 0, db: None };
        w.buf.extend_from_slice(format!("REDIS{VERSION_WRITTEN:04}").as_bytes());
        w
    }

    /// A named remark. To be written before the first key.
    pub fn aux(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        self.buf.push(op::AUX);
        put_string(&mut self.buf, name.as_bytes());
        put_string_or_int(&mut self.buf, value);
        self.drain_if_large()
    }

    /// The size hints of a database; selects it as well.
    pub fn sizes(&mut self, db: u32, keys: u64, expires: u64) -> io::Result<()> {
        self.select(db);
        self.buf.push(op::RESIZE_DB);
        put_len(&mut self.buf, keys);
        put_len(&mut self.buf, expires);
        self.drain_if_large()
    }

    /// One key with a string value.
    pub fn string(&mut self, db: u32, key: &[u8], value: &[u8], expire_at_ms: Option<u64>) -> io::Result<()> {
        self.key(db, key, expire_at_ms);
        if value.len() > BUFFER_BYTES {
            // A large value goes around the buffer.
            put_len(&mut self.buf, value.len() as u64);
            self.drain()?;
            self.crc = crc64::update(self.crc, value);
            return self.out.write_all(value);
        }
        put_string_or_int(&mut self.buf, value);
        self.drain_if_large()
    }

    /// One key whose string value is a number.
    pub fn int(&mut self, db: u32, key: &[u8], value: i64, expire_at_ms: Option<u64>) -> io::Result<()> {
        self.key(db, key, expire_at_ms);
        put_int(&mut self.buf, value);
        self.drain_if_large()
    }

    /// One record of any type.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        match &record.value {
            RdbValue::Int(n) => self.int(record.db, &record.key, *n, record.expire_at_ms),
            RdbValue::Str(s) => self.string(record.db, &record.key, s, record.expire_at_ms),
        }
    }

    /// Bytes assembled and not yet handed to the output.
    pub fn buffered(&self) -> usize {
        self.buf.len()
    }

    /// The output, for callers that use a buffer as the output and empty it between steps.
    pub fn output_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Hands on what is assembled.
    pub fn drain(&mut self) -> io::Result<()> {
        self.crc = crc64::update(self.crc, &self.buf);
        self.out.write_all(&self.buf)?;
        self.buf.clear();
        Ok(())
    }

    /// Writes the end and the checksum; gives the output back, flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.buf.push(op::EOF);
        self.drain()?;
        self.out.write_all(&self.crc.to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn key(&mut self, db: u32, key: &[u8], expire_at_ms: Option<u64>) {
        self.select(db);
        if let Some(at) = expire_at_ms {
            self.buf.push(op::EXPIRE_MS);
            self.buf.extend_from_slice(&at.to_le_bytes());
        }
        self.buf.push(op::TYPE_STRING);
        put_string_or_int(&mut self.buf, key);
    }

    fn select(&mut self, db: u32) {
        if self.db != Some(db) {
            self.db = Some(db);
            self.buf.push(op::SELECT_DB);
            put_len(&mut self.buf, u64::from(db));
        }
    }

    fn drain_if_large(&mut self) -> io::Result<()> {
        if self.buf.len() >= BUFFER_BYTES { self.drain() } else { Ok(()) }
    }
}

fn put_len(buf: &mut Vec<u8>, len: u64) {
    match len {
        0..0x40 => buf.push(len as u8),
        0x40..0x4000 => buf.extend_from_slice(&((len as u16) | 0x4000).to_be_bytes()),
        0x4000..=0xffff_ffff => {
            buf.push(0x80);
            buf.extend_from_slice(&(len as u32).to_be_bytes());
        }
        _ => {
            buf.push(0x81);
            buf.extend_from_slice(&len.to_be_bytes());
        }
    }
}

fn put_string(buf: &mut Vec<u8>, s: &[u8]) {
    put_len(buf, s.len() as u64);
    buf.extend_from_slice(s);
}

/// A string in its canonical decimal form of at most 32 bits becomes a number, as Valkey does it.
fn put_string_or_int(buf: &mut Vec<u8>, s: &[u8]) {
    match canonical_i32(s) {
        Some(n) => put_int(buf, i64::from(n)),
        None => put_string(buf, s),
    }
}

fn put_int(buf: &mut Vec<u8>, n: i64) {
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

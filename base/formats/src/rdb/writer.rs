// SPDX-License-Identifier: BSD-3-Clause
//! Writes an RDB image onto an `io::Write`, summing as it goes.
//!
//! Items are assembled in a buffer and handed on in large pieces. Called by full syncs, snapshots and the roots.

use super::encode::{ValueOut, put_int, put_len, put_string, put_string_or_int};
use super::{RdbType, RdbValue, Record, VERSION_VALKEY, VERSION_WRITTEN, op};
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
    is_valkey: bool,
}

impl<W: Write> RdbWriter<W> {
    /// Starts an image: writes the magic and version.
    pub fn new(out: W) -> RdbWriter<W> {
        RdbWriter::start(out, format!("REDIS{VERSION_WRITTEN:04}"), false)
    }

    /// Starts an image of the version that only Valkey 9 takes, and that may hold fields with due times.
    pub fn new_valkey(out: W) -> RdbWriter<W> {
        RdbWriter::start(out, format!("VALKEY{VERSION_VALKEY:03}"), true)
    }

    fn start(out: W, magic: String, is_valkey: bool) -> RdbWriter<W> {
        let mut w = RdbWriter { out, buf: Vec::with_capacity(BUFFER_BYTES + 4096), crc: 0, db: None, is_valkey };
        w.buf.extend_from_slice(magic.as_bytes());
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

    /// What the next key's access clock says: seconds without access, or the counter of accesses.
    pub fn usage(&mut self, idle_s: Option<u64>, freq: Option<u8>) -> io::Result<()> {
        if let Some(idle_s) = idle_s {
            self.buf.push(op::IDLE);
            put_len(&mut self.buf, idle_s);
        }
        if let Some(freq) = freq {
            self.buf.extend_from_slice(&[op::FREQ, freq]);
        }
        self.drain_if_large()
    }

    /// One key whose value `write` puts, in the form of `kind`. Refused when images of this version cannot hold it.
    pub fn typed(
        &mut self,
        db: u32,
        key: &[u8],
        expire_at_ms: Option<u64>,
        kind: RdbType,
        write: impl FnOnce(&mut RdbWriter<W>) -> io::Result<()>,
    ) -> io::Result<()> {
        if kind.code() >= RdbType::FOREIGN_FROM && !self.is_valkey {
            let name = kind.name();
            return Err(io::Error::other(format!("an image of version {VERSION_WRITTEN} cannot hold a {name}")));
        }
        self.key_of(kind, db, key, expire_at_ms);
        write(self)?;
        self.drain_if_large()
    }

    /// One record of any type.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        self.usage(record.idle_s, record.freq)?;
        match &record.value {
            RdbValue::Raw { kind, bytes } => {
                self.typed(record.db, &record.key, record.expire_at_ms, *kind, |w| w.put(bytes))
            }
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
        self.key_of(RdbType::String, db, key, expire_at_ms);
    }

    fn key_of(&mut self, kind: RdbType, db: u32, key: &[u8], expire_at_ms: Option<u64>) {
        self.select(db);
        if let Some(at) = expire_at_ms {
            self.buf.push(op::EXPIRE_MS);
            self.buf.extend_from_slice(&at.to_le_bytes());
        }
        self.buf.push(kind.code());
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

impl<W: Write> ValueOut for RdbWriter<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > BUFFER_BYTES {
            self.drain()?;
            self.crc = crc64::update(self.crc, bytes);
            return self.out.write_all(bytes);
        }
        self.buf.extend_from_slice(bytes);
        self.drain_if_large()
    }
}

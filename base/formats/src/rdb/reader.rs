// SPDX-License-Identifier: BSD-3-Clause
//! Reads an RDB image from bytes as they arrive.
//!
//! Push bytes, pull items: `next` answers `None` when it needs more. An item that is not complete costs only the
//! reading of its lengths on each try, so large values are not parsed again and again. Input is never trusted.
//! Called by the replica's full sync and by the loaders of snapshots.

use super::{RdbError, RdbItem, RdbValue, Record, op, type_name};
use crate::{crc64, lzf};

/// Longest string that is accepted, as in Valkey's object limit (512 MB by default, configurable up to 4 GB there).
const STRING_BYTES_MAX: u64 = 4 << 30;

#[derive(Copy, Clone, Eq, PartialEq)]
enum State {
    Header,
    Body,
    Done,
}

/// An image being read.
pub struct RdbReader {
    buf: Vec<u8>,
    /// Start of what was not consumed in `buf`.
    at: usize,
    /// Bytes consumed in all.
    consumed: u64,
    crc: u64,
    state: State,
    version: u32,
    db: u32,
    expire_at_ms: Option<u64>,
}

impl Default for RdbReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a parse stopped: the item is not complete, or it is wrong.
enum Stop {
    More,
    Bad(RdbError),
}

impl From<RdbError> for Stop {
    fn from(e: RdbError) -> Stop {
        Stop::Bad(e)
    }
}

impl RdbReader {
    pub fn new() -> RdbReader {
        RdbReader {
            buf: Vec::new(),
            at: 0,
            consumed: 0,
            crc: 0,
            state: State::Header,
            version: 0,
            db: 0,
            expire_at_ms: None,
        }
    }

    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            // Moving the rest is cheap: after pulling, less than one item is left.
            self.buf.drain(..self.at);
            self.at = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next item; `None` if more bytes are needed, or after [`RdbItem::End`].
    // Not an iterator: `None` does not mean the end.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<RdbItem>, RdbError> {
        loop {
            if self.state == State::Done {
                return Ok(None);
            }
            let mut cursor = Cursor { bytes: &self.buf[self.at..], at: 0, base: self.consumed };
            let parsed = match self.state {
                State::Header => header(&mut cursor),
                _ => body(&mut cursor, self.version, self.db, self.expire_at_ms),
            };
            let step = match parsed {
                Ok(step) => step,
                Err(Stop::More) => return Ok(None),
                Err(Stop::Bad(e)) => return Err(e),
            };
            let used = cursor.at;
            // The checksum covers all before itself.
            let summed = if matches!(step, Step::End(Some(_))) { used - 8 } else { used };
            self.crc = crc64::update(self.crc, &self.buf[self.at..self.at + summed]);
            self.at += used;
            self.consumed += used as u64;
            match step {
                Step::Skip => {}
                Step::SelectDb(db) => self.db = db,
                Step::Expire(at) => self.expire_at_ms = Some(at),
                Step::End(sum) => {
                    self.state = State::Done;
                    return match sum {
                        Some(expected) if expected != 0 && expected != self.crc => {
                            Err(RdbError::Checksum { expected, got: self.crc })
                        }
                        other => Ok(Some(RdbItem::End { summed: other.is_some_and(|sum| sum != 0) })),
                    };
                }
                Step::Item(item) => {
                    match &item {
                        RdbItem::Header { version, .. } => {
                            self.state = State::Body;
                            self.version = *version;
                        }
                        RdbItem::Record(_) => self.expire_at_ms = None,
                        _ => {}
                    }
                    return Ok(Some(item));
                }
            }
        }
    }

    /// Whether the end was read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes consumed so far.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Takes the bytes that were pushed and not consumed: after the end, what follows the image.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buf);
        rest.drain(..self.at);
        self.at = 0;
        rest
    }
}

enum Step {
    Skip,
    SelectDb(u32),
    Expire(u64),
    Item(RdbItem),
    End(Option<u64>),
}

fn header(c: &mut Cursor<'_>) -> Result<Step, Stop> {
    let bytes = c.take(9)?;
    let (valkey, digits) = if let Some(v) = bytes.strip_prefix(b"REDIS") {
        (false, v)
    } else if let Some(v) = bytes.strip_prefix(b"VALKEY") {
        (true, v)
    } else {
        return Err(RdbError::Magic.into());
    };
    let text = String::from_utf8_lossy(digits);
    let version = text.parse::<u32>().ok().filter(|v| match valkey {
        // 12 to 79 belong to other products that share the magic and give the same numbers other meanings.
        false => (1..=11).contains(v),
        true => *v == 80,
    });
    match version {
        Some(version) => Ok(Step::Item(RdbItem::Header { version, valkey })),
        None => Err(RdbError::Version(text.into_owned()).into()),
    }
}

fn body(c: &mut Cursor<'_>, version: u32, db: u32, expire_at_ms: Option<u64>) -> Result<Step, Stop> {
    let code = c.byte()?;
    let step = match code {
        op::SELECT_DB => {
            Step::SelectDb(u32::try_from(c.len()?).map_err(|_| c.corrupt("database number out of range"))?)
        }
        op::EXPIRE_MS => Step::Expire(u64::from_le_bytes(c.array()?)),
        op::EXPIRE_S => Step::Expire(u64::from(u32::from_le_bytes(c.array()?)) * 1000),
        op::RESIZE_DB => Step::Item(RdbItem::Sizes { db, keys: c.len()?, expires: c.len()? }),
        op::AUX => Step::Item(RdbItem::Aux { name: c.string()?.into_bytes(), value: c.string()?.into_bytes() }),
        op::FUNCTION2 => Step::Item(RdbItem::Function(c.string()?.into_bytes())),
        op::FREQ => {
            c.byte()?;
            Step::Skip
        }
        op::IDLE => {
            c.len()?;
            Step::Skip
        }
        op::SLOT_INFO => {
            c.len()?;
            c.len()?;
            c.len()?;
            Step::Skip
        }
        op::MODULE_AUX => {
            module_aux(c)?;
            Step::Skip
        }
        // Mandatory where it appears: the writer is in the middle of taking slots over, and we would lose that.
        op::SLOT_IMPORT => return Err(RdbError::Opcode { code, name: "slot-import" }.into()),
        op::FUNCTION_PRE_GA => return Err(RdbError::Opcode { code, name: "function-pre-ga" }.into()),
        op::EOF if version >= 5 => Step::End(Some(u64::from_le_bytes(c.array()?))),
        op::EOF => Step::End(None),
        23..=242 => return Err(RdbError::Opcode { code, name: "unknown" }.into()),
        op::TYPE_STRING => {
            let key = c.string()?;
            let value = c.string()?;
            Step::Item(RdbItem::Record(Record { db, key: key.into_bytes(), value: value.into_value(), expire_at_ms }))
        }
        code => {
            let key = String::from_utf8_lossy(&c.string()?.into_bytes()).into_owned();
            return Err(RdbError::Type { code, name: type_name(code), key }.into());
        }
    };
    Ok(step)
}

/// Skips what a module wrote beside the keys: an id, then typed fields up to a zero.
fn module_aux(c: &mut Cursor<'_>) -> Result<(), Stop> {
    c.len()?;
    loop {
        match c.len()? {
            0 => return Ok(()),
            1 | 2 => _ = c.len()?,
            3 => _ = c.take(4)?,
            4 => _ = c.take(8)?,
            5 => c.skip_string()?,
            _ => return Err(c.corrupt("unknown field in module data").into()),
        }
    }
}

/// A string as it lies in the image.
enum Text<'a> {
    Int(i64),
    Plain(&'a [u8]),
    Unpacked(Vec<u8>),
}

impl Text<'_> {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Text::Int(n) => n.to_string().into_bytes(),
            Text::Plain(s) => s.to_vec(),
            Text::Unpacked(s) => s,
        }
    }

    fn into_value(self) -> RdbValue {
        match self {
            Text::Int(n) => RdbValue::Int(n),
            other => RdbValue::Str(other.into_bytes()),
        }
    }
}

enum Len {
    Bytes(u64),
    Encoded(u8),
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    base: u64,
}

impl<'a> Cursor<'a> {
    fn corrupt(&self, what: &'static str) -> RdbError {
        RdbError::Corrupt { offset: self.base + self.at as u64, what }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        if rest.len() < n {
            return Err(Stop::More);
        }
        self.at += n;
        Ok(&rest[..n])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.take(1)?[0])
    }

    fn len_or_encoding(&mut self) -> Result<Len, Stop> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Len::Bytes(u64::from(first)),
            1 => Len::Bytes(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            3 => Len::Encoded(first & 0x3f),
            _ if first == 0x80 => Len::Bytes(u64::from(u32::from_be_bytes(self.array()?))),
            _ if first == 0x81 => Len::Bytes(u64::from_be_bytes(self.array()?)),
            _ => return Err(self.corrupt("unknown length encoding").into()),
        })
    }

    fn len(&mut self) -> Result<u64, Stop> {
        match self.len_or_encoding()? {
            Len::Bytes(n) => Ok(n),
            Len::Encoded(_) => Err(self.corrupt("a length was expected").into()),
        }
    }

    fn bounded(&self, n: u64) -> Result<usize, RdbError> {
        if n > STRING_BYTES_MAX {
            return Err(self.corrupt("string too long"));
        }
        Ok(n as usize)
    }

    fn string(&mut self) -> Result<Text<'a>, Stop> {
        Ok(match self.len_or_encoding()? {
            Len::Bytes(n) => Text::Plain(self.take(self.bounded(n)?)?),
            Len::Encoded(0) => Text::Int(i64::from(self.byte()? as i8)),
            Len::Encoded(1) => Text::Int(i64::from(i16::from_le_bytes(self.array()?))),
            Len::Encoded(2) => Text::Int(i64::from(i32::from_le_bytes(self.array()?))),
            Len::Encoded(3) => {
                let packed = self.len()?;
                let plain = self.len()?;
                let plain = self.bounded(plain)?;
                let packed = self.take(self.bounded(packed)?)?;
                Text::Unpacked(
                    lzf::decompress(packed, plain).map_err(|_| self.corrupt("invalid LZF compressed string"))?,
                )
            }
            Len::Encoded(_) => return Err(self.corrupt("unknown string encoding").into()),
        })
    }

    fn skip_string(&mut self) -> Result<(), Stop> {
        self.string().map(|_| ())
    }
}

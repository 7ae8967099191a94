// SPDX-License-Identifier: BSD-3-Clause
//! Reads an RDB image from bytes as they arrive.
//!
//! Push bytes, pull items: `next` answers `None` when it needs more. An item that is not complete costs only the
//! reading of its lengths on each try, so large values are not parsed again and again. Input is never trusted.
//! Called by the replica's full sync and by the loaders of snapshots.

use super::cursor::{Cursor, Stop, Text};
use super::extent::Extent;
use super::{RdbError, RdbItem, RdbType, RdbValue, Record, op, type_name};
use crate::crc64;

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
    is_valkey: bool,
    /// What was said of the next key.
    ahead: Ahead,
    /// The value whose end is being looked for: of which type, behind how many bytes of the item.
    partial: Option<Partial>,
}

#[derive(Copy, Clone, Default)]
struct Ahead {
    expire_at_ms: Option<u64>,
    idle_s: Option<u64>,
    freq: Option<u8>,
}

struct Partial {
    kind: RdbType,
    key: Vec<u8>,
    head: usize,
    extent: Extent,
}

impl Default for RdbReader {
    fn default() -> Self {
        Self::new()
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
            is_valkey: false,
            ahead: Ahead::default(),
            partial: None,
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
                _ if self.partial.is_some() => value(&mut cursor, &mut self.partial, self.db, self.ahead),
                _ => body(&mut cursor, self.version, self.is_valkey, self.db, self.ahead),
            };
            let step = match parsed {
                Ok(step) => step,
                Err(Stop::More) => return Ok(None),
                Err(Stop::Bad(e)) => return Err(e),
            };
            if let Step::Value(partial) = step {
                // Nothing is consumed before the whole value is there.
                self.partial = Some(partial);
                continue;
            }
            let used = cursor.at;
            // The checksum covers all before itself.
            let summed = if matches!(step, Step::End(Some(_))) { used - 8 } else { used };
            self.crc = crc64::update(self.crc, &self.buf[self.at..self.at + summed]);
            self.at += used;
            self.consumed += used as u64;
            match step {
                Step::Skip | Step::Value(_) => {}
                Step::SelectDb(db) => self.db = db,
                Step::Expire(at) => self.ahead.expire_at_ms = Some(at),
                Step::Idle(idle_s) => self.ahead.idle_s = Some(idle_s),
                Step::Freq(freq) => self.ahead.freq = Some(freq),
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
                        RdbItem::Header { version, valkey } => {
                            self.state = State::Body;
                            self.version = *version;
                            self.is_valkey = *valkey;
                        }
                        RdbItem::Record(_) => self.ahead = Ahead::default(),
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
    Idle(u64),
    Freq(u8),
    /// A key and the type of its value were read.
    Value(Partial),
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

fn body(c: &mut Cursor<'_>, version: u32, is_valkey: bool, db: u32, ahead: Ahead) -> Result<Step, Stop> {
    let code = c.byte()?;
    if !is_valkey && (RdbType::FOREIGN_FROM..op::SLOT_INFO).contains(&code) {
        return Err(RdbError::Opcode { code, name: "of another product" }.into());
    }
    let step = match code {
        op::SELECT_DB => {
            Step::SelectDb(u32::try_from(c.len()?).map_err(|_| c.corrupt("database number out of range"))?)
        }
        op::EXPIRE_MS => Step::Expire(u64::from_le_bytes(c.array()?)),
        op::EXPIRE_S => Step::Expire(u64::from(u32::from_le_bytes(c.array()?)) * 1000),
        op::RESIZE_DB => Step::Item(RdbItem::Sizes { db, keys: c.len()?, expires: c.len()? }),
        op::AUX => Step::Item(RdbItem::Aux { name: c.string()?.into_bytes(), value: c.string()?.into_bytes() }),
        op::FUNCTION2 => Step::Item(RdbItem::Function(c.string()?.into_bytes())),
        op::FREQ => Step::Freq(c.byte()?),
        op::IDLE => Step::Idle(c.len()?),
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
        code => match RdbType::from_code(code) {
            Some(RdbType::String) => {
                let key = c.string()?.into_bytes();
                let value = match c.string()? {
                    Text::Int(n) => RdbValue::Int(n),
                    other => RdbValue::Str(other.into_bytes()),
                };
                Step::Item(record(db, key, value, ahead))
            }
            Some(kind) => {
                let key = c.string()?.into_bytes();
                Step::Value(Partial { kind, key, head: c.at, extent: Extent::new(kind.parts()) })
            }
            None => {
                let key = String::from_utf8_lossy(&c.string()?.into_bytes()).into_owned();
                return Err(RdbError::Type { code, name: type_name(code), key }.into());
            }
        },
    };
    Ok(step)
}

/// Goes on with a value whose type and key were read.
fn value(c: &mut Cursor<'_>, partial: &mut Option<Partial>, db: u32, ahead: Ahead) -> Result<Step, Stop> {
    let Some(Partial { head, extent, .. }) = partial else { return Ok(Step::Skip) };
    c.take(*head)?;
    let len = extent.find(&c.bytes[c.at..], c.base + c.at as u64)?;
    let bytes = c.take(len)?.to_vec();
    let Some(Partial { kind, key, .. }) = partial.take() else { return Ok(Step::Skip) };
    Ok(Step::Item(record(db, key, RdbValue::Raw { kind, bytes }, ahead)))
}

fn record(db: u32, key: Vec<u8>, value: RdbValue, ahead: Ahead) -> RdbItem {
    let Ahead { expire_at_ms, idle_s, freq } = ahead;
    RdbItem::Record(Record { db, key, value, expire_at_ms, idle_s, freq })
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

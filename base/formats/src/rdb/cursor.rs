// SPDX-License-Identifier: BSD-3-Clause
//! Lengths and strings as they lie in an image, read from bytes that may end too early. Called by the reader of images
//! and, as [`ValueReader`], by decoders of single values.

use super::RdbError;
use crate::lzf;
use std::borrow::Cow;

/// Longest string that is accepted, as in Valkey's object limit (512 MB by default, configurable up to 4 GB there).
const STRING_BYTES_MAX: u64 = 4 << 30;

/// Why a parse stopped: the item is not complete, or it is wrong.
pub(super) enum Stop {
    More,
    Bad(RdbError),
}

impl From<RdbError> for Stop {
    fn from(e: RdbError) -> Stop {
        Stop::Bad(e)
    }
}

/// A string as it lies in the image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Text<'a> {
    /// Stored as a number.
    Int(i64),
    /// Stored as it is.
    Plain(&'a [u8]),
    /// Stored compressed.
    Unpacked(Vec<u8>),
}

impl<'a> Text<'a> {
    /// The string; a number's decimal text.
    pub fn into_bytes(self) -> Vec<u8> {
        self.into_cow().into_owned()
    }

    /// The string, borrowed when it lies there as it is.
    pub fn into_cow(self) -> Cow<'a, [u8]> {
        match self {
            Text::Int(n) => Cow::Owned(n.to_string().into_bytes()),
            Text::Plain(s) => Cow::Borrowed(s),
            Text::Unpacked(s) => Cow::Owned(s),
        }
    }
}

enum LenOrCode {
    Len(u64),
    Code(u8),
}

#[derive(Clone)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    /// Offset of `bytes` in the image, for messages.
    pub(super) base: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn corrupt(&self, what: &'static str) -> RdbError {
        RdbError::Corrupt { offset: self.base + self.at as u64, what }
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        if rest.len() < n {
            return Err(Stop::More);
        }
        self.at += n;
        Ok(&rest[..n])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.take(1)?[0])
    }

    fn len_or_code(&mut self) -> Result<LenOrCode, Stop> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => LenOrCode::Len(u64::from(first)),
            1 => LenOrCode::Len(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            3 => LenOrCode::Code(first & 0x3f),
            _ if first == 0x80 => LenOrCode::Len(u64::from(u32::from_be_bytes(self.array()?))),
            _ if first == 0x81 => LenOrCode::Len(u64::from_be_bytes(self.array()?)),
            _ => return Err(self.corrupt("unknown length encoding").into()),
        })
    }

    pub(super) fn len(&mut self) -> Result<u64, Stop> {
        match self.len_or_code()? {
            LenOrCode::Len(n) => Ok(n),
            LenOrCode::Code(_) => Err(self.corrupt("a length was expected").into()),
        }
    }

    fn bounded(&self, n: u64) -> Result<usize, RdbError> {
        if n > STRING_BYTES_MAX {
            return Err(self.corrupt("string too long"));
        }
        Ok(n as usize)
    }

    pub(super) fn string(&mut self) -> Result<Text<'a>, Stop> {
        Ok(match self.len_or_code()? {
            LenOrCode::Len(n) => Text::Plain(self.take(self.bounded(n)?)?),
            LenOrCode::Code(0) => Text::Int(i64::from(self.byte()? as i8)),
            LenOrCode::Code(1) => Text::Int(i64::from(i16::from_le_bytes(self.array()?))),
            LenOrCode::Code(2) => Text::Int(i64::from(i32::from_le_bytes(self.array()?))),
            LenOrCode::Code(3) => {
                let packed = self.len()?;
                let plain = self.len()?;
                let plain = self.bounded(plain)?;
                let packed = self.take(self.bounded(packed)?)?;
                // Nothing can be unpacked into no bytes, and Valkey takes that for what was declared: an empty string.
                if plain == 0 {
                    return Ok(Text::Plain(&[]));
                }
                Text::Unpacked(
                    lzf::decompress(packed, plain).map_err(|_| self.corrupt("invalid LZF compressed string"))?,
                )
            }
            LenOrCode::Code(_) => return Err(self.corrupt("unknown string encoding").into()),
        })
    }

    /// Steps over a string without unpacking it.
    pub(super) fn skip_string(&mut self) -> Result<(), Stop> {
        let len = match self.len_or_code()? {
            LenOrCode::Len(n) => self.bounded(n)?,
            LenOrCode::Code(code @ 0..=2) => 1 << code,
            LenOrCode::Code(3) => {
                let packed = self.len()?;
                self.len()?;
                self.bounded(packed)?
            }
            LenOrCode::Code(_) => return Err(self.corrupt("unknown string encoding").into()),
        };
        self.take(len).map(|_| ())
    }
}

/// Why a single value was refused.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// The bytes end before the value does.
    #[error("the value is not complete")]
    Truncated,
    /// The bytes are not what they claim to be.
    #[error("{0}")]
    Corrupt(&'static str),
}

impl From<Stop> for ValueError {
    fn from(stop: Stop) -> ValueError {
        match stop {
            Stop::More => ValueError::Truncated,
            Stop::Bad(RdbError::Corrupt { what, .. }) => ValueError::Corrupt(what),
            Stop::Bad(_) => ValueError::Corrupt("corrupt value"),
        }
    }
}

/// The number that a text starts with: Valkey reads such texts with C's `sscanf`, which does not mind what follows.
fn number_in_front(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii_start();
    (1..=text.len()).rev().find_map(|len| std::str::from_utf8(&text[..len]).ok()?.parse().ok())
}

/// Reads the parts of one value that lies in memory.
pub struct ValueReader<'a> {
    cursor: Cursor<'a>,
}

impl<'a> ValueReader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> ValueReader<'a> {
        ValueReader { cursor: Cursor { bytes, at: 0, base: 0 } }
    }

    /// A length or other number.
    pub fn number(&mut self) -> Result<u64, ValueError> {
        Ok(self.cursor.len()?)
    }

    /// How many parts of at least `bytes_min` bytes follow: more than there can be are refused, so that the answer may be
    /// used to reserve room.
    pub fn count(&mut self, bytes_min: usize) -> Result<usize, ValueError> {
        let count = self.number()?;
        let most = self.rest().len() / bytes_min.max(1);
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or(ValueError::Truncated)
    }

    /// A string.
    pub fn text(&mut self) -> Result<Text<'a>, ValueError> {
        Ok(self.cursor.string()?)
    }

    /// A string's bytes.
    pub fn bytes(&mut self) -> Result<Cow<'a, [u8]>, ValueError> {
        Ok(self.text()?.into_cow())
    }

    /// `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ValueError> {
        Ok(self.cursor.array()?)
    }

    /// A double, as it is in memory.
    pub fn double(&mut self) -> Result<f64, ValueError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A double as text, the form of old sorted sets.
    pub fn old_double(&mut self) -> Result<f64, ValueError> {
        Ok(match self.cursor.byte()? {
            255 => f64::NEG_INFINITY,
            254 => f64::INFINITY,
            253 => f64::NAN,
            len => number_in_front(self.cursor.take(usize::from(len))?)
                .ok_or(ValueError::Corrupt("a score is not a number"))?,
        })
    }

    /// Unix milliseconds, or a negative number for none.
    pub fn millis(&mut self) -> Result<i64, ValueError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.cursor.bytes[self.cursor.at..]
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! Incremental request parser: RESP arrays of bulk strings and inline commands.
//!
//! Zero copy: arguments are slices of the caller's input buffer. The caller passes the buffer from
//! the first byte of the request each time; for a request that is not complete yet, the parser
//! remembers how far it got, so that a huge request costs linear time however it is cut.

use crate::inline::{is_space, split_args};
use crate::num;
use memchr::memchr;

/// Arguments of one or more requests, as slices of the input.
pub type ArgVec<'b> = Vec<&'b [u8]>;

/// Empties `argv` and gives it another lifetime, so that its allocation outlives the buffer it
/// pointed into.
pub fn recycle<'new>(mut argv: ArgVec<'_>) -> ArgVec<'new> {
    argv.clear();
    // The standard library collects a vector's own iterator in place; there is nothing to map.
    argv.into_iter().map(|_| -> &'new [u8] { &[] }).collect()
}

/// What a connection may send.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Longest bulk string (`proto-max-bulk-len`).
    pub bulk_len_max: u64,
    /// Most arguments in one request.
    pub multibulk_max: i64,
    /// Longest inline request or header line without its end.
    pub inline_max: usize,
    /// Whether the client has not authenticated: a few short arguments only.
    pub unauthenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bulk_len_max: 512 * 1024 * 1024,
            multibulk_max: i32::MAX as i64,
            inline_max: 64 * 1024,
            unauthenticated: false,
        }
    }
}

const UNAUTHENTICATED_MULTIBULK_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_LEN_MAX: i64 = 16384;

/// Why a connection is closed. `Display` is the text after `ERR `.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The count after `*` is not a number or too large.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// More than ten arguments before authentication.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// The length after `$` is not a number, negative or too large.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// A long argument before authentication.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// A `*` line without end.
    #[error("Protocol error: too big mbulk count string")]
    TooBigMultibulkCount,
    /// A `$` line without end.
    #[error("Protocol error: too big bulk count string")]
    TooBigBulkCount,
    /// An inline request without end.
    #[error("Protocol error: too big inline request")]
    TooBigInline,
    /// An argument that does not start with `$`.
    #[error("Protocol error: expected '$', got '{}'", *.0 as char)]
    ExpectedDollar(u8),
    /// Quotes of an inline request do not match.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A line or an argument does not end with CR LF.
    #[error("Protocol error: invalid CRLF in request")]
    InvalidCrlf,
}

/// What one call of [`Parser::parse`] found.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Step {
    /// A request; its arguments were appended to `argv`.
    Complete {
        /// Bytes of the request.
        consumed: usize,
    },
    /// An inline request with quotes: its arguments are not slices of the input. Rare (people
    /// typing into a terminal).
    Owned {
        /// Bytes of the request.
        consumed: usize,
        /// The arguments.
        args: Vec<Vec<u8>>,
    },
    /// More bytes are needed.
    Incomplete {
        /// At least this many more bytes are missing; 1 if unknown.
        need_hint: usize,
    },
    /// An empty line or an array of no elements: nothing to do.
    Empty {
        /// Bytes to skip.
        consumed: usize,
    },
}

/// State of one partially received request.
#[derive(Debug, Default)]
pub struct Parser {
    /// Arguments of the partial request, as ranges from its first byte.
    done: Vec<(usize, usize)>,
    /// Where to go on, from the first byte of the request.
    position: usize,
    /// Arguments still missing; 0 if the header was not read yet.
    missing: usize,
    /// Length of the argument whose header was read.
    bulk_len: Option<usize>,
    /// Up to where a line end was searched in vain.
    searched: usize,
}

impl Parser {
    /// A parser at the start of a request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a request was begun and not completed.
    pub fn is_partial(&self) -> bool {
        self.missing > 0 || self.searched > 0
    }

    /// Forgets a partial request.
    pub fn reset(&mut self) {
        self.done.clear();
        self.done.shrink_to(64);
        self.position = 0;
        self.missing = 0;
        self.bulk_len = None;
        self.searched = 0;
    }

    /// Parses one request from the start of `input`. On `Complete` its arguments were appended to
    /// `argv`; otherwise `argv` is as it was. On `Incomplete` the next call must pass the same
    /// bytes again, with more behind them. On an error the connection must be closed.
    #[inline]
    pub fn parse<'b>(
        &mut self,
        input: &'b [u8],
        limits: &Limits,
        argv: &mut ArgVec<'b>,
    ) -> Result<Step, ProtocolError> {
        match input.first() {
            None => Ok(Step::Incomplete { need_hint: 1 }),
            Some(b'*') => self.parse_array(input, limits, argv),
            Some(_) => self.parse_inline(input, limits, argv),
        }
    }

    fn parse_array<'b>(
        &mut self,
        input: &'b [u8],
        limits: &Limits,
        argv: &mut ArgVec<'b>,
    ) -> Result<Step, ProtocolError> {
        let argv_start = argv.len();
        let mut at = self.position;
        let mut missing = self.missing;
        if missing == 0 {
            let Some((count, next)) = self.line_number(input, 0) else {
                return self.wait_for_line(input, 0, limits, ProtocolError::TooBigMultibulkCount);
            };
            // Before the number, as Valkey looks.
            if input[next - 1] != b'\n' {
                return Err(ProtocolError::InvalidCrlf);
            }
            let count = count.ok_or(ProtocolError::InvalidMultibulkLength)?;
            if count > limits.multibulk_max {
                return Err(ProtocolError::InvalidMultibulkLength);
            }
            if limits.unauthenticated && count > UNAUTHENTICATED_MULTIBULK_MAX {
                return Err(ProtocolError::UnauthenticatedMultibulkLength);
            }
            if count <= 0 {
                self.reset();
                return Ok(Step::Empty { consumed: next });
            }
            missing = count as usize;
            at = next;
            // A hostile count must not reserve memory; this covers every ordinary command.
            argv.reserve(missing.min(64));
        }
        let mut bulk_len = self.bulk_len;
        while missing > 0 {
            let len = match bulk_len {
                Some(len) => len,
                None => {
                    let Some((len, next)) = self.line_number(input, at) else {
                        if input.get(at).is_some_and(|&b| b != b'$')
                            && memchr(b'\r', &input[at..]).is_some_and(|cr| at + cr + 1 < input.len())
                        {
                            return Err(ProtocolError::ExpectedDollar(input[at]));
                        }
                        self.save(input, at, missing, None, argv, argv_start);
                        return self.wait_for_line(input, at, limits, ProtocolError::TooBigBulkCount);
                    };
                    if input[at] != b'$' {
                        return Err(ProtocolError::ExpectedDollar(input[at]));
                    }
                    if input[next - 1] != b'\n' {
                        return Err(ProtocolError::InvalidCrlf);
                    }
                    let len = len.ok_or(ProtocolError::InvalidBulkLength)?;
                    if len < 0 || len as u64 > limits.bulk_len_max {
                        return Err(ProtocolError::InvalidBulkLength);
                    }
                    if limits.unauthenticated && len > UNAUTHENTICATED_BULK_LEN_MAX {
                        return Err(ProtocolError::UnauthenticatedBulkLength);
                    }
                    at = next;
                    len as usize
                }
            };
            let end = at + len + 2;
            if input.len() < end {
                self.save(input, at, missing, Some(len), argv, argv_start);
                return Ok(Step::Incomplete { need_hint: end - input.len() });
            }
            if input[end - 2..end] != *b"\r\n" {
                return Err(ProtocolError::InvalidCrlf);
            }
            argv.push(&input[at..at + len]);
            bulk_len = None;
            at = end;
            missing -= 1;
        }
        if !self.done.is_empty() {
            let fresh = argv.len() - argv_start;
            argv.extend(self.done.iter().map(|&(from, to)| &input[from..to]));
            // The saved arguments come first.
            argv[argv_start..].rotate_left(fresh);
        }
        if self.is_partial() {
            self.reset();
        }
        Ok(Step::Complete { consumed: at })
    }

    /// Reads the number of the header line at `at` (one kind byte, digits, CR LF). `None` if the
    /// line is not complete; the inner `None` if it is not a number.
    #[inline]
    fn line_number(&self, input: &[u8], at: usize) -> Option<(Option<i64>, usize)> {
        // Nearly all lengths have one or two digits.
        if let Some(&[_, digit, b'\r', _]) = input.get(at..at + 4)
            && digit.is_ascii_digit()
        {
            return Some((Some((digit - b'0') as i64), at + 4));
        }
        if let Some(&[_, tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', _]) = input.get(at..at + 5) {
            return Some((Some((tens - b'0') as i64 * 10 + (ones - b'0') as i64), at + 5));
        }
        let from = at.max(self.searched);
        let cr = from + memchr(b'\r', input.get(from..)?)?;
        if cr + 1 >= input.len() {
            return None;
        }
        Some((num::parse_i64(input.get(at + 1..cr).unwrap_or(b"")), cr + 2))
    }

    fn wait_for_line(
        &mut self,
        input: &[u8],
        at: usize,
        limits: &Limits,
        too_big: ProtocolError,
    ) -> Result<Step, ProtocolError> {
        // A CR may be the last byte: it is looked at again when its LF is there.
        self.searched = input.len() - usize::from(input.last() == Some(&b'\r'));
        if input.len() - at > limits.inline_max {
            return Err(too_big);
        }
        Ok(Step::Incomplete { need_hint: 1 })
    }

    /// Keeps the progress of a request that is not complete, and takes its arguments out of `argv`.
    fn save(
        &mut self,
        input: &[u8],
        at: usize,
        missing: usize,
        bulk_len: Option<usize>,
        argv: &mut ArgVec<'_>,
        argv_start: usize,
    ) {
        let base = input.as_ptr() as usize;
        for arg in argv.drain(argv_start..) {
            let from = arg.as_ptr() as usize - base;
            self.done.push((from, from + arg.len()));
        }
        self.position = at;
        self.missing = missing;
        self.bulk_len = bulk_len;
        self.searched = at;
    }

    fn parse_inline<'b>(
        &mut self,
        input: &'b [u8],
        limits: &Limits,
        argv: &mut ArgVec<'b>,
    ) -> Result<Step, ProtocolError> {
        let Some(newline) = memchr(b'\n', &input[self.searched..]) else {
            if input.len() > limits.inline_max {
                return Err(ProtocolError::TooBigInline);
            }
            self.searched = input.len();
            return Ok(Step::Incomplete { need_hint: 1 });
        };
        let newline = self.searched + newline;
        self.searched = 0;
        let consumed = newline + 1;
        let line = input[..newline].strip_suffix(b"\r").unwrap_or(&input[..newline]);
        if line.iter().any(|b| matches!(b, b'"' | b'\'' | 0 | 0x0b | 0x0c)) {
            let args = split_args(line).ok_or(ProtocolError::UnbalancedQuotes)?;
            if args.is_empty() {
                return Ok(Step::Empty { consumed });
            }
            return Ok(Step::Owned { consumed, args });
        }
        let before = argv.len();
        argv.extend(line.split(|&b| is_space(b)).filter(|arg| !arg.is_empty()));
        if argv.len() == before {
            return Ok(Step::Empty { consumed });
        }
        Ok(Step::Complete { consumed })
    }
}

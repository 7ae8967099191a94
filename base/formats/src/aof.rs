// SPDX-License-Identifier: BSD-3-Clause
//! AOF: a log of commands, each a RESP array of bulk strings, with `#` lines as annotations.
//!
//! The replication stream is the same grammar, so the replica reads it with [`AofReader`] too. The reader is fed
//! bytes as they arrive and says where the last complete record ends, so that a torn tail can be cut off. It knows
//! nothing of files or of what commands mean. Layout: `docs/formats/aof.md`.

use std::ops::Range;

/// Most arguments of one command (Valkey: `1024*1024` for clients, but a rewritten AOF may batch; the type's limit).
const ARGS_MAX: u64 = 1024 * 1024 * 16;
/// Longest argument.
const ARG_BYTES_MAX: u64 = 4 << 30;
/// Longest annotation or inline line.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Appends one command.
pub fn encode_command<A: AsRef<[u8]>>(out: &mut Vec<u8>, args: &[A]) {
    put_header(out, b'*', args.len());
    for arg in args {
        let arg = arg.as_ref();
        put_header(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends one annotation line. `text` must not contain a line break.
pub fn encode_annotation(out: &mut Vec<u8>, text: &[u8]) {
    debug_assert!(!text.contains(&b'\n') && !text.contains(&b'\r'));
    out.push(b'#');
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// Bytes that [`encode_command`] will write.
pub fn encoded_len<A: AsRef<[u8]>>(args: &[A]) -> usize {
    let digits = |n: usize| n.checked_ilog10().unwrap_or(0) as usize + 1;
    3 + digits(args.len()) + args.iter().map(|a| a.as_ref().len()).map(|n| n + digits(n) + 5).sum::<usize>()
}

fn put_header(out: &mut Vec<u8>, kind: u8, n: usize) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut n = n;
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Why a log was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("bad AOF format at byte {offset}: {what}")]
pub struct AofError {
    /// Where the bad record starts.
    pub offset: u64,
    pub what: &'static str,
}

/// One record; borrows from the reader.
#[derive(Debug, Eq, PartialEq)]
pub enum AofItem<'a> {
    /// Arguments, the name first; and the record exactly as it was read.
    Command { args: Vec<&'a [u8]>, raw: &'a [u8] },
    /// The text after `#`, without the line break; and the record exactly as it was read.
    Annotation { text: &'a [u8], raw: &'a [u8] },
    /// An empty line: a primary sends them to keep a link alive.
    Blank { raw: &'a [u8] },
}

/// How a log ends.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Tail {
    /// At the end of a record.
    Clean,
    /// In the middle of a record that starts at this byte.
    Torn { record_at: u64 },
}

/// A log being read.
#[derive(Default)]
pub struct AofReader {
    buf: Vec<u8>,
    /// Start of the record that is next, in `buf`.
    at: usize,
    /// Its offset since the beginning.
    offset: u64,
    /// How far that record was parsed already, so that a large one is not parsed again for each push.
    scan: Scan,
}

#[derive(Default)]
struct Scan {
    /// Relative to `at`.
    pos: usize,
    args_left: Option<u64>,
    /// Arguments so far, relative to `at`.
    args: Vec<Range<usize>>,
}

enum Found {
    Command,
    Annotation,
    Blank,
}

impl AofReader {
    pub fn new() -> AofReader {
        AofReader::default()
    }

    /// A reader of a log whose first byte has this offset (a replication stream that is taken up again).
    pub fn at_offset(offset: u64) -> AofReader {
        AofReader { offset, ..AofReader::default() }
    }

    /// Adds bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buf.drain(..self.at);
            self.at = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next record; `None` if more bytes are needed.
    // Not an iterator: `None` does not mean the end, and the item borrows.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<AofItem<'_>>, AofError> {
        let Some(found) = self.parse()? else { return Ok(None) };
        let start = self.at;
        let len = self.scan.pos;
        let ranges = std::mem::take(&mut self.scan.args);
        self.scan = Scan::default();
        self.at += len;
        self.offset += len as u64;
        let raw = &self.buf[start..start + len];
        Ok(Some(match found {
            Found::Command => AofItem::Command { args: ranges.into_iter().map(|r| &raw[r]).collect(), raw },
            Found::Annotation => AofItem::Annotation { text: raw[1..].trim_ascii_end(), raw },
            Found::Blank => AofItem::Blank { raw },
        }))
    }

    /// Where the next record starts: everything before it was complete.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What is left, if no more bytes will come.
    pub fn tail(&self) -> Tail {
        if self.at == self.buf.len() { Tail::Clean } else { Tail::Torn { record_at: self.offset } }
    }

    fn bad(&self, what: &'static str) -> AofError {
        AofError { offset: self.offset, what }
    }

    fn parse(&mut self) -> Result<Option<Found>, AofError> {
        let bytes = &self.buf[self.at..];
        if self.scan.args_left.is_none() {
            match bytes.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(n) = number(bytes, &mut self.scan.pos, ARGS_MAX).map_err(|w| self.bad(w))? else {
                        return Ok(None);
                    };
                    if n == 0 {
                        return Err(self.bad("empty command"));
                    }
                    self.scan.args_left = Some(n);
                }
                Some(first @ (b'#' | b'\r' | b'\n')) => {
                    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
                        return if bytes.len() > LINE_BYTES_MAX { Err(self.bad("line too long")) } else { Ok(None) };
                    };
                    if *first == b'\r' && end != 1 {
                        return Err(self.bad("expected '*' or '#'"));
                    }
                    self.scan.pos = end + 1;
                    return Ok(Some(if *first == b'#' { Found::Annotation } else { Found::Blank }));
                }
                Some(_) => return Err(self.bad("expected '*' or '#'")),
            }
        }
        while let Some(left) = self.scan.args_left.filter(|left| *left > 0) {
            let mut pos = self.scan.pos;
            match bytes.get(pos) {
                None => return Ok(None),
                Some(b'$') => {}
                Some(_) => return Err(self.bad("expected '$'")),
            }
            let Some(len) = number(bytes, &mut pos, ARG_BYTES_MAX).map_err(|w| self.bad(w))? else {
                return Ok(None);
            };
            let end = pos + len as usize;
            let Some(line_break) = bytes.get(end..end + 2) else { return Ok(None) };
            if line_break != b"\r\n" {
                return Err(self.bad("argument is not followed by a line break"));
            }
            self.scan.args.push(pos..end);
            self.scan.pos = end + 2;
            self.scan.args_left = Some(left - 1);
        }
        Ok(Some(Found::Command))
    }
}

/// The number of a `*` or `$` line that starts at `pos`; moves `pos` behind the line.
fn number(bytes: &[u8], pos: &mut usize, max: u64) -> Result<Option<u64>, &'static str> {
    let mut n = 0u64;
    let mut at = *pos + 1;
    loop {
        match bytes.get(at) {
            None => return Ok(None),
            Some(d @ b'0'..=b'9') => n = n * 10 + u64::from(d - b'0'),
            Some(b'\r') if at > *pos + 1 => break,
            Some(_) => return Err("expected a number"),
        }
        if n > max {
            return Err("number out of range");
        }
        at += 1;
    }
    match bytes.get(at + 1) {
        None => Ok(None),
        Some(b'\n') => {
            *pos = at + 2;
            Ok(Some(n))
        }
        Some(_) => Err("expected a line break"),
    }
}

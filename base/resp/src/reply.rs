// SPDX-License-Identifier: BSD-3-Clause
//! The one way replies are written: a growable buffer that knows the client's protocol.
//!
//! RESP3 types fall back to their RESP2 form as Valkey does. Nothing here checks that the counts
//! given in headers match what follows; the tests of the commands do.

use crate::num;

/// Protocol version of a connection.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum Proto {
    /// RESP2, the default of a new connection.
    #[default]
    Resp2,
    /// RESP3, chosen by `HELLO 3`.
    Resp3,
}

/// Where a deferred header was left out; see [`ReplyBuf::array_deferred`].
#[derive(Copy, Clone, Debug)]
#[must_use = "a deferred header must be finished"]
pub struct Mark(usize);

/// A buffer of encoded replies.
#[derive(Debug, Default)]
pub struct ReplyBuf {
    bytes: Vec<u8>,
    proto: Proto,
}

impl ReplyBuf {
    /// An empty buffer that writes `proto`.
    pub fn new(proto: Proto) -> Self {
        Self { bytes: Vec::new(), proto }
    }

    /// Wraps an existing allocation.
    pub fn from_vec(bytes: Vec<u8>, proto: Proto) -> Self {
        Self { bytes, proto }
    }

    /// Changes the protocol of what is written from here on.
    pub fn set_proto(&mut self, proto: Proto) {
        self.proto = proto;
    }

    /// The protocol in use.
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// All bytes written.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of bytes written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets what was written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Forgets everything, keeps the allocation.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Hands the bytes out and leaves an empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Drops the first `count` bytes (they were sent).
    pub fn consume(&mut self, count: usize) {
        self.bytes.drain(..count);
    }

    /// Bytes the allocation can hold.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends bytes that are RESP already.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    #[inline]
    fn header(&mut self, kind: u8, n: u64) {
        if n < 10 {
            self.bytes.extend_from_slice(&[kind, b'0' + n as u8, b'\r', b'\n']);
            return;
        }
        let mut digits = itoa::Buffer::new();
        self.bytes.push(kind);
        self.bytes.extend_from_slice(digits.format(n).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// `+text`. The text must not contain line breaks.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        self.bytes.push(b'+');
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// `:n`.
    #[inline]
    pub fn int(&mut self, n: i64) {
        let mut digits = itoa::Buffer::new();
        self.bytes.push(b':');
        self.bytes.extend_from_slice(digits.format(n).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len() + 24);
        self.header(b'$', bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// A bulk string that holds a decimal integer.
    #[inline]
    pub fn bulk_int(&mut self, n: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(n).as_bytes());
    }

    /// The null reply where a bulk string was expected.
    #[inline]
    pub fn null(&mut self) {
        match self.proto {
            Proto::Resp2 => self.raw(b"$-1\r\n"),
            Proto::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// The null reply where an array was expected.
    #[inline]
    pub fn null_array(&mut self) {
        match self.proto {
            Proto::Resp2 => self.raw(b"*-1\r\n"),
            Proto::Resp3 => self.raw(b"_\r\n"),
        }
    }

    /// Header of an array of `n` elements.
    #[inline]
    pub fn array(&mut self, n: usize) {
        self.header(b'*', n as u64);
    }

    /// Header of a map of `n` pairs; in RESP2 an array of `2n`.
    pub fn map(&mut self, n: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', 2 * n as u64),
            Proto::Resp3 => self.header(b'%', n as u64),
        }
    }

    /// Header of a set of `n` members; in RESP2 an array.
    pub fn set(&mut self, n: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', n as u64),
            Proto::Resp3 => self.header(b'~', n as u64),
        }
    }

    /// Header of a push message of `n` elements; in RESP2 an array.
    pub fn push(&mut self, n: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', n as u64),
            Proto::Resp3 => self.header(b'>', n as u64),
        }
    }

    /// A double; in RESP2 a bulk string with the same digits.
    pub fn double(&mut self, value: f64) {
        let mut text = num::FloatBuf::new();
        let digits = text.format(value);
        match self.proto {
            Proto::Resp2 => self.bulk(digits.as_bytes()),
            Proto::Resp3 => {
                self.bytes.push(b',');
                self.bytes.extend_from_slice(digits.as_bytes());
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A boolean; in RESP2 `:1` or `:0`.
    pub fn boolean(&mut self, value: bool) {
        let bytes: &[u8] = match (self.proto, value) {
            (Proto::Resp2, true) => b":1\r\n",
            (Proto::Resp2, false) => b":0\r\n",
            (Proto::Resp3, true) => b"#t\r\n",
            (Proto::Resp3, false) => b"#f\r\n",
        };
        self.raw(bytes);
    }

    /// A number of any size given as its digits; in RESP2 a bulk string.
    pub fn big_number(&mut self, digits: &str) {
        match self.proto {
            Proto::Resp2 => self.bulk(digits.as_bytes()),
            Proto::Resp3 => {
                self.bytes.push(b'(');
                self.bytes.extend_from_slice(digits.as_bytes());
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Text with a three-letter format name; in RESP2 a bulk string of the text.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(format.len(), 3);
        match self.proto {
            Proto::Resp2 => self.bulk(text),
            Proto::Resp3 => {
                self.header(b'=', text.len() as u64 + 4);
                self.bytes.extend_from_slice(format.as_bytes());
                self.bytes.push(b':');
                self.bytes.extend_from_slice(text);
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// An error line. `text` starts with the code and has no `-`; line breaks in it become spaces.
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// Like [`ReplyBuf::error`] for text that echoes what a client sent.
    pub fn error_bytes(&mut self, text: &[u8]) {
        self.bytes.push(b'-');
        self.bytes.extend(text.iter().map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Starts an array whose length is not known yet.
    pub fn array_deferred(&mut self) -> Mark {
        Mark(self.bytes.len())
    }

    /// Writes the header that [`ReplyBuf::array_deferred`] left out. Moves what follows it, so it
    /// costs a copy of that.
    pub fn finish_array(&mut self, mark: Mark, n: usize) {
        self.finish_with(mark, b'*', n);
    }

    /// Like [`ReplyBuf::finish_array`] for a map of `n` pairs.
    pub fn finish_map(&mut self, mark: Mark, n: usize) {
        match self.proto {
            Proto::Resp2 => self.finish_with(mark, b'*', 2 * n),
            Proto::Resp3 => self.finish_with(mark, b'%', n),
        }
    }

    /// Like [`ReplyBuf::finish_array`] for a set.
    pub fn finish_set(&mut self, mark: Mark, n: usize) {
        match self.proto {
            Proto::Resp2 => self.finish_with(mark, b'*', n),
            Proto::Resp3 => self.finish_with(mark, b'~', n),
        }
    }

    fn finish_with(&mut self, mark: Mark, kind: u8, n: usize) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(n).as_bytes();
        let header = digits.len() + 3;
        let end = self.bytes.len();
        self.bytes.resize(end + header, 0);
        self.bytes.copy_within(mark.0..end, mark.0 + header);
        let gap = &mut self.bytes[mark.0..mark.0 + header];
        gap[0] = kind;
        gap[1..=digits.len()].copy_from_slice(digits);
        gap[header - 2..].copy_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::{Proto, ReplyBuf};

    fn check(write: impl Fn(&mut ReplyBuf), resp2: &str, resp3: &str) {
        for (proto, expected) in [(Proto::Resp2, resp2), (Proto::Resp3, resp3)] {
            let mut reply = ReplyBuf::new(proto);
            write(&mut reply);
            assert_eq!(String::from_utf8_lossy(reply.as_slice()), expected);
        }
    }

    #[test]
    fn every_type_in_both_protocols() {
        check(|r| r.simple("PONG"), "+PONG\r\n", "+PONG\r\n");
        check(ReplyBuf::ok, "+OK\r\n", "+OK\r\n");
        check(|r| r.int(-12), ":-12\r\n", ":-12\r\n");
        check(|r| r.bulk(b"ab"), "$2\r\nab\r\n", "$2\r\nab\r\n");
        check(|r| r.bulk(b"0123456789a"), "$11\r\n0123456789a\r\n", "$11\r\n0123456789a\r\n");
        check(|r| r.bulk_int(100), "$3\r\n100\r\n", "$3\r\n100\r\n");
        check(ReplyBuf::null, "$-1\r\n", "_\r\n");
        check(ReplyBuf::null_array, "*-1\r\n", "_\r\n");
        check(|r| r.array(12), "*12\r\n", "*12\r\n");
        check(|r| r.map(3), "*6\r\n", "%3\r\n");
        check(|r| r.set(3), "*3\r\n", "~3\r\n");
        check(|r| r.push(3), "*3\r\n", ">3\r\n");
        check(|r| r.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
        check(|r| r.double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
        check(|r| r.boolean(true), ":1\r\n", "#t\r\n");
        check(|r| r.boolean(false), ":0\r\n", "#f\r\n");
        check(|r| r.big_number("123"), "$3\r\n123\r\n", "(123\r\n");
        check(|r| r.verbatim("txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        check(|r| r.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n");
    }

    #[test]
    fn deferred_headers() {
        check(
            |r| {
                let outer = r.array_deferred();
                r.int(1);
                let inner = r.array_deferred();
                r.finish_map(inner, 0);
                r.finish_array(outer, 2);
            },
            "*2\r\n:1\r\n*0\r\n",
            "*2\r\n:1\r\n%0\r\n",
        );
    }
}

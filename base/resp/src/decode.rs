// SPDX-License-Identifier: BSD-3-Clause
//! Decoding replies on the client's side: tests, the demo, the differential harness, and links to
//! other nodes. Not on any hot path.

/// One decoded reply.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `+text`
    Simple(String),
    /// `-text`, without the `-`
    Error(String),
    /// `:n`
    Int(i64),
    /// `$`; `None` is RESP2's null bulk string
    Bulk(Option<Vec<u8>>),
    /// `*`; `None` is RESP2's null array
    Array(Option<Vec<Value>>),
    /// `_`
    Null,
    /// `%`
    Map(Vec<(Value, Value)>),
    /// `~`
    Set(Vec<Value>),
    /// `>`
    Push(Vec<Value>),
    /// `,`
    Double(f64),
    /// `#`
    Bool(bool),
    /// `(`
    BigNumber(String),
    /// `=`: format and text
    Verbatim(String, Vec<u8>),
}

/// Bytes that are not a reply.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("not a RESP reply at byte {at}")]
pub struct DecodeError {
    /// Position of the element that could not be read.
    pub at: usize,
}

const DEPTH_MAX: usize = 64;

/// Decodes one reply from the start of `input`: the value and its length, or `None` if it is not
/// complete.
pub fn decode(input: &[u8]) -> Result<Option<(Value, usize)>, DecodeError> {
    let mut reader = Reader { input, at: 0 };
    match reader.value(0) {
        Ok(value) => Ok(Some((value, reader.at))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Invalid) => Err(DecodeError { at: reader.at }),
    }
}

/// Decodes all complete replies in `input`.
pub fn decode_all(input: &[u8]) -> Result<Vec<Value>, DecodeError> {
    let mut values = Vec::new();
    let mut at = 0;
    while let Some((value, len)) = decode(&input[at..])? {
        values.push(value);
        at += len;
    }
    Ok(values)
}

enum Stop {
    Incomplete,
    Invalid,
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.input[self.at..];
        let end = memchr::memmem::find(rest, b"\r\n").ok_or(Stop::Incomplete)?;
        self.at += end + 2;
        Ok(&rest[..end])
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let rest = &self.input[self.at..];
        let total = len.checked_add(2).ok_or(Stop::Invalid)?;
        if rest.len() < total {
            return Err(Stop::Incomplete);
        }
        if &rest[len..total] != b"\r\n" {
            return Err(Stop::Invalid);
        }
        self.at += total;
        Ok(&rest[..len])
    }

    fn values(&mut self, count: usize, depth: usize) -> Result<Vec<Value>, Stop> {
        (0..count).map(|_| self.value(depth + 1)).collect()
    }

    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        if depth > DEPTH_MAX {
            return Err(Stop::Invalid);
        }
        let line = self.line()?;
        let (&kind, rest) = line.split_first().ok_or(Stop::Invalid)?;
        let text = || String::from_utf8_lossy(rest).into_owned();
        let length = || -> Result<Option<usize>, Stop> {
            if rest == b"-1" {
                return Ok(None);
            }
            let n = crate::num::parse_u64(rest).ok_or(Stop::Invalid)?;
            usize::try_from(n).map(Some).map_err(|_| Stop::Invalid)
        };
        let count = || length()?.ok_or(Stop::Invalid);
        Ok(match kind {
            b'+' => Value::Simple(text()),
            b'-' => Value::Error(text()),
            b':' => {
                let digits = rest.strip_prefix(b"+").unwrap_or(rest);
                Value::Int(crate::num::parse_i64(digits).ok_or(Stop::Invalid)?)
            }
            b'$' => match length()? {
                None => Value::Bulk(None),
                Some(len) => Value::Bulk(Some(self.bytes(len)?.to_vec())),
            },
            b'*' => match length()? {
                None => Value::Array(None),
                Some(n) => Value::Array(Some(self.values(n, depth)?)),
            },
            b'_' => Value::Null,
            b'%' => {
                let mut pairs = Vec::new();
                for _ in 0..count()? {
                    pairs.push((self.value(depth + 1)?, self.value(depth + 1)?));
                }
                Value::Map(pairs)
            }
            b'~' => Value::Set(self.values(count()?, depth)?),
            b'>' => Value::Push(self.values(count()?, depth)?),
            b',' => match rest {
                b"nan" | b"-nan" => Value::Double(f64::NAN),
                _ => Value::Double(crate::num::parse_f64(rest).ok_or(Stop::Invalid)?),
            },
            b'#' => Value::Bool(rest == b"t"),
            b'(' => Value::BigNumber(text()),
            b'=' => {
                let bytes = self.bytes(count()?)?;
                let (format, text) = bytes.split_at_checked(4).ok_or(Stop::Invalid)?;
                Value::Verbatim(String::from_utf8_lossy(&format[..3]).into_owned(), text.to_vec())
            }
            _ => return Err(Stop::Invalid),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, decode, decode_all};

    #[test]
    fn every_type_and_its_prefixes() {
        let bulk = |text: &str| Value::Bulk(Some(text.as_bytes().to_vec()));
        for (input, expected) in [
            ("+OK\r\n", Value::Simple("OK".into())),
            ("-ERR x y\r\n", Value::Error("ERR x y".into())),
            (":-5\r\n", Value::Int(-5)),
            ("$2\r\n\r\n\r\n", bulk("\r\n")),
            ("$-1\r\n", Value::Bulk(None)),
            ("*-1\r\n", Value::Array(None)),
            ("*2\r\n$1\r\na\r\n*0\r\n", Value::Array(Some(vec![bulk("a"), Value::Array(Some(vec![]))]))),
            ("_\r\n", Value::Null),
            ("%1\r\n+k\r\n:1\r\n", Value::Map(vec![(Value::Simple("k".into()), Value::Int(1))])),
            ("~1\r\n:1\r\n", Value::Set(vec![Value::Int(1)])),
            (">1\r\n:1\r\n", Value::Push(vec![Value::Int(1)])),
            (",1.5\r\n", Value::Double(1.5)),
            (",-inf\r\n", Value::Double(f64::NEG_INFINITY)),
            ("#t\r\n", Value::Bool(true)),
            ("(12345678901234567890\r\n", Value::BigNumber("12345678901234567890".into())),
            ("=6\r\ntxt:hi\r\n", Value::Verbatim("txt".into(), b"hi".to_vec())),
        ] {
            assert_eq!(decode(input.as_bytes()), Ok(Some((expected, input.len()))), "{input:?}");
            for end in 0..input.len() {
                assert_eq!(decode(&input.as_bytes()[..end]), Ok(None), "{:?}", &input[..end]);
            }
        }
        for bad in ["x\r\n", ":a\r\n", "$x\r\n", "$1\r\nabc\r\n", "%-1\r\n", "=2\r\nab\r\n", "\r\n"] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(decode("*1\r\n".repeat(100).as_bytes()).is_err());
        assert_eq!(decode_all(b"+a\r\n+b\r\n+c"), Ok(vec![Value::Simple("a".into()), Value::Simple("b".into())]));
    }
}

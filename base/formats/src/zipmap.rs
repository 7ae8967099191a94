// SPDX-License-Identifier: BSD-3-Clause
//! The zipmap, in which Redis 2.4 packed small hashes: validated, then iterated. Read only.
//!
//! ```text
//! u8 pairs (254: count them) · pairs · ff
//! pair: LEN field · LEN u8 spare · value · spare bytes         LEN: 1 byte below 254, or fe + u32 little-endian
//! ```
//! Called by the decoder of values in RDB images and DUMP payloads.

use crate::packed::Damaged;

const END: u8 = 0xff;
const LONG: u8 = 0xfe;

/// A field and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// The pairs of a zipmap, in order. An empty one is refused, as Valkey does; duplicate fields are for the caller to find.
pub fn parse(bytes: &[u8]) -> Result<Vec<Pair<'_>>, Damaged> {
    let [count, body @ .., END] = bytes else { return Err(Damaged) };
    let mut pairs = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let len = len(&mut rest)?;
        let field = take(&mut rest, len)?;
        let len = self::len(&mut rest)?;
        let spare = usize::from(take(&mut rest, 1)?[0]);
        let value = take(&mut rest, len)?;
        take(&mut rest, spare)?;
        pairs.push((field, value));
    }
    let counted = *count == LONG || usize::from(*count) == pairs.len();
    if pairs.is_empty() || !counted { Err(Damaged) } else { Ok(pairs) }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Damaged> {
    let (head, tail) = rest.split_at_checked(len).ok_or(Damaged)?;
    *rest = tail;
    Ok(head)
}

fn len(rest: &mut &[u8]) -> Result<usize, Damaged> {
    match take(rest, 1)?[0] {
        END => Err(Damaged),
        LONG => {
            let bytes = take(rest, 4)?;
            let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            // A short length has one form only.
            if len < u32::from(LONG) { Err(Damaged) } else { Ok(len as usize) }
        }
        short => Ok(usize::from(short)),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn pairs_and_damage() {
        let good = b"\x02\x03foo\x03\x02bar..\x05hello\x05\x00world\xff";
        assert_eq!(parse(good), Ok(vec![(&b"foo"[..], &b"bar"[..]), (b"hello", b"world")]));
        for bad in [
            &b""[..],
            b"\xff",
            b"\x00\xff",
            b"\x01\x03foo\x03\x02bar..\x05hello\x05\x00world\xff",
            b"\x02\x03foo\x03\x03bar..\x05hello\x05\x00world\xff",
            b"\x01\xfe\x03\x00\x00\x00foo\x03\x00bar\xff",
            b"\x01\xfe\xff\xff\xff\xfffoo\x03\x00bar\xff",
            b"\x01\x03foo\x03\x00bar",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}

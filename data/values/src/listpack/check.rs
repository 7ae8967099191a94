// SPDX-License-Identifier: BSD-3-Clause
//! Are these bytes a listpack? For bytes from RDB files and `RESTORE`, which may hold anything.

use super::entry::{data_len, read_tail, tail_len};
use super::{COUNT_UNKNOWN, END, HEAD, LISTPACK_BYTES_MAX};

/// The bytes are not a valid listpack.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct InvalidListPack;

impl std::fmt::Display for InvalidListPack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("invalid listpack")
    }
}

impl std::error::Error for InvalidListPack {}

/// Checks header, every entry in both directions, the end, and the count. O(bytes).
pub(super) fn check(bytes: &[u8]) -> Result<(), InvalidListPack> {
    let (&[a, b, c, d, e, f, ref entries @ ..], true) = (bytes, bytes.len() <= LISTPACK_BYTES_MAX) else {
        return Err(InvalidListPack);
    };
    const { assert!(HEAD == 6) };
    let [entries @ .., END] = entries else {
        return Err(InvalidListPack);
    };
    if u32::from_le_bytes([a, b, c, d]) as usize != bytes.len() {
        return Err(InvalidListPack);
    }
    let mut rest = entries;
    let mut count = 0usize;
    while !rest.is_empty() {
        let len = data_len(rest).ok_or(InvalidListPack)?;
        let whole = len.checked_add(tail_len(len)).ok_or(InvalidListPack)?;
        let entry = rest.get(..whole).ok_or(InvalidListPack)?;
        if read_tail(entry) != Some(len) {
            return Err(InvalidListPack);
        }
        rest = &rest[whole..];
        count += 1;
    }
    let said = u16::from_le_bytes([e, f]);
    if said != COUNT_UNKNOWN && usize::from(said) != count {
        return Err(InvalidListPack);
    }
    Ok(())
}

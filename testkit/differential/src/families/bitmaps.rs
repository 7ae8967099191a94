// SPDX-License-Identifier: BSD-3-Clause
//! Patterns of the family `bitmaps`.

use super::Family;

pub(super) const FAMILY: Family = Family { name: "bitmaps", places: &[], setup: &[], patterns: PATTERNS };

const PATTERNS: &[&str] = &[
    "SETBIT K O B",
    "GETBIT K O",
    "BITCOUNT K",
    "BITCOUNT K N N",
    "BITCOUNT K N N [BIT|BYTE|bit|x]",
    "BITCOUNT K N",
    "BITPOS K B",
    "BITPOS K B N",
    "BITPOS K B N N",
    "BITPOS K B N N [BIT|BYTE]",
    "BITOP [AND|OR|XOR|NOT|x] K K",
    "BITOP [AND|OR|XOR] K K K K",
    "BITFIELD K GET [u8|i8|i64|u63|u64|i1|x] O",
    "BITFIELD K SET [u8|i5|i64] [O|#O] N",
    "BITFIELD K INCRBY [u2|i3|i64|u63] [O|#O] N",
    "BITFIELD K OVERFLOW [WRAP|SAT|FAIL|x] INCRBY [u2|i8|i64] O N GET u4 0",
    "BITFIELD_RO K GET u8 O GET i4 #1",
    "BITFIELD_RO K SET u8 0 1",
    "SET K V",
    "GET K",
    "APPEND K V",
];

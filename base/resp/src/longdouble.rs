// SPDX-License-Identifier: BSD-3-Clause
//! Extended precision arithmetic of INCRBYFLOAT and HINCRBYFLOAT: x87 `long double`.

/// A finite number with a 64-bit significand.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct LongDouble {
    negative: bool,
    /// 0, or the top bit is set.
    significand: u64,
    /// value = significand * 2^exponent
    exponent: i32,
}

impl LongDouble {
    /// Parses what Valkey's `string2ld` takes (finite values only).
    pub fn parse(_text: &[u8]) -> Option<Self> {
        None
    }
    /// Sum, rounded to nearest even; `None` if it is not finite.
    pub fn checked_add(self, _other: Self) -> Option<Self> {
        None
    }
    /// Appends `%.17Lf` without trailing zeros.
    pub fn format(self, _out: &mut Vec<u8>) {}
}

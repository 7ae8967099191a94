// SPDX-License-Identifier: BSD-3-Clause
//! Numbers in text, by Valkey's rules: what clients send as arguments and what replies print.

use crate::grisu::{self, DIGITS_MAX};
use std::fmt::Write;

/// Parses a signed integer as Valkey's `string2ll`: no sign `+`, no leading zeros, no spaces, not
/// `-0`.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'0', ..] => return None,
        _ if digits.len() > 19 => return None,
        _ => {}
    }
    let mut value: u64 = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits fit in 64 bits without overflow.
        value = value * 10 + digit as u64;
    }
    if negative {
        (value <= i64::MAX as u64 + 1).then(|| (value as i64).wrapping_neg())
    } else {
        (value <= i64::MAX as u64).then_some(value as i64)
    }
}

/// Parses an unsigned integer with the same strictness.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [] => return None,
        [b'0'] => return Some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    text.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(digit as u64)
    })
}

/// Parses a double as Valkey's `string2d`: decimal or infinite, no leading space, not NaN, no
/// overflow or underflow, no hexadecimal form.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let first = *text.first()?;
    if crate::inline::is_space(first) {
        return None;
    }
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let magnitude = if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
        f64::INFINITY
    } else {
        if !rest.first().is_some_and(|b| b.is_ascii_digit() || *b == b'.') {
            return None;
        }
        let value: f64 = std::str::from_utf8(rest).ok()?.parse().ok()?;
        let mantissa = rest.split(|b| matches!(b, b'e' | b'E')).next().unwrap_or(rest);
        let is_zero = mantissa.iter().all(|b| matches!(b, b'0' | b'.'));
        // strtod reports a range error for these, and Valkey refuses it.
        if value.is_infinite() || (value == 0.0 && !is_zero) {
            return None;
        }
        value
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// Whole numbers up to this are printed as integers (half of the largest 64-bit integer).
const INTEGER_MAX: f64 = (i64::MAX / 2) as f64;

/// A place to format a double without allocating.
#[derive(Debug)]
pub struct FloatBuf {
    bytes: [u8; 40],
    len: usize,
}

impl Default for FloatBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for FloatBuf {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl FloatBuf {
    /// An empty one.
    pub fn new() -> Self {
        Self { bytes: [0; 40], len: 0 }
    }

    /// A text that reads back as `value`, nearly always the shortest, with the digits and in the layout of Valkey's `fpconv`, but whole numbers in full.
    pub fn format(&mut self, value: f64) -> &str {
        self.write(value, true)
    }

    /// [`format`](Self::format) with large whole numbers in the layout of `fpconv` as well.
    pub fn format_shortest(&mut self, value: f64) -> &str {
        self.write(value, false)
    }

    fn write(&mut self, value: f64, whole_in_full: bool) -> &str {
        self.len = 0;
        // Writing cannot fail: the longest layout is below 30 bytes.
        let _ = self.write_float(value, whole_in_full);
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }

    fn write_float(&mut self, value: f64, whole_in_full: bool) -> std::fmt::Result {
        if value.is_nan() {
            return self.write_str("nan");
        }
        if value.is_infinite() {
            return self.write_str(if value > 0.0 { "inf" } else { "-inf" });
        }
        if value == 0.0 && value.is_sign_negative() {
            return self.write_str("-0");
        }
        if value == 0.0 {
            return self.write_str("0");
        }
        if whole_in_full && value.abs() <= INTEGER_MAX && value == value.trunc() {
            return write!(self, "{}", value as i64);
        }
        if value < 0.0 {
            self.write_str("-")?;
        }
        let mut digits = [0; DIGITS_MAX + 1];
        // value = digits * 10^power
        let (count, power) = grisu::digits(value.abs(), &mut digits);
        let digits = std::str::from_utf8(&digits[..count]).unwrap_or("0");
        let count = count as i32;
        let exponent = power + count - 1;
        if power >= 0 && exponent.abs() < count + 7 {
            self.write_str(digits)?;
            return (0..power).try_for_each(|_| self.write_str("0"));
        }
        if power < 0 && (power > -7 || exponent.abs() < 4) {
            let whole = count + power;
            if whole <= 0 {
                self.write_str("0.")?;
                (0..-whole).try_for_each(|_| self.write_str("0"))?;
                return self.write_str(digits);
            }
            let (whole, fraction) = digits.split_at(whole as usize);
            return write!(self, "{whole}.{fraction}");
        }
        let (head, tail) = digits.split_at(1);
        self.write_str(head)?;
        if !tail.is_empty() {
            write!(self, ".{tail}")?;
        }
        write!(self, "e{}{}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
    }
}

/// Formats a double for a reply into a fresh string; see [`FloatBuf`] for hot paths.
pub fn format_f64(value: f64) -> String {
    FloatBuf::new().format(value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{FloatBuf, format_f64, parse_f64, parse_i64, parse_u64};

    #[test]
    fn integers_are_strict() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("-0", None),
            ("00", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("-", None),
            ("1a", None),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"-1"), None);
    }

    #[test]
    fn large_whole_numbers_in_both_layouts() {
        for (value, full, shortest) in [
            (0.0, "0", "0"),
            (3.0, "3", "3"),
            (-0.0, "-0", "-0"),
            (1e7, "10000000", "10000000"),
            (1e10, "10000000000", "1e+10"),
            (123_456e10, "1234560000000000", "1.23456e+15"),
            (0.5, "0.5", "0.5"),
        ] {
            let mut text = FloatBuf::new();
            assert_eq!((text.format(value), FloatBuf::new().format_shortest(value)), (full, shortest));
        }
    }

    #[test]
    fn floats_in() {
        for (text, expected) in [
            ("1", Some(1.0)),
            ("-1.5e3", Some(-1500.0)),
            ("+2", Some(2.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("0x10", None),
            ("-.5", Some(-0.5)),
            ("1.e3", Some(1000.0)),
            ("+inf", Some(f64::INFINITY)),
            ("infinit", None),
            ("1e-320", Some(1e-320)),
            ("1_0", None),
            (".", None),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("nan", None),
            ("1e400", None),
            ("1e-400", None),
            ("0e5", Some(0.0)),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("+-1", None),
            ("e5", None),
            ("0x", None),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn floats_out() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (4611686018427387904.0, "4611686018427387904"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (1e20, "1e+20"),
            (1e7, "10000000"),
            (1e8, "100000000"),
            (1e17, "100000000000000000"),
            (1234567890123456789.0, "1234567890123456768"),
            (0.00001234, "1.234e-5"),
            (4e18, "4000000000000000000"),
            (-4.7e18, "-4.7e+18"),
            (123456789.0, "123456789"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (3.0e100, "3e+100"),
            (0.30000000000000004, "0.30000000000000004"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_f64(value), expected);
        }
    }
}

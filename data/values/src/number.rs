// SPDX-License-Identifier: BSD-3-Clause
//! Integers as text, in the one spelling that may be stored as a number.
//!
//! Not here: the parsing of command arguments (`pando-resp`). Called by the rule that picks a string's encoding.

/// The longest canonical text of an `i64`: `-9223372036854775808`.
pub const INT_TEXT_LEN_MAX: usize = 20;

/// The integer whose canonical text is `text`: no sign but `-`, no leading zeros, no spaces. Only such text may be stored
/// as an integer, because reading it back must give the same bytes.
#[inline]
pub fn parse_canonical_i64(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > INT_TEXT_LEN_MAX {
        return None;
    }
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0'] => return if negative { None } else { Some(0) },
        [b'0', ..] => return None,
        _ => {}
    }
    let mut magnitude: u64 = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative {
        (magnitude <= 1 << 63).then(|| (magnitude as i64).wrapping_neg())
    } else {
        i64::try_from(magnitude).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(parse_canonical_i64(text.as_bytes()), expected, "{text:?}");
    }

    #[test]
    fn only_canonical_text_is_an_integer() {
        check("0", Some(0));
        check("-0", None);
        check("-", None);
        check("", None);
        check("+1", None);
        check(" 1", None);
        check("1 ", None);
        check("01", None);
        check("1e3", None);
        check("9223372036854775807", Some(i64::MAX));
        check("9223372036854775808", None);
        check("-9223372036854775808", Some(i64::MIN));
        check("-9223372036854775809", None);
        check("18446744073709551616", None);
        check("99999999999999999999", None);
        check("123456789012345678901", None);
    }

    #[test]
    fn canonical_text_reads_back_as_itself() {
        for int in [0, 1, -1, 10, -10, 1234567890123, i64::MAX, i64::MIN] {
            check(&int.to_string(), Some(int));
        }
    }
}

// SPDX-License-Identifier: BSD-3-Clause
//! The arithmetic of INCRBYFLOAT and HINCRBYFLOAT: C's `long double` as x86-64 has it (x87, a
//! 64-bit significand), in software, so that replies and replication streams are the same on every
//! machine and the same as Valkey's.
//!
//! Only what those commands need: parse, add, print. Not fast for huge exponents.

use std::cmp::Ordering;

/// A number, rounded to nearest even after each step.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct LongDouble {
    negative: bool,
    is_infinite: bool,
    /// 0, or the top bit is set (unless the exponent is the smallest one).
    significand: u64,
    /// value = significand * 2^exponent
    exponent: i32,
}

const EXPONENT_MIN: i32 = -16445;
const EXPONENT_MAX: i32 = 16384 - 64;
/// Valkey's buffer for the text of a long double.
const TEXT_MAX: usize = 5 * 1024;
const POWER_17: u128 = 100_000_000_000_000_000;

impl LongDouble {
    /// Zero.
    pub const ZERO: Self = Self { negative: false, is_infinite: false, significand: 0, exponent: 0 };
    const INFINITY: Self = Self { negative: false, is_infinite: true, significand: 0, exponent: 0 };

    /// Parses what Valkey's `string2ld` takes: a whole number text for C's `strtold` without leading
    /// space, neither NaN nor out of range.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_MAX {
            return None;
        }
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        let magnitude = if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            Self::INFINITY
        } else if let [b'0', b'x' | b'X', hex @ ..] = rest {
            parse_scaled(hex, 16, b'p')?
        } else {
            parse_scaled(rest, 10, b'e')?
        };
        Some(Self { negative, ..magnitude })
    }

    /// An integer, exactly.
    pub fn from_i64(value: i64) -> Self {
        let magnitude = round(u128::from(value.unsigned_abs()), 0, false).unwrap_or(Self::ZERO);
        Self { negative: value < 0, ..magnitude }
    }

    /// Sum; `None` if it is not finite (then INCRBYFLOAT refuses).
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.is_infinite || other.is_infinite {
            return None;
        }
        if self.significand == 0 || other.significand == 0 {
            return Some(if self.significand == 0 { other } else { self });
        }
        let larger_first = (self.top(), self.significand).cmp(&(other.top(), other.significand)) != Ordering::Less;
        let (big, small) = if larger_first { (self, other) } else { (other, self) };
        // Two spare bits on top, 62 below; what falls off the end only matters as "not zero".
        let big_bits = u128::from(big.significand) << 62;
        let distance = big.exponent - small.exponent;
        let small_full = u128::from(small.significand) << 62;
        let (small_bits, is_inexact) = if distance < 0 {
            // The smaller one has the larger exponent only among denormals, where both are short.
            (small_full << distance.unsigned_abs().min(62), false)
        } else if distance > 126 {
            (0, true)
        } else {
            let shifted = small_full >> distance;
            (shifted, shifted << distance != small_full)
        };
        let sum = if big.negative == small.negative {
            big_bits + small_bits
        } else {
            big_bits - small_bits - u128::from(is_inexact)
        };
        let magnitude = if sum == 0 && !is_inexact { Self::ZERO } else { round(sum, big.exponent - 62, is_inexact)? };
        Some(Self { negative: big.negative && magnitude.significand != 0, ..magnitude })
    }

    /// Exponent of the top bit.
    fn top(self) -> i32 {
        self.exponent + 64 - self.significand.leading_zeros() as i32
    }

    /// The product with `factor`, rounded as the C arithmetic does, then rounded up to an integer: how a timeout in
    /// seconds becomes milliseconds. `None` above what 64 bits hold; below, the smallest integer.
    pub fn times_ceil(self, factor: u32) -> Option<i64> {
        let below = if self.negative { Some(i64::MIN) } else { None };
        if self.is_infinite {
            return below;
        }
        let Some(product) = round(u128::from(self.significand) * u128::from(factor), self.exponent, false) else {
            return below;
        };
        if product.significand == 0 {
            return Some(0);
        }
        if product.top() > 64 {
            return below;
        }
        let bits = i128::from(product.significand);
        let whole = if product.exponent >= 0 {
            bits << product.exponent
        } else {
            let shift = product.exponent.unsigned_abs();
            let (floor, is_exact) =
                if shift > 64 { (0, false) } else { (bits >> shift, bits & ((1 << shift) - 1) == 0) };
            // Up means towards zero for what is negative.
            floor + i128::from(!is_exact && !self.negative)
        };
        let whole = if self.negative { -whole } else { whole };
        match i64::try_from(whole) {
            Ok(whole) => Some(whole),
            Err(_) => below,
        }
    }

    /// Appends the text that `%.17Lf` gives, without trailing zeros and without the sign of zero.
    pub fn format(self, out: &mut Vec<u8>) {
        if self.is_infinite {
            out.extend_from_slice(if self.negative { b"-inf" } else { b"inf" });
            return;
        }
        let start = out.len();
        if self.negative {
            out.push(b'-');
        }
        if self.exponent >= 0 {
            let mut whole = Big::from_u128(u128::from(self.significand));
            whole.shift_left(self.exponent as u32);
            whole.write_decimal(out);
        } else {
            // 64 + 57 bits: fits. What is shifted out decides the rounding, half to even.
            let scaled = u128::from(self.significand) * POWER_17;
            let shift = self.exponent.unsigned_abs();
            let rounded = if shift > 126 {
                0
            } else {
                let kept = scaled >> shift;
                let lost = scaled - (kept << shift);
                let half = 1u128 << (shift - 1);
                kept + u128::from(lost > half || (lost == half && kept & 1 == 1))
            };
            let text = format!("{}.{:017}", rounded / POWER_17, rounded % POWER_17);
            out.extend_from_slice(text.trim_end_matches('0').trim_end_matches('.').as_bytes());
        }
        if &out[start..] == b"-0" {
            out.remove(start);
        }
    }
}

/// The closest number to `bits * 2^exponent` (a little more if `is_inexact`); `None` if it is out of
/// range.
fn round(bits: u128, exponent: i32, is_inexact: bool) -> Option<LongDouble> {
    if bits == 0 {
        return (!is_inexact).then_some(LongDouble::ZERO);
    }
    let mut exponent = exponent;
    let mut drop = (128 - bits.leading_zeros() as i32 - 64).max(EXPONENT_MIN - exponent);
    let mut significand = if drop <= 0 {
        // Exact. Left-align, as far as the exponent allows.
        let up = (-drop).min(exponent - EXPONENT_MIN).max(0);
        exponent -= up;
        drop = 0;
        bits << up
    } else if drop >= 128 {
        0
    } else {
        let kept = bits >> drop;
        let lost = bits - (kept << drop);
        let half = 1u128 << (drop - 1);
        let is_up = lost > half || (lost == half && (is_inexact || kept & 1 == 1));
        kept + u128::from(is_up)
    };
    exponent += drop;
    if significand >> 64 != 0 {
        significand >>= 1;
        exponent += 1;
    }
    if significand == 0 || exponent > EXPONENT_MAX {
        return None;
    }
    Some(LongDouble { negative: false, is_infinite: false, significand: significand as u64, exponent })
}

/// Digits of `radix` with a point and an exponent (of 10 for `e`, of 2 for `p`).
fn parse_scaled(text: &[u8], radix: u32, exponent_mark: u8) -> Option<LongDouble> {
    let split = text.iter().position(|byte| byte.to_ascii_lowercase() == exponent_mark);
    let (mantissa, exponent) = match split {
        None => (text, 0i64),
        Some(at) => {
            let digits = text.get(at + 1..)?;
            let (sign, digits) = match digits {
                [b'-', rest @ ..] => (-1, rest),
                [b'+', rest @ ..] => (1, rest),
                _ => (1, digits),
            };
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return None;
            }
            // Larger ones are out of range whatever the digits are.
            let value = digits.iter().fold(0i64, |n, digit| (n * 10 + i64::from(digit - b'0')).min(1_000_000));
            (&text[..at], sign * value)
        }
    };
    let mut number = Big::default();
    let mut scale = exponent;
    let mut seen_point = false;
    let mut digits = 0;
    for &byte in mantissa {
        if byte == b'.' && !seen_point {
            seen_point = true;
            continue;
        }
        number.multiply_add(radix, (byte as char).to_digit(radix)?);
        digits += 1;
        if seen_point {
            scale -= if radix == 16 { 4 } else { 1 };
        }
    }
    if digits == 0 {
        return None;
    }
    if number.is_zero() {
        return Some(LongDouble::ZERO);
    }
    if scale.abs() > 40_000 {
        return None;
    }
    let mut divisor = Big::from_u128(1);
    if radix == 16 {
        let target = if scale >= 0 { &mut number } else { &mut divisor };
        target.shift_left(scale.unsigned_abs() as u32);
    } else {
        let target = if scale >= 0 { &mut number } else { &mut divisor };
        (0..scale.unsigned_abs()).for_each(|_| target.multiply_add(10, 0));
    }
    divide(number, divisor)
}

/// The closest number to `number / divisor`.
fn divide(mut number: Big, mut divisor: Big) -> Option<LongDouble> {
    // Scale so that the quotient has 65 to 67 bits, then divide bit by bit.
    let shift = 66 - (number.bits() as i32 - divisor.bits() as i32);
    if shift > 0 {
        number.shift_left(shift as u32);
    } else {
        divisor.shift_left(shift.unsigned_abs());
    }
    divisor.shift_left(67);
    let mut quotient = 0u128;
    for _ in 0..=67 {
        quotient <<= 1;
        if number.compare(&divisor) != Ordering::Less {
            number.subtract(&divisor);
            quotient |= 1;
        }
        divisor.halve();
    }
    round(quotient, -shift, !number.is_zero())
}

/// An unsigned integer of any size; 32-bit limbs, lowest first, no zero limb on top.
#[derive(Clone, Default, Debug)]
struct Big(Vec<u32>);

impl Big {
    fn from_u128(value: u128) -> Self {
        let mut big = Self((0..4).map(|limb| (value >> (32 * limb)) as u32).collect());
        big.trim();
        big
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> u32 {
        self.0.last().map_or(0, |top| self.0.len() as u32 * 32 - top.leading_zeros())
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn shift_left(&mut self, count: u32) {
        let (limbs, bits) = ((count / 32) as usize, count % 32);
        if bits > 0 {
            self.multiply_add(1 << bits, 0);
        }
        if !self.0.is_empty() {
            self.0.splice(0..0, std::iter::repeat_n(0, limbs));
        }
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for limb in self.0.iter_mut().rev() {
            let low = *limb & 1;
            *limb = *limb >> 1 | carry << 31;
            carry = low;
        }
        self.trim();
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// `self` is not less than `other`.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = 0i64;
        for (at, limb) in self.0.iter_mut().enumerate() {
            let difference = i64::from(*limb) - i64::from(other.0.get(at).copied().unwrap_or(0)) - borrow;
            borrow = i64::from(difference < 0);
            *limb = difference as u32;
        }
        self.trim();
    }

    fn write_decimal(mut self, out: &mut Vec<u8>) {
        let mut groups = Vec::new();
        while !self.is_zero() {
            let mut remainder = 0u64;
            for limb in self.0.iter_mut().rev() {
                let value = remainder << 32 | u64::from(*limb);
                *limb = (value / 1_000_000_000) as u32;
                remainder = value % 1_000_000_000;
            }
            self.trim();
            groups.push(remainder);
        }
        let top = groups.pop().unwrap_or(0);
        out.extend_from_slice(top.to_string().as_bytes());
        groups.iter().rev().for_each(|group| out.extend_from_slice(format!("{group:09}").as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::LongDouble;

    fn text(value: LongDouble) -> String {
        let mut out = Vec::new();
        value.format(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn sums_are_those_of_valkey() {
        // Expected values: INCRBYFLOAT on Valkey 9.1.2 (x86-64).
        for (a, b, sum) in SUMS {
            let parse = |text: &str| LongDouble::parse(text.as_bytes()).unwrap_or(LongDouble::ZERO);
            assert_eq!(text(parse(a).checked_add(parse(b)).unwrap_or(LongDouble::ZERO)), *sum, "{a} + {b}");
        }
    }

    const SUMS: &[(&str, &str, &str)] = &[
        ("0.1", "0.2", "0.3"),
        ("10.5", "0.1", "10.6"),
        ("3.0e3", "200", "3200"),
        ("-5", "5", "0"),
        ("1", "-1.5", "-0.5"),
        ("0", "0.00000000000000001", "0.00000000000000001"),
        ("1e-30", "0", "0"),
        ("-1e-30", "0", "0"),
        ("12345678901234567890", "0.5", "12345678901234567890"),
        ("1e20", "1", "100000000000000000000"),
        ("0x10", "0", "16"),
        ("-759329574455.35892272650244980", "2.6091e10", "-733238574455.35892271995544434"),
        ("1793336797544.1760156", "6.195502252e4", "1793336859499.19853556156158447"),
        ("142.148889880452198", "0.3615174e-10", "142.14888988048834974"),
        ("9444157736.3047894", "6.4387610652e6", "9450596497.36998939979821444"),
        ("34578.339", "-9.9e23", "-989999999999999999934464"),
        ("-317.338522957466", "-5.504594e10", "-55045940317.33852295577526093"),
        ("32.5", "-0.52967109444617e17", "-52967109444616967.5"),
        ("796862662987511.654010", "1.62036153e2", "796862662987673.69012451171875"),
        ("-15572058754601588.325814906199", "6.213e1", "-15572058754601526.1962890625"),
        ("-44559.992349633", "4.22789831222e-15", "-44559.99234963299999635"),
        ("8575876366.755109", "1.4174844905420e18", "1417484499117876366.75"),
        ("-489266673.7838940787100", "7.29370830142e-12", "-489266673.78389407871873118"),
        ("23755922089154.21003992090072", "6.4901427034e19", "64901450789922089156"),
        ("99272166779387126.36417210028", "-7.2580853838839e-13", "99272166779387126.3671875"),
        ("-206829776373448302.6097491487887932", "1.9280635222236658e15", "-204901712851224636.8125"),
        ("-804.647228364727", "4.775496350025e22", "47754963500249999998976"),
        ("-5293567447322619.24265243029", "7.349937754e22", "73499372246432552677376"),
        ("-919497903999188.97081489329384811", "-5.691557462e2", "-919497903999758.1265869140625"),
        ("-927379359703.912168", "-5.19405261119e13", "-52867905471603.91216659545898438"),
        ("6073837.3095354654882825", "-4.773539147e-19", "6073837.3095354654883522"),
        ("614935.731968186821557", "3.661510e-18", "614935.73196818682157527"),
        ("-22245982.17", "5.506107e-8", "-22245982.16999994493926351"),
        ("49411302351020.4184175892699", "-0.941794106766e6", "49411301409226.31165313720703125"),
        ("634029497661480405.4702223242", "-9.8410836636e-12", "634029497661480405.5"),
        ("-79365897460289.156626600799", "9.8390492885662e-8", "-79365897460289.15662384033203125"),
        ("359.6", "5.42656e20", "542656000000000000352"),
        ("-69442003346853.7337086350", "-2.795670846e-1", "-69442003346854.013275146484375"),
        ("-446130833.5", "-7.4910399254e-19", "-446130833.5"),
        ("330004866603961.17", "-0.4385996008780291e10", "330000480607952.38970947265625"),
        ("65782633.906145728", "4.8557650606e13", "48557716388633.90614700317382812"),
        ("2.9802607630", "-9.4409281424e2", "-941.11255347700000001"),
        ("-4774.4", "-1.244284e7", "-12447614.3999999999996362"),
        ("-6944068082395335.8378219747348015", "4.6e17", "453055931917604664.15625"),
        ("-5601590453078415.21685", "-8.5958030056318947e14", "-6461170753641604.6865234375"),
        ("76195236047259.8", "4.810e-16", "76195236047259.8000030517578125"),
        ("58938112143.414", "-0.2004e-6", "58938112143.41399979963898659"),
        ("38337.206133303489709", "6.70493e19", "67049300000000038336"),
        ("71.6212", "4.73e16", "47300000000000071.62109375"),
        ("172375647158.44268620642124", "-7.721290528495e3", "172375639437.15215770900249481"),
        ("91396.9238943681", "-8.35332377e-16", "91396.92389436810000092"),
        ("894005956.5889319816", "-2.93493e-19", "894005956.58893198159057647"),
        ("-586.11", "8.438933797464502e9", "8438933211.35450199991464615"),
        ("-2279350128.7554641493318", "1.996e22", "19959999999997720649728"),
        ("-2344871.5099135578607", "-9.424325767211e4", "-2439114.76758566786065785"),
        ("324905212264.72831316154678", "9.3028887e5", "324906142553.59831315279006958"),
        ("607.23", "3.62e10", "36200000607.23000000044703484"),
        ("-6.7721779631320932", "-7.215723750792530e-11", "-6.77217796320425044"),
        ("383.2677781800072", "-1.878778118e-10", "383.26777817981932217"),
        ("-4449728.578183757282189", "-5.8323397758e24", "-5832339775800000003964928"),
        ("955662314203467.15455", "-4.270160634692577e-10", "955662314203467.154541015625"),
        ("418261.88109811", "9.6406831545082e23", "964068315450820000415744"),
        ("-490772.74230534859", "-2.23574737e23", "-223574737000000000491520"),
        ("82.881630991695", "-0.767105980812532e6", "-767023.09918154030503956"),
        ("4.50442232950488387", "1.65922407e-15", "4.50442232950488553"),
        ("-87.86469194", "7.1059918679560e-17", "-87.86469193999999993"),
        ("-43058962169275.4", "2.57985832228443513e-8", "-43058962169275.40000152587890625"),
        ("949.16281358101", "8.627348e-16", "949.16281358101000087"),
        ("7.465946141496", "-8.95110e-20", "7.465946141496"),
        ("-930461249039751.74419035", "2.2075426708e-4", "-930461249039751.74395751953125"),
        ("-17749673625.482", "1.81204808237158e22", "18120480823698050326528"),
    ];

    #[test]
    fn parsing() {
        for bad in ["", " 1", "1 ", "nan", "1e5000", "1e-5000", "e1", ".", "1e", "--1", "0x", "1.2.3"] {
            assert_eq!(LongDouble::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert!(LongDouble::parse(b"inf").is_some_and(|inf| inf.checked_add(LongDouble::ZERO).is_none()));
        for (good, expected) in [
            ("1e300", 1e300),
            ("123456.789", 123456.789),
            (".5", 0.5),
            ("5.", 5.0),
            ("-2.5e-3", -0.0025),
            ("0x1.8p1", 3.0),
        ] {
            let value = LongDouble::parse(good.as_bytes()).map(text);
            let back = value.and_then(|text| text.parse::<f64>().ok());
            assert_eq!(back, Some(expected), "{good}");
        }
        assert_eq!(text(LongDouble::from_i64(i64::MIN)), i64::MIN.to_string());
    }

    #[test]
    fn largest_number_prints_and_overflows() {
        let max = LongDouble::parse(b"1.18973149535723176502e4932").expect("in range");
        assert_eq!(text(max).len(), 4933);
        assert_eq!(max.checked_add(max), None);
    }
}

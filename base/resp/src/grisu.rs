// SPDX-License-Identifier: BSD-3-Clause
//! Decimal digits of a double by Loitsch's Grisu2: digits that read back as the same double, nearly always the shortest.
//!
//! Valkey prints doubles with it, and where it misses the shortest digits (about one random double in a thousand) a client
//! sees the longer ones; printing any other way would differ. Called by [`crate::num::FloatBuf`]; the layout is made there.

/// Most digits that a double takes.
pub(crate) const DIGITS_MAX: usize = 17;

/// Significands of 10^-348, 10^-340, ... 10^340: 64 bits, rounded to the nearest.
const POWERS: [u64; 87] = [
    0xfa8f_d5a0_081c_0288,
    0xbaae_e17f_a23e_bf76,
    0x8b16_fb20_3055_ac76,
    0xcf42_894a_5dce_35ea,
    0x9a6b_b0aa_5565_3b2d,
    0xe61a_cf03_3d1a_45df,
    0xab70_fe17_c79a_c6ca,
    0xff77_b1fc_bebc_dc4f,
    0xbe56_91ef_416b_d60c,
    0x8dd0_1fad_907f_fc3c,
    0xd351_5c28_3155_9a83,
    0x9d71_ac8f_ada6_c9b5,
    0xea9c_2277_23ee_8bcb,
    0xaecc_4991_4078_536d,
    0x823c_1279_5db6_ce57,
    0xc210_9436_4dfb_5637,
    0x9096_ea6f_3848_984f,
    0xd774_85cb_2582_3ac7,
    0xa086_cfcd_97bf_97f4,
    0xef34_0a98_172a_ace5,
    0xb238_67fb_2a35_b28e,
    0x84c8_d4df_d2c6_3f3b,
    0xc5dd_4427_1ad3_cdba,
    0x936b_9fce_bb25_c996,
    0xdbac_6c24_7d62_a584,
    0xa3ab_6658_0d5f_daf6,
    0xf3e2_f893_dec3_f126,
    0xb5b5_ada8_aaff_80b8,
    0x8762_5f05_6c7c_4a8b,
    0xc9bc_ff60_34c1_3053,
    0x964e_858c_91ba_2655,
    0xdff9_7724_7029_7ebd,
    0xa6df_bd9f_b8e5_b88f,
    0xf8a9_5fcf_8874_7d94,
    0xb944_7093_8fa8_9bcf,
    0x8a08_f0f8_bf0f_156b,
    0xcdb0_2555_6531_31b6,
    0x993f_e2c6_d07b_7fac,
    0xe45c_10c4_2a2b_3b06,
    0xaa24_2499_6973_92d3,
    0xfd87_b5f2_8300_ca0e,
    0xbce5_0864_9211_1aeb,
    0x8cbc_cc09_6f50_88cc,
    0xd1b7_1758_e219_652c,
    0x9c40_0000_0000_0000,
    0xe8d4_a510_0000_0000,
    0xad78_ebc5_ac62_0000,
    0x813f_3978_f894_0984,
    0xc097_ce7b_c907_15b3,
    0x8f7e_32ce_7bea_5c70,
    0xd5d2_38a4_abe9_8068,
    0x9f4f_2726_179a_2245,
    0xed63_a231_d4c4_fb27,
    0xb0de_6538_8cc8_ada8,
    0x83c7_088e_1aab_65db,
    0xc45d_1df9_4271_1d9a,
    0x924d_692c_a61b_e758,
    0xda01_ee64_1a70_8dea,
    0xa26d_a399_9aef_774a,
    0xf209_787b_b47d_6b85,
    0xb454_e4a1_79dd_1877,
    0x865b_8692_5b9b_c5c2,
    0xc835_53c5_c896_5d3d,
    0x952a_b45c_fa97_a0b3,
    0xde46_9fbd_99a0_5fe3,
    0xa59b_c234_db39_8c25,
    0xf6c6_9a72_a398_9f5c,
    0xb7dc_bf53_54e9_bece,
    0x88fc_f317_f222_41e2,
    0xcc20_ce9b_d35c_78a5,
    0x9816_5af3_7b21_53df,
    0xe2a0_b5dc_971f_303a,
    0xa8d9_d153_5ce3_b396,
    0xfb9b_7cd9_a4a7_443c,
    0xbb76_4c4c_a7a4_4410,
    0x8bab_8eef_b640_9c1a,
    0xd01f_ef10_a657_842c,
    0x9b10_a4e5_e991_3129,
    0xe710_9bfb_a19c_0c9d,
    0xac28_20d9_623b_f429,
    0x8044_4b5e_7aa7_cf85,
    0xbf21_e440_03ac_dd2d,
    0x8e67_9c2f_5e44_ff8f,
    0xd433_179d_9c8c_b841,
    0x9e19_db92_b4e3_1ba9,
    0xeb96_bf6e_badf_77d9,
    0xaf87_023b_9bf0_ee6b,
];
/// Decimal exponents of the first power, and from one to the next.
const POWER_FIRST: i32 = -348;
const POWER_STEP: i32 = 8;

/// `significand * 2^exponent`
#[derive(Copy, Clone)]
struct Float {
    significand: u64,
    exponent: i32,
}

impl Float {
    /// With the highest bit of the significand set.
    fn normalized(self) -> Float {
        let shift = self.significand.leading_zeros();
        Float { significand: self.significand << shift, exponent: self.exponent - shift as i32 }
    }

    /// The upper half of the product, rounded.
    fn times(self, other: Float) -> Float {
        let product = u128::from(self.significand) * u128::from(other.significand) + (1 << 63);
        Float { significand: (product >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

/// A power of ten that brings a number with this binary exponent to one between -60 and -32, and its decimal exponent.
fn power_for(exponent: i32) -> (Float, i32) {
    /// The window holds two powers for some exponents; the one nearest to this estimate is taken.
    const LOG10_OF_2: f64 = 0.301_029_995_663_981_14;
    let estimate = (-f64::from(exponent + POWERS.len() as i32) * LOG10_OF_2) as i32;
    let mut index = ((estimate - POWER_FIRST) / POWER_STEP).clamp(0, POWERS.len() as i32 - 1);
    loop {
        let decimal = POWER_FIRST + index * POWER_STEP;
        // 217706 / 65536 is the binary logarithm of ten, near enough for these exponents.
        let power = Float { significand: POWERS[index as usize], exponent: ((217_706 * decimal) >> 16) - 63 };
        match exponent + power.exponent + 64 {
            ..-60 if index < POWERS.len() as i32 - 1 => index += 1,
            -31.. if index > 0 => index -= 1,
            _ => return (power, decimal),
        }
    }
}

/// The digits of a finite double above zero, as text, and the power of ten of the last one.
pub(crate) fn digits(value: f64, text: &mut [u8; DIGITS_MAX + 1]) -> (usize, i32) {
    const FRACTION_BITS: u32 = 52;
    const HIDDEN: u64 = 1 << FRACTION_BITS;
    let bits = value.to_bits();
    let (fraction, biased) = (bits & (HIDDEN - 1), (bits >> FRACTION_BITS) as i32 & 0x7ff);
    let own = match biased {
        0 => Float { significand: fraction, exponent: -1074 },
        _ => Float { significand: fraction | HIDDEN, exponent: biased - 1075 },
    };
    // Half the way to the next double, and to the one before, which is nearer at a power of two.
    let upper = Float { significand: (own.significand << 1) + 1, exponent: own.exponent - 1 }.normalized();
    let shift = if own.significand == HIDDEN { 2 } else { 1 };
    let lower = (own.significand << shift) - 1;
    let lower = Float { significand: lower << (own.exponent - shift - upper.exponent), exponent: upper.exponent };
    let (power, decimal) = power_for(upper.exponent);
    let own = own.normalized().times(power);
    let (upper, lower) = (upper.times(power), lower.times(power));
    // The products may be off by one in the last place: stay inside.
    let (highest, lowest) = (upper.significand - 1, lower.significand + 1);
    let mut out = Digits { text, len: 0 };
    let exponent = out.generate(own.significand, highest, lowest, -upper.exponent as u32);
    (out.len, exponent - decimal)
}

struct Digits<'a> {
    text: &'a mut [u8; DIGITS_MAX + 1],
    len: usize,
}

impl Digits<'_> {
    fn push(&mut self, digit: u64) {
        // Zeros in front are left out.
        if (digit != 0 || self.len > 0) && self.len < self.text.len() {
            self.text[self.len] = b'0' + digit as u8;
            self.len += 1;
        }
    }

    /// Digits of `highest`, from the front, until what is left out is less than `highest - lowest`; then the last digit goes
    /// down towards `own`. All are fixed-point numbers with `point` bits behind the point. The power of ten of the last digit.
    fn generate(&mut self, own: u64, highest: u64, lowest: u64, point: u32) -> i32 {
        let mut room = highest - lowest;
        let to_own = highest - own;
        let mut whole = highest >> point;
        let mut rest = highest & ((1 << point) - 1);
        let mut unit = 1_000_000_000;
        for kappa in (0..10).rev() {
            self.push(whole / unit);
            whole %= unit;
            let left = (whole << point) + rest;
            if left <= room {
                self.approach(to_own, room, left, unit << point);
                return kappa;
            }
            unit /= 10;
        }
        let mut scale = 1u64;
        let mut kappa = 0;
        loop {
            rest *= 10;
            room *= 10;
            scale = scale.wrapping_mul(10);
            kappa -= 1;
            self.push(rest >> point);
            rest &= (1 << point) - 1;
            if rest < room {
                self.approach(to_own.wrapping_mul(scale), room, rest, 1 << point);
                return kappa;
            }
        }
    }

    /// Lowers the last digit while that brings what is `left` out nearer to `to_own` and keeps it within `room`.
    fn approach(&mut self, to_own: u64, room: u64, mut left: u64, unit: u64) {
        while left < to_own
            && room - left >= unit
            && (left + unit < to_own || to_own - left > left + unit - to_own)
            && self.len > 0
        {
            self.text[self.len - 1] -= 1;
            left += unit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DIGITS_MAX, digits};

    fn shown(value: f64) -> String {
        let mut text = [0; DIGITS_MAX + 1];
        let (len, exponent) = digits(value, &mut text);
        format!("{}e{exponent}", String::from_utf8_lossy(&text[..len]))
    }

    #[test]
    fn as_valkey_prints_them() {
        for (value, expected) in [
            (1.0, "1e0"),
            (0.1, "1e-1"),
            (1e22, "1e22"),
            (123.456, "123456e-3"),
            // Not the shortest that there is.
            (2.048_217_377_368_17, "20482173773681698e-16"),
            (6.218_852_908_549_239, "62188529085492386e-16"),
            (5e-324, "5e-324"),
            (f64::MAX, "17976931348623157e292"),
        ] {
            assert_eq!(shown(value), expected);
        }
    }

    #[test]
    fn digits_read_back() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..200_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let value = f64::from_bits(seed & !(1 << 63));
            if value.is_finite() && value > 0.0 {
                assert_eq!(shown(value).parse(), Ok(value), "{value:e}");
            }
        }
    }
}

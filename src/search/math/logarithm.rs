//! Natural logarithms of many numbers, with the same bits on every machine.
//!
//! They are inlined and have neither table nor branch, so the compiler vectorizes loops over them.
//! The system's `log` differs between machines.

/// ln x for normal x > 0, to within 2^-51 · (1 + |log2 x|).
#[inline(always)]
pub(crate) fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    const TWO_52: f64 = 4_503_599_627_370_496.0;
    let bits = x.to_bits();
    let mantissa = f64::from_bits(bits & MANTISSA | 1.0f64.to_bits());
    // Halved if that is nearer to 1.
    let upper = mantissa > std::f64::consts::SQRT_2;
    let m = if upper { 0.5 * mantissa } else { mantissa };
    // The exponent as a float: placed in the mantissa of 2^52, since AVX2 has no conversion of
    // 64-bit integers.
    let biased = f64::from_bits(bits >> 52 | TWO_52.to_bits()) - TWO_52;
    let octave = biased - if upper { 1022.0 } else { 1023.0 };
    // ln m = 2 artanh s = 2 (s + s³/3 + s⁵/5 + …), |s| < 0.172; the omitted terms are below 2^-60.
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let z2 = z * z;
    let z4 = z2 * z2;
    let pair = |a: f64, b: f64| a + z * b;
    let low = pair(1.0 / 3.0, 1.0 / 5.0) + pair(1.0 / 7.0, 1.0 / 9.0) * z2;
    let high = pair(1.0 / 11.0, 1.0 / 13.0) + pair(1.0 / 15.0, 1.0 / 17.0) * z2;
    let sum = low + (high + pair(1.0 / 19.0, 1.0 / 21.0) * z4) * z4;
    let double = s + s;
    octave * std::f64::consts::LN_2 + (double + double * (z * sum))
}

/// x ln x; 0 for numbers below the normal ones, and for negative ones.
#[inline(always)]
pub(crate) fn x_ln_x(x: f64) -> f64 {
    // Selected afterwards, so that there is no branch; the logarithm of other numbers is arbitrary.
    let product = x * ln(x);
    if x >= f64::MIN_POSITIVE { product } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{ln, x_ln_x};

    #[test]
    fn logarithms_are_close_everywhere() {
        for i in 1..400_000 {
            let x = f64::from(i) * 0.001_37;
            for x in [x, x * 1e-9, x * x, 1.0 + x * 1e-12, libm::ldexp(1.37, i % 2000 - 1000)] {
                let limit = 2.0 * f64::EPSILON * (1.0 + libm::log2(x).abs());
                let (found, want) = (ln(x), libm::log(x));
                assert!((found - want).abs() <= limit, "ln {x}: {found} {want}");
            }
        }
        assert_eq!((ln(1.0), x_ln_x(1.0), x_ln_x(0.0), x_ln_x(-1e-20)), (0.0, 0.0, 0.0, 0.0));
    }
}

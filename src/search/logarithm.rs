//! Natural logarithms of many numbers: a table and a short series, inlined, instead of a call of the
//! system's `log`, which costs more than all the rest and may differ from one system to the next.

use std::sync::LazyLock;

/// Parts of an octave; in each the series sees numbers within 2^-8 of 1.
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 7;

/// ln x for normal x > 0, to within 2^-52 · (1 + |log2 x|).
pub(super) struct Logarithm {
    parts: [(f64, f64); PARTS], // 1/c and ln c, c being the middle of the part
}

/// The only table.
pub(super) static LN: LazyLock<Logarithm> = LazyLock::new(|| Logarithm {
    parts: std::array::from_fn(|i| {
        let inverse = 1.0 / (1.0 + (i as f64 + 0.5) / PARTS as f64);
        (inverse, -inverse.ln())
    }),
});

impl Logarithm {
    #[inline]
    pub(super) fn of(&self, x: f64) -> f64 {
        const MANTISSA: u64 = (1 << 52) - 1;
        let bits = x.to_bits();
        let octave = (bits >> 52) as i32 - 1023;
        let mantissa = f64::from_bits(bits & MANTISSA | 1.0f64.to_bits());
        let (inverse, ln_c) = self.parts[(bits >> (52 - PART_BITS)) as usize & (PARTS - 1)];
        // ln(1 + r) = r − r²/2 + r³/3 − …; what is left out is below 2^-66.
        let r = mantissa * inverse - 1.0;
        let (odd, even) =
            (1.0 / 3.0 + r * r * (0.2 + r * r / 7.0), 0.5 + r * r * (0.25 + r * r / 6.0));
        f64::from(octave) * std::f64::consts::LN_2 + (ln_c + (r + r * r * (r * odd - even)))
    }
}

#[cfg(test)]
mod tests {
    use super::LN;

    #[test]
    fn logarithms_are_close_everywhere() {
        for i in 1..400_000 {
            let x = f64::from(i) * 0.001_37;
            for x in [x, x * 1e-9, x * x, 1.0 + x * 1e-12, 2f64.powi(i % 2000 - 1000) * 1.37] {
                let limit = f64::EPSILON * (1.0 + x.log2().abs());
                assert!((LN.of(x) - x.ln()).abs() <= limit, "ln {x}: {} {}", LN.of(x), x.ln());
            }
        }
    }
}

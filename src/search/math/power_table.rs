//! Real powers of many numbers from a table. `powf` would take longer than the rest of a search: it
//! made p = 2.4 four times slower.

/// Intervals of an octave. Linear interpolation has an error below 10⁻⁶ for powers up to 5.
const INTERVALS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 11;
/// Octaves below and above 1 that have an entry. The power of smaller numbers is taken as 0.
const OCTAVES: i64 = 128;

/// x ↦ factor · x^exponent for x ≥ 0.
pub(crate) struct PowerTable {
    exponent: f64,
    factor: f64,
    octaves: Vec<f64>,   // factor · 2^(e·exponent), e from −128 to 127
    mantissas: Vec<f64>, // m^exponent, m from 1 to 2
}

impl PowerTable {
    pub(crate) fn new(exponent: f64, factor: f64) -> Self {
        let mantissa = |i: usize| libm::pow(1.0 + i as f64 / INTERVALS as f64, exponent);
        Self {
            exponent,
            factor,
            octaves: (-OCTAVES..OCTAVES)
                .map(|e| factor * libm::exp2(e as f64 * exponent))
                .collect(),
            mantissas: (0..=INTERVALS).map(mantissa).collect(),
        }
    }

    #[inline]
    pub(crate) fn of(&self, x: f64) -> f64 {
        const REST_BITS: u32 = 52 - INDEX_BITS;
        let bits = x.to_bits();
        let octave = (bits >> 52) as i64 - 1023 + OCTAVES;
        if octave < 0 {
            return 0.0;
        }
        let Some(scale) = self.octaves.get(octave as usize) else {
            return self.factor * libm::pow(x, self.exponent);
        };
        let i = (bits >> REST_BITS) as usize & (INTERVALS - 1);
        let rest = (bits & ((1 << REST_BITS) - 1)) as f64 * (1.0 / (1u64 << REST_BITS) as f64);
        let (a, b) = (self.mantissas[i], self.mantissas[i + 1]);
        scale * (a + (b - a) * rest)
    }
}

#[cfg(test)]
mod tests {
    use super::PowerTable;

    #[test]
    fn powers_are_close_everywhere() {
        for exponent in [1.0, 2.4, 3.0, 3.4, 5.0] {
            let power = PowerTable::new(exponent, 0.25);
            assert_eq!(power.of(0.0), 0.0);
            for i in 1..200_000 {
                let x = f64::from(i) * 0.001_37;
                let want = 0.25 * libm::pow(x, exponent);
                assert!((power.of(x) / want - 1.0).abs() < 1e-6, "{x}^{exponent}");
            }
            let far = libm::ldexp(1.0, 200);
            assert_eq!(power.of(far), 0.25 * libm::pow(far, exponent));
        }
    }
}

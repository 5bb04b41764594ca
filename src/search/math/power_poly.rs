//! A real power of a rounding difference |r| ≤ ½ as a polynomial.
//!
//! It has neither branch nor table, so the compiler vectorizes loops over it.

use std::f64::consts::PI;

/// Degree of the polynomial for |r|^p. Its error is 10⁻⁵ of ½^p for p = 2.4, and at most 3 · 10⁻⁴.
const DEGREE: usize = 11;

/// The polynomial for |r|^p, |r| ≤ ½, in 4 |r| − 1.
pub(crate) struct PowerPoly {
    pub(crate) p: f64,
    pub(crate) half: f64,    // its value at ½
    pub(crate) inverse: f64, // 1 / (p + 1)
    coefficients: [f64; DEGREE + 1],
}

impl PowerPoly {
    /// Interpolates at Chebyshev points, which include both ends.
    pub(crate) fn new(p: f64) -> Self {
        const N: usize = DEGREE;
        let angle = |k: usize| PI * k as f64 / N as f64;
        let halved = |k: usize| if k == 0 || k == N { 0.5 } else { 1.0 };
        let at: [f64; N + 1] = std::array::from_fn(|k| {
            // 0 must be exact; elsewhere the cosine is accurate enough.
            let r = if k == N { 0.0 } else { 0.25 * (1.0 + libm::cos(angle(k))) };
            libm::pow(r, p)
        });
        let mut coefficients = [0.0; N + 1];
        // Chebyshev polynomials by their recurrence, as coefficients of powers.
        let (mut before, mut here) = ([0.0; N + 1], [0.0; N + 1]);
        here[0] = 1.0;
        for j in 0..=N {
            let term = |k: usize| halved(k) * at[k] * libm::cos(angle(j * k % (2 * N)));
            let c = halved(j) * (2.0 / N as f64) * (0..=N).map(term).sum::<f64>();
            let mut next = [0.0; N + 1];
            for k in 0..=N {
                coefficients[k] += c * here[k];
                let raised = if k == 0 { 0.0 } else { here[k - 1] };
                next[k] = if j == 0 { raised } else { 2.0 * raised - before[k] };
            }
            (before, here) = (here, next);
        }
        let mut poly = Self { p, half: 0.0, inverse: 1.0 / (p + 1.0), coefficients };
        poly.half = poly.of(0.5);
        poly
    }

    #[inline(always)]
    pub(crate) fn of(&self, r: f64) -> f64 {
        // In pairs, which are independent of each other; in Horner's order each step waits.
        let t = 4.0 * r - 1.0;
        let (t2, c) = (t * t, &self.coefficients);
        let pair = |k: usize| c[k] + c[k + 1] * t;
        let four = |k: usize| pair(k) + pair(k + 2) * t2;
        let t4 = t2 * t2;
        four(0) + (four(4) + four(8) * t4) * t4
    }
}

#[cfg(test)]
mod tests {
    use super::PowerPoly;

    #[test]
    fn the_polynomial_is_near_the_power() {
        for (p, limit) in [(1.0, 1e-14), (1.3, 3e-4), (2.0, 1e-14), (2.4, 1e-5), (4.0, 1e-14)] {
            let poly = PowerPoly::new(p);
            assert!(poly.of(0.0).abs() < 1e-15 && (poly.half - libm::pow(0.5, p)).abs() < 1e-15);
            for i in 0..=1000 {
                let r = f64::from(i) / 2000.0;
                let (found, want) = (poly.of(r), libm::pow(r, p));
                assert!((found - want).abs() <= limit * libm::pow(0.5, p), "{r}^{p}: {found}");
            }
        }
    }
}

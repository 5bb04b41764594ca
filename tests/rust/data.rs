//! Seeded values with the distributions of activations.

// Mathematics of the system is acceptable for samples, though not for ranges.
#![allow(clippy::disallowed_methods)]

/// A small generator (xorshift64*), so that no version of a crate changes the data.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in (0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub(crate) fn gauss(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    pub(crate) fn laplace(&mut self) -> f64 {
        let u = self.uniform() - 0.5;
        -u.signum() * (1.0 - 2.0 * u.abs()).ln()
    }

    /// Student's t with 3 degrees of freedom: heavy tails, infinite kurtosis.
    pub(crate) fn student(&mut self) -> f64 {
        let chi = (0..3).map(|_| self.gauss().powi(2)).sum::<f64>();
        self.gauss() / (chi / 3.0).sqrt()
    }
}

/// The seed table: name and values.
pub(crate) fn shapes(n: usize) -> Vec<(&'static str, Vec<f32>)> {
    let r = &mut Random::new(7);
    let mut make = |f: &mut dyn FnMut(&mut Random) -> f64| -> Vec<f32> {
        (0..n).map(|_| f(r) as f32).collect()
    };
    vec![
        ("gauss", make(&mut Random::gauss)),
        ("laplace", make(&mut Random::laplace)),
        ("student", make(&mut Random::student)),
        ("relu", make(&mut |r| r.gauss().max(0.0))),
        ("outliers", make(&mut |r| r.gauss() * if r.uniform() < 0.001 { 50.0 } else { 1.0 })),
        ("skewed", make(&mut |r| r.gauss().exp() - 0.3)),
        ("constant", make(&mut |_| 0.37)),
        ("two values", make(&mut |r| if r.uniform() < 0.3 { -1.5 } else { 0.25 })),
    ]
}

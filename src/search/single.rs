//! Divergences as calibrators in float32 add them up: one term after the other, each logarithm rounded from
//! float64. What such a sum comes to depends on the order of its terms, so that of the original is kept.

use super::logarithm::ln;
use crate::{parallel, simd};

/// Terms below which threads cost more than they save.
const PARALLEL: usize = 1 << 16;

/// The sum, one after the other.
pub(super) fn total(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |sum, value| sum + value)
}

/// Σ p ln(p / q) with both divided by their sums; the terms are left in `p`.
pub(super) fn divergence(p: &mut [f32], q: &[f32], sums: (f32, f32)) -> f32 {
    simd::dispatch(Terms { p, q, sums });
    total(p)
}

struct Terms<'a> {
    p: &'a mut [f32],
    q: &'a [f32],
    sums: (f32, f32),
}

impl simd::Work for Terms<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { p, q, sums } = self;
        for (p, q) in p.iter_mut().zip(q) {
            let share = *p / sums.0;
            *p = share * ln(f64::from(share / (q / sums.1))) as f32;
        }
    }
}

/// What `of` makes of each candidate, in order; threads share them. Each has buffers of its own.
pub(super) fn each<B: Default + Send>(
    candidates: std::ops::Range<usize>,
    terms: usize,
    of: impl Fn(&mut B, usize) -> f32 + Sync,
) -> Vec<f32> {
    parallel::map_with(candidates.len() * terms >= PARALLEL, candidates, of)
}

//! Divergences that are summed in float32, one term after the other, as ncnn does.
//!
//! The result of such a sum depends on the order of its terms, so the original order is kept. Each
//! logarithm is rounded from float64.

use crate::{parallel, search::math::ln, simd};

/// Terms from which a second thread is used.
const PARALLEL: usize = 1 << 16;

/// The sum of the values in their order.
fn total(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |sum, value| sum + value)
}

/// Σ p ln(p / q), where both are divided by their sums. The terms are written to `p`.
pub(crate) fn divergence(p: &mut [f32], q: &[f32], sums: (f32, f32)) -> f32 {
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

/// The divergence of each candidate, in order. Threads share the candidates; each has its own
/// buffers.
pub(crate) fn divergences<B: Default + Send>(
    candidates: std::ops::Range<usize>,
    terms: usize,
    divergence: impl Fn(&mut B, usize) -> f32 + Sync,
) -> Vec<f32> {
    parallel::map_with(candidates.len() * terms >= PARALLEL, candidates, divergence)
}

//! Oracles. Each visits every value or every bin with the textbook formula: no prefix sums, no
//! codes beyond one shift, no cleverness, so that they are unlikely to be wrong in the same way
//! as what they judge.

use quantcal::Grid;

/// Counts of non-zero finite values by (negative, magnitude code), by one shift of the bits.
pub(crate) fn bins(
    values: &[f32],
    mantissa_bits: u32,
) -> std::collections::BTreeMap<(bool, u32), u64> {
    let mut bins = std::collections::BTreeMap::new();
    for x in values.iter().filter(|x| x.is_finite() && **x != 0.0) {
        let code = x.abs().to_bits() >> (23 - mantissa_bits);
        *bins.entry((x.is_sign_negative(), code)).or_default() += 1;
    }
    bins
}

/// The order statistic at rank ⌈q·n⌉, from sorted data.
pub(crate) fn quantile(values: &[f32], q: f64) -> f32 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    // Tests use q whose product with n is exact in f64.
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// One value through the grid, step by step in f64.
pub(crate) fn fake_quantize(x: f32, grid: Grid) -> f64 {
    let format = grid.format();
    let code =
        (f64::from(x) / f64::from(grid.scale())).round_ties_even() + f64::from(grid.zero_point());
    grid.value(code.clamp(f64::from(format.qmin()), f64::from(format.qmax())) as i32)
}

/// The mean squared error of a grid over the raw values.
pub(crate) fn mse(values: &[f32], grid: Grid) -> f64 {
    let squared = |&x: &f32| (f64::from(x) - fake_quantize(x, grid)).powi(2);
    values.iter().map(squared).sum::<f64>() / values.len() as f64
}

/// KL(P‖Q) of keeping the first `end` bins, written as the textbook has it.
pub(crate) fn divergence(counts: &[u64], end: usize, levels: usize) -> f64 {
    let outside: u64 = counts[end..].iter().sum();
    let mut p: Vec<f64> = counts[..end].iter().map(|&n| n as f64).collect();
    p[end - 1] += outside as f64;
    let mut q = vec![0.0; end];
    for level in 0..levels {
        let group: Vec<usize> = (0..end).filter(|k| k * levels / end == level).collect();
        let sum: u64 = group.iter().map(|&k| counts[k]).sum();
        let filled = group.iter().filter(|&&k| counts[k] > 0).count();
        for &k in group.iter().filter(|&&k| counts[k] > 0) {
            q[k] = sum as f64 / filled as f64;
        }
    }
    let (p_sum, q_sum): (f64, f64) = (p.iter().sum(), q.iter().sum());
    let mut kl = 0.0;
    for (p, q) in p.iter().zip(&q).filter(|(p, _)| **p > 0.0) {
        kl += p / p_sum * ((p / p_sum) / (q / q_sum)).ln(); // +inf where Q has nothing
    }
    kl
}

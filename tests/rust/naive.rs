//! Oracles. Each visits every value or every bin with the textbook formula, without prefix sums and
//! without codes beyond one shift. So they are unlikely to have the same errors as the engine.

use quantcal::{Grid, QuantFormat};

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
    // The tests use q whose product with n is exact in f64.
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// One value on the grid, step by step in f64.
pub(crate) fn fake_quantize(x: f32, grid: Grid) -> f64 {
    let scale = f64::from(grid.scale());
    let QuantFormat::Int(int) = grid.format() else {
        return nearest_level(f64::from(x) / scale, grid) * scale;
    };
    let zero_point = f64::from(grid.zero_point());
    let code = (f64::from(x) / scale).round_ties_even() + zero_point;
    (code.clamp(f64::from(int.qmin()), f64::from(int.qmax())) - zero_point) * scale
}

/// The level of a floating format nearest to `u`, found among all levels; of two equally near ones
/// that with the even code.
fn nearest_level(u: f64, grid: Grid) -> f64 {
    let QuantFormat::Float(float) = grid.format() else { return u };
    let levels = float.levels();
    let zero = levels.len() / 2;
    let key = |i: usize| ((f64::from(levels[i]) - u).abs(), i.abs_diff(zero) % 2);
    let order = |&a: &usize, &b: &usize| {
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
    };
    f64::from((0..levels.len()).min_by(order).map_or(0.0, |i| levels[i]))
}

/// The mean squared error of a grid over the raw values.
pub(crate) fn mse(values: &[f32], grid: Grid) -> f64 {
    let squared = |&x: &f32| (f64::from(x) - fake_quantize(x, grid)).powi(2);
    values.iter().map(squared).sum::<f64>() / values.len() as f64
}

/// KL(P‖Q) of keeping the first `end` bins, as in the textbook.
pub(crate) fn divergence(counts: &[u64], end: usize, levels: usize) -> f64 {
    window_divergence(counts, 0, end, levels)
}

/// The same for bins `start` to `end`.
pub(crate) fn window_divergence(counts: &[u64], start: usize, end: usize, levels: usize) -> f64 {
    let width = end - start;
    let levels = levels.min(width);
    grouped_divergence(counts, start, end, &|k| k * levels / width)
}

/// The same with kept bin k in group `group(k)`.
pub(crate) fn grouped_divergence(
    counts: &[u64],
    start: usize,
    end: usize,
    group: &dyn Fn(usize) -> usize,
) -> f64 {
    let kept = &counts[start..end];
    let mut p: Vec<f64> = kept.iter().map(|&n| n as f64).collect();
    p[0] += counts[..start].iter().sum::<u64>() as f64;
    p[end - start - 1] += counts[end..].iter().sum::<u64>() as f64;
    let mut q = vec![0.0; kept.len()];
    let mut at = 0;
    while at < kept.len() {
        let stop = (at..kept.len()).find(|&k| group(k) != group(at)).unwrap_or(kept.len());
        let sum: u64 = kept[at..stop].iter().sum();
        let filled = kept[at..stop].iter().filter(|&&n| n > 0).count();
        for k in (at..stop).filter(|&k| kept[k] > 0) {
            q[k] = sum as f64 / filled as f64;
        }
        at = stop;
    }
    let (p_sum, q_sum): (f64, f64) = (p.iter().sum(), q.iter().sum());
    let mut kl = 0.0;
    for (p, q) in p.iter().zip(&q).filter(|(p, _)| **p > 0.0) {
        kl += p / p_sum * ((p / p_sum) / (q / q_sum)).ln(); // +inf where Q has nothing
    }
    kl
}

/// The divergence of bins `start` to `end` in the entropy calibration of onnxruntime, in f64, step
/// by step like its `get_entropy_threshold` and `smooth_distribution`. It is infinite if no value
/// is left, and `None` if the smoothing takes a whole count from each bin, for which onnxruntime
/// raises.
pub(crate) fn smoothed_divergence(
    counts: &[u64],
    start: usize,
    end: usize,
    levels: usize,
) -> Option<f64> {
    let (mut p, size) = (counts[start..end].to_vec(), end - start);
    p[0] += counts[..start].iter().sum::<u64>();
    p[size - 1] += counts[end..].iter().sum::<u64>();
    let merged = size / levels;
    let mut q = vec![0; size];
    for level in 0..levels {
        let (first, next) = (level * merged, (level + 1) * merged);
        let until = if level + 1 == levels { size } else { next };
        let sum: u64 = counts[start + first..start + until].iter().sum();
        let full = p[first..next].iter().filter(|&&n| n > 0).count() as u64;
        q[first..next].fill(sum.checked_div(full).unwrap_or(0));
    }
    let smooth = |bins: &[u64]| -> Option<Vec<f64>> {
        let full = bins.iter().filter(|&&n| n > 0).count();
        let taken = 1e-4 * (size - full) as f64 / full as f64;
        let bins = bins.iter().map(|&n| if n > 0 { n as f64 - taken } else { 1e-4 });
        if taken < 1.0 { Some(bins.collect()) } else { None }
    };
    if p.iter().all(|&n| n == 0) || q.iter().all(|&n| n == 0) {
        return Some(f64::INFINITY);
    }
    let (p, q) = (smooth(&p)?, smooth(&q)?);
    let (p_sum, q_sum): (f64, f64) = (p.iter().sum(), q.iter().sum());
    Some(p.iter().zip(&q).map(|(p, q)| p / p_sum * ((p / p_sum) / (q / q_sum)).ln()).sum())
}

//! How far inwards searches go.

use crate::Density;

/// Smallest share of the magnitudes (without zeros) that a candidate range covers. A narrower range
/// would clip nearly all values.
const MIN_COVERED: f64 = 0.1;

/// The magnitude that covers a share [`MIN_COVERED`] of the values whose `side` is positive.
pub(crate) fn min_threshold(density: &Density, side: impl Fn(f64) -> f64) -> f64 {
    let mut bins: Vec<(f64, u64)> = density
        .segments()
        .iter()
        .map(|s| (side(s.low).max(side(s.high)), s.count))
        .filter(|&(magnitude, _)| magnitude > 0.0)
        .collect();
    bins.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = bins.iter().map(|&(_, n)| n as f64).sum();
    let mut covered = 0.0;
    for (magnitude, count) in bins {
        covered += count as f64;
        if covered >= MIN_COVERED * total {
            return magnitude;
        }
    }
    0.0
}

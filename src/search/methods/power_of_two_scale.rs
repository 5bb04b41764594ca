//! The best grid with a power-of-two scale. There are few, so nearly all are tried.

use super::coverage::min_threshold;
use crate::{Density, Grid, QuantFormat, Range, Scaling};

/// Number of zero points that are tried first for each scale.
const COARSE: i32 = 64;
/// Number of these that are refined.
const STARTS: usize = 3;

/// The range of the grid with the minimum `score`.
pub(crate) fn grid_search(
    density: &Density,
    format: QuantFormat,
    scaling: Scaling,
    score: impl Fn(Grid) -> f64,
) -> Range {
    let span = Range {
        low: density.min().unwrap_or(0.0).min(0.0),
        high: density.max().unwrap_or(0.0).max(0.0),
    };
    let widest = format.grid(span, scaling);
    let smallest = min_threshold(density, f64::abs);
    // Down to where a tenth of the magnitudes is covered. Floating formats start one octave higher.
    let octaves =
        libm::log2(span.abs_max() / smallest.max(f64::MIN_POSITIVE)).clamp(1.0, 64.0) as i32 + 1;
    let above = i32::from(format.int().is_none());
    let mut best: Option<(f64, Grid)> = None;
    let mut consider = |grid: Grid| {
        let s = score(grid);
        if best.as_ref().is_none_or(|(lowest, _)| s < *lowest) {
            best = Some((s, grid));
        }
        s
    };
    for k in -above..=octaves {
        let scale = libm::ldexpf(widest.scale(), -k);
        if !(f32::MIN_POSITIVE..=f32::MAX).contains(&scale) {
            continue; // no grid has such a scale
        }
        let grid = |zero_point| Grid::new(format, scale, zero_point);
        if format.is_symmetric(scaling) {
            if let Ok(grid) = grid(widest.zero_point()) {
                consider(grid);
            }
        } else if let Some(int) = format.int() {
            let (qmin, qmax) = (int.qmin(), int.qmax());
            let mut try_at = |zero_point: i32| match grid(zero_point.clamp(qmin, qmax)) {
                Ok(grid) => (consider(grid), zero_point),
                Err(_) => (f64::INFINITY, zero_point),
            };
            let mut stride = ((qmax - qmin) / COARSE).max(1);
            let mut tried: Vec<(f64, i32)> =
                (qmin..=qmax).step_by(stride as usize).map(&mut try_at).collect();
            tried.push(try_at(qmax));
            while stride > 1 {
                tried.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                tried.truncate(STARTS);
                stride = (stride / 2).max(1);
                for (_, at) in tried.clone() {
                    tried.extend([at - stride, at + stride].map(&mut try_at));
                }
            }
        }
    }
    best.map_or(Range::symmetric(0.0), |(_, grid)| grid.range(scaling))
}

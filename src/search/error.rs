//! What a grid does to the values: the one measure by which ranges are compared.

use super::cost::Cost;
use crate::{Density, Grid, Mass, Scaling};

/// Expected effect of quantising the values of a density. Shares are of the finite values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridError {
    /// mean of (x − x̂)²
    pub mse: f64,
    /// mean of x² over that of (x − x̂)², in decibels; +inf without error
    pub sqnr_db: f64,
    /// share of the values that saturation moves further than rounding would: those more than half
    /// a step beyond the lowest or the highest level
    pub clipped: f64,
    /// share of the values that round to zero, exact zeros included: halves round to even, so
    /// |x| ≤ scale / 2 for integers
    pub rounded_to_zero: f64,
    /// Σ x x̂ over the root of Σ x² Σ x̂²; 1 where there is nothing but zeros before and after
    pub cosine: f64,
}

/// Scores a grid. O(min(levels, segments)). All is 0, and the SQNR infinite, without values.
pub fn grid_error(density: &Density, grid: Grid) -> GridError {
    let n = density.count() as f64;
    if n == 0.0 {
        let (mse, clipped, rounded_to_zero) = (0.0, 0.0, 0.0);
        return GridError { mse, sqnr_db: f64::INFINITY, clipped, rounded_to_zero, cosine: 1.0 };
    }
    let squared = Cost::new(2.0).of(density, grid);
    let (zero, half) = (grid.zero_reach(), grid.reach());
    let range = grid.range(Scaling::AFFINE);
    let above = density.count().saturating_sub(density.count_up_to(range.high + half));
    let zeroed = density.count_up_to(zero).saturating_sub(density.count_below(-zero));
    GridError {
        mse: squared / n,
        sqnr_db: if squared > 0.0 {
            10.0 * (density.total().s2 / squared).log10()
        } else {
            f64::INFINITY
        },
        clipped: (density.count_below(range.low - half) + above) as f64 / n,
        rounded_to_zero: zeroed as f64 / n,
        cosine: cosine(density, grid, squared),
    }
}

/// The cosine between the values and what becomes of them.
fn cosine(density: &Density, grid: Grid, squared_error: f64) -> f64 {
    let total = density.total();
    let (mut before, mut dot, mut norm) = (Mass::default(), 0.0, 0.0);
    grid.for_each_cell(|value, upper| {
        let here = if upper == f64::INFINITY { total } else { density.below(upper) };
        let cell = here - before;
        dot += value * cell.s1;
        norm += value * value * cell.n;
        before = here;
    });
    if total.s2 == 0.0 || norm == 0.0 {
        return if squared_error == 0.0 { 1.0 } else { 0.0 };
    }
    (dot / (total.s2 * norm).sqrt()).clamp(-1.0, 1.0)
}

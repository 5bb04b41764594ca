//! What a grid does to the values: the one measure by which ranges are compared.

use crate::{Density, Grid, Mass};

/// Expected effect of quantising the values of a density. Shares are of the finite values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridError {
    /// mean of (x − x̂)²
    pub mse: f64,
    /// mean of x² over that of (x − x̂)², in decibels; +inf without error
    pub sqnr_db: f64,
    /// share of the values that saturation moves further than rounding would: those more than half
    /// a step beyond the lowest or the highest code
    pub clipped: f64,
    /// share of the values that round to zero, exact zeros included: |x| ≤ scale / 2, as halves
    /// round to even
    pub rounded_to_zero: f64,
}

/// Scores a grid. O(levels). All is 0, and the SQNR infinite, without values.
pub fn grid_error(density: &Density, grid: Grid) -> GridError {
    let n = density.count() as f64;
    if n == 0.0 {
        return GridError { mse: 0.0, sqnr_db: f64::INFINITY, clipped: 0.0, rounded_to_zero: 0.0 };
    }
    let squared = squared_error(density, grid);
    let half = 0.5 * f64::from(grid.scale());
    let range = grid.range(false);
    let above = density.count().saturating_sub(density.count_up_to(range.high + half));
    let zeroed = density.count_up_to(half).saturating_sub(density.count_below(-half));
    GridError {
        mse: squared / n,
        sqnr_db: if squared > 0.0 {
            10.0 * (density.total().s2 / squared).log10()
        } else {
            f64::INFINITY
        },
        clipped: (density.count_below(range.low - half) + above) as f64 / n,
        rounded_to_zero: zeroed as f64 / n,
    }
}

/// The sum of (x − x̂)² over all values: one look-up a level.
pub(crate) fn squared_error(density: &Density, grid: Grid) -> f64 {
    let (qmin, qmax) = (grid.format().qmin(), grid.format().qmax());
    let (scale, zero_point) = (f64::from(grid.scale()), grid.zero_point());
    let mut before = Mass::default();
    let mut sum = 0.0;
    for code in qmin..qmax {
        let steps = f64::from(code - zero_point);
        // Which side a value exactly between two codes falls to does not change its error.
        let here = density.below((steps + 0.5) * scale);
        sum += (here - before).squared_error(steps * scale);
        before = here;
    }
    sum += (density.total() - before).squared_error(f64::from(qmax - zero_point) * scale);
    sum.max(0.0) // rounding of the prefix sums may leave a tiny negative rest
}

//! The effect of a grid on the values: the figures by which a person compares ranges.

use super::Cost;
use crate::{Density, Grid, Histogram, Mass, Scaling, parallel};

/// Channels from which a second thread is used.
const PARALLEL: usize = 32;

/// The expected effect of quantizing the values of a density. Shares are of the finite values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridError {
    /// mean of (x − x̂)²
    pub mse: f64,
    /// mean of x² divided by the mean of (x − x̂)², in decibels; +inf without error
    pub sqnr_db: f64,
    /// share of the values that saturation moves further than rounding would: those more than half
    /// a step beyond the lowest or the highest level
    pub clipped: f64,
    /// share of the values that round to zero, exact zeros included; for integers |x| ≤ scale / 2,
    /// since halves round to even
    pub rounded_to_zero: f64,
    /// Σ x x̂ divided by the root of Σ x² Σ x̂²; 1 if all values are zero before and after
    pub cosine: f64,
}

/// Evaluates a grid. O(min(levels, segments)). Without values all is 0 and the SQNR infinite.
pub fn grid_error(density: &Density, grid: Grid) -> GridError {
    ErrorSums::of(density, grid).error()
}

/// Evaluates the grids of all channels together: the error of all values, each on the grid of its
/// channel. Channels are evaluated in parallel and added in order.
///
/// # Panics
/// Unless there is one grid for each channel.
pub fn grid_errors(channels: &[Histogram], grids: &[Grid]) -> GridError {
    assert_eq!(channels.len(), grids.len(), "a grid for each channel");
    let sums = parallel::map(
        channels.len() >= PARALLEL,
        channels.iter().zip(grids),
        |(histogram, &grid)| ErrorSums::of(&Density::new(histogram), grid),
    );
    sums.into_iter().fold(ErrorSums::default(), ErrorSums::plus).error()
}

/// The sums from which the figures are computed.
#[derive(Clone, Copy, Default)]
struct ErrorSums {
    n: u64,
    clipped: u64,
    zeroed: u64,
    energy: f64,  // Σ x²
    squared: f64, // Σ (x − x̂)²
    dot: f64,     // Σ x x̂
    norm: f64,    // Σ x̂²
}

impl ErrorSums {
    fn of(density: &Density, grid: Grid) -> Self {
        let (zero, half) = (grid.zero_reach(), grid.reach());
        let range = grid.range(Scaling::AFFINE);
        let above = density.count().saturating_sub(density.count_up_to(range.high + half));
        let total = density.total();
        let (mut before, mut dot, mut norm) = (Mass::default(), 0.0, 0.0);
        grid.for_each_cell(|value, upper| {
            let here = if upper == f64::INFINITY { total } else { density.below(upper) };
            let cell = here - before;
            dot += value * cell.s1;
            norm += value * value * cell.n;
            before = here;
        });
        Self {
            n: density.count(),
            clipped: density.count_below(range.low - half).saturating_add(above),
            zeroed: density.count_up_to(zero).saturating_sub(density.count_below(-zero)),
            energy: total.s2,
            squared: Cost::new(2.0).of(density, grid),
            dot,
            norm,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            n: self.n.saturating_add(other.n),
            clipped: self.clipped.saturating_add(other.clipped),
            zeroed: self.zeroed.saturating_add(other.zeroed),
            energy: self.energy + other.energy,
            squared: self.squared + other.squared,
            dot: self.dot + other.dot,
            norm: self.norm + other.norm,
        }
    }

    fn error(self) -> GridError {
        let Self { energy, squared, norm, .. } = self;
        let n = self.n as f64;
        let share = |count: u64| if self.n == 0 { 0.0 } else { count as f64 / n };
        GridError {
            mse: if self.n == 0 { 0.0 } else { squared / n },
            sqnr_db: if squared > 0.0 {
                10.0 * libm::log10(energy / squared)
            } else {
                f64::INFINITY
            },
            clipped: share(self.clipped),
            rounded_to_zero: share(self.zeroed),
            cosine: if energy == 0.0 || norm == 0.0 {
                f64::from(u8::from(squared == 0.0))
            } else {
                (self.dot / (energy * norm).sqrt()).clamp(-1.0, 1.0)
            },
        }
    }
}

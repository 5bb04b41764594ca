//! OCTAV: the clipping threshold of minimum squared error by a fixed point, instead of a search.
//!
//! Sakr et al., "Optimal Clipping and Magnitude-aware Differentiation for Improved
//! Quantization-aware Training", ICML 2022, equation 6. The clipping error is E[(|x| − s)²; |x| >
//! s]. The rounding error is Δ²/12 for the values inside, with Δ = s/k. Setting the derivative to
//! zero gives
//!
//! ```text
//! s = E[|x|; |x| > s] / (P(0 < |x| ≤ s) / (12 k²) + P(|x| > s))
//! ```
//!
//! The iteration starts at the mean magnitude and at each octave above it. Of several fixed points,
//! the one with the minimum error on the real grid is chosen. The model of the rounding error
//! assumes evenly spread values, so the result differs slightly from the optimum on the real grid.

use super::mse;
use crate::{Density, Histogram, QuantFormat, Range, Scaling, error::Result, search::cost::Cost};

/// Most iterations. About ten are enough.
const MAX_ITERATIONS: usize = 100;

/// The range of the fixed point. O(log bins) for each iteration.
///
/// One threshold serves both sides; affine scaling clips each end of the data at it. Floating
/// formats and power-of-two scales use the full search: the former do not have even steps, the
/// latter are few.
///
/// # Errors
/// None for usable data; as [`mse`].
pub fn octav(histogram: &Histogram, format: QuantFormat, scaling: Scaling) -> Result<Range> {
    let density = Density::new(histogram);
    let (Some(int), false) = (format.int(), scaling.power_of_two) else {
        return mse(&density, 2.0, format, scaling);
    };
    let (min, max) = (density.min().unwrap_or(0.0), density.max().unwrap_or(0.0));
    let all = f64::from(int.qmax() - int.qmin());
    let steps = match (scaling.symmetric, min < 0.0 && max > 0.0) {
        (true, _) => f64::from(int.symmetric_steps()),
        (false, true) => 0.5 * all,
        (false, false) => all,
    };
    let range = |s: f64| {
        if scaling.symmetric {
            return Range::symmetric(s);
        }
        Range { low: min.max(-s).min(0.0), high: max.min(s).max(0.0) }
    };
    let cost = Cost::new(2.0);
    let mut best = (f64::INFINITY, range(0.0));
    for s in fixed_points(&Density::of_magnitudes(histogram), steps) {
        let error = cost.of(&density, format.grid(range(s), scaling));
        if error < best.0 {
            best = (error, range(s));
        }
    }
    Ok(best.1)
}

/// The extreme and all fixed points that are reached from one start in each octave. With outliers
/// there are several.
fn fixed_points(magnitudes: &Density, steps: f64) -> Vec<f64> {
    let abs_max = magnitudes.abs_max();
    let mean = magnitudes.total().s1 / magnitudes.total().n.max(1.0);
    let mut points = vec![abs_max];
    let mut start = mean;
    while start < abs_max {
        let found = fixed_point(magnitudes, steps, start);
        if points.iter().all(|known| (known - found).abs() > 1e-6 * found) {
            points.push(found);
        }
        start *= 2.0;
    }
    points
}

fn fixed_point(magnitudes: &Density, steps: f64, start: f64) -> f64 {
    let total = magnitudes.total();
    let zeros = magnitudes.count_up_to(0.0) as f64;
    let abs_max = magnitudes.abs_max();
    let mut s = start;
    for _ in 0..MAX_ITERATIONS {
        let below = magnitudes.below(s);
        let outside = total - below;
        let inside = (below.n - zeros).max(0.0);
        let next = outside.s1 / (inside / (12.0 * steps * steps) + outside.n);
        if !next.is_finite() || next >= abs_max || outside.n <= 0.0 {
            return abs_max;
        }
        let settled = (next - s).abs() <= 1e-7 * s;
        s = next;
        if settled {
            break;
        }
    }
    s
}

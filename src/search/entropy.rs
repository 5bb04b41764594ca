//! The range whose codes carry the most information: the highest Shannon entropy of the code
//! distribution.

use super::{
    cost::{many_levels, nearest},
    logarithm::{LN, Logarithm},
    optimum::optimum,
};
use crate::{Density, Grid, QuantFormat, Range, Scaling};

/// The range whose codes have the highest entropy. O(1000 · min(levels, segments)).
///
/// Spread-out data fill more codes the narrower the range, until clipping piles values onto the
/// outermost codes; so this method clips more than those that weigh the error.
pub fn max_entropy(density: &Density, format: QuantFormat, scaling: Scaling) -> Range {
    optimum(density, format, scaling, |_, grid| -code_entropy(density, grid))
}

/// The Shannon entropy of the codes, in bits; 0 without values.
pub fn code_entropy(density: &Density, grid: Grid) -> f64 {
    let n = density.total().n;
    if n == 0.0 {
        return 0.0;
    }
    let sum = match grid.format() {
        format if many_levels(density, format) => by_segments(density, grid),
        _ => by_levels(density, grid),
    };
    // H = ln n − Σ m ln m / n, of the masses m
    ((n.ln() - sum / n) / std::f64::consts::LN_2).max(0.0)
}

#[inline]
fn m_ln_m(ln: &Logarithm, m: f64) -> f64 {
    if m >= f64::MIN_POSITIVE { m * ln.of(m) } else { 0.0 }
}

fn by_levels(density: &Density, grid: Grid) -> f64 {
    let ln = &*LN;
    let total = density.total().n;
    let (mut before, mut sum) = (0.0, 0.0);
    grid.for_each_cell(|_, upper| {
        let here = if upper == f64::INFINITY { total } else { density.number_below(upper) };
        sum += m_ln_m(ln, here - before);
        before = here;
    });
    sum
}

/// Over an evenly spaced grid with more levels than segments: a segment that spans several cells
/// gives each cell within it the same mass.
fn by_segments(density: &Density, grid: Grid) -> f64 {
    let ln = &*LN;
    let (low, high) = grid.ends();
    let inverse = 1.0 / f64::from(grid.scale());
    let cell = |x: f64| nearest(x).clamp(low, high);
    let (mut open, mut mass, mut sum) = (low, 0.0, 0.0); // the cell being filled
    for segment in density.segments() {
        let (a, b) = (segment.low * inverse, segment.high * inverse);
        let n = segment.count as f64;
        let (first, last) = (cell(a), cell(b));
        if first != open {
            sum += m_ln_m(ln, mass);
            (open, mass) = (first, 0.0);
        }
        if first == last {
            mass += n;
            continue;
        }
        let rate = n / (b - a);
        sum += m_ln_m(ln, mass + rate * (first + 0.5 - a));
        let whole = last - first - 1.0;
        sum += whole * m_ln_m(ln, rate);
        (open, mass) = (last, rate * (b - (last - 0.5)));
    }
    sum + m_ln_m(ln, mass)
}

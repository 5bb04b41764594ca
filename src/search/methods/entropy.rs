//! Maximum entropy: the range whose code distribution has the highest Shannon entropy.

use super::grid_search::grid_search;
use crate::{
    Density, Grid, QuantFormat, Range, Scaling, Segment,
    search::{
        cost::has_many_levels,
        math::{ln, nearest, x_ln_x},
    },
    simd::{Work, dispatch},
};

/// The width of a point, relative to its distance from zero.
const TINY: f64 = 1.0 / (1u64 << 60) as f64;

/// The range whose codes have the highest entropy. O(1000 · min(levels, segments)).
///
/// Spread-out data use more codes in a narrower range, until clipping collects values in the
/// outermost codes. So this method clips more than methods that minimize an error.
pub fn max_entropy(density: &Density, format: QuantFormat, scaling: Scaling) -> Range {
    if has_many_levels(density, format) {
        return grid_search(density, format, scaling, |_, grid| -code_entropy(density, grid));
    }
    let counts = PrefixCounts::new(density);
    grid_search(density, format, scaling, |_, grid| {
        -entropy(dispatch(Masses { ends: &counts.below_ends(grid) }), density.total().n)
    })
}

/// The Shannon entropy of the codes, in bits; 0 without values.
pub fn code_entropy(density: &Density, grid: Grid) -> f64 {
    let n = density.total().n;
    if n == 0.0 {
        return 0.0;
    }
    let sum = if has_many_levels(density, grid.format()) {
        by_segments(density, grid)
    } else {
        dispatch(Masses { ends: &ends(density, grid, |x| density.number_below(x)) })
    };
    entropy(sum, n)
}

/// H = ln n − Σ m ln m / n for the masses m, in bits.
fn entropy(sum: f64, n: f64) -> f64 {
    ((ln(n) - sum / n) / std::f64::consts::LN_2).max(0.0)
}

/// The number of values below the end of each cell of a grid, given a function that counts them.
fn ends(density: &Density, grid: Grid, below: impl Fn(f64) -> f64) -> Vec<f64> {
    let total = density.total().n;
    let mut ends = Vec::with_capacity(grid.num_levels() + 1);
    ends.push(0.0);
    grid.for_each_cell(|_, upper| {
        ends.push(if upper == f64::INFINITY { total } else { below(upper) });
    });
    ends
}

/// Σ m ln m of the differences of rising numbers.
struct Masses<'a> {
    ends: &'a [f64],
}

impl Work for Masses<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        const LANES: usize = 8; // explicit lanes, so that all processors add in the same order
        let mut sums = [0.0; LANES];
        let (lower, lower_rest) = self.ends[..self.ends.len() - 1].as_chunks::<LANES>();
        let (upper, upper_rest) = self.ends[1..].as_chunks::<LANES>();
        for (lower, upper) in lower.iter().zip(upper) {
            for lane in 0..LANES {
                sums[lane] += x_ln_x(upper[lane] - lower[lane]);
            }
        }
        for ((sum, lower), upper) in sums.iter_mut().zip(lower_rest).zip(upper_rest) {
            *sum += x_ln_x(upper - lower);
        }
        sums.iter().sum()
    }
}

/// The number of values below a given number, in one record for each look-up.
struct PrefixCounts<'a> {
    density: &'a Density,
    segments: Vec<CountSegment>, // one for each segment, and an empty one at the end
}

#[derive(Clone, Copy)]
struct CountSegment {
    low: f64,
    width: f64, // for a point, so small that every other number lies beyond it
    rate: f64,
    before: f64,
}

impl<'a> PrefixCounts<'a> {
    fn new(density: &'a Density) -> Self {
        let segments = density.segments().iter().enumerate().map(|(k, segment)| {
            let &Segment { low, high, count } = segment;
            let point = low.abs().max(f64::MIN_POSITIVE / TINY / TINY) * TINY;
            let width = if high > low { high - low } else { point };
            CountSegment { low, width, rate: count as f64 / width, before: density.rank(k) as f64 }
        });
        let end = CountSegment { low: 0.0, width: 0.0, rate: 0.0, before: density.count() as f64 };
        Self { density, segments: segments.chain([end]).collect() }
    }

    /// The number of values below the end of each cell of a grid.
    fn below_ends(&self, grid: Grid) -> Vec<f64> {
        if grid.format().int().is_none() {
            let below = |x| self.segments[self.density.locate(x)].below(x);
            return ends(self.density, grid, below);
        }
        // No end is zero, so the ends of one sign follow those of the other.
        let (scale, (low, high)) = (f64::from(grid.scale()), grid.ends());
        let mut ends = Vec::with_capacity(grid.num_levels() + 1);
        ends.push(0.0);
        for (sign, negative, first, count) in [(-1.0, true, low, -low), (1.0, false, 0.0, high)] {
            let side = self.density.side(negative);
            ends.extend((0..count as u32).map(|k| {
                let x = (first + f64::from(k) + 0.5) * scale;
                self.segments[side.locate(sign * x)].below(x)
            }));
        }
        ends.push(self.density.total().n);
        ends
    }
}

impl CountSegment {
    #[inline(always)]
    fn below(&self, x: f64) -> f64 {
        let inside = x - self.low;
        let inside = if inside > 0.0 { inside } else { 0.0 };
        let inside = if inside < self.width { inside } else { self.width };
        self.before + self.rate * inside
    }
}

/// Σ m ln m over an evenly spaced grid with more levels than segments. A segment that spans several
/// cells gives each cell inside it the same mass.
fn by_segments(density: &Density, grid: Grid) -> f64 {
    let (low, high) = grid.ends();
    let inverse = 1.0 / f64::from(grid.scale());
    let cell = |x: f64| nearest(x).clamp(low, high);
    let (mut open, mut mass, mut sum) = (low, 0.0, 0.0); // the cell being filled
    for segment in density.segments() {
        let (a, b) = (segment.low * inverse, segment.high * inverse);
        let n = segment.count as f64;
        let (first, last) = (cell(a), cell(b));
        if first != open {
            sum += x_ln_x(mass);
            (open, mass) = (first, 0.0);
        }
        if first == last {
            mass += n;
            continue;
        }
        let rate = n / (b - a);
        sum += x_ln_x(mass + rate * (first + 0.5 - a));
        let whole = last - first - 1.0;
        sum += whole * x_ln_x(rate);
        (open, mass) = (last, rate * (b - (last - 0.5)));
    }
    sum + x_ln_x(mass)
}

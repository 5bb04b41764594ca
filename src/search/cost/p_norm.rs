//! The expected cost Σ |x − x̂|^p of a grid, by which ranges are compared.
//!
//! There are two ways, and the one with less to visit is chosen:
//!
//! * By level, O(levels): the squared error of each cell from the prefix sums of the density.
//! * By segment, O(segments): on an evenly spaced grid, the cost of a segment from a to b is (F(b)
//!   − F(a)) / (b − a). F is the integral of |u − round(u)|^p, which has a closed form. So p need
//!   not be 2, and 16-bit grids cost no more than 8-bit ones.

use crate::{
    Density, Grid, Mass, QuantFormat, Segment,
    search::math::{PowerTable, nearest},
};

/// Segments narrower than this, in steps, are treated as their middle.
const NARROW: f64 = 1.0 / 64.0;

/// The p-norm of the differences x − x̂.
pub(crate) struct Cost {
    p: f64,
    powers: Option<Powers>, // `None` for p = 2, which needs no table
    cell: f64,              // the integral over one cell
}

struct Powers {
    power: PowerTable,     // u^p
    primitive: PowerTable, // u^(p+1) / (p+1), its integral
}

impl Cost {
    /// The cost |x − x̂|^p, p from 1 to 4.
    pub(crate) fn new(p: f64) -> Self {
        Self {
            p,
            powers: (p != 2.0).then(|| Powers {
                power: PowerTable::new(p, 1.0),
                primitive: PowerTable::new(p + 1.0, 1.0 / (p + 1.0)),
            }),
            cell: 2.0 * libm::pow(0.5, p + 1.0) / (p + 1.0),
        }
    }

    /// The sum of the costs of all values.
    pub(crate) fn of(&self, density: &Density, grid: Grid) -> f64 {
        if self.p == 2.0 && !has_many_levels(density, grid.format()) {
            squared_by_levels(density, grid)
        } else {
            self.of_segments(density.segments(), grid)
        }
    }

    /// The sum of the costs of all values in some segments.
    pub(crate) fn of_segments(&self, segments: &[Segment], grid: Grid) -> f64 {
        match grid.format() {
            QuantFormat::Int(_) => self.by_segments(segments, grid),
            QuantFormat::Float(_) => self.by_cells(segments, grid),
        }
    }

    /// The sum over an evenly spaced grid.
    fn by_segments(&self, segments: &[Segment], grid: Grid) -> f64 {
        let (low, high) = grid.ends();
        let inverse = 1.0 / f64::from(grid.scale());
        let (mut sum, mut end, mut at_end) = (0.0, f64::NAN, 0.0);
        for segment in segments {
            let (a, b) = (segment.low * inverse, segment.high * inverse);
            let width = b - a;
            let mean = if width < NARROW {
                let x = 0.5 * (a + b);
                self.power((x - nearest(x).clamp(low, high)).abs())
            } else {
                // Neighboring segments share an end.
                let at_a = if a == end { at_end } else { self.integral(a, low, high) };
                (end, at_end) = (b, self.integral(b, low, high));
                (at_end - at_a) / width
            };
            sum += segment.count as f64 * mean;
        }
        sum * libm::pow(f64::from(grid.scale()), self.p)
    }

    /// ∫ of the cost from the lowest level to `x`, in steps.
    fn integral(&self, x: f64, low: f64, high: f64) -> f64 {
        let nearest = nearest(x).clamp(low, high);
        let rest = x - nearest;
        (nearest - low) * self.cell + self.primitive(rest.abs()).copysign(rest)
    }

    /// u^p.
    #[inline]
    pub(crate) fn power(&self, u: f64) -> f64 {
        self.powers.as_ref().map_or(u * u, |powers| powers.power.of(u))
    }

    /// u^(p+1) / (p+1).
    #[inline]
    pub(crate) fn primitive(&self, u: f64) -> f64 {
        self.powers.as_ref().map_or_else(|| u * u * u / 3.0, |powers| powers.primitive.of(u))
    }

    /// The sum over any grid: each segment is split at the ends of the cells.
    pub(crate) fn by_cells(&self, segments: &[Segment], grid: Grid) -> f64 {
        let (mut k, mut done) = (0, f64::NEG_INFINITY);
        let mut sum = 0.0;
        grid.for_each_cell(|value, upper| {
            while let Some(segment) = segments.get(k) {
                let (a, b) = (segment.low.max(done), segment.high.min(upper));
                if a > upper {
                    break;
                }
                let n = segment.count as f64;
                sum += if segment.low == segment.high {
                    n * self.power((a - value).abs())
                } else {
                    let signed = |d: f64| self.primitive(d.abs()).copysign(d);
                    n * (signed(b - value) - signed(a - value)) / (segment.high - segment.low)
                };
                if segment.high > upper {
                    break; // the rest of it belongs to the next cells
                }
                k += 1;
            }
            done = upper;
        });
        sum
    }
}

/// Whether an evenly spaced grid has so many levels that visiting the segments takes less time.
pub(crate) fn has_many_levels(density: &Density, format: QuantFormat) -> bool {
    format.int().is_some_and(|int| 1 << int.bits() > 2 * density.segments().len())
}

/// The sum of squared errors, in one look-up for each level.
fn squared_by_levels(density: &Density, grid: Grid) -> f64 {
    let mut before = Mass::default();
    let mut sum = 0.0;
    let total = density.total();
    grid.for_each_cell(|value, upper| {
        let here = if upper == f64::INFINITY { total } else { density.below(upper) };
        sum += (here - before).squared_error(value);
        before = here;
    });
    sum.max(0.0) // rounding of the prefix sums may leave a tiny negative sum
}

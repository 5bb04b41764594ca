//! The cost Σ |x − x̂|^p of many evenly spaced grids over one density, for searches.
//!
//! In steps, the cost of a value between the outermost levels is |r|^p with r = u − round(u): a mean
//! μ = ½^p / (p + 1) and a part that repeats with every step, whose integral
//! G(r) = r (|r|^p − ½^p) / (p + 1) is zero in the middle between levels. Integrated by parts, a
//! density of constant pieces costs
//!
//! ```text
//! μ · (values inside) + Σ over edges e of (rate before e − rate after e) · G(e / Δ)
//! ```
//!
//! so that an edge is one polynomial, without a branch, in vector operations. What lies within a
//! small part of a step becomes two points with the same mean and variance, which cost |r|^p; so
//! the edges are those of segments that are wide beside a step, which are few. Beyond the outermost levels nothing
//! repeats: there it goes segment by segment.

use std::{borrow::Cow, cell::OnceCell};

use super::{
    cost::Cost,
    joined::{Inside, Level},
    norm::Norm,
    optimum::Stage,
};
use crate::{Density, Grid, Segment};

/// In steps: what lies closer together is joined.
const NARROW: f64 = 1.0 / 64.0;
/// Mantissa bits that the early stages see.
const ROUGH: u32 = 4;
const FINER: u32 = 6;
/// A density, prepared for the cost of as many grids as a search has.
pub(super) struct EvenCosts<'a> {
    cost: Cost,
    norm: Norm,
    rough: Detail<'a>,
    finer: Detail<'a>,
    all: Detail<'a>,
}

impl<'a> EvenCosts<'a> {
    pub(super) fn new(density: &'a Density, p: f64) -> Self {
        let cost = Cost::new(p);
        Self {
            rough: Detail::new(density.thinned(ROUGH, 0.0).into(), &cost),
            finer: Detail::new(density.thinned(FINER, 0.0).into(), &cost),
            all: Detail::new(density.segments().into(), &cost),
            norm: Norm::new(p),
            cost,
        }
    }

    /// The sum of the costs of all values; on less detail in early stages.
    pub(super) fn of(&self, stage: Stage, grid: Grid) -> f64 {
        let detail = match stage {
            Stage::Coarse => &self.rough,
            Stage::Dense => &self.finer,
            Stage::Fine => &self.all,
        };
        let scale = f64::from(grid.scale());
        let (low, high) = grid.ends();
        // Where the outermost cells would end if others followed.
        let inside = Inside { from: (low - 0.5) * scale, to: (high + 0.5) * scale, scale };
        let level = detail.level(grid.scale());
        let sum = level.inside(&self.norm, inside) + level.outside(&self.cost, inside);
        sum * libm::pow(scale, self.norm.p) + detail.around_zero(&self.cost, 0.5 * scale)
    }
}

/// Segments, and what becomes of them beside steps of each octave.
struct Detail<'a> {
    segments: Cow<'a, [Segment]>,
    inner: Vec<f64>,              // Σ |x|^p of the segments between zero and this one
    levels: Vec<OnceCell<Level>>, // by the exponent of the scale
}

impl<'a> Detail<'a> {
    fn new(segments: Cow<'a, [Segment]>, cost: &Cost) -> Self {
        let mut inner = vec![0.0; segments.len()];
        let zero = segments.partition_point(|s| s.low < 0.0);
        let mut sum = 0.0;
        for (inner, s) in inner[..zero].iter_mut().zip(&segments[..zero]).rev() {
            *inner = sum;
            sum += distance_to_zero(cost, s, s.low, s.high);
        }
        sum = 0.0;
        for (inner, s) in inner[zero..].iter_mut().zip(&segments[zero..]) {
            *inner = sum;
            sum += distance_to_zero(cost, s, s.low, s.high);
        }
        Self { segments, inner, levels: vec![OnceCell::new(); 256] }
    }

    /// Σ |x|^p of what is represented by zero. Where a range is wide beside the values, that is
    /// most of them, and all within a small part of a step: so it has sums of its own.
    fn around_zero(&self, cost: &Cost, half: f64) -> f64 {
        let first = self.segments.partition_point(|s| s.high < -half);
        let last = self.segments.partition_point(|s| s.low < half);
        let part = |k: usize| {
            let s = &self.segments[k];
            self.inner[k] + distance_to_zero(cost, s, s.low.max(-half), s.high.min(half))
        };
        let lower = self.segments.get(first).is_some_and(|s| s.low < 0.0);
        let upper = last > 0 && self.segments[last - 1].high > 0.0;
        (if lower { part(first) } else { 0.0 }) + if upper { part(last - 1) } else { 0.0 }
    }

    fn level(&self, scale: f32) -> &Level {
        let octave = scale.to_bits() >> 23;
        let width = NARROW * f64::from(f32::from_bits(octave << 23));
        self.levels[octave as usize].get_or_init(|| Level::new(&self.segments, width))
    }
}

/// Σ |x|^p of what a segment on one side of zero has from `low` to `high`.
fn distance_to_zero(cost: &Cost, segment: &Segment, low: f64, high: f64) -> f64 {
    let n = segment.count as f64;
    if segment.low == segment.high {
        return n * cost.power(low.abs());
    }
    let integral = cost.primitive(high.abs()) - cost.primitive(low.abs());
    n * integral.abs() / (segment.high - segment.low)
}

#[cfg(test)]
mod tests {
    use super::EvenCosts;
    use crate::search::{
        cases::{densities, grids},
        cost::Cost,
        optimum::Stage,
    };

    #[test]
    fn the_cost_by_edges_is_the_cost_by_segments() {
        for density in densities() {
            for p in [1.0, 1.7, 2.0, 2.4, 4.0] {
                let (costs, cost) = (EvenCosts::new(&density, p), Cost::new(p));
                for grid in grids(&density, &["int2", "uint4", "int8", "uint8", "uint16"]) {
                    let found = costs.of(Stage::Fine, grid);
                    let want = cost.by_pieces(density.segments(), grid);
                    // Of few values on levels or between them, what the polynomial is off.
                    let step = libm::pow(f64::from(grid.scale()), p);
                    let noise = 1e-5 * step * density.total().n;
                    let told = format!("{grid:?} {p}: {found} {want}");
                    assert!((found - want).abs() <= 1e-3 * want + noise, "{told}");
                }
            }
        }
    }
}

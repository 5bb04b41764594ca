//! The range with the least score: the one search that several methods share.
//!
//! The score over the range is smooth in the large (clipping falls, rounding rises with the range)
//! and jagged in the small (values fall onto and off the grid), and with outliers it has several
//! minima octaves apart. So the search is global and coarse to fine: geometric candidates from the
//! extremes down to where nearly everything would be clipped; around the best few a dense grid,
//! fine enough to see the jags; and the best of those polished by a pattern search with shrinking
//! steps. An affine range has two ends, searched together.
//!
//! Each candidate is scored through the very grid that would be deployed, with its rounded zero
//! point.

use super::coverage::least_magnitude;
use crate::{Density, Grid, QuantFormat, Range, Scaling};

/// Coarse candidates for one end of the range, at most.
const COARSE: usize = 26;
/// Coarse candidates for the only end that is searched.
const COARSE_SINGLE: usize = 129;
/// Minima of the coarse grid around which the dense one is laid.
const STARTS: usize = 3;
/// Points of the dense grid that are polished.
const POLISHED: usize = 4;
/// Dense steps to either side, in one dimension and in each of two; they reach one coarse step.
const DENSE_SINGLE: i32 = 24;
const DENSE: i32 = 6;
/// Step in octaves at which the pattern search ends: 2^(1/1024) is 0.07 %.
const FINEST: f64 = 1.0 / 1024.0;

/// How far a search has come: earlier stages may score on less detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// all candidates over the whole range, of which the best few are looked at more closely
    Coarse,
    /// the neighbourhood of these, finely
    Dense,
    /// the last polish, which decides
    Fine,
}

/// The range whose grid has the least `score`. About 300 scores for one end, 1300 for two, of which
/// 200 are fine ones.
pub(super) fn optimum(
    density: &Density,
    format: QuantFormat,
    scaling: Scaling,
    score: impl Fn(Stage, Grid) -> f64,
) -> Range {
    let (Some(min), Some(max)) = (density.min(), density.max()) else {
        return Range::symmetric(0.0);
    };
    if scaling.power_of_two {
        return super::power::optimum(density, format, scaling, |grid| score(Stage::Fine, grid));
    }
    let score = |stage, range| score(stage, format.grid(range, scaling));
    if format.is_symmetric(scaling) {
        // The levels of a floating format repeat with each octave: all phases are tried, the one
        // octave above the extreme included.
        let headroom = if format.int().is_none() { 2.0 } else { 1.0 };
        let most = headroom * density.abs_max();
        let end = End::new(most, least_magnitude(density, f64::abs), COARSE_SINGLE);
        return best(&End::none(), &end, |_, t| Range::symmetric(t), score);
    }
    let (left, right) = (min.min(0.0).abs(), max.max(0.0));
    let most = if left == 0.0 || right == 0.0 { COARSE_SINGLE } else { COARSE };
    let left = End::new(left, least_magnitude(density, |x| -x), most);
    let right = End::new(right, least_magnitude(density, |x| x), most);
    best(&left, &right, |a, b| Range { low: -a, high: b }, score)
}

/// Candidates for one end of the range: `most` · 2^(−k · `step`).
struct End {
    most: f64,
    step: f64,
    count: usize,
}

impl End {
    fn new(most: f64, least: f64, candidates: usize) -> Self {
        if most == 0.0 {
            return Self::none();
        }
        let octaves = libm::log2(most / least.max(f64::MIN_POSITIVE)).clamp(1.0, 64.0);
        // Eight candidates an octave where that is few enough, in whole steps of 1/8.
        let eighths = (octaves * 8.0 / (candidates - 1) as f64).ceil().max(1.0);
        let step = eighths / 8.0;
        Self { most, step, count: (octaves / step).ceil() as usize + 1 }
    }

    /// An end that is fixed at zero.
    fn none() -> Self {
        Self { most: 0.0, step: 0.0, count: 1 }
    }

    /// The end `position` octaves below the most.
    fn at(&self, position: f64) -> f64 {
        self.most * libm::exp2(-position)
    }
}

/// Octaves below the extremes, at either end.
#[derive(Clone, Copy)]
struct Point {
    left: f64,
    right: f64,
    score: f64,
}

fn best(
    left: &End,
    right: &End,
    range: impl Fn(f64, f64) -> Range,
    score: impl Fn(Stage, Range) -> f64,
) -> Range {
    let point = |stage: Stage, l: f64, r: f64| {
        let (l, r) = (l.max(0.0), r.max(0.0));
        Point { left: l, right: r, score: score(stage, range(left.at(l), right.at(r))) }
    };
    let grid: Vec<Point> = (0..left.count)
        .flat_map(|i| (0..right.count).map(move |j| (i, j)))
        .map(|(i, j)| point(Stage::Coarse, i as f64 * left.step, j as f64 * right.step))
        .collect();
    let minima = (0..grid.len())
        .filter(|&k| is_local_minimum(&grid, left.count, right.count, k))
        .map(|k| grid[k]);
    let reach = if left.step > 0.0 && right.step > 0.0 { DENSE } else { DENSE_SINGLE };
    let share = 1.0 / f64::from(reach);
    let offsets = |step: f64| if step > 0.0 { -reach..=reach } else { 0..=0 };
    let mut dense = Vec::new();
    for start in least(minima.collect(), STARTS) {
        for (i, j) in offsets(left.step).flat_map(|i| offsets(right.step).map(move |j| (i, j))) {
            let (l, r) = (f64::from(i) * share * left.step, f64::from(j) * share * right.step);
            dense.push(point(Stage::Dense, start.left + l, start.right + r));
        }
    }
    let starts = least(dense, POLISHED).into_iter();
    let point = |l, r| point(Stage::Fine, l, r);
    let polished = starts
        .map(|p| polish(point(p.left, p.right), share * left.step, share * right.step, point))
        .collect();
    let found = least(polished, 1).pop();
    found.map_or(Range::symmetric(0.0), |p| range(left.at(p.left), right.at(p.right)))
}

/// The best few, the earliest among equals.
fn least(mut points: Vec<Point>, count: usize) -> Vec<Point> {
    points.sort_by(|a, b| a.score.total_cmp(&b.score));
    points.truncate(count);
    points
}

/// Whether no neighbour of candidate `k` (row-major) is better.
fn is_local_minimum(grid: &[Point], rows: usize, columns: usize, k: usize) -> bool {
    let (i, j) = (k / columns, k % columns);
    let near = |c: usize, count: usize| c.saturating_sub(1)..=(c + 1).min(count - 1);
    near(i, rows)
        .flat_map(|i| near(j, columns).map(move |j| i * columns + j))
        .all(|other| grid[other].score >= grid[k].score)
}

/// Moves to the best neighbour; halves the step when there is none.
fn polish(
    mut here: Point,
    left_step: f64,
    right_step: f64,
    point: impl Fn(f64, f64) -> Point,
) -> Point {
    const MOVES: [(i32, i32); 8] =
        [(-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1), (-1, 1), (1, -1)];
    let mut share = 0.5;
    let mut last = None;
    while share * left_step.max(right_step) >= FINEST {
        let (dl, dr) = (share * left_step, share * right_step);
        let next = MOVES
            .into_iter()
            .filter(|&(l, r)| (l == 0 || dl > 0.0) && (r == 0 || dr > 0.0))
            // Neighbours of the place before have been tried, and were no better.
            .filter(|&(l, r)| {
                last.is_none_or(|(a, b): (i32, i32)| (l + a).abs().max((r + b).abs()) > 1)
            })
            .map(|(l, r)| {
                (point(here.left + f64::from(l) * dl, here.right + f64::from(r) * dr), (l, r))
            })
            .min_by(|a, b| a.0.score.total_cmp(&b.0.score));
        match next {
            Some((next, (l, r))) if next.score < here.score => {
                // (At the extremes, where no further is gone, the places are others.)
                let whole = next.left == here.left + f64::from(l) * dl
                    && next.right == here.right + f64::from(r) * dr;
                (here, last) = (next, whole.then_some((l, r)));
            }
            _ => (share, last) = (share * 0.5, None),
        }
    }
    here
}

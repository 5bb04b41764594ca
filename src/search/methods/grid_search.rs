//! The range with the minimum score: the search that several methods share.
//!
//! On a large scale the score is smooth: a wider range clips less and rounds more. On a small scale
//! it is jagged, because values fall on and off the grid. With outliers it has several minima,
//! octaves apart. So the search is global, and goes from coarse to fine:
//!
//! 1. Geometric candidates, from the extremes inwards to where nearly all values would be clipped.
//! 2. A dense grid around the best few, fine enough for the jags. A pattern search from the coarse
//!    minima alone stayed up to 0.7 % above the best of 800 thresholds; with the dense grid, 0.04
//!    %.
//! 3. A pattern search with shrinking steps from the best points of the dense grid.
//!
//! The two ends of an affine range are searched together. Each candidate is scored on the grid that
//! would be deployed, with its rounded zero point.

use super::coverage::min_threshold;
use crate::{Density, Grid, QuantFormat, Range, Scaling, search::cost::Stage};

/// Most coarse candidates for each of two ends.
const COARSE: usize = 26;
/// Most coarse candidates for a single end.
const COARSE_SINGLE: usize = 129;
/// Minima of the coarse grid that get a dense grid around them.
const STARTS: usize = 3;
/// Points of the dense grid that are refined.
const REFINED: usize = 4;
/// Dense steps to either side of a single end. They reach one coarse step.
const DENSE_SINGLE: i32 = 24;
/// Dense steps to either side of each of two ends. They reach one coarse step.
const DENSE: i32 = 6;
/// Step in octaves at which the pattern search ends: 2^(1/1024) is 0.07 %.
const FINEST: f64 = 1.0 / 1024.0;

/// The range whose grid has the minimum `score`.
///
/// It takes about 300 scores for one end and 1300 for two, 200 of them in the fine stage.
pub(crate) fn grid_search(
    density: &Density,
    format: QuantFormat,
    scaling: Scaling,
    score: impl Fn(Stage, Grid) -> f64,
) -> Range {
    let (Some(min), Some(max)) = (density.min(), density.max()) else {
        return Range::symmetric(0.0);
    };
    if scaling.power_of_two {
        let score = |grid| score(Stage::Fine, grid);
        return super::power_of_two_scale::grid_search(density, format, scaling, score);
    }
    let score = |stage, range| score(stage, format.grid(range, scaling));
    if format.is_symmetric(scaling) {
        // The levels of a floating format repeat with each octave. Candidates start one octave
        // above the extreme, so that every phase of the levels is tried.
        let headroom = if format.int().is_none() { 2.0 } else { 1.0 };
        let extreme = headroom * density.abs_max();
        let end = End::new(extreme, min_threshold(density, f64::abs), COARSE_SINGLE);
        return best(&End::none(), &end, |_, t| Range::symmetric(t), score);
    }
    let (left, right) = (min.min(0.0).abs(), max.max(0.0));
    let candidates = if left == 0.0 || right == 0.0 { COARSE_SINGLE } else { COARSE };
    let left = End::new(left, min_threshold(density, |x| -x), candidates);
    let right = End::new(right, min_threshold(density, |x| x), candidates);
    best(&left, &right, |a, b| Range { low: -a, high: b }, score)
}

/// Candidates for one end of the range: `extreme` · 2^(−k · `step`).
struct End {
    extreme: f64,
    step: f64,
    count: usize,
}

impl End {
    fn new(extreme: f64, smallest: f64, candidates: usize) -> Self {
        if extreme == 0.0 {
            return Self::none();
        }
        let octaves = libm::log2(extreme / smallest.max(f64::MIN_POSITIVE)).clamp(1.0, 64.0);
        // Steps are multiples of 1/8 octave, and 1/8 if that gives few enough candidates.
        let eighths = (octaves * 8.0 / (candidates - 1) as f64).ceil().max(1.0);
        let step = eighths / 8.0;
        Self { extreme, step, count: (octaves / step).ceil() as usize + 1 }
    }

    /// An end that is fixed at zero.
    fn none() -> Self {
        Self { extreme: 0.0, step: 0.0, count: 1 }
    }

    /// The end `position` octaves below the extreme.
    fn at(&self, position: f64) -> f64 {
        self.extreme * libm::exp2(-position)
    }
}

/// A candidate: octaves below the extreme at either end.
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
    for start in lowest(minima.collect(), STARTS) {
        for (i, j) in offsets(left.step).flat_map(|i| offsets(right.step).map(move |j| (i, j))) {
            let (l, r) = (f64::from(i) * share * left.step, f64::from(j) * share * right.step);
            dense.push(point(Stage::Dense, start.left + l, start.right + r));
        }
    }
    let starts = lowest(dense, REFINED).into_iter();
    let point = |l, r| point(Stage::Fine, l, r);
    let refined = starts
        .map(|p| refine(point(p.left, p.right), share * left.step, share * right.step, point))
        .collect();
    let found = lowest(refined, 1).pop();
    found.map_or(Range::symmetric(0.0), |p| range(left.at(p.left), right.at(p.right)))
}

/// The points of lowest score; of equal ones the first.
fn lowest(mut points: Vec<Point>, count: usize) -> Vec<Point> {
    points.sort_by(|a, b| a.score.total_cmp(&b.score));
    points.truncate(count);
    points
}

/// Whether no neighbor of candidate `k` (row-major) has a lower score.
fn is_local_minimum(grid: &[Point], rows: usize, columns: usize, k: usize) -> bool {
    let (i, j) = (k / columns, k % columns);
    let near = |c: usize, count: usize| c.saturating_sub(1)..=(c + 1).min(count - 1);
    near(i, rows)
        .flat_map(|i| near(j, columns).map(move |j| i * columns + j))
        .all(|other| grid[other].score >= grid[k].score)
}

/// Moves to the best neighbor, and halves the step if there is none.
fn refine(
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
            // Neighbors of the last place were tried and were no better.
            .filter(|&(l, r)| {
                last.is_none_or(|(a, b): (i32, i32)| (l + a).abs().max((r + b).abs()) > 1)
            })
            .map(|(l, r)| {
                (point(here.left + f64::from(l) * dl, here.right + f64::from(r) * dr), (l, r))
            })
            .min_by(|a, b| a.0.score.total_cmp(&b.0.score));
        match next {
            Some((next, (l, r))) if next.score < here.score => {
                // At an extreme the step was cut short, so the neighbors are others.
                let full_step = next.left == here.left + f64::from(l) * dl
                    && next.right == here.right + f64::from(r) * dr;
                (here, last) = (next, full_step.then_some((l, r)));
            }
            _ => (share, last) = (share * 0.5, None),
        }
    }
    here
}

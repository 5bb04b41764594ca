//! Prefix sums over the levels of windows whose levels have the same width, for the bounds of
//! `ort_entropy`.
//!
//! Let m be the width of a level. Window k + m begins m bins before window k, and all its levels
//! but one are those of window k. So m chains of prefix sums, one for each first bin, serve all
//! these windows.

use crate::{
    search::math::{ln, nearest},
    simd::{Work, dispatch},
};

/// What an empty bin gets.
pub(crate) const EPSILON: f64 = 1e-4;

/// Prefix sums over the bins, one longer than the bins: of counts, and of non-empty bins.
#[derive(Clone, Copy)]
pub(crate) struct BinTotals<'a> {
    pub(crate) mass: &'a [f64],
    pub(crate) full: &'a [f64],
}

impl BinTotals<'_> {
    /// The level of `merged` bins from bin `first` on.
    #[inline(always)]
    pub(crate) fn level(self, first: usize, merged: usize) -> Level {
        let mass = self.mass[first + merged] - self.mass[first];
        let number = self.full[first + merged] - self.full[first];
        Level { weight: mass, number, sum: mass }
    }
}

/// Bins that are merged to one level.
#[derive(Clone, Copy, Default)]
pub(crate) struct Level {
    pub(crate) weight: f64, // mass in the reference
    pub(crate) number: f64, // non-empty bins in the reference
    pub(crate) sum: f64,    // mass in the merged distribution
}

impl Level {
    /// The mean of the non-empty bins, truncated to an integer.
    #[inline(always)]
    pub(crate) fn value(&self) -> f64 {
        let mean = self.sum / self.number.max(1.0);
        let whole = nearest(mean);
        let truncated = if whole > mean { whole - 1.0 } else { whole };
        if self.number > 0.0 { truncated } else { 0.0 }
    }
}

/// Totals over the levels before each bin: the level that ends there, the one before it, and so on
/// down to the second level of a window.
pub(crate) struct LevelTotals {
    before: Vec<SeriesTerms>,
}

/// The sums over levels that a series in g needs. Except for `empty`, they are over non-empty
/// levels.
#[derive(Clone, Copy, Default)]
pub(crate) struct SeriesTerms {
    pub(crate) values: f64,
    pub(crate) empty: f64,
    weights: [f64; 5], // (mass in the reference) times ln v, 1/v, 1/v², 1/v³, 1/v⁴
    numbers: [f64; 5], // (non-empty bins in the reference) times the same factors
    levels: [f64; 4],  // the first four factors
}

impl LevelTotals {
    pub(crate) fn new(bins: usize) -> Self {
        Self { before: vec![SeriesTerms::default(); bins + 1] }
    }

    /// Computes the totals for `count` windows with levels of `merged` bins. The widest window
    /// begins at bin `start`, and each narrower one a bin later.
    pub(crate) fn fill(
        &mut self,
        bins: BinTotals<'_>,
        (start, count): (usize, usize),
        merged: usize,
        levels: usize,
    ) {
        if merged == 0 || levels < 3 {
            return;
        }
        // The second levels begin here, the third ones `merged` bins later, up to the last but one.
        let begin = start + merged;
        self.before[begin..begin + count.min(merged)].fill(SeriesTerms::default());
        let mut add =
            |from, to| dispatch(AddLevels { bins, merged, from, to, before: &mut self.before });
        if count >= merged {
            add(begin, begin + count + (levels - 3) * merged);
        } else {
            for from in (begin..).step_by(merged).take(levels - 2) {
                add(from, from + count);
            }
        }
    }

    /// The totals of the levels from one bin to another.
    pub(crate) fn between(&self, from: usize, to: usize) -> SeriesTerms {
        self.before[to].combine(&self.before[from], |a, b| a - b)
    }
}

impl SeriesTerms {
    /// The terms of one level.
    #[inline(always)]
    fn of(values: f64, powers: [f64; 5], weight: f64, number: f64) -> Self {
        let mut record = Self { values, ..Self::default() };
        record.empty = if values > 0.0 { 0.0 } else { 1.0 };
        for (k, power) in powers.into_iter().enumerate() {
            record.weights[k] = weight * power;
            record.numbers[k] = number * power;
        }
        record.levels.copy_from_slice(&powers[..4]);
        record
    }

    #[inline(always)]
    fn combine(&self, other: &Self, of: impl Fn(f64, f64) -> f64) -> Self {
        let mut all = *self;
        all.values = of(self.values, other.values);
        all.empty = of(self.empty, other.empty);
        for k in 0..5 {
            all.weights[k] = of(self.weights[k], other.weights[k]);
            all.numbers[k] = of(self.numbers[k], other.numbers[k]);
        }
        for k in 0..4 {
            all.levels[k] = of(self.levels[k], other.levels[k]);
        }
        all
    }

    /// Σ (P of a level) ln Q: ln(v − g) = ln v − g/v − g²/2v² − g³/3v³ − ….
    pub(crate) fn cross(&self, step: f64, t: f64, g: f64) -> f64 {
        let factors = [1.0, -g, -g * g / 2.0, -g * g * g / 3.0, -g * g * g * g / 4.0];
        let mut sum = self.empty * EPSILON * step * ln(EPSILON);
        for (k, factor) in factors.iter().enumerate() {
            let levels = self.levels.get(k).copied().unwrap_or(0.0);
            let masses = self.weights[k] - (t + EPSILON) * self.numbers[k];
            sum += factor * (masses + EPSILON * step * levels);
        }
        sum
    }
}

/// Adds the levels of `merged` bins that begin between `from` and `to` to the totals before them.
struct AddLevels<'a> {
    bins: BinTotals<'a>,
    merged: usize,
    from: usize,
    to: usize,
    before: &'a mut [SeriesTerms],
}

impl Work for AddLevels<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        const LANES: usize = 8;
        let Self { bins, merged, from, to, before } = self;
        for first in (from..to).step_by(LANES) {
            let mut levels = [Level::default(); LANES];
            for (lane, level) in levels.iter_mut().enumerate() {
                *level = bins.level((first + lane).min(to - 1), merged);
            }
            let (mut values, mut logs, mut inverses) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            for lane in 0..LANES {
                let value = levels[lane].value();
                let positive = if value > 0.0 { value } else { 1.0 };
                values[lane] = value;
                logs[lane] = ln(positive);
                inverses[lane] = if value > 0.0 { 1.0 / positive } else { 0.0 };
            }
            for (lane, at) in (first..to.min(first + LANES)).enumerate() {
                let Level { weight, number, .. } = levels[lane];
                let (values, log, inverse) = (values[lane], logs[lane], inverses[lane]);
                let square = inverse * inverse;
                let powers = [log, inverse, square, square * inverse, square * square];
                let level = SeriesTerms::of(values, powers, weight, number);
                before[at + merged] = before[at].combine(&level, |a, b| a + b);
            }
        }
    }
}

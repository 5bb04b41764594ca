//! Running totals over the levels of windows whose levels are as wide, for the bounds of ONNX Runtime's
//! divergences.
//!
//! Window k + m begins m bins before window k, m being the width of a level: all its levels but one
//! are window k's. So totals that run from level to level, and begin at each of m bins, serve all such windows.

use super::{cost::nearest, logarithm::ln};
use crate::simd::{Work, dispatch};

/// What an empty bin is given.
pub(super) const EPSILON: f64 = 1e-4;

/// Running totals over the bins, one longer than they: of counts, and of bins that are not empty.
#[derive(Clone, Copy)]
pub(super) struct Bins<'a> {
    pub(super) mass: &'a [f64],
    pub(super) full: &'a [f64],
}

impl Bins<'_> {
    /// The level of `merged` bins from `first` on.
    #[inline(always)]
    pub(super) fn level(self, first: usize, merged: usize) -> Level {
        let mass = self.mass[first + merged] - self.mass[first];
        let number = self.full[first + merged] - self.full[first];
        Level { weight: mass, number, sum: mass }
    }
}

/// Bins that are merged.
#[derive(Clone, Copy, Default)]
pub(super) struct Level {
    pub(super) weight: f64, // mass in the reference
    pub(super) number: f64, // bins that are not empty in the reference
    pub(super) sum: f64,    // mass in the merged distribution
}

impl Level {
    /// The mean of the bins that are not empty, cut to a whole number.
    #[inline(always)]
    pub(super) fn value(&self) -> f64 {
        let mean = self.sum / self.number.max(1.0);
        let whole = nearest(mean);
        let cut = if whole > mean { whole - 1.0 } else { whole };
        if self.number > 0.0 { cut } else { 0.0 }
    }
}

/// Totals over the levels before each bin: over that which ends there, the one before it, and so on
/// down to the second level of some window of those that are alike.
pub(super) struct Chains {
    before: Vec<Record>,
}

/// What a series in g needs of levels: of those that are not empty but for the count of empty ones.
#[derive(Clone, Copy, Default)]
pub(super) struct Record {
    pub(super) values: f64,
    pub(super) empty: f64,
    weights: [f64; 5], // (mass in the reference) times ln v, 1/v, 1/v², 1/v³, 1/v⁴
    numbers: [f64; 5], // (bins not empty in the reference) times the same
    levels: [f64; 4],  // the first four
}

impl Chains {
    pub(super) fn new(bins: usize) -> Self {
        Self { before: vec![Record::default(); bins + 1] }
    }

    /// For `count` windows of levels of `merged` bins, of which the widest begins at `start`, and each
    /// other a bin after the next wider one.
    pub(super) fn fill(
        &mut self,
        bins: Bins<'_>,
        (start, count): (usize, usize),
        merged: usize,
        levels: usize,
    ) {
        if merged == 0 || levels < 3 {
            return;
        }
        // The second levels begin here, the third ones `merged` bins later, and so on to the last but one.
        let begin = start + merged;
        self.before[begin..begin + count.min(merged)].fill(Record::default());
        let mut add =
            |from, to| dispatch(Links { bins, merged, from, to, before: &mut self.before });
        if count >= merged {
            add(begin, begin + count + (levels - 3) * merged);
        } else {
            for from in (begin..).step_by(merged).take(levels - 2) {
                add(from, from + count);
            }
        }
    }

    /// The totals of the levels from one bin to another.
    pub(super) fn between(&self, from: usize, to: usize) -> Record {
        self.before[to].combine(&self.before[from], |a, b| a - b)
    }
}

impl Record {
    /// The values of a level, times what the sums are weighted by.
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
    pub(super) fn cross(&self, step: f64, t: f64, g: f64) -> f64 {
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

/// The levels of `merged` bins that begin from `from` to `to`, added to those before.
struct Links<'a> {
    bins: Bins<'a>,
    merged: usize,
    from: usize,
    to: usize,
    before: &'a mut [Record],
}

impl Work for Links<'_> {
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
                let level = Record::of(values, powers, weight, number);
                before[at + merged] = before[at].combine(&level, |a, b| a + b);
            }
        }
    }
}

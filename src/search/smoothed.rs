//! Bounds of the divergences that ONNX Runtime's entropy calibration works out in float32.
//!
//! It keeps windows about the middle bin, merges them to levels, gives empty bins of either
//! distribution ε = 10⁻⁴ taken evenly from the others, and sums p ln(p / q) over all bins: for every
//! window anew. Here running totals give the same in O(levels) a window, in float64:
//!
//! ```text
//! D = (Σ P ln P − Σ_g (Σ P in g) ln Q_g) / ΣP − ln ΣP + ln ΣQ
//! ```
//!
//! P of a bin that is not empty is its count c less a small t, the same for the whole window, so
//! Σ P ln P is a series in t of totals of c ln c, ln c, 1/c, 1/c², …. What float32 may differ by is bounded:
//! only windows whose bounds reach below the lowest upper bound need be worked out as the original
//! does.

use super::logarithm::{ln, x_ln_x};
use crate::simd::{Work, dispatch};

/// What an empty bin is given.
const EPSILON: f64 = 1e-4;
/// Above this part of a count taken from each bin, the series is not trusted.
const MOST_TAKEN: f64 = 0.05;
/// A rounding of float32, relative.
const SLIP: f64 = 1.0 / (1u64 << 24) as f64;

/// The least and the most that the divergence of each window in float32 may be: of those that keep
/// `levels` / 2, … bins on either side of the middle one. Without a bound where the original's own
/// arithmetic must decide; infinite where the original takes a window for infinitely bad.
pub fn smoothed_divergences(counts: &[u64], levels: usize) -> (Vec<f64>, Vec<f64>) {
    let totals = Totals::new(counts);
    let (middle, half) = (counts.len() / 2, levels / 2);
    let windows = (half..=middle).map(|i| (middle - i, (middle + i + 1).min(counts.len())));
    windows.map(|(start, end)| totals.bounds(start, end, levels)).unzip()
}

/// Running totals over the bins, one longer than they.
struct Totals {
    mass: Vec<f64>,
    full: Vec<f64>,        // how many are not empty
    series: [Vec<f64>; 5], // c ln c, ln c, 1/c, 1/c², 1/c³ of those
}

impl Totals {
    fn new(counts: &[u64]) -> Self {
        let running = |of: &dyn Fn(f64) -> f64| {
            let mut sum = 0.0;
            let mut totals = vec![0.0];
            totals.extend(counts.iter().map(|&count| {
                sum += if count == 0 { 0.0 } else { of(count as f64) };
                sum
            }));
            totals
        };
        Self {
            mass: running(&|c| c),
            full: running(&|_| 1.0),
            series: [
                running(&x_ln_x),
                running(&ln),
                running(&|c| 1.0 / c),
                running(&|c| 1.0 / (c * c)),
                running(&|c| 1.0 / (c * c * c)),
            ],
        }
    }

    fn bounds(&self, start: usize, end: usize, levels: usize) -> (f64, f64) {
        const OPEN: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);
        let width = end - start;
        let merged = width / levels;
        if width < 2 || merged == 0 {
            return OPEN;
        }
        // The counts of the outermost two bins, and what is folded into them.
        let total = self.mass[self.mass.len() - 1];
        let (below, above) = (self.mass[start], total - self.mass[end]);
        let inner = [self.mass[start + 1] - self.mass[start], self.mass[end] - self.mass[end - 1]];
        let outer = [inner[0] + below, inner[1] + above];
        let newly = |k: usize| f64::from(u8::from(inner[k] == 0.0 && outer[k] > 0.0));
        let size = width as f64;
        let full = self.full[end] - self.full[start] + newly(0) + newly(1);
        if full == 0.0 {
            return (f64::INFINITY, f64::INFINITY);
        }
        let taken = EPSILON * (size - full) / full;
        let mut groups = Groups { sums: Vec::new(), full: Vec::new(), kept: Vec::new() };
        groups.fill(self, start, levels, merged);
        let last = start + levels * merged;
        // The reference has what lies outside; the merged one has what is left beyond its levels.
        let mut left = (self.mass[end] - self.mass[last], self.full[end] - self.full[last]);
        groups.sums[levels - 1] += left.0;
        let (mut weights, mut numbers) = (groups.kept.clone(), groups.full.clone());
        weights[0] += below;
        numbers[0] += newly(0);
        let tail = if last == end {
            (&mut weights[levels - 1], &mut numbers[levels - 1])
        } else {
            (&mut left.0, &mut left.1)
        };
        *tail.0 += above;
        *tail.1 += newly(1);
        // Every level's value is cut to a whole number, by the number of its bins in the reference.
        let first_number = groups.full[0] + newly(0);
        groups.full[0] = first_number;
        if last == end {
            groups.full[levels - 1] += newly(1);
        }
        let values = groups.values();
        let step = merged as f64;
        let filled = values.iter().filter(|&&value| value > 0.0).count() as f64 * step;
        if taken > MOST_TAKEN {
            return OPEN;
        }
        if filled == 0.0 {
            return (f64::INFINITY, f64::INFINITY);
        }
        let given = EPSILON * (size - filled) / filled;
        if given > MOST_TAKEN {
            return OPEN;
        }
        let p = |c: f64| x_ln_x(if c > 0.0 { c - taken } else { EPSILON });
        let between = |totals: &[f64]| totals[end - 1] - totals[start + 1];
        let [a, b, c, d, e] = &self.series;
        let middle_full = between(&self.full);
        let t = taken;
        let entropy = between(a) - t * (between(b) + middle_full)
            + t * t * (between(c) / 2.0 + t * (between(d) / 6.0 + t * between(e) / 12.0))
            + (size - 2.0 - middle_full) * x_ln_x(EPSILON)
            + p(outer[0])
            + p(outer[1]);
        let level =
            Crossed { values: &values, weights: &weights, numbers: &numbers, step, t, given };
        let rest = size - step * levels as f64;
        let cross =
            dispatch(level) + (left.0 - t * left.1 + EPSILON * (rest - left.1)) * ln(EPSILON);
        let sum_p = total - t * full + EPSILON * (size - full);
        let whole: f64 = values.iter().sum::<f64>() * step;
        let sum_q = whole - given * filled + EPSILON * (size - filled);
        let divergence = (entropy - cross) / sum_p - ln(sum_p) + ln(sum_q);
        let error = slip(size, divergence) + t * t * t * t * t / 10.0 + 1e-9;
        (divergence - error, divergence + error)
    }
}

/// What float32 may make of a divergence over so many bins.
///
/// Sums in pairs of blocks of 128 add a number of roundings to each term; p and q have some more
/// (3.2 each: counts, what is taken, quotient), their quotient one, its logarithm 4 units in the
/// last place. Σ p |ln(p/q)| ≤ D + √(2D), by Pinsker's inequality.
fn slip(size: f64, divergence: f64) -> f64 {
    let blocks = f64::from(u32::BITS - (size as u32 / 128).leading_zeros());
    let sum = 20.0 + blocks;
    let d = divergence.max(0.0) + 1e-5;
    SLIP * ((2.0 * sum + 8.0) + (2.0 * sum + 14.0) * (d + (2.0 * d).sqrt())) * 1.01
}

/// The levels of a window.
struct Groups {
    kept: Vec<f64>, // mass inside
    sums: Vec<f64>, // the same, with what is left over in the last
    full: Vec<f64>, // bins that are not empty in the reference
}

impl Groups {
    fn fill(&mut self, totals: &Totals, start: usize, levels: usize, merged: usize) {
        let differences = |totals: &[f64]| -> Vec<f64> {
            let mut before = totals[start];
            let ends = totals[start + merged..].iter().step_by(merged).take(levels);
            ends.map(|&here| {
                let difference = here - before;
                before = here;
                difference
            })
            .collect()
        };
        self.kept = differences(&totals.mass);
        self.full = differences(&totals.full);
        self.sums.clone_from(&self.kept);
    }

    /// The mean of the bins that are not empty, cut to a whole number.
    fn values(&self) -> Vec<f64> {
        let value = |(&sum, &number): (&f64, &f64)| {
            if number > 0.0 { (sum / number) as u64 as f64 } else { 0.0 }
        };
        self.sums.iter().zip(&self.full).map(value).collect()
    }
}

/// Σ (P of a level) ln Q.
struct Crossed<'a> {
    values: &'a [f64],
    weights: &'a [f64],
    numbers: &'a [f64],
    step: f64,
    t: f64,
    given: f64,
}

impl Work for Crossed<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        const LANES: usize = 8;
        let term = |value: f64, weight: f64, number: f64| {
            let q = if value > 0.0 { value - self.given } else { EPSILON };
            (weight - self.t * number + EPSILON * (self.step - number)) * ln(q)
        };
        let mut sums = [0.0; LANES];
        let (values, values_rest) = self.values.as_chunks::<LANES>();
        let (weights, weights_rest) = self.weights.as_chunks::<LANES>();
        let (numbers, numbers_rest) = self.numbers.as_chunks::<LANES>();
        for ((values, weights), numbers) in values.iter().zip(weights).zip(numbers) {
            for lane in 0..LANES {
                sums[lane] += term(values[lane], weights[lane], numbers[lane]);
            }
        }
        let rest = values_rest.iter().zip(weights_rest).zip(numbers_rest);
        for (sum, ((&value, &weight), &number)) in sums.iter_mut().zip(rest) {
            *sum += term(value, weight, number);
        }
        sums.iter().sum()
    }
}
